//! `mprotect`, `pkey_mprotect` and `madvise`: the calls that change what can be done with pages. Zone: load, and call with the
//! patcher's lock held.

use crate::abi::call::Call;
use crate::abi::map::{self as flags, Protection};
use crate::addr::{AddrRange, GuestAddr, page_ceil};
use crate::load::rendezvous;
use crate::runtime::backstop::sud;
use crate::runtime::calls::patching::{self, Running};
use crate::runtime::code::notes;
use crate::runtime::code::patched::{self, Content};
use crate::runtime::gate::block::Block;
use crate::runtime::gate::step::Step;
use crate::runtime::memory::file_pages;
use crate::runtime::session::followed::Followed;
use crate::runtime::tasks;

/// `mprotect` and `pkey_mprotect`: what becomes executable is patched first; what becomes writable, and can't be executed
/// meanwhile, is the program's own again first.
#[inline(never)]
pub(crate) fn protect(followed: Followed<'_>) -> Step {
    let Followed { block, call, .. } = followed;
    let [at, len, prot, ..] = call.args;
    let protection = Protection::from_bits(prot as u32);
    let Some(range) = patching::pages(at, len) else { return Step::Pass };
    if protection == Protection::READ {
        // That is how dynamic loaders close what they have relocated: all that they have loaded is on their list.
        rendezvous::changed();
    }
    if patching::can_execute(protection) {
        file_pages::known().remove(range);
        if protection.writable() {
            return protect_writable(block, call, range);
        }
        if !patching::may_patch(call) || !patching::needs_look(range) {
            return Step::Pass;
        }
        return patching::with_patcher(block, |patcher| {
            patcher.look(range, Running::Perhaps);
            let result = patching::raw(call);
            if result.is_err() {
                patcher.give_back(range);
            }
            patching::answer(result)
        });
    }
    if !protection.writable() || !patched::known().overlaps(range) || !patching::may_patch(call) {
        return Step::Pass;
    }
    patching::with_patcher(block, |patcher| {
        let result = patching::raw(call);
        if result.is_ok() {
            patcher.give_back(range);
        }
        patching::answer(result)
    })
}

/// What can be written while it can be executed is the program's to change, and to copy, at any time: an operand in front of
/// a call, the bytes behind it. So it is left alone, and what was patched before is given back unless other threads may be
/// executing it.
#[inline(never)]
fn protect_writable(block: &Block, call: &Call, range: AddrRange) -> Step {
    patched::known().mark_written(range);
    if !patching::may_patch(call) || !patching::needs_look(range) && !sud::minds_rights() {
        notes::count_writable();
        return Step::Pass;
    }
    patching::with_patcher(block, |patcher| {
        let result = patching::raw(call);
        if result.is_ok() {
            if tasks::is_only_thread() {
                patcher.restore(range);
            }
            patcher.count_untouched(range);
            patcher.note_rights(range.start, Protection::from_bits(call.args[2] as u32));
        }
        patching::answer(result)
    })
}

/// `madvise`: code that goes back to what its file says is patched again. Where that is all that can come of it, the patched
/// pages are left out, for nothing but the patches would change.
#[inline(never)]
pub(crate) fn advise(followed: Followed<'_>) -> Step {
    let Followed { block, call, .. } = followed;
    let [at, len, advice, ..] = call.args;
    let Some(range) = patching::pages(at, len).filter(|range| patched::known().overlaps(*range)) else {
        return Step::Pass;
    };
    if !flags::DISCARDING_ADVICE.contains(&(advice as u32)) {
        return Step::Pass;
    }
    patching::with_patcher(block, |patcher| {
        let mut next = range.start;
        let mut result = Ok(0);
        while next < range.end {
            let rest = AddrRange::new(next, range.end);
            let kept = patched::known().texts(rest).filter(|(_, content)| *content == Content::FileText);
            let kept = kept.map(|(text, _)| text.intersection(&rest)).min_by_key(|text| text.start);
            let part = AddrRange::new(next, kept.map_or(range.end, |text| text.start));
            if !part.is_empty() {
                let part_call = Call { args: [part.start.0, part.len(), advice, 0, 0, 0], ..*call };
                result = result.and(patching::raw(&part_call));
                patcher.forget(part);
                patcher.look(part, Running::Nobody);
            }
            next = kept.map_or(range.end, |text| GuestAddr(page_ceil(text.end.0).unwrap_or(text.end.0)));
        }
        patching::answer(result)
    })
}
