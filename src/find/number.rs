//! A quick look at the bytes before a hit: could a system call's number be loaded there at all?
//!
//! In code that no file tells of, such a load is what proves a call ([`crate::find::search`]). Generated code holds the bytes
//! of a call by chance, every few hundred KiB, and a program that generates code changes the rights of all of it hundreds of
//! times a second: without this look, all of it would be decoded each time.

use crate::find::site::Text;
use crate::find::trace::NUMBER_END;
use crate::x86::decode::Decoder;
use crate::x86::gpr::{Gpr, Value};
use crate::x86::insn::MAX_LEN;

/// How far back is looked, in bytes.
const LEAD_MAX: usize = 256;

/// Whether straight-line code that ends with the system call at a hit may load a register with a number, wherever
/// its instructions start. Where it does not, only what is known of the code around it can prove the hit.
pub(super) fn may_be_loaded(text: &Text<'_>, hit: usize) -> bool {
    let mut decoder = Decoder::new(text.bytes, text.at);
    // Whether instructions lead from `hit - index` to the hit.
    let mut leads = [false; LEAD_MAX];
    for back in 0..LEAD_MAX {
        let is_cut_off = back >= MAX_LEN && !leads.iter().take(back).rev().take(MAX_LEN).any(|leads| *leads);
        let Some(at) = hit.checked_sub(back).filter(|_| !is_cut_off) else { return false };
        let Ok(insn) = decoder.decode(at) else { continue };
        let end = at + usize::from(insn.len);
        let is_site = insn.kind.is_call_of_kernel() && end == hit + 2;
        let runs_on = insn.straight && hit.checked_sub(end).and_then(|after| leads.get(after)) == Some(&true);
        let is_number = |value| matches!(value, Some(Value::Constant(number)) if number < NUMBER_END);
        if runs_on && Gpr::all().any(|register| is_number(decoder.value(register))) {
            return true;
        }
        if let Some(leads) = leads.get_mut(back) {
            *leads = is_site || runs_on;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::GuestAddr;
    use crate::elf::functions::Functions;
    use crate::find::search;
    use proptest::prelude::*;
    use std::vec::Vec;

    const CALL: [u8; 7] = [0xb8, 39, 0, 0, 0, 0x0f, 0x05];

    fn text(bytes: &[u8]) -> Text<'_> {
        Text { at: GuestAddr(0x1000), bytes }
    }

    #[test]
    fn a_number_may_be_loaded_before_a_call_and_not_before_an_operand() {
        assert!(may_be_loaded(&text(&CALL), 5));
        let operand = [[0x90; 20].as_slice(), &[0xbf, 0x0f, 0x05, 0, 0]].concat();
        assert!(!may_be_loaded(&text(&operand), 21));
    }

    #[test]
    fn what_is_too_far_back_to_be_seen_may_be_a_number() {
        let far = [CALL[..5].to_vec(), std::vec![0x90; 2 * LEAD_MAX], CALL[5..].to_vec()].concat();
        assert!(may_be_loaded(&text(&far), far.len() - 2));
    }

    /// What random code is made of.
    const PIECES: [&[u8]; 16] = [
        &[0xcd, 0x80],
        &[0x0f, 0x05],
        &CALL,
        &[0x48],
        &[0xb8, 1, 0, 0, 0],
        &[0xbf, 0x0f, 0x05, 0, 0],
        &[0x89, 0xf8],
        &[0x31, 0xc0],
        &[0x6a, 39, 0x58],
        &[0xc3],
        &[0x90],
        &[0xeb, 2],
        &[0x48, 0xc7, 0xc0, 15, 0, 0, 0],
        &[0; 40],
        &[0x06],
        &[0x0f, 0x1f, 0x40, 0],
    ];

    proptest! {
        #[test]
        fn what_is_not_worth_decoding_could_not_have_been_proved(
            picks in proptest::collection::vec(0..PIECES.len(), 0..60),
        ) {
            let bytes = picks.into_iter().map(|pick| PIECES[pick]).collect::<Vec<_>>().concat();
            let functions = Functions::unknown();
            let quick = search::hits(&text(&bytes), 0, &functions);
            prop_assert_eq!(quick.hits, search::judged_hits(&text(&bytes), 0, &functions).hits);
        }
    }
}
