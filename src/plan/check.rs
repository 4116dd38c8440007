//! Proves a plan against the bytes it was made for, without trusting how it was made.
//!
//! The text is changed as the plan says and then entered at every instruction that the plan touched: each must still
//! mean what it meant. In a debug build, the planner checks every plan in this way before it returns it.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::addr::GuestAddr;
use crate::find::site::{Span, Text};
use crate::plan::relay::JUMPS_MAX;
use crate::plan::tactic::lapping::UD_OPCODES;
use crate::plan::{Plan, Stub, Trampoline, stub};
use crate::x86::decode::{self, Decoder};
use crate::x86::encode::JMP_ABS_LEN;
use crate::x86::insn::{self, Kind, MAX_LEN, WINDOW};

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
        self.check_edits(text)?;
        let mut code = Code::of(self, text);
        for stub in &self.stubs {
            code.check_stub(stub)?;
        }
        let mut edits = self.edits.iter().zip(code.served);
        edits.find(|(_, is_served)| !is_served).map_or(Ok(()), |(edit, _)| Err(Flaw::Stray(edit.at)))
    }

    /// Whether the edits ascend, and each fits the text.
    fn check_edits(&self, text: &Text<'_>) -> Result<(), Flaw> {
        let mut end = GuestAddr(0);
        for edit in &self.edits {
            if edit.at < end {
                return Err(Flaw::Overlap(edit.at));
            }
            let len = edit.old.len();
            if edit.new.len() != len || text.slice(edit.at, len) != Some(&edit.old[..]) {
                return Err(Flaw::Stale(edit.at));
            }
            end = edit.at.wrapping_add(len as u64);
        }
        Ok(())
    }
}

/// All code that a plan leaves behind.
struct Code<'a> {
    text: Text<'a>,
    /// The text as it was.
    decoder: Decoder<'a>,
    plan: &'a Plan,
    /// By their addresses.
    trampolines: Vec<&'a Trampoline>,
    /// Which edits have been met on the way to a stub.
    served: Vec<bool>,
}

impl<'a> Code<'a> {
    fn of(plan: &'a Plan, text: &Text<'a>) -> Self {
        let mut trampolines: Vec<_> = plan.trampolines.iter().collect();
        trampolines.sort_unstable_by_key(|trampoline| trampoline.at);
        let served = plan.edits.iter().map(|_| false).collect();
        Self { text: *text, decoder: Decoder::new(text.bytes, text.at), plan, trampolines, served }
    }

    fn check_stub(&mut self, stub: &Stub) -> Result<(), Flaw> {
        let fields = stub::read(&stub.bytes, stub.at).ok_or(Flaw::Stub(stub.at))?;
        let site = &stub.site;
        let opcode = fields.instruction.bytes();
        let is_site = self.text.slice(site.opcode(), opcode.len()) == Some(&opcode[..]);
        if !is_site || fields.back != site.back() {
            return Err(Flaw::Stub(stub.at));
        }
        // A prefix before the opcode is an entry too, with or without the prefixes before it.
        for skipped in 0..u64::from(site.len).saturating_sub(1) {
            self.check_entry(site.at.wrapping_add(skipped), stub.plain_entry())?;
        }
        let Some(evicted) = stub.evicted else {
            return if fields.evicted.is_empty() { Ok(()) } else { Err(Flaw::Stub(stub.at)) };
        };
        let span = evicted.span;
        let entry = stub::entry(stub.at, usize::from(span.len)).ok_or(Flaw::Stub(stub.at))?;
        let moved = self.moved(span, entry).ok_or(Flaw::Stub(stub.at))?;
        if moved != fields.evicted || span.at.wrapping_add(u64::from(span.len)) != site.at {
            return Err(Flaw::Stub(stub.at));
        }
        self.check_entry(span.at, entry)
    }

    /// The instruction that stood at `span`, as it reads at `to`.
    fn moved(&mut self, span: Span, to: GuestAddr) -> Option<heapless::Vec<u8, MAX_LEN>> {
        let insn = self.decoder.decode(self.text.offset(span.at)?).ok()?;
        decode::relocate(self.text.slice(span.at, usize::from(span.len))?, insn, span.at, to)
    }

    /// Whether entering at `from` leads to `entry` through nothing but jumps and a trap.
    fn check_entry(&mut self, from: GuestAddr, entry: GuestAddr) -> Result<(), Flaw> {
        let mut at = from;
        for _ in 0..=JUMPS_MAX {
            if at == entry {
                return Ok(());
            }
            let (next, len) = self.step(at).ok_or(Flaw::Lost(from))?;
            let edits = self.edits_in(at, len);
            self.served.get_mut(edits).unwrap_or_default().fill(true);
            at = next;
        }
        Err(Flaw::Lost(from))
    }

    /// Which edits change any of `len` bytes.
    fn edits_in(&self, at: GuestAddr, len: usize) -> Range<usize> {
        let edits = &self.plan.edits;
        let end = at.wrapping_add(len as u64);
        let first = edits.partition_point(|edit| edit.at.wrapping_add(edit.new.len() as u64) <= at);
        let touched = edits.iter().skip(first).take_while(|edit| edit.at < end);
        first..first + touched.count()
    }

    /// Where the one instruction at `at` leads, and its length.
    fn step(&self, at: GuestAddr) -> Option<(GuestAddr, usize)> {
        if let Ok(index) = self.trampolines.binary_search_by_key(&at, |trampoline| trampoline.at) {
            let bytes = &self.trampolines.get(index)?.bytes;
            if let (JMP_ABS_LEN, Some(target)) = (bytes.len(), bytes.last_chunk::<8>()) {
                return Some((GuestAddr(u64::from_le_bytes(*target)), bytes.len()));
            }
            return jump(decode::decode(bytes, at).ok()?);
        }
        let code = self.changed(at)?;
        let trap = self.plan.traps.binary_search_by_key(&at, |trap| trap.at).ok();
        let trap = trap.and_then(|index| self.plan.traps.get(index));
        let insn = decode::decode(&code, at);
        match trap {
            Some(trap) if code.first().is_some_and(|first| UD_OPCODES.contains(first)) => {
                Some((trap.entry, 1))
            }
            Some(trap) if insn.is_ok_and(|insn| insn.kind == Kind::Trap) => {
                Some((trap.entry, usize::from(insn.ok()?.len)))
            }
            _ => jump(insn.ok()?),
        }
    }

    /// The bytes from `at` on after all edits, enough for an instruction.
    fn changed(&self, at: GuestAddr) -> Option<heapless::Vec<u8, WINDOW>> {
        let rest = self.text.bytes.get(self.text.offset(at)?..)?;
        let mut code = heapless::Vec::from_slice(rest.get(..WINDOW).unwrap_or(rest)).ok()?;
        for edit in self.plan.edits.get(self.edits_in(at, code.len()))? {
            let bytes = (0..).map(|offset| edit.at.wrapping_add(offset)).zip(&edit.new);
            for (place, byte) in bytes.filter(|(place, _)| at <= *place) {
                if let Some(changed) = code.get_mut((place.0 - at.0) as usize) {
                    *changed = *byte;
                }
            }
        }
        Some(code)
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
    use crate::find::site::Site;
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
