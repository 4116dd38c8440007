//! Short text in memory that processes share.
//!
//! One writes it, any number read it: if at the same moment, they see a mixture, and nothing worse.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Up to `8 * WORDS - 1` bytes that end at the first zero. All bytes zero is a valid value: no text.
#[repr(C)]
#[derive(Debug)]
pub struct SharedText<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> SharedText<WORDS> {
    /// No text.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    /// Sets it to as much of `text` as fits.
    pub fn set(&self, text: &[u8]) {
        let mut bytes = text.iter().take(WORDS.saturating_mul(8).saturating_sub(1));
        for word in &self.0 {
            let mut part = [0; 8];
            part.iter_mut().zip(&mut bytes).for_each(|(to, from)| *to = *from);
            word.store(u64::from_ne_bytes(part), Relaxed);
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> impl Iterator<Item = u8> {
        self.0.iter().flat_map(|word| word.load(Relaxed).to_ne_bytes()).take_while(|&byte| byte != 0)
    }

    /// Sets it to what `other` is.
    pub fn copy(&self, other: &Self) {
        for (to, from) in self.0.iter().zip(&other.0) {
            to.store(from.load(Relaxed), Relaxed);
        }
    }
}

impl<const WORDS: usize> Default for SharedText<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

/// On one line: a byte that is not printable ASCII shows as `?`.
impl<const WORDS: usize> fmt::Display for SharedText<WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.bytes() {
            write!(f, "{}", if byte.is_ascii_graphic() || byte == b' ' { byte.into() } else { '?' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn keeps_what_fits_and_shows_it_on_one_line() {
        let text = SharedText::<2>::new();
        assert_eq!(text.to_string(), "");
        text.set(b"a-name-that-is-too-long");
        assert_eq!(text.to_string(), "a-name-that-is-");
        text.set(b"a\n\xffb c");
        let copy = SharedText::new();
        copy.copy(&text);
        assert_eq!(copy.to_string(), "a??b c");
    }
}
