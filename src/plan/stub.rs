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
//! 54  .byte length of the site, how its call is made again      the signal code reads them
//! 56  .quad back                                                so does the unwind table
//! ```
//! Only rcx and r11 are written before the `syscall`, which destroys both (SDM vol. 2B, SYSCALL); behind it rcx
//! gets what the processor would have put there. Nothing touches the stack or the flags.
//!
//! `int 0x80` leaves every register but rax alone, and the policy knows nothing of its numbers. So its stub is nothing but
//! the instruction, at the same place, with the same data behind it:
//!
//! ```text
//!  9  jmp short 28
//! 28  int 0x80
//! 30  jmp [rip+(56)]
//! ```

use crate::addr::GuestAddr;
use crate::x86::encode::{self, INT3, JMP_REL8, JMP_REL8_LEN};
use crate::x86::scan::{INT80, SYSCALL as SYSCALL_BYTES};

/// The length and the alignment of a stub in bytes.
pub(crate) const LEN: usize = 64;
/// Where a call enters that brings no evicted instruction, and where every evicted instruction ends.
pub(crate) const PLAIN_ENTRY: usize = 9;
/// Where the `syscall` instruction stands.
pub(crate) const SYSCALL: usize = 28;
/// Where the eight bytes of the address after the site stand.
pub(crate) const BACK: usize = 56;
/// Where the way back to the program begins.
pub(crate) const RETURN: usize = 30;
/// Where the way to the hook begins.
pub(crate) const HOOKED: usize = 42;

/// Where the length of the site stands, and behind it how its call is made again.
const SITE_LEN: usize = 54;
const AGAIN: usize = 55;
/// Which instruction a site is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Instruction {
    /// `syscall`.
    Syscall,
    /// `int 0x80`.
    Int80,
}

impl Instruction {
    /// Its two bytes.
    #[must_use]
    pub(crate) const fn bytes(self) -> [u8; 2] {
        match self {
            Self::Syscall => SYSCALL_BYTES,
            Self::Int80 => INT80,
        }
    }

    /// The one with these bytes.
    #[must_use]
    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        [Self::Syscall, Self::Int80].into_iter().find(|it| bytes == it.bytes())
    }
}

const POLICY_LEA: usize = 12;
const POLICY_LOAD: usize = 19;

/// Where a call resumes that a signal has interrupted and that is to be made again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    /// At the site.
    Site,
    /// At the evicted instruction, which loads `rax` with the constant that is its last four bytes; the site itself traps.
    Constant,
    /// At the evicted instruction, which copies this register, 0 to 15, to `rax`; the site itself traps.
    Copy(u8),
}

impl Again {
    const COPY: u8 = 0x10;

    const fn to_byte(self) -> u8 {
        match self {
            Self::Site => 0,
            Self::Constant => 1,
            Self::Copy(number) => Self::COPY | number,
        }
    }

    const fn of_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Site),
            1 => Some(Self::Constant),
            Self::COPY..0x20 => Some(Self::Copy(byte & 0xf)),
            _ => None,
        }
    }
}

/// What sets one stub apart from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fields<'a> {
    /// Where the stub runs; a multiple of [`LEN`].
    pub at: GuestAddr,
    /// The instruction.
    pub instruction: Instruction,
    /// The evicted instruction as it must read here; empty or up to nine bytes.
    pub evicted: &'a [u8],
    /// The policy table: one byte a number, zero for calls that pass; within 2 GB. Of no meaning to `int 0x80`.
    pub policy: GuestAddr,
    /// Where hooked calls go with rcx = `at`; within 2 GB. Of no meaning to `int 0x80`.
    pub hooked: GuestAddr,
    /// Where the program goes on.
    pub back: GuestAddr,
    /// The length of the site in bytes.
    pub site_len: u8,
    /// Where an interrupted call resumes.
    pub again: Again,
}

/// Where a thread is in the story of a call, by where it is in a stub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// The evicted instruction is next.
    Evicted,
    /// The call is next, or is to be made again.
    Before,
    /// The call has returned.
    After,
}

/// What it means for a thread that the instruction `offset` bytes into a stub is its next.
#[must_use]
pub(crate) const fn standing(offset: usize) -> Standing {
    match offset {
        ..PLAIN_ENTRY => Standing::Evicted,
        RETURN..HOOKED => Standing::After,
        _ => Standing::Before,
    }
}

