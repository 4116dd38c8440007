//! A long jump in place of the instruction before the site, which moves into the stub.

use crate::addr::GuestAddr;
use crate::find::site::Span;
use crate::plan::Evicted;
use crate::plan::draft::Draft;
use crate::plan::request::{Decision, Label, Request};
use crate::plan::stub::{self, Again};
use crate::plan::tactic::trap;
use crate::x86::decode;
use crate::x86::encode::{INT3, JMP_REL32_LEN};
use crate::x86::gpr::{Gpr, Value};

pub(super) const LABEL: Label = Label { name: "by eviction", key: "eviction" };

/// Of an instruction that a restarted call may run again.
pub(super) fn of_repeatable(draft: &mut Draft<'_, '_>, request: &Request<'_>) -> Option<Decision> {
    let moved = Moved::of(draft, request)?;
    if moved.again == Again::Site { None } else { replace(draft, request, moved) }
}

/// Of any that can move.
pub(super) fn of_any(draft: &mut Draft<'_, '_>, request: &Request<'_>) -> Option<Decision> {
    let moved = Moved::of(draft, request)?;
    replace(draft, request, moved)
}

fn replace(draft: &mut Draft<'_, '_>, request: &Request<'_>, moved: Moved) -> Option<Decision> {
    let len = usize::from(moved.span.len);
    if len < JMP_REL32_LEN {
        return None;
    }
    let jump = draft.long_jump(moved.span.at, moved.entry)?;
    let mut replacement: heapless::Vec<u8, { stub::PLAIN_ENTRY }> = heapless::Vec::from_slice(&jump).ok()?;
    replacement.resize(len, INT3).ok()?;
    draft.edit(moved.span.at, &replacement)?;
    trap::put(draft, request)?;
    Some(moved.decision())
}

/// The instruction before a site, ready to run in the stub.
pub(super) struct Moved {
    pub(super) span: Span,
    /// Where the stub is entered to run it.
    pub(super) entry: GuestAddr,
    again: Again,
    bytes: heapless::Vec<u8, { stub::PLAIN_ENTRY }>,
}

impl Moved {
    pub(super) fn of(draft: &mut Draft<'_, '_>, request: &Request<'_>) -> Option<Self> {
        let span = request.site.predecessor?;
        let len = usize::from(span.len);
        let entry = stub::entry(request.stub, len)?;
        let original = draft.text.slice(span.at, len)?;
        let insn = draft.decoder.decode(draft.text.offset(span.at)?).ok()?;
        let is_adjacent = span.at.wrapping_add(u64::from(span.len)) == request.site.at;
        if !is_adjacent || draft.decoder.writes_memory() || !draft.is_free(span.at, u64::from(span.len)) {
            return None;
        }
        let again = match draft.decoder.value(Gpr::RAX) {
            Some(Value::Constant(_)) => Again::Constant,
            Some(Value::Copy(source)) if source.survives_call() => Again::Copy(source.number()),
            _ => Again::Site,
        };
        let moved = decode::relocate(original, insn, span.at, entry)?;
        Some(Self { span, entry, again, bytes: heapless::Vec::from_slice(&moved).ok()? })
    }

    pub(super) fn decision(self) -> Decision {
        let evicted = Some(Evicted { span: self.span, again: self.again });
        Decision { evicted, moved: self.bytes }
    }
}
