//! What the tools say when a process ends. Zone: call.

use crate::runtime::session::Frozen;
use crate::runtime::state::STATE;
use crate::runtime::tasks;
use crate::sys::ids;
use crate::sys::signal::AllBlocked;
use core::mem::ManuallyDrop;

/// The process is about to end by a call.
pub fn end_process(frozen: &Frozen) {
    if tasks::is_own_process() {
        finish_for_good(frozen);
    } else {
        tasks::withdraw_base(ids::thread_id());
    }
}

/// Before the process ends: a handler must not end it in the middle of the last words, nor make calls after them.
pub(crate) fn finish_for_good(frozen: &Frozen) {
    if has_last_words(frozen) {
        let _never_unblocked_again = ManuallyDrop::new(AllBlocked::new());
        finish(frozen);
    }
}

/// Whether the end of the calling process is one that the tools speak at.
#[must_use]
pub fn has_last_words(frozen: &Frozen) -> bool {
    frozen.report.is_some() || frozen.common.is_some() && (tasks::is_root() || frozen.tree.table().is_some())
}

/// Has the process reported on, once, and lets the tools have their last word in the process that was started; other
/// threads that end it meanwhile wait here. Whoever ends after it brings the word up to date, where that can be done.
/// Called with all signals blocked.
pub fn finish(frozen: &Frozen) {
    if tasks::is_root() {
        STATE.finish_once(|| frozen.output.last_words(frozen));
    } else if frozen.report.is_some() {
        STATE.finish_once(|| frozen.output.update_last_words(frozen));
    } else {
        frozen.output.update_last_words(frozen);
    }
}

/// Before the process goes on as a program that is not the loader's: its last words, if they are its to say. Returns
/// whether they are.
pub fn close_before_native(frozen: &Frozen) -> bool {
    let _blocked = AllBlocked::new();
    frozen.common.is_some() && tasks::is_root() && STATE.finish_once(|| frozen.output.last_words(frozen))
}

/// It could not be run: the process goes on.
pub fn reopen(frozen: &Frozen) {
    STATE.unfinish();
    frozen.tree.reopen();
}
