//! Proves a plan against the bytes it was made for, without trusting how it was made.
//!
//! The text is changed as the plan says and then entered at every instruction that the plan touched: each must still
//! mean what it meant. In a debug build, the planner checks every plan in this way before it returns it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use crate::addr::GuestAddr;
use crate::find::site::Text;
use crate::plan::relay::JUMPS_MAX;
use crate::plan::tactic::lapping::UD_OPCODES;
use crate::plan::{Plan, Stub, stub};
use crate::x86::decode;
use crate::x86::encode::JMP_ABS_LEN;
use crate::x86::insn::{self, Kind, MAX_LEN};

/// What is wrong with a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// The old bytes of the edit here are not the text's, or the new ones are of another length.
    Stale(GuestAddr),
    /// The edit here overlaps the one before it, or stands before it.
    Overlap(GuestAddr),
    /// The bytes of the stub here are not those of a stub for its site.
    Stub(GuestAddr),
    /// Whoever enters here does not get to where the original instruction leads.
    Lost(GuestAddr),
    /// No stub accounts for the edit here.
    Stray(GuestAddr),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale(at) => write!(f, "{at}: the text does not hold the edit's old bytes"),
            Self::Overlap(at) => write!(f, "{at}: two edits overlap"),
            Self::Stub(at) => write!(f, "{at}: the stub does not fit its site"),
            Self::Lost(at) => write!(f, "{at}: entering here does not lead to the stub"),
            Self::Stray(at) => write!(f, "{at}: the edit serves no site"),
        }
    }
}

impl Plan {
    /// Whether carrying out the plan keeps the meaning of every instruction of `text` that it touches, padding
    /// excepted.
    ///
    /// # Errors
    /// The first flaw found.
    pub fn check(&self, text: &Text<'_>) -> Result<(), Flaw> {
        let changed = self.changed(text)?;
        let mut served = Vec::new();
        let code = Code::of(self, text, &changed);
        for stub in &self.stubs {
            code.check_stub(text, stub, &mut served)?;
        }
        served.sort_unstable();
        let stray = self.edits.iter().find(|edit| served.binary_search(&edit.at).is_err());
        stray.map_or(Ok(()), |edit| Err(Flaw::Stray(edit.at)))
    }

    /// The bytes of `text` after all edits.
    fn changed(&self, text: &Text<'_>) -> Result<Vec<u8>, Flaw> {
        let mut changed = Vec::from(text.bytes);
        let mut end = GuestAddr(0);
        for edit in &self.edits {
            if edit.at < end {
                return Err(Flaw::Overlap(edit.at));
            }
            let len = edit.old.len();
            if edit.new.len() != len || text.slice(edit.at, len) != Some(&edit.old[..]) {
                return Err(Flaw::Stale(edit.at));
            }
            let start = text.offset(edit.at).ok_or(Flaw::Stale(edit.at))?;
            let target = changed.get_mut(start..start + len).ok_or(Flaw::Stale(edit.at))?;
            target.copy_from_slice(&edit.new);
            end = edit.at.wrapping_add(len as u64);
        }
        Ok(changed)
    }
}

/// All code that a plan leaves behind, by address.
struct Code<'a> {
    text: Text<'a>,
    trampolines: BTreeMap<GuestAddr, &'a [u8]>,
    traps: BTreeMap<GuestAddr, GuestAddr>,
    edits: Vec<(GuestAddr, usize)>,
}

impl<'a> Code<'a> {
    fn of(plan: &'a Plan, text: &Text<'_>, changed: &'a [u8]) -> Self {
        Self {
            text: Text { at: text.at, bytes: changed },
            trampolines: plan.trampolines.iter().map(|it| (it.at, &it.bytes[..])).collect(),
            traps: plan.traps.iter().map(|trap| (trap.at, trap.entry)).collect(),
            edits: plan.edits.iter().map(|edit| (edit.at, edit.new.len())).collect(),
        }
    }

    fn check_stub(&self, text: &Text<'_>, stub: &Stub, served: &mut Vec<GuestAddr>) -> Result<(), Flaw> {
        let fields = stub::read(&stub.bytes, stub.at).ok_or(Flaw::Stub(stub.at))?;
        let site = &stub.site;
        let opcode = fields.instruction.bytes();
        let is_site = text.slice(site.opcode(), opcode.len()) == Some(&opcode[..]);
        if !is_site || fields.back != site.back() {
            return Err(Flaw::Stub(stub.at));
        }
        // A prefix before the opcode is an entry too, with or without the prefixes before it.
        for skipped in 0..u64::from(site.len).saturating_sub(1) {
            let entered = site.at.wrapping_add(skipped);
            self.check_entry(entered, stub.plain_entry(), served)?;
        }
        let Some(evicted) = stub.evicted else {
            return if fields.evicted.is_empty() { Ok(()) } else { Err(Flaw::Stub(stub.at)) };
        };
        let span = evicted.span;
        let entry = stub::entry(stub.at, usize::from(span.len)).ok_or(Flaw::Stub(stub.at))?;
        let original = text.slice(span.at, usize::from(span.len)).ok_or(Flaw::Stub(stub.at))?;
        let insn = decode::decode(original, span.at).map_err(|_| Flaw::Stub(stub.at))?;
        let moved = decode::relocate(original, insn, span.at, entry);
        if moved.as_deref() != Some(fields.evicted) || span.at.wrapping_add(u64::from(span.len)) != site.at {
            return Err(Flaw::Stub(stub.at));
        }
        self.check_entry(span.at, entry, served)
    }

