//! The bytes of a gate stub: the code that stands in for one patched system call instruction.
//!
//! ```text
//!  0  evicted instruction, ending at 9; int3 before it
//!  9  movzx ecx, ax               unknown and huge numbers share a low one's policy
//! 12  lea r11, [rip+policy]
//! 19  movzx ecx, [r11+rcx]
//! 24  jrcxz 28                    tests without touching the flags
//! 26  jmp short 42
//! 28  syscall
//! 30  lea rcx, [rip+back] ; jmp back                where back is near
//! 30  mov rcx, [rip+(56)] ; jmp rcx                 where it is not
//! 42  lea rcx, [rip+stub] ; jmp hooked
//! 56  .quad back                  the unwind table and the signal code read it
//! ```
//! Only rcx and r11 are written before the `syscall`, which destroys both (SDM vol. 2B, SYSCALL); behind it rcx
//! gets what the processor would have put there. Nothing touches the stack or the flags.

use crate::addr::GuestAddr;
use crate::x86::encode::{self, INT3};
use crate::x86::scan::SYSCALL as SYSCALL_BYTES;

/// The length and the alignment of a stub in bytes.
pub const LEN: usize = 64;
/// Where a call enters that brings no evicted instruction, and where every evicted instruction ends.
pub const PLAIN_ENTRY: usize = 9;
/// Where the `syscall` instruction stands.
pub const SYSCALL: usize = 28;
/// Where the eight bytes of the address after the site stand.
pub const BACK: usize = 56;
/// Where the way back to the program begins.
pub const RETURN: usize = 30;
/// Where the way to the hook begins.
pub const HOOKED: usize = 42;

const POLICY_LEA: usize = 12;
const POLICY_LOAD: usize = 19;

/// What sets one stub apart from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields<'a> {
    /// Where the stub runs; a multiple of [`LEN`].
    pub at: GuestAddr,
    /// The evicted instruction as it must read here; empty or up to nine bytes.
    pub evicted: &'a [u8],
    /// The policy table: one byte a number, zero for calls that pass; within 2 GB.
    pub policy: GuestAddr,
    /// Where hooked calls go with rcx = `at`; within 2 GB.
    pub hooked: GuestAddr,
    /// Where the program goes on.
    pub back: GuestAddr,
}

/// Where a stub at `at` is entered so that an evicted instruction of `len` bytes runs first.
///
/// `None` if it does not fit; with no bytes this is the plain entry.
#[must_use]
pub fn entry(at: GuestAddr, len: usize) -> Option<GuestAddr> {
    Some(at.wrapping_add(PLAIN_ENTRY.checked_sub(len)? as u64))
}

/// The bytes of a stub, or `None` if an evicted instruction is too long or something is out of reach.
#[must_use]
pub fn build(fields: &Fields<'_>) -> Option<[u8; LEN]> {
    let at = |offset: usize| fields.at.wrapping_add(offset as u64);
    let mut stub = [INT3; LEN];
    let mut put = |offset: usize, bytes: &[u8]| -> Option<()> {
        stub.get_mut(offset..)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(())
    };
    put(PLAIN_ENTRY.checked_sub(fields.evicted.len())?, fields.evicted)?;
    put(PLAIN_ENTRY, &[0x0f, 0xb7, 0xc8])?;
    put(POLICY_LEA, &encode::rip_relative([0x4c, 0x8d, 0x1d], at(POLICY_LEA), fields.policy)?)?;
    put(POLICY_LOAD, &[0x41, 0x0f, 0xb6, 0x0c, 0x0b, 0xe3, 0x02, 0xeb, 0x0e])?;
    put(SYSCALL, &SYSCALL_BYTES)?;
    put(BACK, &fields.back.0.to_le_bytes())?;
    put(RETURN, &way_back(fields.at, fields.back))?;
    put(HOOKED, &encode::rip_relative([0x48, 0x8d, 0x0d], at(HOOKED), fields.at)?)?;
    put(HOOKED + 7, &encode::jmp_rel32(at(HOOKED + 7), fields.hooked)?)?;
    Some(stub)
}

/// The twelve bytes that return to the program with rcx = `back`.
fn way_back(stub: GuestAddr, back: GuestAddr) -> [u8; HOOKED - RETURN] {
    let lea_at = stub.wrapping_add(RETURN as u64);
    let lea = encode::rip_relative([0x48, 0x8d, 0x0d], lea_at, back);
    let jump = encode::jmp_rel32(lea_at.wrapping_add(7), back);
    if let (Some([a, b, c, d, e, f, g]), Some([h, i, j, k, l])) = (lea, jump) {
        [a, b, c, d, e, f, g, h, i, j, k, l]
    } else {
        // 19 leads from the end of the load, at 37, to the address at 56.
        [0x48, 0x8b, 0x0d, 19, 0, 0, 0, 0xff, 0xe1, INT3, INT3, INT3]
    }
}

