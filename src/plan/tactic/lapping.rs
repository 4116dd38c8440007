//! Eviction of a short instruction: a long jump in its place that laps over the site, so that this one traps.
//!
//! The jump stands in place of an instruction of two to four bytes, so some byte of its displacement lies where
//! the site starts. If that byte is an opcode that 64-bit mode does not have, whoever enters there gets SIGILL. The
//! other bytes are free, or, past the two bytes of the system call instruction, fixed. That leaves many windows in
//! reach, each as long as the bytes below the trapping one can count.

use crate::addr::{AddrRange, GuestAddr};
use crate::plan::Bytes;
use crate::plan::draft::Draft;
use crate::plan::request::{Decision, Request};
use crate::plan::tactic::eviction::Moved;
use crate::x86::encode::{self, JMP_REL32_LEN};

/// How often one search leaps at most. Libraries that were looked at need up to 32 leaps, and space in ten thousand pieces
/// up to 65.
const LEAPS_MAX: usize = 256;

/// One-byte opcodes that raise #UD in 64-bit mode whatever follows (SDM vol. 2D, table A-2, superscript i64).
pub(in crate::plan) const UD_OPCODES: [u8; 18] = [
    0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x9a, 0xce, 0xd4, 0xd6,
    0xea,
];

pub(super) fn plan(draft: &mut Draft<'_, '_>, request: &Request<'_>) -> Option<Decision> {
    let site = request.site;
    let moved = Moved::of(draft, request)?;
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
    draft.trap(site.at, request.plain_entry());
    Some(moved.decision())
}

/// What the displacement of a lapping jump must look like.
#[derive(Clone, Copy)]
enum Lapping {
    /// Over an instruction of four bytes: its highest byte traps.
    Four,
    /// Of three: the second highest traps, the highest is free.
    Three,
    /// Of two: the third highest traps, the second is free, and the highest is the byte after the call.
    Two(u8),
}

/// Where a trampoline may lie.
#[derive(Clone, Copy)]
enum Places {
    /// In a page that holds some already.
    Opened,
    /// Wherever it is free.
    All,
}

impl Lapping {
    /// For a predecessor of `len` bytes and a call that `after` follows.
    const fn of(len: u8, after: u8) -> Option<Self> {
        match len {
            4 => Some(Self::Four),
            3 => Some(Self::Three),
            2 => Some(Self::Two(after)),
            _ => None,
        }
    }

    /// Takes room for a jump to `entry` where a lapping jump that ends at `end` can go, and says what to put there.
    ///
    /// Pages that hold trampolines already come first: each page is a mapping.
    fn land(self, draft: &mut Draft<'_, '_>, end: GuestAddr, entry: GuestAddr) -> Option<(GuestAddr, Bytes)> {
        const REACH: u64 = 1 << 31;
        let below = AddrRange { start: GuestAddr(end.0.saturating_sub(REACH)), end };
        let above = AddrRange { start: end, end: GuestAddr(end.0.saturating_add(REACH)) };
        let order =
            [(below, Places::Opened), (above, Places::Opened), (above, Places::All), (below, Places::All)];
        order.into_iter().find_map(|(side, places)| self.land_in(draft, side, places, end, entry))
    }

    /// As [`Self::land`], at the lowest of the `places` on one side of `end`. Leaps from what is free to where the jump
    /// traps and back: neither the free ranges nor the windows are gone through one by one.
    fn land_in(
        self,
        draft: &mut Draft<'_, '_>,
        side: AddrRange,
        places: Places,
        end: GuestAddr,
        entry: GuestAddr,
    ) -> Option<(GuestAddr, Bytes)> {
        let mut at = side.start;
        for _ in 0..LEAPS_MAX {
            let place = match places {
                Places::Opened => draft.opened_from(at),
                Places::All => draft.free_from(at),
            };
            let (free, area) = place.filter(|(free, _)| side.contains(*free))?;
            let window = self.window_from(end, free)?;
            if window.start > free {
                at = window.start;
                continue;
            }
            let landed = draft.land(window.intersection(&area), entry);
            if landed.is_some() {
                return landed;
            }
            at = window.end.min(area.end);
        }
        None
    }

    /// How many bits of the displacement are free below the byte that traps.
    const fn low_bits(self) -> u32 {
        match self {
            Self::Four => 24,
            Self::Three => 16,
            Self::Two(_) => 8,
        }
    }

    /// The first window that ends behind `at`, of those on the same side of `end`: all addresses whose displacements
    /// differ in their free low bits only.
    fn window_from(self, end: GuestAddr, at: GuestAddr) -> Option<AddrRange> {
        let rel = at.rel32_from(end)?;
        let next = self.next_trapping(rel.cast_unsigned())?.cast_signed();
        let base = next & (i32::MAX << self.low_bits());
        let start = end.wrapping_add(i64::from(base).cast_unsigned());
        let window = AddrRange { start, end: start.checked_add(1 << self.low_bits())? };
        (rel.is_negative() == base.is_negative()).then_some(window)
    }

    /// The lowest displacement from `rel` on that has a byte that traps, both as numbers without a sign.
    fn next_trapping(self, rel: u32) -> Option<u32> {
        let low_bits = self.low_bits();
        let rel = match self {
            Self::Two(after) => u64::from(rel).max(u64::from(after) << 24),
            Self::Three | Self::Four => u64::from(rel),
        };
        let (above, byte) = (rel >> low_bits >> 8, (rel >> low_bits) as u8);
        let with = |above: u64, opcode: u8| (above << 8 | u64::from(opcode)) << low_bits;
        let next = match UD_OPCODES.into_iter().find(|opcode| *opcode >= byte) {
            Some(opcode) if opcode == byte => rel,
            Some(opcode) => with(above, opcode),
            None => with(above + 1, *UD_OPCODES.first()?),
        };
        let next = u32::try_from(next).ok()?;
        let [.., highest] = next.to_le_bytes();
        match self {
            Self::Two(after) if highest != after => None,
            _ => Some(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether a jump by `rel` traps where it laps over the site.
    fn traps(lapping: Lapping, rel: u32) -> bool {
        let [_, second, third, highest] = rel.to_le_bytes();
        match lapping {
            Lapping::Four => UD_OPCODES.contains(&highest),
            Lapping::Three => UD_OPCODES.contains(&third),
            Lapping::Two(after) => UD_OPCODES.contains(&second) && highest == after,
        }
    }

    proptest! {
        #[test]
        fn no_displacement_that_traps_is_leapt_over(rel in any::<u32>(), after in any::<u8>(), len in 2..5_u8) {
            let lapping = Lapping::of(len, after).unwrap();
            let step = 1_u64 << lapping.low_bits();
            let next = lapping.next_trapping(rel);
            prop_assert!(next.is_none_or(|next| next >= rel && traps(lapping, next)));
            // Between multiples of `step` nothing changes; not all 2^24 of them are looked at.
            let next = next.map_or(1 << 32, u64::from);
            let behind = (u64::from(rel).next_multiple_of(step)..next).step_by(step as usize).take(1 << 12);
            let leapt = core::iter::once(u64::from(rel)).chain(behind).filter(|leapt| *leapt < next);
            prop_assert!(leapt.into_iter().all(|leapt| !traps(lapping, leapt as u32)));
        }
    }

    #[test]
    fn opcodes_that_trap_ascend() {
        assert!(UD_OPCODES.is_sorted());
    }
}
