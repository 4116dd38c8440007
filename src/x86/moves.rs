//! What the commonest moves do to registers and memory, read without the full decoder, which a program may then never
//! need. As [`common`](super::common), held against it by a test.

use crate::x86::insn::WINDOW;

/// What an instruction does beyond going on to the next.
#[derive(Clone, Copy)]
pub(super) struct Effect {
    pub(super) writes_memory: bool,
    /// The one general register that it writes, by number, and what it leaves there.
    pub(super) written: Option<(u8, Left)>,
}

/// What is left in a register.
#[derive(Clone, Copy)]
pub(super) enum Left {
    Constant(u64),
    /// All that another register holds, by number.
    Copy(u8),
    /// Something that does not depend on what was there before.
    Set,
    /// Something that does.
    Altered,
}

const NOTHING: Effect = Effect { writes_memory: false, written: None };
const STORE: Effect = Effect { writes_memory: true, written: None };

const fn write(register: u8, left: Left) -> Effect {
    Effect { writes_memory: false, written: Some((register, left)) }
}

/// The effect of the instruction that `bytes` begin with; `None` if it takes the full decoder to say. The bytes are
/// known to be an instruction.
pub(super) fn effect(bytes: &[u8; WINDOW]) -> Option<Effect> {
    let rest = bytes.strip_prefix(&[0x64]).unwrap_or(bytes); // fs
    let rex = *rest.first().filter(|byte| **byte & 0xf0 == 0x40).unwrap_or(&0);
    let rest = rest.get(usize::from(rex != 0)..)?;
    let [opcode, modrm, ..] = *rest else { return None };
    let is_register = modrm >= 0xc0;
    let group = modrm >> 3 & 7;
    let reg = group | (rex & 4) << 1;
    let rm = modrm & 7 | (rex & 1) << 3;
    Some(match opcode {
        0x31 | 0x33 if is_register && reg == rm => write(reg, Left::Set), // xor with itself
        0x38..=0x3d | 0x84 | 0x85 | 0xa8 | 0xa9 => NOTHING,               // cmp, test
        0x63 if is_register => write(reg, if reg == rm { Left::Altered } else { Left::Set }),
        0x89 | 0x8b if is_register && reg == rm => write(reg, Left::Altered),
        0x0f if matches!(modrm, 0x11 | 0x29) && *rest.get(2)? < 0xc0 => STORE, // movups, movaps
        0x80..=0x83 if group == 7 => NOTHING,                                  // cmp
        0x80 if is_register => write(byte_register(rm, rex), Left::Altered),
        0x81 | 0x83 if is_register => write(rm, Left::Altered),
        0x80 | 0x81 | 0x83 => STORE,
        0xc6 if group == 0 && !is_register => STORE,
        0x89 if is_register => write(rm, Left::Copy(reg)),
        0x89 => STORE,
        0x8b if is_register => write(reg, Left::Copy(rm)),
        0x63 | 0x8b | 0x8d => {
            write(reg, if addresses_with(rest, rex, reg) { Left::Altered } else { Left::Set })
        }
        0xb8..=0xbf => {
            write(opcode & 7 | (rex & 1) << 3, Left::Constant(immediate(rest.get(1..)?, rex & 8 != 0)?))
        }
        0xc7 if group != 0 => return None, // xbegin
        0xc7 if is_register => write(rm, Left::Constant(sign_extended(rest.get(2..)?, rex & 8 != 0)?)),
        0xc7 => STORE,
        _ => return None,
    })
}

/// The register that holds the byte register `number`: without REX, 4 to 7 are the second bytes of 0 to 3.
const fn byte_register(number: u8, rex: u8) -> u8 {
    if rex == 0 { number & 3 } else { number }
}

/// Whether the operand in memory, whose ModRM is the second byte, is addressed with `register`.
fn addresses_with(bytes: &[u8], rex: u8, register: u8) -> bool {
    let [_, modrm, sib, ..] = *bytes else { return true };
    let (base, index) =
        if modrm & 7 == 4 { (sib & 7, sib >> 3 & 7 | (rex & 2) << 2) } else { (modrm & 7, 4) };
    let has_base = modrm >= 0x40 || base != 5;
    let is_base = has_base && base | (rex & 1) << 3 == register;
    is_base || (index != 4 && index == register) // number 4 says that there is no index
}

/// The immediate at the start of `bytes`, 64 bits if `is_wide`, else 32 and zeros.
fn immediate(bytes: &[u8], is_wide: bool) -> Option<u64> {
    if is_wide {
        bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    } else {
        bytes.first_chunk().map(|bytes| u64::from(u32::from_le_bytes(*bytes)))
    }
}

/// The 32-bit immediate at the start of `bytes`, sign-extended if `is_wide`.
fn sign_extended(bytes: &[u8], is_wide: bool) -> Option<u64> {
    let value = u32::from_le_bytes(*bytes.first_chunk()?);
    Some(if is_wide { i64::from(value.cast_signed()).cast_unsigned() } else { u64::from(value) })
}