/// Reads back what a stub at `at` was built from, or `None` if the bytes are no stub.
#[must_use]
pub fn read(stub: &[u8; LEN], at: GuestAddr) -> Option<Fields<'_>> {
    let relative = |offset: usize| -> Option<GuestAddr> {
        let disp = i32::from_le_bytes(*stub.get(offset..)?.first_chunk::<4>()?);
        Some(at.wrapping_add(offset as u64 + 4).wrapping_add(i64::from(disp).cast_unsigned()))
    };
    let head = stub.get(..PLAIN_ENTRY)?;
    // No evicted instruction begins with int3: it would be a trap.
    let filler = head.iter().take_while(|byte| **byte == INT3).count();
    let fields = Fields {
        at,
        evicted: head.get(filler..)?,
        policy: relative(POLICY_LEA + 3)?,
        hooked: relative(HOOKED + 8)?,
        back: GuestAddr(u64::from_le_bytes(*stub.get(BACK..)?.first_chunk::<8>()?)),
    };
    (build(&fields)? == *stub).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::decode::{Decoder, Kind};
    use proptest::prelude::*;

    const AT: GuestAddr = GuestAddr(0x7fff_0000_0040);

    fn fields(evicted: &[u8], back: GuestAddr) -> Fields<'_> {
        let (policy, hooked) = (AT.wrapping_add(0x10_0000), AT.wrapping_sub(0x2000));
        Fields { at: AT, evicted, policy, hooked, back }
    }

    fn decode_from(stub: &[u8; LEN], mut offset: usize, end: usize) -> std::vec::Vec<(usize, Kind)> {
        let mut decoder = Decoder::new(stub, AT);
        let mut found = std::vec::Vec::new();
        while offset < end {
            let insn = decoder.decode(offset).unwrap();
            found.push((offset, insn.kind));
            offset += usize::from(insn.len);
        }
        assert_eq!(offset, end);
        found
    }

    #[test]
    fn every_part_stands_where_the_map_says() {
        let stub = build(&fields(&[0xb8, 39, 0, 0, 0], AT.wrapping_sub(0x1000))).unwrap();
        let head = decode_from(&stub, 4, HOOKED);
        let offsets: std::vec::Vec<_> = head.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, [4, 9, 12, 19, 24, 26, 28, 30, 37]);
        let kind_at = |offset| head.iter().find(|(at, _)| *at == offset).unwrap().1;
        assert_eq!(kind_at(24), Kind::CondJump { target: AT.wrapping_add(SYSCALL as u64) });
        assert_eq!(kind_at(26), Kind::Jump { target: AT.wrapping_add(HOOKED as u64) });
        assert_eq!(kind_at(28), Kind::Syscall);
        assert_eq!(kind_at(37), Kind::Jump { target: AT.wrapping_sub(0x1000) });
        let tail = decode_from(&stub, HOOKED, HOOKED + 12);
        assert_eq!(tail[1], (49, Kind::Jump { target: AT.wrapping_sub(0x2000) }));
    }

    #[test]
    fn a_near_way_back_is_direct_and_a_far_one_goes_through_the_stored_address() {
        let near = build(&fields(&[], AT.wrapping_sub(0x1000))).unwrap();
        let back = decode_from(&near, RETURN, HOOKED);
        assert_eq!(back[1].1, Kind::Jump { target: AT.wrapping_sub(0x1000) });
        let far = build(&fields(&[], GuestAddr(0x40_0000))).unwrap();
        assert_eq!(decode_from(&far, RETURN, RETURN + 9)[1].1, Kind::IndirectJump);
        assert_eq!(far[BACK..], 0x40_0000_u64.to_le_bytes());
    }

    #[test]
    fn a_gate_out_of_reach_is_refused() {
        let mut far = fields(&[], AT);
        far.policy = GuestAddr(0x1000);
        assert_eq!(build(&far), None);
        assert_eq!(build(&fields(&[0x90; 10], AT)), None);
    }

    proptest! {
        #[test]
        fn what_is_built_reads_back(evicted in proptest::collection::vec(0_u8..0xcc, 0..=9), back in any::<u64>()) {
            let fields = fields(&evicted, GuestAddr(back));
            let stub = build(&fields).unwrap();
            prop_assert_eq!(read(&stub, AT), Some(fields));
        }

        #[test]
        fn a_changed_byte_is_another_stub_or_none(at in 0..LEN, bit in 0_u32..8) {
            let fields = fields(&[0xb8, 39, 0, 0, 0], GuestAddr(0x40_0000));
            let mut stub = build(&fields).unwrap();
            stub[at] ^= 1_u8 << bit;
            prop_assert_ne!(read(&stub, AT), Some(fields));
        }
    }
}
