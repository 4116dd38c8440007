//! Free address ranges, for trampolines that must lie where a punned jump points.
//!
//! What is taken ends at a multiple of [`ALIGN`]: no trampoline could start in the rest. So what is left of a range in
//! which many lie holds no scraps that every further search would have to look at.

use crate::addr::{AddrRange, GuestAddr};
use crate::plan::ranges::Ranges;

/// What the address of a trampoline is a multiple of, so that an address in it is aligned.
pub(crate) const ALIGN: u64 = 16;

/// Free addresses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Space {
    free: Ranges,
}

impl Space {
    /// The space that `ranges` make up, in any order; overlapping ones count once.
    #[must_use]
    pub fn of(ranges: &[AddrRange]) -> Self {
        let mut space = Self::default();
        ranges.iter().for_each(|range| space.give_back(*range));
        space
    }

    /// Takes `len` bytes that start inside `window`, at the lowest such multiple of [`ALIGN`], and the scraps behind them.
    pub fn take(&mut self, window: AddrRange, len: u64) -> Option<AddrRange> {
        let place = self.place(window, len)?;
        self.free.remove(place.start.0, place.end.0);
        Some(place)
    }

    fn place(&self, window: AddrRange, len: u64) -> Option<AddrRange> {
        let [lowest, limit] = [window.start.0, window.end.0];
        let mut reached = self.free.ending_after(lowest).take_while(|(start, _)| *start < limit);
        reached.find_map(|(start, end)| {
            let start = start.max(lowest).checked_next_multiple_of(ALIGN).filter(|start| *start < limit)?;
            let needed = start.checked_add(len).filter(|needed| *needed <= end)?;
            let aligned = needed.checked_next_multiple_of(ALIGN).map_or(end, |aligned| aligned.min(end));
            Some(AddrRange { start: GuestAddr(start), end: GuestAddr(aligned) })
        })
    }

    /// The lowest free address from `at` on.
    #[must_use]
    pub fn free_from(&self, at: GuestAddr) -> Option<GuestAddr> {
        let (start, _) = self.free.ending_after(at.0).next()?;
        Some(at.max(GuestAddr(start)))
    }

    /// Makes a range free, as [`Self::take`] gave it.
    pub fn give_back(&mut self, range: AddrRange) {
        self.free.insert(range.start.0, range.end.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn range(start: u64, end: u64) -> AddrRange {
        AddrRange { start: GuestAddr(start), end: GuestAddr(end) }
    }

    fn start(taken: Option<AddrRange>) -> Option<u64> {
        taken.map(|taken| taken.start.0)
    }

    #[test]
    fn what_was_taken_is_not_given_again() {
        let mut space = Space::of(&[range(0x2000, 0x3000), range(0x1000, 0x2000)]);
        let window = range(0x1ff0, 0x2008);
        assert_eq!(start(space.take(window, 16)), Some(0x1ff0));
        assert_eq!(start(space.take(window, 16)), Some(0x2000));
        assert_eq!(space.take(window, 16), None);
        assert_eq!(start(space.take(range(0x2008, 0x2011), 16)), Some(0x2010));
    }

    #[test]
    fn bytes_that_would_leave_the_free_range_are_refused() {
        let mut space = Space::of(&[range(0x1000, 0x1010)]);
        assert_eq!(space.take(range(0xf00, 0x1001), 17), None);
        assert_eq!(space.take(range(0x1001, 0x2000), 5), None);
        assert_eq!(start(space.take(range(0x1000, 0x2000), 16)), Some(0x1000));
    }

    const END: u64 = 400;

    /// The lowest place for `len` bytes, looked for byte by byte.
    fn naive(free: &[bool], window: AddrRange, len: u64) -> Option<u64> {
        let is_free = |at: u64| (at..at + len).all(|at| free.get(at as usize) == Some(&true));
        (window.start.0..window.end.0).find(|at| at.is_multiple_of(ALIGN) && is_free(*at))
    }

    proptest! {
        #[test]
        fn the_lowest_place_is_found_and_what_is_given_back_is_free_again(
            ranges in proptest::collection::vec((0..END, 0..120_u64), 0..6),
            steps in proptest::collection::vec((0..END, 0..100_u64, 1..20_u64, any::<u8>()), 0..60),
        ) {
            let ranges: Vec<_> = ranges.into_iter().map(|(start, len)| range(start, (start + len).min(END))).collect();
            let first = Space::of(&ranges);
            let mut free: Vec<bool> = (0..END).map(|at| ranges.iter().any(|it| it.contains(GuestAddr(at)))).collect();
            let (mut space, mut held) = (first.clone(), Vec::new());
            for (from, width, len, choice) in steps {
                if choice < 80 && !held.is_empty() {
                    let (taken, len): (AddrRange, u64) = held.swap_remove(usize::from(choice) % held.len());
                    space.give_back(taken);
                    free[taken.start.0 as usize..][..len as usize].fill(true);
                    continue;
                }
                let window = range(from, from + width);
                let taken = space.take(window, len);
                prop_assert_eq!(start(taken), naive(&free, window, len));
                if let Some(taken) = taken {
                    prop_assert!(taken.len() >= len);
                    free[taken.start.0 as usize..][..len as usize].fill(false);
                    held.push((taken, len));
                }
            }
            held.into_iter().for_each(|(taken, _)| space.give_back(taken));
            prop_assert_eq!(space, first);
        }
    }
}
