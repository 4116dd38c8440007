//! A short jump at the site to dead padding, which holds the long jump or another short one.

use crate::plan::draft::Draft;
use crate::plan::padding::Chain;
use crate::plan::request::{Decision, Label, Request};
use crate::x86::encode;

pub(super) const LABEL: Label = Label { name: "by short jump", key: "short_jump" };

/// To padding between functions.
pub(super) fn direct(draft: &mut Draft<'_, '_>, request: &Request<'_>) -> Option<Decision> {
    let chain = draft.take_relay(request.site.opcode())?;
    jump(draft, request, &chain)
}

/// To any padding, in as few jumps as can be.
pub(super) fn chained(draft: &mut Draft<'_, '_>, request: &Request<'_>) -> Option<Decision> {
    let chain = draft.take_chain(request.site.opcode())?;
    jump(draft, request, &chain)
}

fn jump(draft: &mut Draft<'_, '_>, request: &Request<'_>, chain: &Chain) -> Option<Decision> {
    let long = draft.long_jump(chain.relay, request.plain_entry())?;
    draft.edit(chain.relay, &long)?;
    let mut target = chain.relay;
    for at in chain.hops.iter().rev().copied().chain([request.site.opcode()]) {
        draft.edit(at, &encode::jmp_rel8(at, target)?)?;
        target = at;
    }
    Some(Decision::default())
}
