//! Many short texts as one, so that a table of names holds no pointers.
//!
//! In a position-independent executable each `&str` of a static table costs 24 bytes of relocation and is
//! written at every start, before the program runs. One text and an array of ends costs neither.
//! All packing happens while compiling; a table that does not fit fails the build.

/// `COUNT` texts, laid end to end.
pub(super) struct Packed<const COUNT: usize> {
    text: &'static str,
    ends: [u16; COUNT],
}

impl<const COUNT: usize> Packed<COUNT> {
    /// The table of `parts`, whose bytes stand in `text` as [`join`] left them.
    pub(super) const fn new(parts: &[&str; COUNT], text: &'static [u8]) -> Self {
        let mut ends = [0; COUNT];
        let mut index = 0;
        let mut end = 0;
        while index < COUNT {
            end += parts[index].len();
            assert!(end <= u16::MAX as usize);
            ends[index] = end as u16;
            index += 1;
        }
        match core::str::from_utf8(text) {
            Ok(text) => Self { text, ends },
            Err(_) => panic!("joining whole strings gives a string"),
        }
    }

    /// The text at `index`, or `None` past the last.
    pub(super) fn get(&self, index: usize) -> Option<&'static str> {
        let end = *self.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.text.get(usize::from(start)..usize::from(end))
    }
}

/// How many bytes `parts` have together.
pub(super) const fn total_len(parts: &[&str]) -> usize {
    let mut total = 0;
    let mut index = 0;
    while index < parts.len() {
        total += parts[index].len();
        index += 1;
    }
    total
}

/// The bytes of `parts`, end to end; `LEN` is their [`total_len`].
pub(super) const fn join<const LEN: usize>(parts: &[&str]) -> [u8; LEN] {
    let mut joined = [0; LEN];
    let mut at = 0;
    let mut index = 0;
    while index < parts.len() {
        let part = parts[index].as_bytes();
        let mut offset = 0;
        while offset < part.len() {
            joined[at] = part[offset];
            at += 1;
            offset += 1;
        }
        index += 1;
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [&str; 4] = ["ab", "", "c", "déf"];
    static JOINED: [u8; total_len(&PARTS)] = join(&PARTS);

    #[test]
    fn each_text_comes_back_and_none_past_the_end() {
        let packed = Packed::new(&PARTS, &JOINED);
        for (index, part) in PARTS.iter().enumerate() {
            assert_eq!(packed.get(index), Some(*part));
        }
        assert_eq!(packed.get(PARTS.len()), None);
        assert_eq!(packed.get(usize::MAX), None);
    }
}
