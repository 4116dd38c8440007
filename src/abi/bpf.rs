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
/// Lets it through and writes it to a log (SECCOMP_RET_LOG).
const LOG: u32 = 0x7ffc_0000;
/// The part of an answer that says what happens (SECCOMP_RET_ACTION_FULL); the rest is data for it.
const ACTION: u32 = 0xffff_0000;
/// Ends the process (SECCOMP_RET_KILL_PROCESS).
const KILL: u32 = 0x8000_0000;
/// What a 64-bit call is marked with (include/uapi/linux/audit.h).
pub const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// What a call of the i386 table is marked with.
pub const AUDIT_ARCH_I386: u32 = 0x4000_0003;
/// Bytes of `struct seccomp_data`.
const DATA_LEN: u32 = 64;
/// Where in it the two halves of the instruction pointer stand: the address after the `syscall` instruction.
const POINTER: [u32; 2] = [8, 12];
/// Numbers that a filter is asked about when its answers are compared: all that x86-64 has, with room for more.
const NUMBERS: u32 = 600;

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

    /// Which half of the instruction pointer it loads, if it does.
    fn pointer_half(self) -> Option<usize> {
        POINTER.iter().position(|&offset| self.code() == LOAD_WORD && self.k() == offset)
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
        4 => Some(AUDIT_ARCH_X86_64),
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
    matches!(run(filter, call, pointer).unwrap_or(KILL) & ACTION, ALLOW | LOG)
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

/// A set of a filter's instructions, by index.
#[derive(Clone, Debug)]
struct Marks([u64; LEN_MAX / 64]);

impl Marks {
    fn contains(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word & 1 << (index % 64) != 0)
    }

    fn insert(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }
}

/// Where a filter looks at the address that a call is made from.
#[derive(Clone, Debug)]
pub struct AddressTests {
    /// Instructions before which the accumulator may hold the lower, the upper half of the address.
    held: [Marks; 2],
    /// Whether it does more with them than compare them with constants.
    is_opaque: bool,
    any: bool,
}

impl AddressTests {
    /// Follows the halves of the address through the filter. Jumps go forward only, so once through is enough.
    #[must_use]
    pub fn of(filter: impl Fn(usize) -> Option<Instruction>) -> Self {
        let none = Marks([0; LEN_MAX / 64]);
        let mut tests = Self { held: [none.clone(), none], is_opaque: false, any: false };
        for at in 0..LEN_MAX {
            let Some(instruction) = filter(at) else { break };
            let mut held = tests.held_at(at);
            let code = instruction.code();
            let is_held = held != [false; 2];
            let mut next = at.saturating_add(1);
            match code & CLASS {
                LD => {
                    let half = instruction.pointer_half();
                    held = [half == Some(0), half == Some(1)];
                    tests.any |= half.is_some();
                }
                JMP if code & 0xf0 == 0 => next = next.saturating_add(instruction.k() as usize),
                JMP => {
                    tests.is_opaque |= is_held && code & FROM_X != 0;
                    let [yes, no] = [instruction.jump_true(), instruction.jump_false()];
                    tests.hold(next.saturating_add(yes.into()), held);
                    next = next.saturating_add(no.into());
                }
                RET => {
                    tests.is_opaque |= is_held && code & 0x18 == 0x10;
                    continue;
                }
                MISC if code & 0x80 != 0 => held = [false; 2],
                LDX | STX => {}
                _ => tests.is_opaque |= is_held,
            }
            tests.hold(next, held);
        }
        tests
    }

    fn held_at(&self, at: usize) -> [bool; 2] {
        self.held.each_ref().map(|marks| marks.contains(at))
    }

