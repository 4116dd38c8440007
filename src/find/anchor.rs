//! Hints of where unknown code starts, found by searching bytes. A hint proves nothing by itself.

use alloc::vec::Vec;

use crate::find::site::Text;
use crate::find::trace::NUMBER_END;
use crate::x86::decode::Decoder;
use crate::x86::encode::JMP_REL32;
use crate::x86::gpr::{Gpr, Value};
use crate::x86::insn::MAX_LEN;
use crate::x86::scan::INT80;

/// The largest text that is searched for branches, in bytes: a larger one makes start-up pay for its size.
const SEARCHED_MAX: usize = 8 << 20;
/// The opcode of `call rel32`.
const CALL_REL32: u8 = 0xe8;
/// How far back the number of a plausible call is set, in bytes.
const LEAD_MAX: usize = 2 * MAX_LEN;

/// Bytes that read as a `call rel32` or a `jmp rel32`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Branch {
    /// The offset of the opcode.
    pub(super) from: usize,
    /// The offset it would lead to.
    pub(super) to: usize,
}

/// All byte sequences of `text` that read as a branch into one of the ascending `ranges`, in ascending order.
pub(super) fn branches_into(text: &Text<'_>, ranges: &[(usize, usize)]) -> Vec<Branch> {
    let (Some((lowest, _)), Some((_, highest))) = (ranges.first(), ranges.last()) else {
        return Vec::new();
    };
    if text.bytes.len() > SEARCHED_MAX {
        return Vec::new();
    }
    let mut branches = Vec::new();
    for from in opcodes(text.bytes) {
        let Some([CALL_REL32 | JMP_REL32, rel @ ..]) =
            text.bytes.get(from..).and_then(<[u8]>::first_chunk::<5>)
        else {
            continue;
        };
        let rel = i32::from_le_bytes(*rel);
        let Some(to) = isize::try_from(rel).ok().and_then(|rel| (from + 5).checked_add_signed(rel)) else {
            continue;
        };
        if *lowest <= to && to < *highest && holder(ranges, to).is_some() {
            branches.push(Branch { from, to });
        }
    }
    branches
}

/// Which of the ascending `ranges` holds offset `at`.
pub(super) fn holder(ranges: &[(usize, usize)], at: usize) -> Option<usize> {
    let index = ranges.partition_point(|(_, end)| *end <= at);
    ranges.get(index).filter(|(start, _)| *start <= at).map(|_| index)
}

/// Offsets that may hold the opcode of such a branch, none missing, in ascending order. Eight lanes a word by hand, as
/// in `x86::scan`: byte by byte this search would cost more than all the decoding.
fn opcodes(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    const LOW_BITS: u64 = 0x0101_0101_0101_0101;
    const LANE: usize = u8::BITS as usize;
    let (words, rest) = bytes.as_chunks::<8>();
    let in_words = words.iter().enumerate().flat_map(|(index, word)| {
        // e8 and e9 differ in the lowest bit only; a lane is zero where either stands.
        let lanes = (u64::from_le_bytes(*word) ^ (LOW_BITS * u64::from(CALL_REL32))) & !LOW_BITS;
        let mut zeros = lanes.wrapping_sub(LOW_BITS) & !lanes & (LOW_BITS << 7);
        core::iter::from_fn(move || {
            let lane = zeros.trailing_zeros() as usize / LANE;
            zeros &= zeros.wrapping_sub(1);
            (lane < size_of::<u64>()).then_some(index * size_of::<u64>() + lane)
        })
    });
    in_words.chain(bytes.len() - rest.len()..bytes.len())
}

/// Whether the bytes around a hit read as code that makes a system call: from some byte before it, straight-line
/// instructions lead to it and one of them sets `rax`; most that can be read from the bytes before it have an instruction
/// start there; and what follows it decodes too. Nobody writes a wrapper for `int 0x80` that takes any number, so a
/// constant has to be set there.
pub(super) fn is_plausible(text: &Text<'_>, hit: usize) -> bool {
    let mut decoder = Decoder::new(text.bytes, text.at);
    let follows = decoder
        .decode(hit + 2)
        .is_ok_and(|next| !next.falls_through() || decoder.decode(hit + 2 + usize::from(next.len)).is_ok());
    let leads = || (1..=LEAD_MAX).filter_map(|back| hit.checked_sub(back));
    let is_number = match text.bytes.get(hit..hit + INT80.len()) {
        Some(bytes) if bytes == INT80 => |value| matches!(value, Value::Constant(..NUMBER_END)),
        _ => |value| value != Value::Altered,
    };
    follows
        && leads().any(|from| leads_to(&mut decoder, from, hit, is_number))
        && is_agreed(&mut decoder, leads(), hit)
}

