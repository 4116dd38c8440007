//! The order in which code is changed that threads may be executing.
//!
//! A processor may have read half of an instruction when the other half changes (SDM vol. 3A, 9.1.3, cross-modifying
//! code). So the first byte of whatever changes becomes a trap that leads to the stub, every processor is made to look
//! again, the rest follows, all look again, and the first byte comes last. At each moment every boundary is the old
//! instruction, a trap, or the new one. What fits into one aligned word is changed by one store instead.

use alloc::vec::Vec;

use crate::addr::GuestAddr;
use crate::plan::{Edit, Evicted, Plan, TrapSite, stub};

/// One byte that is no instruction (SDM vol. 2B, `PUSH ES` in 64-bit mode), and so traps, whatever prefix stands before it.
pub(crate) const TRAP: u8 = 0x06;

/// A word that a processor reads and writes as a whole, in bytes.
const WORD: u64 = 8;

/// What is written between two moments at which all processors look again.
pub(crate) type Step = Vec<(GuestAddr, Vec<u8>)>;

/// How a plan is carried out under the eyes of other threads.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Change {
    /// Traps that must be known meanwhile, besides the plan's own.
    pub traps: Vec<TrapSite>,
    /// In this order; bytes of one address are written at once, as far as they can be.
    pub steps: [Step; 3],
}

impl Change {
    /// How the edits of `plan` are written. `has_words` says that up to eight bytes can be, if they are in one aligned word.
    #[must_use]
    pub(crate) fn of(plan: &Plan, has_words: bool) -> Self {
        let mut change = Self::default();
        let all = all_entries(plan);
        for edit in &plan.edits {
            let entries = entries(&all, edit);
            let is_one_word = edit.at.0 / WORD == edit.at.wrapping_add(edit.new.len() as u64 - 1).0 / WORD;
            if entries.is_empty() || (has_words && is_one_word) {
                // Nobody executes padding, and a word changes at once.
                let step = usize::from(!entries.is_empty());
                change.put(step, edit.at, &edit.new);
            } else {
                change.add(edit, &entries);
            }
        }
        change
    }

    fn add(&mut self, edit: &Edit, entries: &[TrapSite]) {
        let [head, tail @ ..] = &edit.new[..] else { return };
        self.put(0, edit.at, &[TRAP]);
        for inner in entries.iter().filter(|entry| entry.at > edit.at) {
            // A jump that laps over a site holds a byte that traps there.
            let offset = (inner.at.0 - edit.at.0) as usize;
            self.put(0, inner.at, edit.new.get(offset..=offset).unwrap_or_default());
        }
        self.traps.extend_from_slice(entries);
        self.put(1, edit.at.wrapping_add(1), tail);
        self.put(2, edit.at, &[*head]);
    }

    fn put(&mut self, step: usize, at: GuestAddr, bytes: &[u8]) {
        if let Some(step) = self.steps.get_mut(step) {
            step.push((at, bytes.to_vec()));
        }
    }
}

/// Where threads may enter what a plan changes.
struct Entry {
    /// The first byte that changes of the instruction that they enter.
    changed: GuestAddr,
    /// Its order in the plan.
    order: usize,
    /// Where they enter, and where they go on.
    site: TrapSite,
}

/// All entries, in ascending order of the bytes that change.
fn all_entries(plan: &Plan) -> Vec<Entry> {
    let mut all = Vec::with_capacity(2 * plan.stubs.len());
    for stub in &plan.stubs {
        for skipped in 0..u64::from(stub.site.len).saturating_sub(1) {
            let site = TrapSite { at: stub.site.at.wrapping_add(skipped), entry: stub.plain_entry() };
            all.push(Entry { changed: stub.site.opcode(), order: all.len(), site });
        }
        if let Some(Evicted { span, .. }) = stub.evicted
            && let Some(entry) = stub::entry(stub.at, usize::from(span.len))
        {
            let site = TrapSite { at: span.at, entry };
            all.push(Entry { changed: span.at, order: all.len(), site });
        }
    }
    all.sort_unstable_by_key(|entry| (entry.changed, entry.order));
    all
}

