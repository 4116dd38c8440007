//! A long jump at the site, whose displacement ends in the bytes that follow it.

use crate::addr::AddrRange;
use crate::plan::draft::Draft;
use crate::plan::request::{Decision, Label, Request};
use crate::x86::encode::{JMP_REL32, JMP_REL32_LEN};

pub(super) const LABEL: Label = Label { name: "by pun", key: "pun" };

pub(super) fn plan(draft: &mut Draft<'_, '_>, request: &Request<'_>) -> Option<Decision> {
    let opcode = request.site.opcode();
    let back = request.site.back();
    let upper: [u8; 3] = *draft.text.slice(back, 3)?.first_chunk()?;
    if !draft.is_free(back, upper.len() as u64) {
        return None;
    }
    let [a, b, c] = upper;
    let lowest = i64::from(i32::from_le_bytes([0, a, b, c])).cast_unsigned();
    let start = opcode.wrapping_add(JMP_REL32_LEN as u64).wrapping_add(lowest);
    let window = AddrRange { start, end: start.checked_add(0x100)? };
    let (landing, long) = draft.land(window, request.plain_entry())?;
    draft.landing(landing, &long)?;
    let [low, ..] = landing.rel32_from(opcode.wrapping_add(JMP_REL32_LEN as u64))?.to_le_bytes();
    draft.lock(back, upper.len() as u64);
    draft.edit(opcode, &[JMP_REL32, low])?;
    Some(Decision::default())
}