impl Fields<'_> {
    /// The address of the site.
    #[must_use]
    pub(crate) const fn site(&self) -> GuestAddr {
        self.back.wrapping_sub(self.site_len as u64)
    }

    /// The address at which the evicted instruction stood; that of the site if there is none.
    #[must_use]
    pub(crate) const fn evicted_from(&self) -> GuestAddr {
        self.site().wrapping_sub(self.evicted.len() as u64)
    }

    /// Where the program is to resume to make the call `nr` again, with `register` the value of the general register
    /// of that number.
    ///
    /// The evicted instruction may run again only if it leads to the same call: the program may have entered at the site.
    #[must_use]
    pub(crate) fn resume(&self, nr: u32, register: impl Fn(u8) -> u64) -> GuestAddr {
        let is_same = match self.again {
            Again::Site => false,
            Again::Constant => {
                self.evicted.last_chunk().is_some_and(|constant| u32::from_le_bytes(*constant) == nr)
            }
            Again::Copy(number) => register(number) as u32 == nr,
        };
        if is_same { self.evicted_from() } else { self.site() }
    }
}

/// Where a stub at `at` is entered so that an evicted instruction of `len` bytes runs first.
///
/// `None` if it does not fit; with no bytes this is the plain entry.
#[must_use]
pub(crate) fn entry(at: GuestAddr, len: usize) -> Option<GuestAddr> {
    Some(at.wrapping_add(PLAIN_ENTRY.checked_sub(len)? as u64))
}

/// The bytes of a stub, or `None` if an evicted instruction is too long or something is out of reach.
#[must_use]
pub(crate) fn build(fields: &Fields<'_>) -> Option<[u8; LEN]> {
    let mut draft = Draft([INT3; LEN]);
    draft.put(PLAIN_ENTRY.checked_sub(fields.evicted.len())?, fields.evicted)?;
    draft.put(SYSCALL, &fields.instruction.bytes())?;
    draft.put(SITE_LEN, &[fields.site_len, fields.again.to_byte()])?;
    draft.put(BACK, &fields.back.0.to_le_bytes())?;
    match fields.instruction {
        Instruction::Syscall => draft.surround(fields)?,
        Instruction::Int80 => {
            draft.put(PLAIN_ENTRY, &TO_INT80)?;
            draft.put(RETURN, &JMP_BACK)?;
        }
    }
    Some(draft.0)
}

/// `jmp short`, from the entry to the `int 0x80`.
const TO_INT80: [u8; 2] = [JMP_REL8, (SYSCALL - PLAIN_ENTRY - JMP_REL8_LEN) as u8];
/// `jmp` through the stored address.
const JMP_BACK: [u8; 6] = [0xff, 0x25, (BACK - RETURN - 6) as u8, 0, 0, 0];

/// A stub in the making.
struct Draft([u8; LEN]);

impl Draft {
    fn put(&mut self, offset: usize, bytes: &[u8]) -> Option<()> {
        self.0.get_mut(offset..)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(())
    }

    /// What stands around a `syscall`.
    fn surround(&mut self, fields: &Fields<'_>) -> Option<()> {
        let at = |offset: usize| fields.at.wrapping_add(offset as u64);
        self.put(PLAIN_ENTRY, &[0x0f, 0xb7, 0xc8])?;
        self.put(POLICY_LEA, &encode::rip_relative([0x4c, 0x8d, 0x1d], at(POLICY_LEA), fields.policy)?)?;
        self.put(POLICY_LOAD, &[0x41, 0x0f, 0xb6, 0x0c, 0x0b, 0xe3, 0x02, 0xeb, 0x0e])?;
        self.put(RETURN, &way_back(fields.at, fields.back))?;
        self.put(HOOKED, &encode::rip_relative([0x48, 0x8d, 0x0d], at(HOOKED), fields.at)?)?;
        self.put(HOOKED + 7, &encode::jmp_rel32(at(HOOKED + 7), fields.hooked)?)
    }
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
pub(crate) fn read(stub: &[u8; LEN], at: GuestAddr) -> Option<Fields<'_>> {
    let relative = |offset: usize| -> Option<GuestAddr> {
        let disp = i32::from_le_bytes(*stub.get(offset..)?.first_chunk::<4>()?);
        Some(at.wrapping_add(offset as u64 + 4).wrapping_add(i64::from(disp).cast_unsigned()))
    };
    let head = stub.get(..PLAIN_ENTRY)?;
    // No evicted instruction begins with int3: it would be a trap.
    let filler = head.iter().take_while(|byte| **byte == INT3).count();
    let instruction = Instruction::of_bytes(stub.get(SYSCALL..RETURN)?)?;
    let target = |offset: usize| match instruction {
        Instruction::Syscall => relative(offset),
        Instruction::Int80 => Some(GuestAddr(0)),
    };
    let fields = Fields {
        at,
        instruction,
        evicted: head.get(filler..)?,
        policy: target(POLICY_LEA + 3)?,
        hooked: target(HOOKED + 8)?,
        back: GuestAddr(u64::from_le_bytes(*stub.get(BACK..)?.first_chunk::<8>()?)),
        site_len: stub[SITE_LEN],
        again: Again::of_byte(stub[AGAIN])?,
    };
    (build(&fields)? == *stub).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::decode::Decoder;
    use crate::x86::insn::Kind;
    use proptest::prelude::*;