/// Where threads may enter the bytes of an edit, or its prefixes, and where they go on, in the plan's order; nowhere if it
/// is padding.
fn entries(all: &[Entry], edit: &Edit) -> Vec<TrapSite> {
    let end = edit.at.wrapping_add(edit.new.len() as u64);
    let first = all.partition_point(|entry| entry.changed < edit.at);
    let mut touched: Vec<&Entry> = all.iter().skip(first).take_while(|entry| entry.changed < end).collect();
    touched.sort_unstable_by_key(|entry| entry.order);
    touched.into_iter().map(|entry| entry.site).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::AddrRange;
    use crate::elf::functions::Functions;
    use crate::find::site::{Site, Span, Text};
    use crate::plan::planner::plan;
    use crate::plan::space::Space;
    use crate::plan::{Gate, Input};
    use proptest::prelude::*;

    const GATE: Gate = Gate {
        stubs: AddrRange { start: GuestAddr(0x1000_0000), end: GuestAddr(0x1000_0040) },
        policy: GuestAddr(0x1100_0000),
        hooked: GuestAddr(0xf00_0000),
    };

    fn planned(bytes: &[u8], at: u64, site: (u64, u8, u8)) -> Plan {
        let text = Text { at: GuestAddr(at), bytes };
        let (offset, len, before) = site;
        let site = GuestAddr(at + offset);
        let predecessor = (before != 0).then(|| Span { at: site.wrapping_sub(before.into()), len: before });
        let all = AddrRange::new(GuestAddr(0x50_0000), GuestAddr(0x7000_0000));
        plan(Input {
            text,
            sites: &[Site { at: site, len, predecessor }],
            bias: 0,
            functions: &Functions::unknown(),
            dead_ends: &[],
            gate: GATE,
            stubs: &[Some(GATE.stubs.start)],
            near: None,
            space: &mut Space::of(&[all]),
        })
    }

    proptest! {
        #[test]
        fn every_boundary_is_old_or_a_trap_or_new_at_each_moment(at in 0x40_0000_u64..0x40_0100, has_words in any::<bool>(), pick in 0_usize..5) {
            let (bytes, site): (&[u8], _) = [
                (&[0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3][..], (5, 2, 5)),
                (&[0x89, 0xd0, 0x0f, 0x05, 0x01, 0xc3, 0xc3], (2, 2, 2)),
                (&[0x48, 0x63, 0x47, 0x10, 0x0f, 0x05, 0x01, 0xc3, 0xc3], (4, 2, 4)),
                (&[0x48, 0x0f, 0x05, 0xc3, 0xc3, 0xc3], (0, 3, 0)),
                (&[0x0f, 0x05, 0x22, 0x11, 0x10, 0xc3], (0, 2, 0)),
            ][pick];
            let plan = planned(bytes, at, site);
            let change = Change::of(&plan, has_words);
            let start = at;
            let mut code = bytes.to_vec();
            for step in &change.steps {
                // In any order of the writes of a step, and of the bytes behind the first.
                for (at, bytes) in step {
                    let offset = (at.0 - start) as usize;
                    if bytes.len() > 1 && !(has_words && at.0 / 8 == (at.0 + bytes.len() as u64 - 1) / 8) {
                        // Behind a trap, or padding: nobody gets here.
                        let opened = change.traps.iter().any(|trap| code[(trap.at.0 - start) as usize] == TRAP && trap.at < *at);
                        prop_assert!(opened, "{at} {bytes:x?}");
                    }
                    code[offset..offset + bytes.len()].copy_from_slice(bytes);
                }
            }
            let mut expected = bytes.to_vec();
            for edit in &plan.edits {
                let offset = (edit.at.0 - start) as usize;
                expected[offset..offset + edit.new.len()].copy_from_slice(&edit.new);
            }
            prop_assert_eq!(code, expected);
        }
    }

    #[test]
    fn a_jump_that_laps_over_its_site_traps_there_from_the_start() {
        let plan = planned(&[0x89, 0xd0, 0x0f, 0x05, 0x01, 0xc3, 0xc3], 0x40_0006, (2, 2, 2));
        let change = Change::of(&plan, true);
        let written: Vec<_> = change.steps[0].iter().map(|(at, bytes)| (at.0, bytes.len())).collect();
        assert_eq!(written, [(0x40_0006, 1), (0x40_0008, 1)]);
        assert_eq!(change.traps.len(), 2);
    }
}
