//! Follows proved branches into unknown code, and judges again what they lead to.

use alloc::vec::Vec;

use crate::find::anchor::{self, Branch};
use crate::find::stretch::{Finder, Stretch};

impl Finder<'_, '_> {
    /// Judges open stretches again with the anchors that proved branches give them.
    pub(super) fn follow_branches(&mut self, stretches: &mut [Stretch]) {
        let mut open: Vec<_> = stretches.iter_mut().filter(|stretch| stretch.is_open()).collect();
        let ranges: Vec<_> = open.iter().map(|stretch| (stretch.start, stretch.end)).collect();
        let mut branches = anchor::branches_into(&self.text, &ranges);
        self.resolve_outside(&mut branches, &mut open);
        // Each round proves a branch or is the last.
        let mut is_settled = false;
        while !is_settled {
            is_settled = true;
            for index in 0..open.len() {
                let Some(stretch) = open.get_mut(index).filter(|stretch| stretch.is_open()) else { continue };
                is_settled &= !self.judge(stretch);
                let (start, end) = (stretch.start, stretch.end);
                let is_code = !stretch.anchors.is_empty() && self.trace.spoiled().is_none();
                if is_code {
                    let proved = self.take_proved(&mut branches, start, end);
                    is_settled &= !self.add_anchors(&mut open, &proved);
                }
            }
        }
    }

    /// Proves the branches that stand in known functions.
    fn resolve_outside(&mut self, branches: &mut Vec<Branch>, open: &mut [&mut Stretch]) {
        let mut next = 0;
        while let Some(branch) = branches.get(next) {
            let from = branch.from;
            next += 1;
            if open.iter().any(|stretch| stretch.contains(from))
                || self.functions.covering(self.vaddr(from)).is_none()
            {
                continue;
            }
            let stretch = self.stretch(from);
            if self.trace_stretch(&stretch).is_ok() {
                self.trace.adopt_islands();
                let proved = self.take_proved(branches, stretch.start, stretch.end);
                self.add_anchors(open, &proved);
                next = branches.partition_point(|branch| branch.from < stretch.end);
            }
        }
    }

    /// Takes out the branches from `start` to `end` that are traced instructions.
    fn take_proved(&self, branches: &mut Vec<Branch>, start: usize, end: usize) -> Vec<Branch> {
        let inside = |branch: &Branch| start <= branch.from && branch.from < end;
        let is_proved = |branch: &Branch| inside(branch) && self.trace.is_instruction(branch.from);
        let proved = branches.iter().copied().filter(is_proved).collect();
        branches.retain(|branch| !is_proved(branch));
        proved
    }

    /// Gives each stretch the targets that lie in it; whether any was new.
    fn add_anchors(&mut self, stretches: &mut [&mut Stretch], branches: &[Branch]) -> bool {
        let mut is_new = false;
        for branch in branches {
            let Err(place) = self.anchors.binary_search(&branch.to) else { continue };
            if let Some(stretch) = stretches.iter_mut().find(|stretch| stretch.contains(branch.to)) {
                self.anchors.insert(place, branch.to);
                stretch.anchors.push(branch.to);
                is_new = true;
            }
        }
        is_new
    }
}