    fn hold(&mut self, at: usize, held: [bool; 2]) {
        for (marks, _) in self.held.iter_mut().zip(held).filter(|(_, is_held)| *is_held) {
            marks.insert(at);
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        !self.any
    }

    /// Whether the filter could answer differently to calls made from `a` and from `b`: some comparison of it does.
    #[must_use]
    pub fn tell_apart(&self, filter: impl Fn(usize) -> Option<Instruction>, a: u64, b: u64) -> bool {
        if self.is_opaque {
            return a != b;
        }
        (0..LEN_MAX).map_while(|at| Some((at, filter(at)?))).any(|(at, instruction)| {
            let code = instruction.code();
            code & CLASS == JMP
                && self.held_at(at).into_iter().zip([0, 32]).any(|(is_held, shift)| {
                    let way = |address: u64| {
                        jump(code & 0xf0, (address >> shift) as u32, instruction.k(), instruction)
                    };
                    is_held && way(a) != way(b)
                })
        })
    }
}

/// Whether the filter answers differently to calls made from `a` and from `b`, asked for every number, with arguments
/// that are all zeros and all ones.
#[must_use]
pub fn answers_differ(filter: impl Fn(usize) -> Option<Instruction> + Copy, a: u64, b: u64) -> bool {
    (0..NUMBERS).any(|nr| {
        [0, u64::MAX].into_iter().any(|argument| {
            let call = Call { nr, args: [argument; 6] };
            run(filter, &call, a) != run(filter, &call, b)
        })
    })
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
            instruction(0x15, 1, 0, AUDIT_ARCH_X86_64),
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

    const SITE: u64 = 0x5555_0001_2345;

    /// Kills `openat` unless it is made from [`SITE`].
    fn for_one_site() -> [Instruction; 8] {
        [
            instruction(LOAD_WORD, 0, 0, 8),
            instruction(0x15, 0, 3, SITE as u32),
            instruction(LOAD_WORD, 0, 0, 12),
            instruction(0x15, 0, 1, (SITE >> 32) as u32),
            instruction(0x06, 0, 0, ALLOW),
            instruction(LOAD_WORD, 0, 0, 0),
            instruction(0x15, 0, 1, 257),
            instruction(0x06, 0, 0, KILL),
        ]
    }

    #[test]
    fn a_filter_that_looks_at_the_address_tells_its_site_from_all_others() {
        let mut program = for_one_site().to_vec();
        program.push(instruction(0x06, 0, 0, ALLOW));
        let filter = |at: usize| program.get(at).copied();
        let tests = AddressTests::of(filter);
        assert!(!tests.is_empty() && !tests.is_opaque);
        let gate = 0x7fff_f000_0000;
        for (site, differs) in [(SITE, true), (0x5555_0001_0000, false), (0x7fff_f000_1000, false)] {
            assert_eq!(answers_differ(filter, site, gate), differs, "{site:#x}");
            assert!(!differs || tests.tell_apart(filter, site, gate), "{site:#x}");
        }
        assert!(!tests.tell_apart(filter, 0x7fff_f000_1000, gate));
    }

    #[test]
    fn a_filter_that_looks_at_no_address_has_no_tests() {
        let program = allow_list(&[0, 1]);
        let filter = |at: usize| program.get(at).copied();
        assert!(AddressTests::of(filter).is_empty());
        assert!(!AddressTests::of(filter).tell_apart(filter, 1, u64::MAX));
    }

    #[test]
    fn an_address_that_is_reckoned_with_is_told_from_every_other() {
        let program = [
            instruction(LOAD_WORD, 0, 0, 8),
            instruction(0x54, 0, 0, 0xf000), // a &= 0xf000
            instruction(0x15, 0, 1, 0x2000),
            instruction(0x06, 0, 0, ALLOW),
            instruction(0x06, 0, 0, KILL),
        ];
        let filter = |at: usize| program.get(at).copied();
        let tests = AddressTests::of(filter);
        assert!(tests.tell_apart(filter, 0x2000, 0x2001));
        assert!(answers_differ(filter, 0x2000, 0x3000) && !answers_differ(filter, 0x2000, 0x2001));
    }

    proptest! {
        #[test]
        fn answers_differ_only_where_tests_tell_apart(
            codes in proptest::collection::vec((0_usize..6, 0_u8..4, 0_u8..4, 0_u32..4), 1..24),
            a in 0_u64..4,
            b in 0_u64..4,
        ) {
            let kinds = [LOAD_WORD, LOAD_WORD, 0x15, 0x35, 0x06, 0x07];
            let mut program: Vec<_> = codes
                .into_iter()
                .map(|(kind, yes, no, k)| {
                    let k = if kind < 2 { [0, 8, 12, 16][k as usize] } else { k };
                    instruction(kinds[kind], yes, no, k)
                })
                .collect();
            program.extend([instruction(0x06, 0, 0, ALLOW); 5]);
            let filter = |at: usize| program.get(at).copied();
            if answers_differ(filter, a, b) {
                prop_assert!(AddressTests::of(filter).tell_apart(filter, a, b));
            }
        }

        #[test]
        fn any_bytes_end_without_a_panic(words in proptest::collection::vec(any::<u64>(), 0..64), nr in any::<u32>()) {
            let program: Vec<_> = words.into_iter().map(Instruction).collect();
            let _ = allowed(&program, nr, [u64::MAX; 6]);
            let filter = |at: usize| program.get(at).copied();
            let _ = AddressTests::of(filter).tell_apart(filter, nr.into(), u64::MAX);
        }
    }
}
