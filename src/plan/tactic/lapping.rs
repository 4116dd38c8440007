//! Eviction of a short instruction: a long jump in its place that laps over the site, so that this one traps.
//!
//! The jump stands in place of an instruction of two to four bytes, so some byte of its displacement lies where
//! the site starts. If that byte is an opcode that 64-bit mode does not have, whoever enters there gets SIGILL. The
//! other bytes are free, or, past the two bytes of the system call instruction, fixed. That leaves many windows in
//! reach, each as long as the bytes below the trapping one can count.

use super::eviction::Moved;
use super::{Decision, Request};
use crate::addr::{AddrRange, GuestAddr, PAGE};
use crate::plan::Bytes;
use crate::plan::draft::Draft;
use crate::x86::encode::{self, JMP_REL32_LEN};

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
        for page in draft.opened_pages() {
            let mut at = page.start;
            while at < page.end {
                let window = self.window_around(end, at);
                let usable = window.map(|window| window.intersection(&page));
                let next = window.map_or_else(|| self.next_window(end, at), |window| window.end);
                if let Some(landed) = usable.and_then(|usable| draft.land(usable, entry)) {
                    return Some(landed);
                }
                at = next;
            }
        }
        self.windows(end).find_map(|window| draft.land(window, entry))
    }

    /// How many bits of the displacement are free below the byte that traps.
    const fn low_bits(self) -> u32 {
        match self {
            Self::Four => 24,
            Self::Three => 16,
            Self::Two(_) => 8,
        }
    }

    /// All windows, in no order that matters.
    fn windows(self, end: GuestAddr) -> impl Iterator<Item = AddrRange> {
        let free = if matches!(self, Self::Four) { 0..=0_u8 } else { 0..=u8::MAX };
        let bases = free.flat_map(move |free| {
            UD_OPCODES.into_iter().map(move |trap| match self {
                Self::Four => [0, 0, 0, trap],
                Self::Three => [0, 0, trap, free],
                Self::Two(after) => [0, trap, free, after],
            })
        });
        bases.filter_map(move |base| self.window_at(end, i32::from_le_bytes(base)))
    }

    /// The window whose lowest displacement is `base`.
    fn window_at(self, end: GuestAddr, base: i32) -> Option<AddrRange> {
        let start = end.wrapping_add(i64::from(base).cast_unsigned());
        Some(AddrRange { start, end: start.checked_add(1 << self.low_bits())? })
    }

    /// The window that holds `at`, if the displacement to it is one that traps.
    fn window_around(self, end: GuestAddr, at: GuestAddr) -> Option<AddrRange> {
        let rel = at.rel32_from(end)?;
        let [_, second, third, highest] = rel.to_le_bytes();
        let traps = match self {
            Self::Four => UD_OPCODES.contains(&highest),
            Self::Three => UD_OPCODES.contains(&third),
            Self::Two(after) => UD_OPCODES.contains(&second) && highest == after,
        };
        if !traps {
            return None;
        }
        self.window_at(end, rel & (i32::MAX << self.low_bits()))
    }

    /// Where the displacement that leads to `at` changes above its free bits.
    fn next_window(self, end: GuestAddr, at: GuestAddr) -> GuestAddr {
        let step = 1_u64 << self.low_bits();
        let into = at.wrapping_sub(end.0).0 & (step - 1);
        at.wrapping_add((step - into).min(PAGE))
    }
}
