//! The few instructions that patches are made of, as fixed arrays.
//!
//! Every branch is given by where it stands and where it goes; one that does not reach is `None`, never a
//! truncated displacement. Encodings: SDM vol. 2, one page per mnemonic.

use crate::addr::GuestAddr;

/// Bytes of a `jmp rel8`.
pub(crate) const JMP_REL8_LEN: usize = 2;
/// Bytes of a `jmp rel32`.
pub(crate) const JMP_REL32_LEN: usize = 5;
/// Bytes of a jump through the eight bytes that follow it.
pub(crate) const JMP_ABS_LEN: usize = 16;

/// The opcode of `jmp rel8`.
pub(crate) const JMP_REL8: u8 = 0xeb;
/// The opcode of `jmp rel32`.
pub(crate) const JMP_REL32: u8 = 0xe9;
/// A one-byte trap that fills what is never to be executed.
pub(crate) const INT3: u8 = 0xcc;
/// The instruction that raises #UD and nothing else.
pub(crate) const UD2: [u8; 2] = [0x0f, 0x0b];

/// `jmp rel8` at `at` to `target`, or `None` if it is more than 127 bytes away.
#[must_use]
pub(crate) const fn jmp_rel8(at: GuestAddr, target: GuestAddr) -> Option<[u8; JMP_REL8_LEN]> {
    match target.rel8_from(at.wrapping_add(JMP_REL8_LEN as u64)) {
        Some(rel) => Some([JMP_REL8, rel.cast_unsigned()]),
        None => None,
    }
}

/// `jmp rel32` at `at` to `target`, or `None` if it is more than 2 GB away.
#[must_use]
pub(crate) const fn jmp_rel32(at: GuestAddr, target: GuestAddr) -> Option<[u8; JMP_REL32_LEN]> {
    match target.rel32_from(at.wrapping_add(JMP_REL32_LEN as u64)) {
        Some(rel) => {
            let [a, b, c, d] = rel.to_le_bytes();
            Some([JMP_REL32, a, b, c, d])
        }
        None => None,
    }
}

/// `jmp [rip+2]`, two bytes that nobody executes, and the address it goes to, which may be anywhere.
///
/// At a multiple of 8 the address is aligned: a program may run with alignment checks on (EFLAGS.AC, SDM vol. 3A 7.15).
#[must_use]
pub(crate) fn jmp_abs(target: GuestAddr) -> [u8; JMP_ABS_LEN] {
    let mut bytes = [0xff, 0x25, 2, 0, 0, 0, INT3, INT3, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[8..].copy_from_slice(&target.0.to_le_bytes());
    bytes
}

/// A three-byte opcode, then the `disp32` of a RIP-relative operand that means `target`.
///
/// `None` if `target` is more than 2 GB from the end of the instruction.
#[must_use]
pub(crate) const fn rip_relative(opcode: [u8; 3], at: GuestAddr, target: GuestAddr) -> Option<[u8; 7]> {
    match target.rel32_from(at.wrapping_add(7)) {
        Some(rel) => {
            let [a, b, c, d] = rel.to_le_bytes();
            Some([opcode[0], opcode[1], opcode[2], a, b, c, d])
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: GuestAddr = GuestAddr(0x1000);

    #[test]
    fn a_short_jump_counts_from_its_own_end() {
        assert_eq!(jmp_rel8(HERE, HERE), Some([0xeb, 0xfe]));
        assert_eq!(jmp_rel8(HERE, HERE.wrapping_add(129)), Some([0xeb, 0x7f]));
        assert_eq!(jmp_rel8(HERE, HERE.wrapping_add(130)), None);
        assert_eq!(jmp_rel8(HERE, HERE.wrapping_sub(127)), None);
    }

    #[test]
    fn a_near_jump_out_of_reach_is_refused() {
        assert_eq!(jmp_rel32(HERE, HERE.wrapping_add(5)), Some([0xe9, 0, 0, 0, 0]));
        assert_eq!(jmp_rel32(HERE, HERE.wrapping_add(0x8000_0005)), None);
    }

    #[test]
    fn a_rip_relative_operand_counts_from_the_end_of_the_instruction() {
        let lea = rip_relative([0x48, 0x8d, 0x0d], HERE, GuestAddr(0x1107));
        assert_eq!(lea, Some([0x48, 0x8d, 0x0d, 0, 1, 0, 0]));
    }

    #[test]
    fn an_absolute_jump_holds_its_target() {
        let jump = jmp_abs(GuestAddr(0x1122_3344_5566_7788));
        assert_eq!(jump[..6], [0xff, 0x25, 2, 0, 0, 0]);
        assert_eq!(jump[8..], 0x1122_3344_5566_7788_u64.to_le_bytes());
    }
}
