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
//! An instruction that writes memory is never evicted. It might be the last of a restartable sequence, which
//! commits by that very store (rseq(2)); all others of such a sequence the kernel restarts or the site is outside.

use crate::addr::{AddrRange, GuestAddr};
use crate::find::site::{Site, Span};
use crate::plan::draft::{self, Decision, Draft};
use crate::plan::lapping::Lapping;
use crate::plan::padding::Chain;
use crate::plan::stub::{self, Again, Instruction};
use crate::plan::{Evicted, Tactic};
use crate::x86::decode;
use crate::x86::encode::{self, INT3, JMP_REL8_LEN, JMP_REL32, JMP_REL32_LEN, UD2};
use crate::x86::gpr::{Gpr, Value};
use alloc::vec::Vec;

/// Which instructions may be evicted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Evictee {
    /// Those that a restarted call may run again.
    Repeatable,
    /// All that can move.
    Any,
}

/// The prefix that makes `jmp` differ between vendors.
const OPERAND_SIZE: u8 = 0x66;

/// Plans the patch of `site`, whose stub lies at `at`, by the first tactic that fits.
pub(super) fn choose(
    draft: &mut Draft<'_, '_>,
    site: &Site,
    instruction: Instruction,
    at: GuestAddr,
) -> Decision {
    let prefixes = usize::from(site.len).saturating_sub(2);
    let prefixes = draft.text.slice(site.at, prefixes).unwrap_or_default();
    let plain_entry = at.wrapping_add(stub::PLAIN_ENTRY as u64);
    let plain = |tactic| Decision { tactic, evicted: None, moved: heapless::Vec::new() };
    if instruction == Instruction::Syscall && !prefixes.contains(&OPERAND_SIZE) {
        let opcode = site.opcode();
        let relay = draft.padding.take_relay(opcode);
        if let Some(chain) = relay.map(|relay| Chain { hops: Vec::new(), relay })
            && short_jump(draft, site, &chain, plain_entry).is_some()
        {
            return plain(Tactic::ShortJump);
        }
        if let Some(decision) = eviction(draft, site, at, Evictee::Repeatable) {
            return decision;
        }
        if let Some(chain) = draft.padding.take_chain(opcode)
            && short_jump(draft, site, &chain, plain_entry).is_some()
        {
            return plain(Tactic::ShortJump);
        }
        if let Some(decision) = eviction(draft, site, at, Evictee::Any) {
            return decision;
        }
        if pun(draft, site, plain_entry).is_some() {
            return plain(Tactic::Pun);
        }
        if let Some(decision) = lapping_eviction(draft, site, at) {
            return decision;
        }
    }
    trap(draft, site, plain_entry);
    plain(Tactic::Trap)
}

fn short_jump(draft: &mut Draft<'_, '_>, site: &Site, chain: &Chain, entry: GuestAddr) -> Option<()> {
    let is_free = chain.hops.iter().all(|hop| draft.is_free(*hop, JMP_REL8_LEN as u64));
    if !is_free || !draft.is_free(chain.relay, JMP_REL32_LEN as u64) {
        return None;
    }
    let long = long_jump(draft, chain.relay, entry)?;
    draft.edit(chain.relay, &long)?;
    let mut target = chain.relay;
    for at in chain.hops.iter().rev().copied().chain([site.opcode()]) {
        draft.edit(at, &encode::jmp_rel8(at, target)?)?;
        target = at;
    }
    Some(())
}

/// The instruction before `site`, ready to run in the stub.
struct Moved {
    span: Span,
    /// Where the stub is entered to run it.
    entry: GuestAddr,
    again: Again,
    bytes: heapless::Vec<u8, { stub::PLAIN_ENTRY }>,
}

impl Moved {
    fn of(draft: &mut Draft<'_, '_>, site: &Site, stub_at: GuestAddr) -> Option<Self> {
        let span = site.predecessor?;
        let len = usize::from(span.len);
        let entry = stub::entry(stub_at, len)?;
        let original = draft.text.slice(span.at, len)?;
        let insn = draft.decoder.decode(draft.text.offset(span.at)?).ok()?;
        let is_adjacent = span.at.wrapping_add(u64::from(span.len)) == site.at;
        if !is_adjacent || draft.decoder.writes_memory() || !draft.is_free(span.at, u64::from(span.len)) {
            return None;
        }
        let again = match draft.decoder.value(Gpr::RAX) {
            Some(Value::Constant(_)) => Again::Constant,
            Some(Value::Copy(source)) if source.survives_call() => Again::Copy(source.number()),
            _ => Again::Site,
        };
        let moved = decode::relocate(original, insn, span.at, entry)?;
        Some(Self { span, entry, again, bytes: heapless::Vec::from_slice(&moved).ok()? })
    }

