//! What the tools say when a process ends. Zone: call.

use crate::runtime::session::Session;
use crate::runtime::tasks;
use crate::sys::signal::AllBlocked;
use crate::sys::{ids, process};
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicU32, Ordering};

/// Nobody has said the last words.
const UNSAID: u32 = 0;
/// A thread is saying them.
const SPEAKING: u32 = 1;
/// They are said.
const SAID: u32 = 2;

/// How far the last words of the process are: [`UNSAID`], [`SPEAKING`] or [`SAID`]. A fork's child has its own to say.
static LAST_WORDS: AtomicU32 = AtomicU32::new(UNSAID);

/// Says the last words, once in the life of the process: meanwhile, other callers wait. Returns whether it was this
/// one that said them.
pub fn finish_once(say: impl FnOnce()) -> bool {
    loop {
        match LAST_WORDS.compare_exchange(UNSAID, SPEAKING, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                say();
                LAST_WORDS.store(SAID, Ordering::Release);
                return true;
            }
            Err(SAID) => return false,
            Err(_) => process::doze(),
        }
    }
}

/// Waits until the thread that says the last words has done so: until then nobody may end the process.
pub fn wait() {
    while LAST_WORDS.load(Ordering::Acquire) == SPEAKING {
        process::doze();
    }
}

/// The process does not end after all, or is a child of one that did: its last words are to be said.
pub fn unfinish() {
    LAST_WORDS.store(UNSAID, Ordering::Release);
}

/// The process is about to end by a call.
pub fn end_process(session: &Session) {
    if tasks::is_own_process() {
        finish_for_good(session);
    } else {
        tasks::withdraw_base(ids::thread_id());
    }
}

/// Before the process ends: a handler must not end it in the middle of the last words, nor make calls after them.
pub(crate) fn finish_for_good(session: &Session) {
    if has_last_words(session) {
        let _never_unblocked_again = ManuallyDrop::new(AllBlocked::new());
        finish(session);
    }
}

/// Whether the end of the calling process is one that the tools speak at.
#[must_use]
pub fn has_last_words(session: &Session) -> bool {
    session.report.is_some()
        || session.common.is_some() && (tasks::is_root() || session.tree.table().is_some())
}

/// Has the process reported on, once, and lets the tools have their last word in the process that was started; other
/// threads that end it meanwhile wait here. Whoever ends after it brings the word up to date, where that can be done.
/// Called with all signals blocked.
pub fn finish(session: &Session) {
    if tasks::is_root() {
        finish_once(|| session.output.last_words(session));
    } else if session.report.is_some() {
        finish_once(|| session.output.update_last_words(session));
    } else {
        session.output.update_last_words(session);
    }
}

/// Before the process goes on as a program that is not the loader's: its last words, if they are its to say. Returns
/// whether they are.
pub fn close_before_native(session: &Session) -> bool {
    let _blocked = AllBlocked::new();
    session.common.is_some() && tasks::is_root() && finish_once(|| session.output.last_words(session))
}

/// It could not be run: the process goes on.
pub fn reopen(session: &Session) {
    unfinish();
    session.tree.reopen();
}
