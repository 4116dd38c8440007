//! Seccomp filters as the kernel runs them: classic BPF over a description of the call (kernel/seccomp.c).
//!
//! The kernel checks a filter before it installs it (`seccomp_check_filter`, net/core/filter.c `bpf_check_classic`): all
//! jumps go forward and stay inside, all loads are aligned and in range. Here the same holds by itself: what
//! is out of range ends the run with the answer that lets nothing pass.

use crate::abi::call::Call;

/// Instructions that a filter may have (BPF_MAXINSNS).
pub const LEN_MAX: usize = 4096;
/// Lets the call through (SECCOMP_RET_ALLOW).
const ALLOW: u32 = 0x7fff_0000;
/// The part of an answer that says what happens (SECCOMP_RET_ACTION_FULL); the rest is data for it.
const ACTION: u32 = 0xffff_0000;
/// Ends the process (SECCOMP_RET_KILL_PROCESS).
const KILL: u32 = 0x8000_0000;
/// `seccomp_data.arch` of a 64-bit call (AUDIT_ARCH_X86_64).
const ARCH: u32 = 0xc000_003e;
/// Bytes of `struct seccomp_data`.
const DATA_LEN: u32 = 64;
/// Where in it the two halves of the instruction pointer stand.
const POINTER: [u32; 2] = [8, 12];

/// One instruction: `struct sock_filter` as the eight bytes in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction(pub u64);

impl Instruction {
    const fn code(self) -> u16 {
        self.0 as u16
    }

    const fn jump_true(self) -> u8 {
        (self.0 >> 16) as u8
    }

    const fn jump_false(self) -> u8 {
        (self.0 >> 24) as u8
    }

    const fn k(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether it loads part of the address that the call is made from.
    #[must_use]
    pub fn reads_pointer(self) -> bool {
        self.code() == LOAD_WORD && POINTER.contains(&self.k())
    }
}

// Instruction classes, and sources of an operand (include/uapi/linux/bpf_common.h).
const LD: u16 = 0;
const LDX: u16 = 1;
const ST: u16 = 2;
const STX: u16 = 3;
const ALU: u16 = 4;
const JMP: u16 = 5;
const RET: u16 = 6;
const MISC: u16 = 7;
const CLASS: u16 = 7;
const FROM_X: u16 = 8;
/// `BPF_LD | BPF_W | BPF_ABS`: the one load of the call's description.
const LOAD_WORD: u16 = 0x20;

/// The call as a filter sees it, made from address `pointer`.
fn word(call: &Call, pointer: u64, offset: u32) -> Option<u32> {
    let half = |value: u64, upper: bool| if upper { (value >> 32) as u32 } else { value as u32 };
    match offset {
        0 => Some(call.nr),
        4 => Some(ARCH),
        8 | 12 => Some(half(pointer, offset == 12)),
        16..DATA_LEN if offset.is_multiple_of(4) => {
            let arg = call.args.get((offset as usize - 16) / 8)?;
            Some(half(*arg, !offset.is_multiple_of(8)))
        }
        _ => None,
    }
}

/// Whether the filter lets `call`, made from address `pointer`, through without any further ado.
#[must_use]
pub fn allows(filter: impl Fn(usize) -> Option<Instruction>, call: &Call, pointer: u64) -> bool {
    run(filter, call, pointer).unwrap_or(KILL) & ACTION == ALLOW
}

/// Runs a filter; `None` for one that the kernel would not have taken.
fn run(filter: impl Fn(usize) -> Option<Instruction>, call: &Call, pointer: u64) -> Option<u32> {
    let (mut a, mut x, mut at) = (0_u32, 0_u32, 0_usize);
    let mut memory = [0_u32; 16];
    loop {
        let instruction = filter(at)?;
        let (code, k) = (instruction.code(), instruction.k());
        let operand = if code & FROM_X != 0 { x } else { k };
        at = at.checked_add(1)?;
        match code & CLASS {
            LD => a = load(code, k, &memory, || word(call, pointer, k))?,
            LDX => x = load(code, k, &memory, || None)?,
            ST => *memory.get_mut(k as usize)? = a,
            STX => *memory.get_mut(k as usize)? = x,
            ALU => a = compute(code & 0xf0, a, operand)?,
            JMP => at = at.checked_add(jump(code & 0xf0, a, operand, instruction)?)?,
            RET => return Some(if code & 0x18 == 0x10 { a } else { k }),
            MISC if code & 0x80 != 0 => a = x,
            _ => x = a,
        }
    }
}

/// BPF_ABS, BPF_IMM, BPF_MEM and BPF_LEN.
fn load(code: u16, k: u32, memory: &[u32; 16], absolute: impl Fn() -> Option<u32>) -> Option<u32> {
    match code & 0xe0 {
        0x20 => absolute(),
        0x00 => Some(k),
        0x60 => memory.get(k as usize).copied(),
        0x80 => Some(DATA_LEN),
        _ => None,
    }
}

fn compute(operation: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match operation {
        0x00 => a.wrapping_add(operand),
        0x10 => a.wrapping_sub(operand),
        0x20 => a.wrapping_mul(operand),
        0x30 => a.checked_div(operand).unwrap_or(0),
        0x40 => a | operand,
        0x50 => a & operand,
        0x60 => a.wrapping_shl(operand),
        0x70 => a.wrapping_shr(operand),
        0x80 => a.wrapping_neg(),
        0xa0 => a ^ operand,
        _ => return None,
    })
}

