//! An instruction that traps, whose handler goes to the stub.

use crate::plan::draft::Draft;
use crate::plan::request::{Decision, Label, Request};
use crate::x86::encode::UD2;

pub(super) const LABEL: Label = Label { name: "by trap", key: "trap" };

pub(super) fn plan(draft: &mut Draft<'_, '_>, request: &Request<'_>) -> Option<Decision> {
    put(draft, request)?;
    Some(Decision::default())
}

/// Makes the site trap.
pub(super) fn put(draft: &mut Draft<'_, '_>, request: &Request<'_>) -> Option<()> {
    draft.edit(request.site.opcode(), &UD2)?;
    // Whoever enters at a prefix traps with the address of that prefix.
    for prefix in 0..u64::from(request.site.len).saturating_sub(1) {
        draft.trap(request.site.at.wrapping_add(prefix), request.plain_entry());
    }
    Some(())
}
