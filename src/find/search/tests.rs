//! Tests of [`super`].

use super::*;
use crate::elf::functions::Extent;
use crate::elf::functions::tests::symbol;
use crate::find::site::{Site, Span};
use proptest::prelude::*;

const START: u64 = 0x1000;
const AT: GuestAddr = GuestAddr(START);
const CALL: [u8; 7] = [0xb8, 39, 0, 0, 0, 0x0f, 0x05];

/// Judges `bytes`, of which the first `known` are a function.
fn judged(bytes: &[u8], known: u64, entry: Option<u64>) -> Vec<Verdict> {
    let table = if known == 0 { Vec::new() } else { symbol(0x12, 1, START, known) };
    let section = Extent { start: START, end: START + bytes.len() as u64 };
    let functions = Functions::of_symbols(&table, section, entry);
    let bias = 0x7000_0000_0000;
    let text = Text { at: AT.wrapping_add(bias), bytes };
    hits(&text, bias, &functions)
        .hits
        .into_iter()
        .map(|hit| match hit.verdict {
            Verdict::Site(site) => {
                let span = |span: Span| Span { at: span.at.wrapping_sub(bias), ..span };
                Verdict::Site(Site {
                    at: site.at.wrapping_sub(bias),
                    len: site.len,
                    predecessor: site.predecessor.map(span),
                })
            }
            Verdict::Inside(span) => Verdict::Inside(Span { at: span.at.wrapping_sub(bias), ..span }),
            unproved => unproved,
        })
        .collect()
}

fn in_function(bytes: &[u8]) -> Vec<Verdict> {
    judged(bytes, bytes.len() as u64, None)
}

fn site(offset: u64, len: u8, before: Option<u8>) -> Verdict {
    let at = AT.wrapping_add(offset);
    let span = |len: u8| Span { at: at.wrapping_sub(u64::from(len)), len };
    Verdict::Site(Site { at, len, predecessor: before.map(span) })
}

fn reason(verdict: &Verdict) -> Option<Reason> {
    match verdict {
        Verdict::Unproved(unproved) => Some(unproved.reason),
        _ => None,
    }
}

#[test]
fn a_hit_that_the_function_reaches_is_a_site() {
    let code = [&CALL[..], &[0xc3]].concat();
    assert_eq!(in_function(&code), [site(5, 2, Some(5))]);
}

#[test]
fn a_hit_inside_a_constant_is_not() {
    let code = [0xb8, 0x0f, 0x05, 0, 0, 0xc3];
    assert_eq!(in_function(&code), [Verdict::Inside(Span { at: AT, len: 5 })]);
}

#[test]
fn a_prefixed_call_is_one_site_with_its_prefix() {
    let code = [0xb8, 39, 0, 0, 0, 0x48, 0x0f, 0x05, 0xc3];
    assert_eq!(in_function(&code), [site(5, 3, Some(5))]);
}

#[test]
fn a_call_of_the_other_table_is_proved_as_any() {
    assert_eq!(in_function(&[0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]), [site(5, 2, Some(5))]);
    let inside = Span { at: AT, len: 5 };
    assert_eq!(in_function(&[0xb8, 0xcd, 0x80, 0, 0, 0xc3]), [Verdict::Inside(inside)]);
}

#[test]
fn a_table_behind_a_return_is_left_alone() {
    let code = [0xc3, 0x11, 0x22, 0x33, 0x0f, 0x05, 0x44, 0x06, 0x55];
    assert_eq!(reason(&in_function(&code)[0]), Some(Reason::Unreached));
}

#[test]
fn code_behind_a_jump_is_proved_by_the_branch_to_it() {
    // je +2; jmp *rax; then the block that je leads to.
    let code = [&[0x74, 0x02, 0xff, 0xe0][..], &CALL, &[0xc3]].concat();
    assert_eq!(in_function(&code), [site(9, 2, Some(5))]);
}

#[test]
fn a_case_body_behind_an_indirect_jump_is_proved_by_its_number() {
    let code = [&[0xff, 0xe0][..], &CALL, &[0xc3]].concat();
    assert_eq!(in_function(&code), [site(7, 2, Some(5))]);
}

#[test]
fn a_body_without_a_number_needs_a_tie() {
    let loose = [0xff, 0xe0, 0x89, 0xd0, 0x0f, 0x05, 0xc3];
    assert_eq!(reason(&in_function(&loose)[0]), Some(Reason::Unreached));
    let tied = [0xff, 0xe0, 0x89, 0xd0, 0x0f, 0x05, 0xeb, 0xf8];
    assert_eq!(in_function(&tied), [site(4, 2, Some(2))]);
}

