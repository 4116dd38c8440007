//! The commonest encodings, read at a fifth of the full decoder's price.
//!
//! Compiled code is mostly moves, arithmetic, branches and filler in a few forms, and start-up consists largely of
//! reading them. What is not surely among those forms is left to the full decoder: rare prefixes, lock, AVX,
//! whatever vendors read differently. A property test holds the two against each other.
//!
//! Forms and lengths: SDM vol. 2A 2.1 and 2.2, vol. 2D appendix A.

use crate::addr::GuestAddr;
use crate::x86::decode::{Insn, Kind, MAX_LEN};

/// What stands before the opcode.
#[derive(Default)]
struct Prefixes {
    /// Bytes up to the opcode.
    len: usize,
    /// 66.
    operand_size: bool,
    /// f2 or f3, 0 for neither.
    repeat: u8,
    /// 2e, or 66 more than once: only filler has these.
    filler: bool,
    /// 40 to 4f, 0 for none.
    rex: u8,
}

impl Prefixes {
    fn of(bytes: &[u8]) -> Option<Self> {
        let mut found = Self::default();
        loop {
            match *bytes.get(found.len)? {
                0x66 => {
                    found.filler |= found.operand_size;
                    found.operand_size = true;
                }
                0x2e => found.filler = true,
                0x64 => {} // fs
                repeat @ (0xf2 | 0xf3) if found.repeat == 0 => found.repeat = repeat,
                rex @ 0x40..=0x4f => {
                    found.rex = rex;
                    found.len += 1;
                    break;
                }
                _ => break,
            }
            found.len += 1;
        }
        (!found.operand_size || found.repeat == 0).then_some(found)
    }

    const fn is_wide(&self) -> bool {
        self.rex & 8 != 0
    }

    /// Bytes of an immediate that is as long as the operand, 32 bits at most.
    const fn immediate(&self) -> usize {
        if self.operand_size && !self.is_wide() { 2 } else { 4 }
    }
}

/// What follows the opcode, and what the instruction does to the flow of control.
struct Form {
    has_modrm: bool,
    immediate: usize,
    flow: Flow,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// To the next instruction.
    Straight,
    /// To the next, and nothing else happens.
    Nop,
    /// To the next, where an indirect branch may land.
    Landing,
    /// The immediate says where, if the condition holds.
    CondJump,
    /// The immediate says where.
    Jump,
    /// The immediate says where.
    Call,
    IndirectCall,
    IndirectJump,
    Return,
    Trap,
    Syscall,
}

const fn plain(immediate: usize) -> Option<Form> {
    Some(Form { has_modrm: false, immediate, flow: Flow::Straight })
}

const fn modrm(immediate: usize) -> Option<Form> {
    Some(Form { has_modrm: true, immediate, flow: Flow::Straight })
}

/// A form that neither 66, f2 nor f3 may stand before: the vendors disagree, or it is another instruction.
const fn bare(prefixes: &Prefixes, has_modrm: bool, immediate: usize, flow: Flow) -> Option<Form> {
    if prefixes.operand_size || prefixes.repeat != 0 {
        return None;
    }
    Some(Form { has_modrm, immediate, flow })
}

