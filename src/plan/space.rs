//! Free address ranges, for trampolines that must lie where a punned jump points.

use alloc::vec::Vec;

use crate::addr::{AddrRange, GuestAddr};

/// What the address of a trampoline is a multiple of, so that an address in it is aligned.
pub const ALIGN: u64 = 16;

/// Free ranges in ascending order, none overlapping.
#[derive(Clone, Debug, Default)]
pub struct Space {
    free: Vec<AddrRange>,
}

impl Space {
    /// The space that `ranges` make up, in any order; overlapping ones count once.
    #[must_use]
    pub fn of(ranges: &[AddrRange]) -> Self {
        let mut sorted: Vec<_> = ranges.iter().copied().filter(|range| !range.is_empty()).collect();
        sorted.sort_unstable_by_key(|range| range.start);
        let mut free: Vec<AddrRange> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match free.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => free.push(range),
            }
        }
        Self { free }
    }

    /// Takes `len` bytes that start inside `window`, at the lowest such multiple of [`ALIGN`].
    pub fn take(&mut self, window: AddrRange, len: u64) -> Option<GuestAddr> {
        let first = self.free.partition_point(|range| range.end <= window.start);
        let mut reached =
            self.free.iter().enumerate().skip(first).take_while(|(_, range)| range.start < window.end);
        let (index, taken) = reached.find_map(|(index, range)| {
            let start = GuestAddr(range.start.max(window.start).0.checked_next_multiple_of(ALIGN)?);
            let taken = AddrRange { start, end: start.checked_add(len)? };
            (window.contains(start) && taken.end <= range.end).then_some((index, taken))
        })?;
        let range = self.free.get_mut(index)?;
        let rest = AddrRange { start: taken.end, end: range.end };
        range.end = taken.start;
        self.free.insert(index + 1, rest);
        self.free.retain(|range| !range.is_empty());
        Some(taken.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> AddrRange {
        AddrRange { start: GuestAddr(start), end: GuestAddr(end) }
    }

    #[test]
    fn what_was_taken_is_not_given_again() {
        let mut space = Space::of(&[range(0x2000, 0x3000), range(0x1000, 0x2000)]);
        let window = range(0x1ff0, 0x2008);
        assert_eq!(space.take(window, 16), Some(GuestAddr(0x1ff0)));
        assert_eq!(space.take(window, 16), Some(GuestAddr(0x2000)));
        assert_eq!(space.take(window, 16), None);
        assert_eq!(space.take(range(0x2008, 0x2011), 16), Some(GuestAddr(0x2010)));
    }

    #[test]
    fn bytes_that_would_leave_the_free_range_are_refused() {
        let mut space = Space::of(&[range(0x1000, 0x1010)]);
        assert_eq!(space.take(range(0xf00, 0x1001), 17), None);
        assert_eq!(space.take(range(0x1001, 0x2000), 5), None);
        assert_eq!(space.take(range(0x1000, 0x2000), 16), Some(GuestAddr(0x1000)));
    }
}
