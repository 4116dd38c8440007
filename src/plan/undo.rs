//! Taking one patch back: the original bytes, read from the stub that stands in for them.
//!
//! Whatever the tactic, the bytes that it replaced end with the site's two, and begin with them or with the
//! instruction that was evicted into the stub. Bytes behind the site, and prefixes of it, are never changed; padding is
//! nobody's.

use crate::addr::GuestAddr;
use crate::plan::Bytes;
use crate::plan::stub::{self, Fields};
use crate::x86::decode;
use crate::x86::encode::{JMP_REL8, JMP_REL32, UD2};

/// Where the patch that leads to the stub with `fields` begins, and what stood there; `None` if that can't be told.
#[must_use]
pub(crate) fn original(fields: &Fields<'_>) -> Option<(GuestAddr, Bytes)> {
    let instruction = fields.instruction.bytes();
    let site = fields.back.wrapping_sub(instruction.len() as u64);
    let mut bytes = Bytes::new();
    let at = site.wrapping_sub(fields.evicted.len() as u64);
    if !fields.evicted.is_empty() {
        let entry = stub::entry(fields.at, fields.evicted.len())?;
        let insn = decode::decode(fields.evicted, entry).ok()?;
        bytes.extend_from_slice(&decode::relocate(fields.evicted, insn, entry, at)?).ok()?;
    }
    bytes.extend_from_slice(&instruction).ok()?;
    Some((at, bytes))
}

/// Whether a patch may begin with these bytes.
#[must_use]
pub(crate) fn may_begin(bytes: [u8; 2]) -> bool {
    matches!(bytes, [JMP_REL8 | JMP_REL32, _] | UD2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::stub::{Again, Instruction};
    use crate::x86::scan::{INT80, SYSCALL};

    const STUB: GuestAddr = GuestAddr(0x7fff_0000_0040);
    const BACK: GuestAddr = GuestAddr(0x7fff_0123_4567);

    fn fields(evicted: &[u8]) -> Fields<'_> {
        let (instruction, again) = (Instruction::Syscall, Again::Site);
        Fields { at: STUB, instruction, evicted, policy: STUB, hooked: STUB, back: BACK, site_len: 2, again }
    }

    #[test]
    fn a_site_alone_is_two_bytes() {
        let (at, bytes) = original(&fields(&[])).unwrap();
        assert_eq!((at, &bytes[..]), (BACK.wrapping_sub(2), &SYSCALL[..]));
        let other = Fields { instruction: Instruction::Int80, ..fields(&[]) };
        assert_eq!(original(&other).unwrap().1[..], INT80);
    }

    #[test]
    fn an_evicted_instruction_goes_back_to_its_place() {
        let (at, bytes) = original(&fields(&[0xb8, 39, 0, 0, 0])).unwrap();
        assert_eq!((at, &bytes[..]), (BACK.wrapping_sub(7), &[0xb8, 39, 0, 0, 0, 0x0f, 0x05][..]));
    }

    #[test]
    fn an_evicted_load_finds_its_operand_again() {
        // mov eax, [rip + 0x1000], from its place before the site into the stub and back.
        let load = [0x8b, 0x05, 0, 0x10, 0, 0];
        let from = BACK.wrapping_sub(8);
        let insn = decode::decode(&load, from).unwrap();
        let moved = decode::relocate(&load, insn, from, stub::entry(STUB, load.len()).unwrap()).unwrap();
        let (at, bytes) = original(&fields(&moved)).unwrap();
        assert_eq!((at, &bytes[..6]), (from, &load[..]));
        assert_ne!(moved[..], load[..]);
    }

    #[test]
    fn a_patch_begins_with_a_jump_or_a_trap() {
        assert!([[0xeb, 5], [0xe9, 1], [0x0f, 0x0b]].into_iter().all(may_begin));
        assert!([[0x0f, 0x05], [0xb8, 39], [0x90, 0x90]].into_iter().all(|bytes| !may_begin(bytes)));
    }
}
