//! A plan in the making: what is locked, what is taken, and the steps that every tactic is made of.

use crate::addr::{AddrRange, GuestAddr, PAGE};
use crate::find::site::{Site, Text};
use crate::plan::padding::Padding;
use crate::plan::space::Space;
use crate::plan::stub::{self, Again, Instruction};
use crate::plan::tactic::{self, Request};
use crate::plan::{Bytes, Edit, Gate, Plan, RefusalReason, Stub, TRAMPOLINE_LEN, Trampoline, TrapSite};
use crate::x86::decode::Decoder;
use crate::x86::encode::{self, JMP_REL32_LEN};
use crate::x86::insn::Kind;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// A plan in the making.
pub(super) struct Draft<'a, 'f> {
    pub(super) text: Text<'a>,
    pub(super) decoder: Decoder<'a>,
    pub(super) padding: Padding<'a, 'f>,
    pub(super) gate: Gate,
    pub(super) near: Option<AddrRange>,
    pub(super) space: &'a mut Space,
    /// Bytes that a patch writes or relies on: start to end.
    pub(super) locked: BTreeMap<GuestAddr, GuestAddr>,
    /// Pages that trampolines were put into where jumps point.
    pub(super) opened: BTreeSet<GuestAddr>,
    pub(super) plan: Plan,
}

impl Draft<'_, '_> {
    pub(super) fn add(&mut self, site: &Site, stub: Option<GuestAddr>) -> Result<(), RefusalReason> {
        let at = stub.ok_or(RefusalReason::NoStub)?;
        let insn = self.text.offset(site.at).and_then(|offset| self.decoder.decode(offset).ok());
        let instruction = match insn.filter(|insn| insn.len == site.len).map(|insn| insn.kind) {
            Some(Kind::Syscall) => Instruction::Syscall,
            Some(Kind::Int80) => Instruction::Int80,
            _ => return Err(RefusalReason::NotThere),
        };
        if !self.is_free(site.at, u64::from(site.len)) {
            return Err(RefusalReason::Taken);
        }
        let Gate { policy, hooked, .. } = self.gate;
        let (back, site_len, again) = (site.back(), site.len, Again::Site);
        let mut fields =
            stub::Fields { at, instruction, evicted: &[], policy, hooked, back, site_len, again };
        // Asked first, because a tactic leaves edits behind that a missing stub would strand.
        stub::build(&fields).ok_or(RefusalReason::GateTooWide)?;
        let request = Request { site, instruction, stub: at };
        let (tactic, decision) = tactic::choose(self, &request).ok_or(RefusalReason::NotThere)?;
        fields.evicted = &decision.moved;
        fields.again = decision.evicted.map_or(Again::Site, |evicted| evicted.again);
        let bytes = stub::build(&fields).ok_or(RefusalReason::GateTooWide)?;
        self.plan.stubs.push(Stub { at, bytes, site: *site, tactic, evicted: decision.evicted });
        Ok(())
    }

    /// Whether no patch writes or relies on any of `len` bytes.
    pub(super) fn is_free(&self, at: GuestAddr, len: u64) -> bool {
        let end = at.wrapping_add(len);
        self.locked.range(..end).next_back().is_none_or(|(_, locked_end)| *locked_end <= at)
    }

    /// Keeps `len` bytes as they are, or as they will be.
    pub(super) fn lock(&mut self, at: GuestAddr, len: u64) {
        self.locked.insert(at, at.wrapping_add(len));
    }

    /// Plans to write `new`; the bytes must be free and inside the text.
    pub(super) fn edit(&mut self, at: GuestAddr, new: &[u8]) -> Option<()> {
        let old = Bytes::from_slice(self.text.slice(at, new.len())?).ok()?;
        let new = Bytes::from_slice(new).ok()?;
        self.lock(at, new.len() as u64);
        self.plan.edits.push(Edit { at, old, new });
        Some(())
    }

    pub(super) fn trap(&mut self, at: GuestAddr, entry: GuestAddr) {
        self.plan.traps.push(TrapSite { at, entry });
    }

    /// Plans a trampoline in the near area.
    pub(super) fn trampoline(&mut self, at: GuestAddr, bytes: &[u8]) -> Option<()> {
        self.plan.trampolines.push(Trampoline { at, bytes: Bytes::from_slice(bytes).ok()? });
        Some(())
    }

    /// Plans a trampoline where a jump points.
    pub(super) fn landing(&mut self, at: GuestAddr, bytes: &[u8]) -> Option<()> {
        self.opened.insert(at.page_floor());
        self.trampoline(at, bytes)
    }

    /// The pages outside the near area that hold trampolines.
    pub(super) fn opened_pages(&self) -> Vec<AddrRange> {
        self.opened.iter().map(|page| AddrRange { start: *page, end: page.wrapping_add(PAGE) }).collect()
    }

    /// Takes room for one trampoline that a jump ending at `from` reaches.
    pub(super) fn take_near(&mut self, from: GuestAddr) -> Option<GuestAddr> {
        let area = self.near?;
        let rest = AddrRange { start: area.start.checked_add(TRAMPOLINE_LEN)?, end: area.end };
        let is_usable = rest.start <= rest.end && area.start.rel32_from(from).is_some();
        if is_usable {
            self.near = Some(rest);
        }
        is_usable.then_some(area.start)
    }

    /// Takes room for a jump to `entry` that starts inside `window`, and says what to put there.
    pub(super) fn land(&mut self, window: AddrRange, entry: GuestAddr) -> Option<(GuestAddr, Bytes)> {
        let reaches =
            encode::jmp_rel32(window.start, entry).and(encode::jmp_rel32(window.end, entry)).is_some();
        let len = if reaches { JMP_REL32_LEN } else { encode::JMP_ABS_LEN };
        let landing = self.space.take(window, len as u64)?.start;
        let near = encode::jmp_rel32(landing, entry).filter(|_| reaches);
        let long =
            near.map_or_else(|| Bytes::from_slice(&encode::jmp_abs(entry)), |jump| Bytes::from_slice(&jump));
        Some((landing, long.ok()?))
    }

    /// A `jmp rel32` at `at` that ends at `entry`, through a near trampoline if the gate is out of reach.
    pub(super) fn long_jump(&mut self, at: GuestAddr, entry: GuestAddr) -> Option<[u8; JMP_REL32_LEN]> {
        if let Some(direct) = encode::jmp_rel32(at, entry) {
            return Some(direct);
        }
        let trampoline = self.take_near(at.wrapping_add(JMP_REL32_LEN as u64))?;
        let jump = encode::jmp_rel32(at, trampoline)?;
        self.trampoline(trampoline, &encode::jmp_abs(entry))?;
        Some(jump)
    }
}