#[test]
fn a_byte_that_is_no_instruction_spoils_what_may_depend_on_it() {
    let code = [&[0x06][..], &CALL, &[0xc3]].concat();
    assert_eq!(reason(&in_function(&code)[0]), Some(Reason::Undecodable));
}

#[test]
fn data_behind_a_call_that_never_returns_spoils_nothing_before_it() {
    let code = [&CALL[..], &[0xe8, 0xf4, 0xff, 0xff, 0xff, 0x06, 0x06]].concat();
    assert_eq!(in_function(&code), [site(5, 2, Some(5))]);
}

#[test]
fn a_branch_into_the_middle_of_an_instruction_leaves_both_readings_unproved() {
    // jmp +1 over the first byte of a mov whose constant then reads as a call.
    let code = [0x74, 0x01, 0xb8, 0x0f, 0x05, 0xc3, 0xc3, 0xc3];
    assert_eq!(reason(&in_function(&code)[0]), Some(Reason::Overlap));
}

#[test]
fn a_program_without_symbols_is_followed_from_its_entry() {
    // call over a string that holds the two bytes, then a call in the callee.
    let code = [&[0xe8, 4, 0, 0, 0, 0x0f, 0x05, 0x0f, 0x06][..], &CALL, &[0xf4]].concat();
    let verdicts = judged(&code, 0, Some(START));
    assert_eq!(reason(&verdicts[0]), Some(Reason::Unreached));
    assert_eq!(verdicts[1], site(14, 2, Some(5)));
}

#[test]
fn unknown_code_is_proved_by_a_proved_call_to_it() {
    // The known function calls 0x10, where unknown code takes its number from an argument.
    let code =
        [&[0xe8, 0x0b, 0, 0, 0, 0xc3][..], &[0x90; 10], &[0x48, 0x89, 0xf8, 0x0f, 0x05, 0xc3, 0x06, 0x06]]
            .concat();
    assert_eq!(judged(&code, 6, None), [site(19, 2, Some(3))]);
}

#[test]
fn unknown_code_that_nothing_leads_to_is_left_alone_but_plausible() {
    let code = [&[0xc3][..], &[0x90; 15], &[0x48, 0x89, 0xf8, 0x0f, 0x05, 0xc3, 0x90]].concat();
    let expected = Unproved { reason: Reason::NoAnchor, is_plausible: true };
    assert_eq!(judged(&code, 1, None), [Verdict::Unproved(expected)]);
}

#[test]
fn generated_code_stands_between_zeros() {
    let in_memory = |bytes: &[u8]| -> Vec<Verdict> {
        let text = Text { at: AT, bytes };
        hits(&text, 0, &Functions::unknown()).hits.into_iter().map(|hit| hit.verdict).collect()
    };
    let code = [&[0; 3][..], &CALL, &[0xe9, 0, 0, 0, 0], &[0; 32], &[0x31, 0xd2], &CALL, &[0xc3]].concat();
    assert_eq!(in_memory(&code), [site(8, 2, Some(5)), site(54, 2, Some(5))]);
    // Neither a table nor a call whose number nothing tells is taken for code.
    let code = [&[0; 20][..], &[0x06, 0x0f, 0x05], &[0; 20], &[0x89, 0xd0, 0x0f, 0x05, 0xc3]].concat();
    assert_eq!(in_memory(&code).iter().filter_map(reason).count(), 2);
}

#[test]
fn a_function_that_ends_before_its_call_runs_on_into_the_gap() {
    let code = [&CALL[..], &[0xc3]].concat();
    assert_eq!(judged(&code, 5, None), [site(5, 2, Some(5))]);
}

#[test]
fn random_tables_behind_a_return_are_never_taken_for_code() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut sites = 0;
    for _ in 0..2000 {
        let mut code = std::vec![0xc3];
        (0..8).for_each(|_| code.extend_from_slice(&random()));
        let at = 1 + usize::from(random()[0]) % 62;
        code[at..at + 2].copy_from_slice(&[0x0f, 0x05]);
        sites += in_function(&code).iter().filter(|verdict| matches!(verdict, Verdict::Site(_))).count();
    }
    assert_eq!(sites, 0);
}

proptest! {
    #[test]
    fn every_hit_is_judged_once_and_no_bytes_break_the_search(
        bytes in proptest::collection::vec(proptest::sample::select(&[0x0f_u8, 0x05, 0xe8, 0xeb, 0x74, 0xc3, 0xb8, 0x48, 0, 2, 0xff, 0x90][..]), 0..120),
        known in 0_u64..120,
        entry in proptest::option::of(START..START + 120),
    ) {
        let expected = SyscallBytes::of(&bytes).count();
        prop_assert_eq!(judged(&bytes, known, entry).len(), expected);
    }
}