    const AT: GuestAddr = GuestAddr(0x7fff_0000_0040);

    fn fields(evicted: &[u8], back: GuestAddr) -> Fields<'_> {
        let (policy, hooked) = (AT.wrapping_add(0x10_0000), AT.wrapping_sub(0x2000));
        let instruction = Instruction::Syscall;
        Fields { at: AT, instruction, evicted, policy, hooked, back, site_len: 2, again: Again::Site }
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
    fn a_stub_for_int_0x80_touches_no_register_and_has_its_call_at_the_same_place() {
        let (instruction, nowhere) = (Instruction::Int80, GuestAddr(0));
        let fields =
            Fields { instruction, policy: nowhere, hooked: nowhere, ..fields(&[], GuestAddr(0x40_0000)) };
        let stub = build(&fields).unwrap();
        let to_call = Kind::Jump { target: AT.wrapping_add(SYSCALL as u64) };
        assert_eq!(decode_from(&stub, PLAIN_ENTRY, PLAIN_ENTRY + 2), [(9, to_call)]);
        assert_eq!(decode_from(&stub, SYSCALL, RETURN), [(28, Kind::Int80)]);
        assert_eq!(decode_from(&stub, RETURN, RETURN + 6), [(30, Kind::IndirectJump)]);
        assert_eq!(read(&stub, AT), Some(fields));
    }

    #[test]
    fn a_gate_out_of_reach_is_refused() {
        let mut far = fields(&[], AT);
        far.policy = GuestAddr(0x1000);
        assert_eq!(build(&far), None);
        assert_eq!(build(&fields(&[0x90; 10], AT)), None);
    }

    #[test]
    fn a_call_resumes_where_it_is_made_again_with_the_same_number() {
        let back = GuestAddr(0x40_0007);
        let constant = Fields { again: Again::Constant, ..fields(&[0xb8, 39, 0, 0, 0], back) };
        assert_eq!(constant.resume(39, |_| 0), GuestAddr(0x40_0000));
        assert_eq!(constant.resume(40, |_| 0), GuestAddr(0x40_0005));
        let copy = Fields { again: Again::Copy(8), ..fields(&[0x44, 0x89, 0xc0], back) };
        let register = |number| if number == 8 { 0xffff_0000_0027 } else { 0 };
        assert_eq!(copy.resume(39, register), GuestAddr(0x40_0002));
        assert_eq!(copy.resume(40, register), GuestAddr(0x40_0005));
        assert_eq!(fields(&[0xb8, 39, 0, 0, 0], back).resume(39, register), GuestAddr(0x40_0005));
    }

    #[test]
    fn the_offset_tells_whether_the_call_was_made() {
        let standings = [0, 8, PLAIN_ENTRY, SYSCALL, RETURN, RETURN + 7, HOOKED].map(standing);
        use Standing::{After, Before, Evicted};
        assert_eq!(standings, [Evicted, Evicted, Before, Before, After, After, Before]);
    }

    proptest! {
        #[test]
        fn what_is_built_reads_back(
            evicted in proptest::collection::vec(0_u8..0xcc, 0..=9),
            back in any::<u64>(),
            site_len in any::<u8>(),
            again in prop_oneof![Just(Again::Site), Just(Again::Constant), (0_u8..16).prop_map(Again::Copy)],
        ) {
            let fields = Fields { site_len, again, ..fields(&evicted, GuestAddr(back)) };
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
