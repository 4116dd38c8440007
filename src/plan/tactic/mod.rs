//! The ways to lead a two-byte system call instruction into its stub, in order of preference.
//!
//! 1. A **short jump** at the site to dead padding that holds the long jump. Nothing moves, every boundary stays. Where
//!    no five bytes of padding are in reach, two bytes may be that lead to some.
//! 2. **Eviction**: the instruction that falls through to the site moves into the stub, and the long jump stands in its
//!    place. Whoever enters at the site itself meets a trap. It comes before a chain of short jumps where the instruction
//!    loads a constant into `rax`, because then nobody has a reason to enter at the site itself.
//! 3. A **pun**: the long jump stands at the site, and the bytes that follow are its displacement's upper three.
//!    They stay as they are, and so does their meaning for whoever enters there.
//! 4. **Lapping eviction**, for predecessors of two to four bytes: the jump in their place laps over the site, and the
//!    displacement is chosen so that its byte there traps.
//! 5. A **trap**: `ud2`, and the handler goes to the stub. It is the only one for `int 0x80`: programs of 64 bits hardly ever
//!    execute one, and who does not trap tells nobody of the call.
//!
//! Each is a file here, and a row of [`ROWS`] for each place that it has in this order. Reports, and whoever counts, know
//! of no tactic but by that table.
//!
//! An instruction that writes memory is never evicted. It might be the last of a restartable sequence, which
//! commits by that very store (rseq(2)); all others of such a sequence the kernel restarts or the site is outside.

mod eviction;
pub(super) mod lapping;
mod pun;
mod short_jump;
mod trap;

use crate::plan::draft::Draft;
use crate::plan::request::{Decision, Label, Request};
use crate::plan::{Stub, Tactic};
use core::fmt;

/// A tactic's place in the order of preference.
struct Row {
    label: Label,
    /// Plans it for one site, or finds that it does not fit; what it has done by then is undone.
    plan: fn(&mut Draft<'_, '_>, &Request<'_>) -> Option<Decision>,
}

/// In the order in which they are tried; the last takes any site.
const ROWS: &[Row] = &[
    Row { label: short_jump::LABEL, plan: short_jump::direct },
    Row { label: eviction::LABEL, plan: eviction::of_repeatable },
    Row { label: short_jump::LABEL, plan: short_jump::chained },
    Row { label: eviction::LABEL, plan: eviction::of_any },
    Row { label: pun::LABEL, plan: pun::plan },
    Row { label: eviction::LABEL, plan: lapping::plan },
    Row { label: trap::LABEL, plan: trap::plan },
];

impl Tactic {
    /// The one that takes any site.
    pub const TRAP: Self = Self(ROWS.len() as u8 - 1);

    /// Above every [`Self::index`].
    pub const INDEX_END: usize = ROWS.len();

    /// Each once, in the order in which they are preferred.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..ROWS.len()).filter(|row| Self::of_row(*row).index() == *row).map(Self::of_row)
    }

    /// A number of its own.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// What it is called in text, behind a number of sites.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.label().map_or("", |label| label.name)
    }

    /// What it is called in JSON.
    #[must_use]
    pub fn key(self) -> &'static str {
        self.label().map_or("", |label| label.key)
    }

    fn label(self) -> Option<&'static Label> {
        ROWS.get(self.index()).map(|row| &row.label)
    }

    fn of_row(row: usize) -> Self {
        let key = ROWS.get(row).map(|row| row.label.key);
        let first = ROWS.iter().position(|row| Some(row.label.key) == key);
        first.map_or(Self::TRAP, |first| Self(first as u8))
    }

    /// The one with this key.
    #[cfg(test)]
    pub(crate) fn of_key(key: &str) -> Self {
        Self::all().find(|tactic| tactic.key() == key).unwrap()
    }
}

impl fmt::Debug for Tactic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// Plans the patch of a site by the first tactic that fits, and says what stub that takes.
pub(super) fn choose(draft: &mut Draft<'_, '_>, request: &Request<'_>) -> Option<Stub> {
    let first = if request.may_jump(&draft.text) { 0 } else { Tactic::TRAP.index() };
    ROWS.iter().enumerate().skip(first).find_map(|(index, row)| {
        draft.attempt(|draft| {
            let decision = (row.plan)(draft, request)?;
            draft.stub(request, Tactic::of_row(index), &decision)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::GuestAddr;
    use crate::plan::draft::tests::with_draft;
    use crate::plan::planner;
    use crate::plan::stub::{self, Instruction};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_key_has_one_name_and_a_name_one_key() {
        let names: BTreeMap<_, _> = ROWS.iter().map(|row| (row.label.key, row.label.name)).collect();
        let keys: BTreeMap<_, _> = ROWS.iter().map(|row| (row.label.name, row.label.key)).collect();
        assert!(ROWS.iter().all(|row| names[row.label.key] == row.label.name));
        assert_eq!((names.len(), keys.len()), (Tactic::all().count(), Tactic::all().count()));
    }

    #[test]
    fn the_last_resort_has_a_row_of_its_own() {
        assert_eq!(Tactic::TRAP, Tactic::of_key("trap"));
        assert!(Tactic::all().all(|tactic| tactic.index() < Tactic::INDEX_END));
    }

    proptest! {
        #[test]
        fn a_tactic_that_comes_to_nothing_leaves_nothing_behind(
            lens in proptest::collection::vec((any::<u8>(), any::<u8>()), 1..16),
            near_len in 0..300_u64,
            served in 0..16_usize,
        ) {
            with_draft(&lens, near_len, |draft, sites| {
                for (index, site) in sites.iter().enumerate().rev().take(served) {
                    planner::add(draft, site, Some(stub_at(index))).unwrap();
                }
                for (index, site) in sites.iter().enumerate().rev().skip(served) {
                    let request = Request { site, instruction: Instruction::Syscall, stub: stub_at(index) };
                    for (row, Row { plan, .. }) in ROWS.iter().enumerate() {
                        let [before, after] = draft.left_by(|draft| drop(plan(draft, &request)));
                        assert_eq!(before, after, "row {row}");
                    }
                }
            });
        }
    }

    fn stub_at(index: usize) -> GuestAddr {
        GuestAddr(0x7000_0000_0000 + (index * stub::LEN) as u64)
    }
}
