//! Follows proved branches into unknown code, and judges again what they lead to.
//!
//! A stretch is judged again when something new is known of it: where an instruction of it starts, or that a function
//! starts where one of its islands branches to. So a chain of calls through many gaps costs what the gaps do.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::find::anchor::{self, Branch};
use crate::find::site::Text;
use crate::find::stretch::{Finder, Stretch};

/// Stretches with hits that may yet be proved.
struct Open<'s> {
    /// In ascending order of their ends.
    stretches: Vec<&'s mut Stretch>,
    /// Where each starts and ends.
    ranges: Vec<(usize, usize)>,
    /// What may lead into them, in ascending order of where from, and whether it is proved.
    branches: Vec<(Branch, bool)>,
    /// Which are to be judged again.
    due: BTreeSet<usize>,
    /// Where islands branch to, and in which stretch they lie.
    watched: BTreeSet<(usize, usize)>,
}

impl<'s> Open<'s> {
    fn of(text: &Text<'_>, stretches: &'s mut [Stretch]) -> Self {
        let stretches: Vec<_> = stretches.iter_mut().filter(|stretch| stretch.is_open()).collect();
        let ranges: Vec<_> = stretches.iter().map(|stretch| (stretch.start, stretch.end)).collect();
        let branches =
            anchor::branches_into(text, &ranges).into_iter().map(|branch| (branch, false)).collect();
        let due = (0..ranges.len()).collect();
        Self { stretches, ranges, branches, due, watched: BTreeSet::new() }
    }

    /// The stretch that holds offset `at`.
    fn holder(&self, at: usize) -> Option<usize> {
        anchor::holder(&self.ranges, at)
    }

    /// The next stretch that is due, from the one numbered `from` on and then from the first.
    fn next_due(&mut self, from: usize) -> Option<usize> {
        let next = self.due.range(from..).next().or_else(|| self.due.first()).copied()?;
        self.due.remove(&next);
        Some(next)
    }

    /// Takes the branches from `start` to `end` that are instructions.
    fn take_proved(
        &mut self,
        (start, end): (usize, usize),
        is_instruction: impl Fn(usize) -> bool,
    ) -> Vec<Branch> {
        let first = self.branches.partition_point(|(branch, _)| branch.from < start);
        let inside = self.branches.iter_mut().skip(first).take_while(|(branch, _)| branch.from < end);
        let new = inside.filter(|(branch, is_proved)| !is_proved && is_instruction(branch.from));
        new.map(|(branch, is_proved)| {
            *is_proved = true;
            *branch
        })
        .collect()
    }

    /// A function starts at offset `at`, which is new. Returns false if that is in none of them.
    fn add_anchor(&mut self, at: usize) -> bool {
        let Some(index) = self.holder(at) else { return false };
        if let Some(stretch) = self.stretches.get_mut(index) {
            stretch.anchors.push(at);
        }
        self.due.insert(index);
        self.due.extend(self.watched.range((at, 0)..=(at, usize::MAX)).map(|(_, watching)| *watching));
        true
    }
}

impl Finder<'_, '_> {
    /// Judges open stretches again with the anchors that proved branches give them.
    pub(super) fn follow_branches(&mut self, stretches: &mut [Stretch]) {
        let mut open = Open::of(&self.text, stretches);
        self.resolve_outside(&mut open);
        let mut next = 0;
        while let Some(index) = open.next_due(next) {
            self.judge_again(&mut open, index);
            next = index + 1;
        }
    }

    fn judge_again(&mut self, open: &mut Open<'_>, index: usize) {
        let Some(stretch) = open.stretches.get_mut(index).filter(|stretch| stretch.is_open()) else { return };
        if self.judge(stretch) {
            open.due.insert(index);
        }
        let (range, is_code) = ((stretch.start, stretch.end), !stretch.anchors.is_empty());
        let targets = self.trace.island_targets().filter(|to| anchor::holder(&open.ranges, *to).is_some());
        open.watched.extend(targets.map(|to| (to, index)));
        if is_code && self.trace.spoiled().is_none() {
            self.follow_proved(open, range);
        }
    }

    /// Proves the branches that stand in known functions.
    fn resolve_outside(&mut self, open: &mut Open<'_>) {
        let mut next = 0;
        let mut last = None;
        while let Some((Branch { from, .. }, _)) = open.branches.get(next).copied() {
            next += 1;
            let function = self.functions.covering(self.vaddr(from));
            // All that is in a function has been looked at with the first branch in it.
            if open.holder(from).is_some() || function.is_none() || function == last {
                continue;
            }
            last = function;
            let stretch = self.stretch(from);
            if self.trace_stretch(&stretch).is_ok() {
                self.trace.adopt_islands();
                self.follow_proved(open, (stretch.start, stretch.end));
                next = open.branches.partition_point(|(branch, _)| branch.from < stretch.end);
            }
        }
    }

    /// Notes where the traced branches in `range` lead.
    fn follow_proved(&mut self, open: &mut Open<'_>, range: (usize, usize)) {
        for branch in open.take_proved(range, |from| self.trace.is_instruction(from)) {
            if !self.anchors.contains(&branch.to) && open.add_anchor(branch.to) {
                self.anchors.insert(branch.to);
            }
        }
    }
}
