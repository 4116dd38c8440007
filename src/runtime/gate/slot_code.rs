//! The bytes of a slot: a system call, and the way to the hook that waits for it. Zone: call.

use crate::addr::GuestAddr;
use crate::x86::encode::INT3;
use crate::x86::scan::SYSCALL;

/// Where in a slot's code its call has returned.
pub(crate) const RETURN: usize = SYSCALL.len();
/// Where in a slot its record's address stands, for the unwind entry.
pub(crate) const RECORD_POINTER: usize = 16;
/// Bytes of a slot that are written.
pub(crate) const LEN: usize = RECORD_POINTER + 8;

/// `syscall; lea rcx, [rip + record]; jmp [rcx + 8]`, and the record's address for the unwind entry. r11 keeps the flags
/// that the processor has put there.
#[must_use]
pub(crate) fn build(at: GuestAddr, record: u64) -> Option<[u8; LEN]> {
    let distance = GuestAddr(record).rel32_from(at.wrapping_add(9))?.to_le_bytes();
    let address = record.to_le_bytes();
    let mut code = [INT3; LEN];
    let parts: [(usize, &[u8]); 5] = [
        (0, &SYSCALL),
        (2, &[0x48, 0x8d, 0x0d]),
        (5, &distance),
        (9, &[0xff, 0x61, 0x08]),
        (RECORD_POINTER, &address),
    ];
    for (start, bytes) in parts {
        code.get_mut(start..start + bytes.len())?.copy_from_slice(bytes);
    }
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_finds_its_record_by_its_own_address() {
        let at = GuestAddr(0x7000_0000_0100);
        let code = build(at, 0x7000_0020_0000).unwrap();
        let distance = i32::from_le_bytes(code[5..9].try_into().unwrap());
        assert_eq!(at.0 + 9 + u64::from(distance.cast_unsigned()), 0x7000_0020_0000);
        assert_eq!(code[..RETURN], SYSCALL);
        assert_eq!(u64::from_le_bytes(code[RECORD_POINTER..].try_into().unwrap()), 0x7000_0020_0000);
    }
}