/// Whether the bytes before offset `at` read as if an instruction started there, or there are none.
pub(super) fn is_boundary(text: &Text<'_>, at: usize) -> bool {
    let starts = (1..=LEAD_MAX).filter_map(|back| at.checked_sub(back));
    at == 0 || is_agreed(&mut Decoder::new(text.bytes, text.at), starts, at)
}

/// Whether more of the readings from the offsets `starts` have an instruction start at `hit` than not. However they begin,
/// readings of code soon agree; so where a hit only looks like an instruction, most pass over it.
fn is_agreed(decoder: &mut Decoder<'_>, starts: impl Iterator<Item = usize>, hit: usize) -> bool {
    let (mut meet, mut pass) = (0, 0);
    for mut at in starts {
        while at < hit
            && let Ok(insn) = decoder.decode(at)
        {
            at += usize::from(insn.len);
        }
        meet += u32::from(at == hit);
        pass += u32::from(at > hit);
    }
    meet > pass
}

fn leads_to(decoder: &mut Decoder<'_>, from: usize, hit: usize, is_number: fn(Value) -> bool) -> bool {
    let mut at = from;
    let mut sets_number = false;
    while at < hit {
        let Ok(insn) = decoder.decode(at) else { return false };
        if !insn.straight {
            return false;
        }
        sets_number |= decoder.value(Gpr::RAX).is_some_and(is_number);
        at += usize::from(insn.len);
    }
    at == hit && sets_number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::GuestAddr;
    use proptest::prelude::*;

    fn is_plausible_in(bytes: &[u8], hit: usize) -> bool {
        is_plausible(&Text { at: GuestAddr(0x1000), bytes }, hit)
    }

    #[test]
    fn a_call_whose_number_is_loaded_is_plausible() {
        let code = [&[0x90; 15][..], &[0x48, 0x89, 0xf8, 0x0f, 0x05, 0xc3, 0x90]].concat();
        assert!(is_plausible_in(&code, 18));
        // mov eax, [rip + 0x2ee3] behind bytes that are no code.
        assert!(is_plausible_in(&[0x06, 0x06, 0x8b, 0x05, 0xe3, 0x2e, 0, 0, 0x0f, 0x05, 0xc3], 8));
    }

    #[test]
    fn one_of_the_other_table_is_only_with_a_number() {
        // mov eax, edx or mov eax, 20 behind a byte that is no code.
        assert!(!is_plausible_in(&[0x06, 0x90, 0x90, 0x90, 0x89, 0xd0, 0xcd, 0x80, 0xc3, 0x06], 6));
        assert!(is_plausible_in(&[0x06, 0x90, 0x90, 0x90, 0x89, 0xd0, 0x0f, 0x05, 0xc3, 0x06], 6));
        assert!(is_plausible_in(&[0x06, 0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3, 0x06], 6));
    }

    #[test]
    fn two_bytes_of_two_instructions_are_not() {
        // mov rax, [rsp + 0x150]; jae +0x3558; mov r13, rcx; cmp byte [rax + rdi], 0; jne +0x21; mov rax, [rdx + 8]
        let code = [
            0x48, 0x89, 0xc5, 0x4c, 0x3b, 0x6c, 0x24, 0x40, 0x48, 0x8b, 0x84, 0x24, 0x50, 0x01, 0, 0, 0x0f,
            0x83, 0x58, 0x35, 0, 0, 0x49, 0x89, 0xcd, 0x80, 0x3c, 0x38, 0, 0x75, 0x21, 0x48, 0x8b, 0x42,
            0x08,
        ];
        assert!(!is_plausible_in(&code, 24));
    }

    proptest! {
        #[test]
        fn tables_of_numbers_are_hardly_ever(
            words in proptest::collection::vec(any::<u32>(), 12 * 64),
        ) {
            // A hit in the middle of each of 64 tables: one that reads as code by chance must stay rare.
            let plausible = words.chunks(12).filter(|words| {
                let mut table: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                table[36..38].copy_from_slice(&[0x0f, 0x05]);
                is_plausible_in(&table, 36)
            });
            prop_assert!(plausible.count() <= 24);
        }
    }
}
