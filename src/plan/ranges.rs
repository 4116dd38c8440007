//! Stretches of numbers in a tree: found, taken out and put back at a price that hardly grows with how many there are.
//!
//! None overlaps or touches the next, so each set has one form only, and what was taken out leaves no trace once it is
//! put back.

use alloc::collections::BTreeMap;

/// Half-open ranges, start to end.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds a range, joined with all that it overlaps or touches.
    pub(super) fn insert(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        while let Some((known, known_end)) = self.first_below(end.saturating_add(1))
            && known_end >= start
        {
            self.0.remove(&known);
            (start, end) = (start.min(known), end.max(known_end));
        }
        self.0.insert(start, end);
    }

    /// Takes a range out of the one that holds it. Does nothing and returns false if none holds all of it.
    pub(super) fn remove(&mut self, start: u64, end: u64) -> bool {
        let holder = self.first_below(start.saturating_add(1)).filter(|(_, known_end)| end <= *known_end);
        let Some((known, known_end)) = holder.filter(|_| start < end) else { return false };
        if known < start {
            self.0.insert(known, start);
        } else {
            self.0.remove(&known);
        }
        if end < known_end {
            self.0.insert(end, known_end);
        }
        true
    }

    /// Those that end behind `at`, in ascending order.
    pub(super) fn ending_after(&self, at: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let holder = self.first_below(at).filter(|(_, end)| *end > at);
        holder.into_iter().chain(self.0.range(at..).map(|(start, end)| (*start, *end)))
    }

    /// Those that start at `at` or before, in descending order.
    pub(super) fn starting_by(&self, at: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.range(..=at).rev().map(|(start, end)| (*start, *end))
    }

    /// The one with the highest start below `at`.
    fn first_below(&self, at: u64) -> Option<(u64, u64)> {
        self.0.range(..at).next_back().map(|(start, end)| (*start, *end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const END: u64 = 48;

    /// The ranges that a row of marks amounts to.
    fn runs_of(marks: &[bool]) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for at in (0..END).filter(|at| marks[*at as usize]) {
            match runs.last_mut().filter(|(_, end)| *end == at) {
                Some((_, end)) => *end += 1,
                None => runs.push((at, at + 1)),
            }
        }
        runs
    }

    proptest! {
        #[test]
        fn it_is_what_a_row_of_marks_says(steps in proptest::collection::vec((any::<bool>(), 0..END, 0..12_u64), 0..40)) {
            let (mut ranges, mut marks) = (Ranges::default(), [false; END as usize]);
            for (is_new, start, len) in steps {
                let end = (start + len).min(END);
                let marked = &mut marks[start as usize..end as usize];
                if is_new {
                    ranges.insert(start, end);
                    marked.fill(true);
                } else if marked.iter().all(|mark| *mark) {
                    let before = ranges.clone();
                    prop_assert_eq!(ranges.remove(start, end), start < end);
                    let mut restored = ranges.clone();
                    restored.insert(start, end);
                    prop_assert_eq!(restored, before);
                    marked.fill(false);
                } else {
                    prop_assert!(!ranges.remove(start, end));
                }
                prop_assert_eq!(ranges.ending_after(0).collect::<Vec<_>>(), runs_of(&marks));
            }
            for at in 0..END {
                let behind: Vec<_> = runs_of(&marks).into_iter().filter(|(_, end)| *end > at).collect();
                prop_assert_eq!(ranges.ending_after(at).collect::<Vec<_>>(), behind);
                let before = runs_of(&marks).into_iter().rev().filter(|(start, _)| *start <= at);
                prop_assert!(ranges.starting_by(at).eq(before));
            }
        }
    }
}
