//! The byte search that comes before any decoding: where could a system call instruction be at all?
//!
//! It runs at memory speed over whole segments, so that the cost of what follows grows with the number of
//! hits and not with the size of the code. A hit is a pair of bytes, nothing more: most hits outside a C
//! library are data or lie inside other instructions. Blocks are long enough for the compiler to keep the compares of
//! a whole one in vector registers.

/// The two bytes of the `syscall` instruction (SDM vol. 2B, SYSCALL).
pub(crate) const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// Those of `int 0x80`, the system call of 32-bit programs, which 64-bit ones can make too.
pub(crate) const INT80: [u8; 2] = [0xcd, 0x80];

/// Bytes looked at in one step.
const BLOCK: usize = 64;

/// Searches for the byte pairs [`SYSCALL`] and [`INT80`], at any alignment, in ascending order, within one slice.
#[derive(Clone, Debug)]
pub struct SyscallBytes<'a> {
    bytes: &'a [u8],
    next: usize,
}

impl<'a> SyscallBytes<'a> {
    /// Begins a search at the first byte of `bytes`.
    #[must_use]
    pub const fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, next: 0 }
    }

    /// Steps over blocks without a hit.
    fn skip_barren_blocks(&mut self) {
        while let Some(rest) = self.bytes.get(self.next..)
            && let Some(first) = rest.first_chunk::<BLOCK>()
            && let Some(second) = rest.get(1..).and_then(<[u8]>::first_chunk::<BLOCK>)
            && !holds_pair(first, second)
        {
            self.next += BLOCK;
        }
    }
}

impl Iterator for SyscallBytes<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        loop {
            self.skip_barren_blocks();
            let rest = self.bytes.get(self.next..)?;
            if rest.len() < SYSCALL.len() {
                return None;
            }
            let window = rest.get(..=BLOCK).unwrap_or(rest);
            match window.windows(SYSCALL.len()).position(|pair| pair == SYSCALL || pair == INT80) {
                Some(offset) => {
                    let hit = self.next + offset;
                    self.next = hit + 1;
                    return Some(hit);
                }
                None => self.next += window.len() - 1,
            }
        }
    }
}

/// Whether a pair stands in `first` and `second`, which is `first` shifted by one byte.
fn holds_pair(first: &[u8; BLOCK], second: &[u8; BLOCK]) -> bool {
    let ([low, high], [int, vector]) = (SYSCALL, INT80);
    // Not `any`, whose early end would make a loop over bytes of it.
    first.iter().zip(second).fold(false, |holds, (one, next)| {
        holds | ((*one == low) & (*next == high)) | ((*one == int) & (*next == vector))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn naive(bytes: &[u8]) -> Vec<usize> {
        bytes
            .windows(2)
            .enumerate()
            .filter(|(_, pair)| **pair == SYSCALL || **pair == INT80)
            .map(|(at, _)| at)
            .collect()
    }

    #[test]
    fn finds_a_pair_at_every_alignment_of_every_short_slice() {
        for len in 0..100 {
            for at in 0..len {
                for [first, second] in [SYSCALL, INT80] {
                    let mut bytes = std::vec![first; len];
                    if at + 1 < len {
                        bytes[at + 1] = second;
                    }
                    assert_eq!(SyscallBytes::of(&bytes).collect::<Vec<_>>(), naive(&bytes), "{len} {at}");
                }
            }
        }
    }

    #[test]
    fn finds_no_pair_across_two_slices() {
        let bytes = [0x90, 0x0f, 0x05, 0x90];
        let (first, second) = bytes.split_at(2);
        assert_eq!(SyscallBytes::of(first).next(), None);
        assert_eq!(SyscallBytes::of(second).next(), None);
    }

    #[test]
    fn finds_both_of_two_adjacent_pairs() {
        assert_eq!(SyscallBytes::of(&[0x0f, 0x05, 0xcd, 0x80]).collect::<Vec<_>>(), [0, 2]);
    }

    proptest! {
        #[test]
        fn agrees_with_a_byte_by_byte_search(
            bytes in proptest::collection::vec(proptest::sample::select(&[0x0f_u8, 0x05, 0x04, 0xcd, 0x80, 0][..]), 0..400)
        ) {
            prop_assert_eq!(SyscallBytes::of(&bytes).collect::<Vec<_>>(), naive(&bytes));
        }
    }
}