/// How many instructions a jump passes over.
fn jump(operation: u16, a: u32, operand: u32, instruction: Instruction) -> Option<usize> {
    let holds = match operation {
        0x00 => return Some(instruction.k() as usize),
        0x10 => a == operand,
        0x20 => a > operand,
        0x30 => a >= operand,
        0x40 => a & operand != 0,
        _ => return None,
    };
    Some(usize::from(if holds { instruction.jump_true() } else { instruction.jump_false() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn instruction(code: u16, jump_true: u8, jump_false: u8, k: u32) -> Instruction {
        let jumps = u64::from(jump_true) << 16 | u64::from(jump_false) << 24;
        Instruction(u64::from(code) | jumps | u64::from(k) << 32)
    }

    fn allowed(program: &[Instruction], nr: u32, args: [u64; 6]) -> bool {
        allows(|at| program.get(at).copied(), &Call { nr, args }, 0x1234_5678_9abc)
    }

    /// Numbers that are let through; everything else kills.
    fn allow_list(numbers: &[u32]) -> Vec<Instruction> {
        let mut program = std::vec![
            instruction(LOAD_WORD, 0, 0, 4),
            instruction(0x15, 1, 0, ARCH),
            instruction(0x06, 0, 0, KILL),
            instruction(LOAD_WORD, 0, 0, 0),
        ];
        for &number in numbers {
            program.push(instruction(0x15, 0, 1, number));
            program.push(instruction(0x06, 0, 0, ALLOW));
        }
        program.push(instruction(0x06, 0, 0, KILL));
        program
    }

    #[test]
    fn an_allow_list_lets_through_what_it_lists() {
        let program = allow_list(&[0, 1, 60]);
        for number in 0..400 {
            assert_eq!(allowed(&program, number, [0; 6]), [0, 1, 60].contains(&number), "{number}");
        }
    }

    #[test]
    fn both_halves_of_an_argument_are_seen() {
        let upper = [
            instruction(LOAD_WORD, 0, 0, 16 + 8 + 4),
            instruction(0x15, 0, 1, 0xdead),
            instruction(0x06, 0, 0, ALLOW),
            instruction(0x06, 0, 0, 0x0005_0001), // SECCOMP_RET_ERRNO
        ];
        assert!(allowed(&upper, 1, [0, 0xdead_0000_0001, 0, 0, 0, 0]));
        assert!(!allowed(&upper, 1, [0, 0xdead, 0, 0, 0, 0]));
    }

    #[test]
    fn arithmetic_and_memory_work() {
        let program = [
            instruction(0x00, 0, 0, 6), // a = 6
            instruction(0x02, 0, 0, 3), // m[3] = a
            instruction(0x61, 0, 0, 3), // x = m[3]
            instruction(0x2c, 0, 0, 0), // a *= x
            instruction(0x07, 0, 0, 0), // x = a
            instruction(0x00, 0, 0, 0), // a = 0
            instruction(0x87, 0, 0, 0), // a = x
            instruction(0x15, 0, 1, 36),
            instruction(0x06, 0, 0, ALLOW),
            instruction(0x06, 0, 0, KILL),
        ];
        assert!(allowed(&program, 0, [0; 6]));
    }

    #[test]
    fn a_filter_that_looks_at_the_address_is_recognised() {
        assert!(instruction(LOAD_WORD, 0, 0, 8).reads_pointer());
        assert!(instruction(LOAD_WORD, 0, 0, 12).reads_pointer());
        assert!(!instruction(LOAD_WORD, 0, 0, 16).reads_pointer());
        assert!(!instruction(0x00, 0, 0, 8).reads_pointer());
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_a_panic(words in proptest::collection::vec(any::<u64>(), 0..64), nr in any::<u32>()) {
            let program: Vec<_> = words.into_iter().map(Instruction).collect();
            let _ = allowed(&program, nr, [u64::MAX; 6]);
        }
    }
}