    /// Whether entering at `from` leads to `entry` through nothing but jumps and a trap.
    fn check_entry(
        &self,
        from: GuestAddr,
        entry: GuestAddr,
        served: &mut Vec<GuestAddr>,
    ) -> Result<(), Flaw> {
        let mut at = from;
        for _ in 0..=JUMPS_MAX {
            if at == entry {
                return Ok(());
            }
            let (next, len) = self.step(at).ok_or(Flaw::Lost(from))?;
            let end = at.wrapping_add(len as u64);
            let first = self.edits.partition_point(|(edit, len)| edit.wrapping_add(*len as u64) <= at);
            let touched = self.edits.iter().skip(first).take_while(|(edit, _)| *edit < end);
            served.extend(touched.map(|(edit, _)| *edit));
            at = next;
        }
        Err(Flaw::Lost(from))
    }

    /// Where the one instruction at `at` leads, and its length.
    fn step(&self, at: GuestAddr) -> Option<(GuestAddr, usize)> {
        if let Some(bytes) = self.trampolines.get(&at) {
            if let (JMP_ABS_LEN, Some(target)) = (bytes.len(), bytes.last_chunk::<8>()) {
                return Some((GuestAddr(u64::from_le_bytes(*target)), bytes.len()));
            }
            return jump(decode::decode(bytes, at).ok()?);
        }
        let offset = self.text.offset(at)?;
        let rest = self.text.bytes.get(offset..)?;
        let insn = decode::decode(rest.get(..MAX_LEN).unwrap_or(rest), at);
        let traps = rest.first().is_some_and(|first| UD_OPCODES.contains(first))
            || insn.is_ok_and(|insn| insn.kind == Kind::Trap);
        match self.traps.get(&at) {
            Some(entry) if traps => Some((*entry, insn.map_or(1, |insn| usize::from(insn.len)))),
            _ => jump(insn.ok()?),
        }
    }
}

fn jump(insn: insn::Insn) -> Option<(GuestAddr, usize)> {
    match insn.kind {
        Kind::Jump { target } => Some((target, usize::from(insn.len))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::AddrRange;
    use crate::elf::functions::Functions;
    use crate::find::site::{Site, Span};
    use crate::plan::planner::plan;
    use crate::plan::space::Space;
    use crate::plan::{Bytes, Edit, Gate, Input};

    const BYTES: [u8; 8] = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3];
    const TEXT: Text<'static> = Text { at: GuestAddr(0x40_0000), bytes: &BYTES };

    fn planned() -> Plan {
        let at = TEXT.addr(5);
        let sites = [Site { at, len: 2, predecessor: Some(Span { at: TEXT.at, len: 5 }) }];
        let stubs = AddrRange { start: GuestAddr(0x1000_0000), end: GuestAddr(0x1000_0040) };
        let gate = Gate { stubs, policy: GuestAddr(0x1100_0000), hooked: GuestAddr(0xf00_0000) };
        let near: Option<AddrRange> = None;
        let (functions, mut space) = (Functions::unknown(), Space::default());
        plan(Input {
            text: TEXT,
            sites: &sites,
            bias: 0,
            functions: &functions,
            dead_ends: &[],
            gate,
            stubs: &[Some(stubs.start)],
            near,
            space: &mut space,
        })
    }

    #[test]
    fn a_sound_plan_passes() {
        assert_eq!(planned().check(&TEXT), Ok(()));
    }

    #[test]
    fn a_plan_for_other_bytes_is_stale() {
        let other = [0xb8, 40, 0, 0, 0, 0x0f, 0x05, 0xc3];
        assert_eq!(planned().check(&Text { bytes: &other, ..TEXT }), Err(Flaw::Stale(TEXT.at)));
    }

    #[test]
    fn a_jump_that_misses_its_stub_is_found() {
        let mut plan = planned();
        plan.edits[0].new[1] ^= 1;
        assert_eq!(plan.check(&TEXT), Err(Flaw::Lost(TEXT.at)));
    }

    #[test]
    fn a_trap_that_nobody_knows_is_found() {
        let mut plan = planned();
        plan.traps.clear();
        assert_eq!(plan.check(&TEXT), Err(Flaw::Lost(TEXT.addr(5))));
    }

    #[test]
    fn an_edit_that_serves_no_site_is_found() {
        let mut plan = planned();
        let stray = plan.edits[1].clone();
        let old = Bytes::from_slice(&[0xc3]).unwrap();
        plan.edits.push(Edit { at: TEXT.addr(7), new: old.clone(), old });
        assert_eq!(plan.check(&TEXT), Err(Flaw::Stray(TEXT.addr(7))));
        plan.edits[2] = stray;
        assert_eq!(plan.check(&TEXT), Err(Flaw::Overlap(TEXT.addr(5))));
    }

    #[test]
    fn a_stub_with_another_evicted_instruction_is_found() {
        let mut plan = planned();
        let stub_at = plan.stubs[0].at;
        plan.stubs[0].bytes[5] ^= 1;
        assert_eq!(plan.check(&TEXT), Err(Flaw::Stub(stub_at)));
    }
}
