//! The commonest encodings, read at a fifth of the full decoder's price.
//!
//! Compiled code is mostly moves, arithmetic, branches and filler in a few forms, and start-up consists largely of
//! reading them. What is not surely among those forms is left to the full decoder: rare prefixes, lock, AVX,
//! whatever vendors read differently. A property test holds the two against each other.
//!
//! Forms and lengths: SDM vol. 2A 2.1 and 2.2, vol. 2D appendix A.

use crate::addr::GuestAddr;
use crate::x86::insn::{Insn, Kind, MAX_LEN, WINDOW};

/// The prefixes before an opcode. REX counts apart, fs as nothing.
const BARE: u8 = 1;

const OPERAND_SIZE: u8 = 2;

const F2: u8 = 4;

const F3: u8 = 8;

/// 2e, or 66 more than once, as only filler has.
const FILLER: u8 = 16;

/// f0, which wants an operand in memory.
const LOCK: u8 = 32;

/// How an opcode is encoded, and what it does to the flow of control.
#[derive(Clone, Copy)]
struct Form {
    has_modrm: bool,
    /// Bytes of its immediate, with 32-bit operands.
    immediate: u8,
    /// How many of them a 16-bit operand saves.
    narrower: u8,
    /// How many more a 64-bit operand takes.
    wider: u8,
    flow: Flow,
    /// The prefixes that may stand before it; with others it is left to the full decoder.
    prefixes: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// To the next instruction.
    Straight,
    /// To the next, and nothing else happens.
    Nop,
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

const fn plain(immediate: u8) -> Form {
    Form {
        has_modrm: false,
        immediate,
        narrower: 0,
        wider: 0,
        flow: Flow::Straight,
        prefixes: BARE | OPERAND_SIZE,
    }
}

const fn modrm(immediate: u8) -> Form {
    Form { has_modrm: true, ..plain(immediate) }
}

/// The immediate is as long as the operand, four bytes at most.
const fn sized(form: Form) -> Form {
    Form { narrower: 2, ..form }
}

/// A vector instruction that these prefixes make what it is.
const fn vector(prefixes: u8) -> Form {
    Form { prefixes, ..modrm(0) }
}

/// A form that may be locked.
const fn lockable(form: Form) -> Form {
    Form { prefixes: form.prefixes | LOCK, ..form }
}

/// A form that no prefix may stand before: the vendors disagree, or it is another instruction.
const fn bare(form: Form, flow: Flow) -> Form {
    Form { flow, prefixes: BARE, ..form }
}

/// The one-byte opcodes that need no look at ModRM.
const fn one_byte(opcode: u8) -> Option<Form> {
    Some(match opcode {
        0x00..=0x37 if opcode & 7 < 2 => lockable(modrm(0)),
        0x00..=0x3f if opcode & 7 < 4 => modrm(0),
        0x00..=0x3f if opcode & 7 == 4 => plain(1),
        0x00..=0x3f if opcode & 7 == 5 => sized(plain(4)),
        0x50..=0x5f | 0x91..=0x99 => plain(0),
        0x63 | 0x84 | 0x85 | 0x88..=0x8b => modrm(0),
        0x86 | 0x87 => lockable(modrm(0)),
        0x68 | 0xa9 => sized(plain(4)),
        0x69 => sized(modrm(4)),
        0x6a | 0xa8 | 0xb0..=0xb7 => plain(1),
        0x6b => modrm(1),
        0x70..=0x7f => bare(plain(1), Flow::CondJump),
        0xa4 | 0xa5 | 0xaa | 0xab => Form { prefixes: BARE | F3, ..plain(0) },
        0xb8..=0xbf => Form { wider: 4, ..sized(plain(4)) },
        0xc3 => bare(plain(0), Flow::Return),
        0xc9 => bare(plain(0), Flow::Straight),
        0xcc | 0xf4 => bare(plain(0), Flow::Trap),
        0xe8 => bare(plain(4), Flow::Call),
        0xe9 => bare(plain(4), Flow::Jump),
        0xeb => bare(plain(1), Flow::Jump),
        _ => return None,
    })
}

/// The opcodes behind `0f` that need no look at ModRM.
const fn two_bytes(opcode: u8) -> Option<Form> {
    Some(match opcode {
        0x05 => bare(plain(0), Flow::Syscall),
        0x0b => bare(plain(0), Flow::Trap),
        0x10 | 0x11 | 0x51 | 0x58 | 0x59 | 0x5c..=0x5f => vector(BARE | OPERAND_SIZE | F2 | F3),
        0x12 | 0x16 => vector(BARE),
        0x14 | 0x15 | 0x28 | 0x29 | 0x2e | 0x2f | 0x54..=0x57 => vector(BARE | OPERAND_SIZE),
        0x31 | 0xa2 => bare(plain(0), Flow::Straight),
        0x60..=0x6e | 0x74..=0x76 | 0xd4 | 0xd6 | 0xda | 0xdb | 0xde | 0xeb | 0xef | 0xfa..=0xfe => {
            vector(OPERAND_SIZE)
        }
        0x6f | 0x7e | 0x7f => vector(OPERAND_SIZE | F3),
        0x70 => Form { immediate: 1, ..vector(OPERAND_SIZE | F2 | F3) },
        0x80..=0x8f => bare(plain(4), Flow::CondJump),
        0x40..=0x4f | 0x90..=0x9f | 0xa3 | 0xaf | 0xb6 | 0xb7 | 0xbe | 0xbf => modrm(0),
        0xa4 | 0xac => modrm(1),
        0xa5 | 0xad => modrm(0),
        0xab | 0xb0 | 0xb1 | 0xb3 | 0xbb | 0xc0 | 0xc1 => lockable(modrm(0)),
        0xb8 => vector(F3),
        0xbc | 0xbd => vector(BARE | OPERAND_SIZE | F3),
        0xc6 => Form { immediate: 1, ..vector(BARE | OPERAND_SIZE) },
        0xc8..=0xcf => bare(plain(0), Flow::Straight),
        _ => return None,
    })
}

/// The form of a one-byte opcode that is several instructions.
const fn one_byte_by_operand(opcode: u8, operand: u8) -> Option<Form> {
    Some(match (opcode, group(operand)) {
        (0x80 | 0x83, 7) => modrm(1),
        (0x80 | 0x83, _) => lockable(modrm(1)),
        (0x81, 7) => sized(modrm(4)),
        (0x81, _) => lockable(sized(modrm(4))),
        (0x8d, _) | (0xd9, 4..) | (0xdb, 5 | 7) if operand < 0xc0 => modrm(0),
        (0xc0 | 0xc1, 0..=5 | 7) | (0xc6 | 0xf6, 0) => modrm(1),
        (0xc7 | 0xf7, 0) => sized(modrm(4)),
        (0xd0..=0xd3, 0..=5 | 7) | (0xf6 | 0xf7, 4..) => modrm(0),
        (0xf6 | 0xf7, 2 | 3) | (0xfe | 0xff, 0 | 1) => lockable(modrm(0)),
        (0xff, 2) => bare(modrm(0), Flow::IndirectCall),
        (0xff, 4) => bare(modrm(0), Flow::IndirectJump),
        (0xff, 6) => bare(modrm(0), Flow::Straight),
        _ => return None,
    })
}

/// The form of an opcode behind `0f` that is several instructions.
const fn two_bytes_by_operand(opcode: u8, operand: u8) -> Option<Form> {
    Some(match (opcode, group(operand)) {
        (0x1f, 0) => Form { flow: Flow::Nop, ..vector(BARE | OPERAND_SIZE | FILLER) },
        (0x01, _) if matches!(operand, 0xd0 | 0xee | 0xef | 0xf9) => bare(modrm(0), Flow::Straight),
        (0x72, 2 | 4 | 6) | (0x73, 2 | 3 | 6 | 7) if operand >= 0xc0 => {
            Form { immediate: 1, ..vector(OPERAND_SIZE) }
        }
        (0xae, 0..=5) | (0xc7, 4) if operand < 0xc0 => bare(modrm(0), Flow::Straight),
        (0xae, _) if matches!(operand, 0xe8 | 0xf0 | 0xf8) => bare(modrm(0), Flow::Straight), // fences
        (0xba, 4) => modrm(1),
        (0xba, 5..) => lockable(modrm(1)),
        (0xc7, 1) if operand < 0xc0 => Form { prefixes: BARE | LOCK, ..modrm(0) },
        (0xc7, 7) if operand >= 0xc0 => vector(F3),
        (0xd7, _) if operand >= 0xc0 => vector(OPERAND_SIZE),
        _ => return None,
    })
}

static ONE_BYTE: [Option<Form>; 256] = {
    let mut forms = [None; 256];
    let mut opcode = 0;
    while opcode < forms.len() {
        forms[opcode] = one_byte(opcode as u8);
        opcode += 1;
    }
    forms
};

static TWO_BYTES: [Option<Form>; 256] = {
    let mut forms = [None; 256];
    let mut opcode = 0;
    while opcode < forms.len() {
        forms[opcode] = two_bytes(opcode as u8);
        opcode += 1;
    }
    forms
};

/// By ModRM: how many bytes it and what belongs to it take, but for a displacement that only SIB tells of.
static OPERAND_LEN: [u8; 256] = {
    let mut lens = [0; 256];
    let mut modrm = 0;
    while modrm < lens.len() {
        let (mode, rm) = (modrm >> 6, modrm & 7);
        let displacement = match mode {
            0 if rm == 5 => 4,
            1 => 1,
            2 => 4,
            _ => 0,
        };
        lens[modrm] = 1 + (mode != 3 && rm == 4) as u8 + displacement;
        modrm += 1;
    }
    lens
};

/// The instruction that `bytes` begin with, at address `at`; `None` if it takes the full decoder to say.
///
/// Written for the branch predictor: what differs from one instruction to the next is looked up or computed.
pub(super) fn read(bytes: &[u8; WINDOW], at: GuestAddr) -> Option<Insn> {
    let (mut prefixes, mut start) = (BARE, 0);
    if matches!(bytes[0], 0x66 | 0x2e | 0x64 | 0xf0 | 0xf2 | 0xf3) {
        (prefixes, start) = legacy_prefixes(bytes)?;
    }
    let rex = bytes[start];
    let has_rex = rex & 0xf0 == 0x40;
    let is_wide = u8::from(has_rex) & rex >> 3;
    start += usize::from(has_rex);
    let opcode = bytes[start];
    let (form, opcode_len) = if opcode == 0x0f {
        let opcode = bytes[start + 1];
        (TWO_BYTES[usize::from(opcode)].or_else(|| two_bytes_by_operand(opcode, bytes[start + 2])), 2)
    } else {
        (ONE_BYTE[usize::from(opcode)].or_else(|| one_byte_by_operand(opcode, bytes[start + 1])), 1)
    };
    let Some(form) = form else { return read_odd(bytes, prefixes) };
    if form.prefixes & prefixes == 0 {
        return None;
    }
    let mut len = start + opcode_len;
    if prefixes == LOCK && bytes[len] >= 0xc0 {
        return None;
    }
    let mut rip_disp_at = None;
    if form.has_modrm {
        (len, rip_disp_at) = operand(bytes, len);
    }
    let is_narrow = u8::from(prefixes == OPERAND_SIZE) & !is_wide;
    len += usize::from(form.immediate + form.wider * is_wide - form.narrower * is_narrow);
    let kind = if form.flow == Flow::Straight {
        Kind::Other
    } else {
        kind(form.flow, bytes.get(len - usize::from(form.immediate)..len)?, at.wrapping_add(len as u64))?
    };
    let straight = matches!(form.flow, Flow::Straight | Flow::Nop);
    (len <= MAX_LEN).then_some(Insn { len: len as u8, kind, rip_disp_at, straight })
}

/// The prefixes and how many bytes they take; `None` for combinations that are rare or meaningless.
fn legacy_prefixes(bytes: &[u8; WINDOW]) -> Option<(u8, usize)> {
    let (mut prefixes, mut len) = (BARE, 0);
    loop {
        let prefix = match *bytes.get(len)? {
            0x66 => OPERAND_SIZE,
            0x64 => BARE,
            0x2e => FILLER,
            0xf2 => F2,
            0xf3 => F3,
            0xf0 => LOCK,
            // What follows takes four bytes at most before its immediate: opcode, ModRM, SIB.
            _ => return (len < WINDOW - 5).then_some((prefixes, len)),
        };
        len += 1;
        prefixes = match (prefixes, prefix) {
            (BARE, any) | (any, BARE) => any,
            (OPERAND_SIZE | FILLER, OPERAND_SIZE | FILLER) => FILLER,
            _ => return None,
        };
    }
}

/// The end of the operand whose ModRM is byte `at`, and where its RIP-relative displacement lies, if it has one.
fn operand(bytes: &[u8; WINDOW], at: usize) -> (usize, Option<u8>) {
    let modrm = bytes[at];
    let has_hidden_displacement = modrm & 0xc7 == 4 && bytes[at + 1] & 7 == 5;
    let len = usize::from(OPERAND_LEN[usize::from(modrm)]) + 4 * usize::from(has_hidden_displacement);
    (at + len, (modrm & 0xc7 == 5).then_some(at as u8 + 1))
}

/// Instructions that a table of opcodes has no place for.
fn read_odd(bytes: &[u8; WINDOW], prefixes: u8) -> Option<Insn> {
    let insn = |len, kind, straight| Some(Insn { len, kind, rip_disp_at: None, straight });
    match *bytes {
        [0x90, ..] => insn(1, Kind::Nop, true),
        [0x66, 0x90, ..] => insn(2, Kind::Nop, true),
        [0xf3, 0x90, ..] => insn(2, Kind::Other, true), // pause
        [0xf3, 0x0f, 0x1e, 0xfa, ..] if prefixes == F3 => insn(4, Kind::Other, false), // endbr64
        [0xc5, prefix, opcode, modrm, ..] => avx(bytes, prefix, opcode, modrm, 3),
        [0xc4, map, prefix, opcode, modrm, ..] if map & 0x1f == 1 => avx(bytes, prefix, opcode, modrm, 4),
        // vmovdqa64 and vmovdqu64 between a whole register and memory
        [0x62, 0xf1, 0xfd | 0xfe, 0x08 | 0x28 | 0x48, 0x6f | 0x7f, modrm, ..] if modrm < 0xc0 => {
            let (end, rip_disp_at) = operand(bytes, 5);
            Some(Insn { len: end as u8, kind: Kind::Other, rip_disp_at, straight: true })
        }
        _ => None,
    }
}

/// The AVX instructions of the opcode map `0f` that C libraries use most; `prefix` is the last byte of VEX.
fn avx(bytes: &[u8; WINDOW], prefix: u8, opcode: u8, modrm: u8, modrm_at: usize) -> Option<Insn> {
    const NO_SOURCE: u8 = 0xf;
    let (source, mandatory) = (prefix >> 3 & 0xf, prefix & 3);
    let is_common = match (opcode, mandatory) {
        (0x6f | 0x7f, 1 | 2) => source == NO_SOURCE,
        (0x74..=0x76 | 0xda | 0xdb | 0xde | 0xeb | 0xef, 1) => true,
        (0xd7, 1) => source == NO_SOURCE && modrm >= 0xc0,
        _ => false,
    };
    let (end, rip_disp_at) = operand(bytes, modrm_at);
    is_common.then_some(Insn { len: end as u8, kind: Kind::Other, rip_disp_at, straight: true })
}

fn kind(flow: Flow, immediate: &[u8], end: GuestAddr) -> Option<Kind> {
    let target = || {
        let distance = match *immediate {
            [short] => i64::from(short.cast_signed()),
            [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
            _ => return None,
        };
        Some(end.wrapping_add(distance.cast_unsigned()))
    };
    Some(match flow {
        Flow::Straight => Kind::Other,
        Flow::Nop => Kind::Nop,
        Flow::CondJump => Kind::CondJump { target: target()? },
        Flow::Jump => Kind::Jump { target: target()? },
        Flow::Call => Kind::Call { target: Some(target()?) },
        Flow::IndirectCall => Kind::Call { target: None },
        Flow::IndirectJump => Kind::IndirectJump,
        Flow::Return => Kind::Return,
        Flow::Trap => Kind::Trap,
        Flow::Syscall => Kind::Syscall,
    })
}

/// The field of ModRM that tells apart the instructions of one opcode.
const fn group(modrm: u8) -> u8 {
    modrm >> 3 & 7
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::decode::Decoder;
    use proptest::prelude::*;

    const HERE: GuestAddr = GuestAddr(0x7000_0000);

    fn assert_agrees(bytes: &[u8; WINDOW]) {
        if let Some(insn) = read(bytes, HERE) {
            assert_eq!(Decoder::new(bytes, HERE).decode_fully(0), Ok(insn), "{bytes:02x?}");
        }
    }

    #[test]
    fn agrees_with_the_full_decoder_about_every_opcode_and_prefix() {
        let prefixes: [&[u8]; 21] = [
            &[0xf0],
            &[0xf0, 0x48],
            &[0xc5, 0xf9],
            &[0xc5, 0x71],
            &[0xc4, 0xc1, 0x79],
            &[0x62, 0xf1, 0xfd, 0x48],
            &[0xf3, 0x48],
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
                            let operands = [opcode, next, sib, 1, 2, 0x83, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
                            let bytes = [prefix, escape, &operands].concat();
                            assert_agrees(bytes.first_chunk().unwrap());
                        }
                    }
                }
            }
        }
    }

    /// The bytes of the test program's file that are mapped executable.
    fn code_of(program: &[u8]) -> &[u8] {
        let path = std::fs::read_link("/proc/self/exe").unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let is_code = |line: &&str| line.contains(" r-xp ") && line.ends_with(path.to_str().unwrap());
        let line = maps.lines().find(is_code).unwrap();
        let mut numbers = line.split([' ', '-']).map(|word| usize::from_str_radix(word, 16).unwrap_or(0));
        let (start, end) = (numbers.next().unwrap(), numbers.next().unwrap());
        let offset = numbers.nth(2).unwrap();
        &program[offset..(offset + end - start).min(program.len())]
    }

    #[test]
    fn reads_nearly_all_of_compiled_code() {
        let program = std::fs::read("/proc/self/exe").unwrap();
        let text = code_of(&program);
        let mut decoder = Decoder::new(text, HERE);
        let (mut read_here, mut all, mut at) = (0, 0, 0);
        while let Some(window) = text.get(at..).and_then(<[u8]>::first_chunk) {
            let Ok(insn) = decoder.decode_fully(at) else {
                at += 1;
                continue;
            };
            let common = read(window, HERE.wrapping_add(at as u64));
            assert!(common.is_none_or(|common| common == insn), "{window:02x?}");
            read_here += usize::from(common.is_some());
            all += 1;
            at += usize::from(insn.len);
        }
        assert!(read_here * 100 > all * 90, "{read_here} of {all}");
    }

    proptest! {
        #[test]
        fn agrees_with_the_full_decoder_about_any_bytes(bytes in any::<[u8; WINDOW]>()) {
            assert_agrees(&bytes);
        }
    }
}