/// The instruction that `bytes` begin with, at address `at`; `None` if it takes the full decoder to say.
pub(super) fn read(bytes: &[u8], at: GuestAddr) -> Option<Insn> {
    let prefixes = Prefixes::of(bytes)?;
    let rest = bytes.get(prefixes.len..)?;
    let (form, opcode_len) = match *rest {
        [0x0f, opcode, ref operands @ ..] => {
            (two_bytes(opcode, operands.first().copied().unwrap_or(0), &prefixes)?, 2)
        }
        [opcode, ref operands @ ..] if !prefixes.filler && prefixes.repeat == 0 => {
            (one_byte(opcode, operands.first().copied().unwrap_or(0), &prefixes)?, 1)
        }
        _ => return None,
    };
    let mut len = prefixes.len + opcode_len;
    let mut rip_disp_at = None;
    if form.has_modrm {
        let memory = Memory::of(bytes.get(len..)?)?;
        rip_disp_at = memory.is_rip_relative.then_some(u8::try_from(len + 1).ok()?);
        len += memory.len;
    }
    let immediate = bytes.get(len..len + form.immediate)?;
    len += form.immediate;
    let target = || {
        let distance = match *immediate {
            [short] => i64::from(short.cast_signed()),
            [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
            _ => return None,
        };
        Some(at.wrapping_add(len as u64).wrapping_add(distance.cast_unsigned()))
    };
    let kind = match form.flow {
        Flow::Straight | Flow::Landing => Kind::Other,
        Flow::Nop => Kind::Nop,
        Flow::CondJump => Kind::CondJump { target: target()? },
        Flow::Jump => Kind::Jump { target: target()? },
        Flow::Call => Kind::Call { target: Some(target()?) },
        Flow::IndirectCall => Kind::Call { target: None },
        Flow::IndirectJump => Kind::IndirectJump,
        Flow::Return => Kind::Return,
        Flow::Trap => Kind::Trap,
        Flow::Syscall => Kind::Syscall,
    };
    let straight = matches!(form.flow, Flow::Straight | Flow::Nop);
    (len <= MAX_LEN).then_some(Insn { len: u8::try_from(len).ok()?, kind, rip_disp_at, straight })
}

/// A ModRM byte and what belongs to it.
struct Memory {
    len: usize,
    is_rip_relative: bool,
}

impl Memory {
    fn of(bytes: &[u8]) -> Option<Self> {
        let modrm = *bytes.first()?;
        let (mode, rm) = (modrm >> 6, modrm & 7);
        let has_sib = mode != 3 && rm == 4;
        let has_no_base = if has_sib { *bytes.get(1)? & 7 == 5 } else { rm == 5 };
        let displacement = match mode {
            0 if has_no_base => 4,
            1 => 1,
            2 => 4,
            _ => 0,
        };
        let len = 1 + usize::from(has_sib) + displacement;
        Some(Self { len, is_rip_relative: mode == 0 && !has_sib && has_no_base })
    }
}

/// The form of a one-byte opcode; `next` is the byte after it.
fn one_byte(opcode: u8, next: u8, prefixes: &Prefixes) -> Option<Form> {
    let immediate = prefixes.immediate();
    let group = next >> 3 & 7;
    match opcode {
        0x00..=0x3f if opcode & 7 < 4 => modrm(0),
        0x00..=0x3f if opcode & 7 == 4 => plain(1),
        0x00..=0x3f if opcode & 7 == 5 => plain(immediate),
        0x50..=0x5f | 0x91..=0x99 => plain(0),
        0x63 | 0x84..=0x8b => modrm(0),
        0x8d if next < 0xc0 => modrm(0),
        0x68 | 0xa9 => plain(immediate),
        0x69 | 0x81 => modrm(immediate),
        0x6a | 0xa8 | 0xb0..=0xb7 => plain(1),
        0x6b | 0x80 | 0x83 => modrm(1),
        0x70..=0x7f => bare(prefixes, false, 1, Flow::CondJump),
        0x90 if prefixes.rex == 0 => Some(Form { has_modrm: false, immediate: 0, flow: Flow::Nop }),
        0xb8..=0xbf => plain(if prefixes.is_wide() { 8 } else { immediate }),
        0xc0 | 0xc1 if group != 6 => modrm(1),
        0xd0..=0xd3 if group != 6 => modrm(0),
        0xc3 => bare(prefixes, false, 0, Flow::Return),
        0xc6 if group == 0 => modrm(1),
        0xc7 if group == 0 => modrm(immediate),
        0xc9 => bare(prefixes, false, 0, Flow::Straight),
        0xcc => bare(prefixes, false, 0, Flow::Trap),
        0xe8 => bare(prefixes, false, 4, Flow::Call),
        0xe9 => bare(prefixes, false, 4, Flow::Jump),
        0xeb => bare(prefixes, false, 1, Flow::Jump),
        0xf6 if group == 0 => modrm(1),
        0xf7 if group == 0 => modrm(immediate),
        0xf6 | 0xf7 if group > 1 => modrm(0),
        0xfe | 0xff if group < 2 => modrm(0),
        0xff if group == 2 => bare(prefixes, true, 0, Flow::IndirectCall),
        0xff if group == 4 => bare(prefixes, true, 0, Flow::IndirectJump),
        0xff if group == 6 => bare(prefixes, true, 0, Flow::Straight),
        _ => None,
    }
}

/// The form of the opcode `0f opcode`; `next` is the byte after it.
fn two_bytes(opcode: u8, next: u8, prefixes: &Prefixes) -> Option<Form> {
    if opcode == 0x1f && prefixes.repeat == 0 && next >> 3 & 7 == 0 {
        return Some(Form { has_modrm: true, immediate: 0, flow: Flow::Nop });
    }
    if prefixes.filler {
        return None;
    }
    // The mandatory prefix of a vector instruction.
    let vector = if prefixes.operand_size { 0x66 } else { prefixes.repeat };
    match opcode {
        0x05 => bare(prefixes, false, 0, Flow::Syscall),
        0x0b => bare(prefixes, false, 0, Flow::Trap),
        0x1e if vector == 0xf3 && next == 0xfa && prefixes.rex == 0 => {
            Some(Form { has_modrm: true, immediate: 0, flow: Flow::Landing })
        }
        0x10 | 0x11 => modrm(0),
        0x28 | 0x29 | 0x57 if matches!(vector, 0 | 0x66) => modrm(0),
        0x6f | 0x7f if matches!(vector, 0x66 | 0xf3) => modrm(0),
        0x6c | 0x6e | 0xef | 0xd6 if vector == 0x66 => modrm(0),
        0x7e if matches!(vector, 0x66 | 0xf3) => modrm(0),
        0x16 if vector == 0 => modrm(0),
        0x80..=0x8f => bare(prefixes, false, 4, Flow::CondJump),
        0x40..=0x4f
        | 0x90..=0x9f
        | 0xa3
        | 0xab
        | 0xaf
        | 0xb0
        | 0xb1
        | 0xc0
        | 0xc1
        | 0xb6
        | 0xb7
        | 0xbe
        | 0xbf
            if prefixes.repeat == 0 =>
        {
            modrm(0)
        }
        0xba if prefixes.repeat == 0 && next >> 3 & 7 >= 4 => modrm(1),
        0xc8..=0xcf => bare(prefixes, false, 0, Flow::Straight),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::decode::Decoder;
    use proptest::prelude::*;

    const HERE: GuestAddr = GuestAddr(0x7000_0000);

    fn assert_agrees(bytes: &[u8]) {
        if let Some(insn) = read(bytes, HERE) {
            assert_eq!(Decoder::new(bytes, HERE).decode_fully(0), Ok(insn), "{bytes:02x?}");
        }
    }

    #[test]
    fn agrees_with_the_full_decoder_about_every_opcode_and_prefix() {
        let prefixes: [&[u8]; 14] = [
            &[],
            &[0x66],
            &[0xf2],
            &[0xf3],
            &[0x64],
            &[0x2e],
            &[0x66, 0x66],
            &[0x66, 0x2e],
            &[0x48],
            &[0x41],
            &[0x66, 0x48],
            &[0xf3, 0x49],
            &[0x64, 0x4c],
            &[0x66, 0xf3],
        ];
        for prefix in prefixes {
            for escape in [&[][..], &[0x0f]] {
                for opcode in 0..=u8::MAX {
                    for next in 0..=u8::MAX {
                        for sib in [0x24, 0x25, 0x90] {
                            let operands = [opcode, next, sib, 1, 2, 0x83, 4, 5, 6, 7, 8, 9];
                            assert_agrees(&[prefix, escape, &operands].concat());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn leaves_bytes_that_end_inside_an_instruction_to_the_full_decoder() {
        let long = [0x48, 0xc7, 0x84, 0x24, 0x80, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!(read(&long, HERE).map(|insn| insn.len), Some(12));
        for len in 0..long.len() {
            assert_eq!(read(&long[..len], HERE), None);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_full_decoder_about_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 1..20)) {
            assert_agrees(&bytes);
        }
    }
}
