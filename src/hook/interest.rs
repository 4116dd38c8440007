//! Which system calls a tool wants to see.
//!
//! The shell turns an [`Interest`] into the gate's policy table once, before the program starts: a call that
//! no tool asked for then never leaves its stub. So a tool pays only for what it asks.

/// Numbers below this are told apart; all from here on are one: unknown.
pub const NUMBERS: u32 = 512;

const WORD_BITS: u32 = u64::BITS;
const WORDS: usize = (NUMBERS / WORD_BITS) as usize;

/// A set of system call numbers below [`NUMBERS`], and whether all the unknown ones are in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interest {
    words: [u64; WORDS],
    unknown: bool,
}

impl Interest {
    /// No call at all.
    pub const NONE: Self = Self { words: [0; WORDS], unknown: false };

    /// Every call, unknown numbers included.
    pub const ALL: Self = Self { words: [u64::MAX; WORDS], unknown: true };

    /// The calls with these numbers; a number from [`NUMBERS`] on stands for all of the unknown ones.
    #[must_use]
    pub const fn of(mut numbers: &[u32]) -> Self {
        let mut set = Self::NONE;
        while let [first, rest @ ..] = numbers {
            set = set.with(*first);
            numbers = rest;
        }
        set
    }

    /// This set and the call `nr`; from [`NUMBERS`] on, all of the unknown ones.
    #[must_use]
    pub const fn with(mut self, nr: u32) -> Self {
        match self.words.split_at_mut_checked((nr / WORD_BITS) as usize) {
            Some((_, [word, ..])) => *word |= 1 << (nr % WORD_BITS),
            _ => self.unknown = true,
        }
        self
    }

    /// The calls that are in either set.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        for (mine, theirs) in self.words.iter_mut().zip(other.words) {
            *mine |= theirs;
        }
        self.unknown |= other.unknown;
        self
    }

    /// Whether the call `nr` is in the set.
    #[must_use]
    pub fn contains(&self, nr: u32) -> bool {
        match self.words.get((nr / WORD_BITS) as usize) {
            Some(word) => word & (1 << (nr % WORD_BITS)) != 0,
            None => self.unknown,
        }
    }

    /// Whether no call is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_past_the_table_stands_for_all_of_them() {
        let set = Interest::of(&[NUMBERS]);
        assert!(set.contains(u32::MAX));
        assert!(!set.contains(NUMBERS - 1));
    }

    #[test]
    fn none_and_all_are_what_they_say() {
        for nr in [0, 63, 64, NUMBERS - 1, NUMBERS, u32::MAX] {
            assert!(!Interest::NONE.contains(nr));
            assert!(Interest::ALL.contains(nr));
        }
        assert!(Interest::NONE.is_empty());
        assert!(!Interest::of(&[7]).is_empty());
    }

    proptest! {
        #[test]
        fn holds_exactly_what_was_put_in(numbers: [u32; 6], small in prop::array::uniform6(0..NUMBERS)) {
            let left = Interest::of(&small);
            let both = left.union(&Interest::of(&numbers));
            for nr in 0..NUMBERS {
                prop_assert_eq!(left.contains(nr), small.contains(&nr));
                prop_assert_eq!(both.contains(nr), small.contains(&nr) || numbers.contains(&nr));
            }
            prop_assert_eq!(both.contains(NUMBERS), numbers.iter().any(|&nr| nr >= NUMBERS));
        }
    }
}