    fn decision(self) -> Decision {
        let evicted = Some(Evicted { span: self.span, again: self.again });
        Decision { tactic: Tactic::Eviction, evicted, moved: self.bytes }
    }
}

fn eviction(
    draft: &mut Draft<'_, '_>,
    site: &Site,
    stub_at: GuestAddr,
    evictee: Evictee,
) -> Option<Decision> {
    let moved = Moved::of(draft, site, stub_at)?;
    let len = usize::from(moved.span.len);
    if len < JMP_REL32_LEN || (evictee == Evictee::Repeatable && moved.again == Again::Site) {
        return None;
    }
    let jump = long_jump(draft, moved.span.at, moved.entry)?;
    let mut replacement: heapless::Vec<u8, { stub::PLAIN_ENTRY }> = heapless::Vec::from_slice(&jump).ok()?;
    replacement.resize(len, INT3).ok()?;
    draft.edit(moved.span.at, &replacement)?;
    trap(draft, site, stub_at.wrapping_add(stub::PLAIN_ENTRY as u64));
    Some(moved.decision())
}

/// Evicts an instruction of two to four bytes: the jump in its place laps over the site, where a byte of its
/// displacement is an opcode that traps.
fn lapping_eviction(draft: &mut Draft<'_, '_>, site: &Site, stub_at: GuestAddr) -> Option<Decision> {
    let moved = Moved::of(draft, site, stub_at)?;
    let at = moved.span.at;
    if site.len != 2 || !draft.is_free(site.back(), 1) {
        return None;
    }
    let lapping = Lapping::of(moved.span.len, *draft.text.slice(site.back(), 1)?.first()?)?;
    let (landing, long) = lapping.land(draft, at.wrapping_add(JMP_REL32_LEN as u64), moved.entry)?;
    let jump = encode::jmp_rel32(at, landing)?;
    draft.landing(landing, &long)?;
    // With a predecessor of two bytes, the last byte of the jump is one that stays.
    let written = JMP_REL32_LEN.min(usize::from(moved.span.len) + 2);
    draft.lock(at.wrapping_add(written as u64), 1);
    draft.edit(at, jump.get(..written)?)?;
    draft.trap(site.at, stub_at.wrapping_add(stub::PLAIN_ENTRY as u64));
    Some(moved.decision())
}

fn pun(draft: &mut Draft<'_, '_>, site: &Site, entry: GuestAddr) -> Option<()> {
    let opcode = site.opcode();
    let back = site.back();
    let upper: [u8; 3] = *draft.text.slice(back, 3)?.first_chunk()?;
    if !draft.is_free(back, upper.len() as u64) {
        return None;
    }
    let [a, b, c] = upper;
    let lowest = i64::from(i32::from_le_bytes([0, a, b, c])).cast_unsigned();
    let start = opcode.wrapping_add(JMP_REL32_LEN as u64).wrapping_add(lowest);
    let window = AddrRange { start, end: start.checked_add(0x100)? };
    let (landing, long) = draft::land(draft, window, entry)?;
    draft.landing(landing, &long)?;
    let [low, ..] = landing.rel32_from(opcode.wrapping_add(JMP_REL32_LEN as u64))?.to_le_bytes();
    draft.lock(back, upper.len() as u64);
    draft.edit(opcode, &[JMP_REL32, low])
}

fn trap(draft: &mut Draft<'_, '_>, site: &Site, entry: GuestAddr) {
    if draft.edit(site.opcode(), &UD2).is_some() {
        // Whoever enters at a prefix traps with the address of that prefix.
        for prefix in 0..u64::from(site.len).saturating_sub(1) {
            draft.trap(site.at.wrapping_add(prefix), entry);
        }
    }
}

/// A `jmp rel32` at `at` that ends at `entry`, through a near trampoline if the gate is out of reach.
fn long_jump(draft: &mut Draft<'_, '_>, at: GuestAddr, entry: GuestAddr) -> Option<[u8; JMP_REL32_LEN]> {
    if let Some(direct) = encode::jmp_rel32(at, entry) {
        return Some(direct);
    }
    let trampoline = draft.take_near(at.wrapping_add(JMP_REL32_LEN as u64))?;
    let jump = encode::jmp_rel32(at, trampoline)?;
    draft.trampoline(trampoline, &encode::jmp_abs(entry))?;
    Some(jump)
}
