//! What the tools say when a process ends. Zone: call.

use crate::abi::sysno;
use crate::options::Report;
use crate::runtime::gate::policy;
use crate::runtime::session::Session;
use crate::runtime::session::output::{Output, Page, while_locked, write_quietly};
use crate::runtime::tasks;
use crate::sys::signal::AllBlocked;
use crate::sys::{file, ids, process};
use core::fmt::Write as _;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicU32, Ordering};

/// Nobody has said the last words.
const UNSAID: u32 = 0;
/// A thread is saying them.
const SPEAKING: u32 = 1;
/// They are said.
const SAID: u32 = 2;

/// Calls after which a path may lead elsewhere, or the process may not go there: a tool's file is kept open then.
pub(crate) const LEAVING: [u32; 9] = [
    sysno::CHROOT,
    sysno::PIVOT_ROOT,
    sysno::UNSHARE,
    sysno::SETNS,
    sysno::SETUID,
    sysno::SETREUID,
    sysno::SETRESUID,
    sysno::SETFSUID,
    sysno::CAPSET,
];

/// How far the last words of the process are: [`UNSAID`], [`SPEAKING`] or [`SAID`]. A fork's child has its own to say.
static LAST_WORDS: AtomicU32 = AtomicU32::new(UNSAID);

/// Says the last words, once in the life of the process: meanwhile, other callers wait. Returns whether it was this
/// one that said them.
pub(crate) fn finish_once(say: impl FnOnce()) -> bool {
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
pub(crate) fn wait() {
    while LAST_WORDS.load(Ordering::Acquire) == SPEAKING {
        process::doze();
    }
}

/// The process does not end after all, or is a child of one that did: its last words are to be said.
pub(crate) fn unfinish() {
    LAST_WORDS.store(UNSAID, Ordering::Release);
}

/// The process is about to end by a call.
pub(crate) fn end_process(session: &Session) {
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
pub(crate) fn has_last_words(session: &Session) -> bool {
    session.report.is_some()
        || session.common.is_some() && (tasks::is_root() || session.tree.table().is_some())
}

/// Has the process reported on, once, and lets the tools have their last word in the process that was started; other
/// threads that end it meanwhile wait here. Whoever ends after it brings the word up to date, where that can be done.
/// Called with all signals blocked.
pub(crate) fn finish(session: &Session) {
    if tasks::is_root() {
        finish_once(|| say(session));
    } else if session.report.is_some() {
        finish_once(|| update(session));
    } else {
        update(session);
    }
}

/// Before the process goes on as a program that is not the loader's: its last words, if they are its to say. Returns
/// whether they are.
pub(crate) fn close_before_native(session: &Session) -> bool {
    let _blocked = AllBlocked::new();
    session.common.is_some() && tasks::is_root() && finish_once(|| say(session))
}

/// It could not be run: the process goes on.
pub(crate) fn reopen(session: &Session) {
    unfinish();
    session.tree.reopen();
}

/// Opens the tools' file for good, if they will need it.
pub(crate) fn keep_output(session: &Session) {
    if session.common.is_some() {
        session.output.keep();
    }
}

/// Before a call after which the process may not reach the tools' file: keeps it open.
pub(crate) fn before_leaving(session: &Session) {
    Output::stay_open();
    keep_output(session);
}

/// Before `reboot` ends the machine: no process comes to its own end then.
pub(crate) fn say_early(session: &Session) {
    finish_once(|| say(session));
}

/// Before the program starts: what has to be known for a report to be written in the end. Tools that see calls see these.
pub(crate) fn set_up(session: &Session) {
    if session.report.is_some() {
        policy::hook(sysno::CLOSE);
        LEAVING.iter().for_each(|&nr| policy::hook(nr));
    }
}

/// The tools' last words, and what they can't speak for.
fn print_last_words(session: &Session, page: &mut Page<'_>) {
    session.tools.finish(page);
    // As JSON that is in the report.
    let is_text = session.report != Some(Report::Json) || !session.tools.interest().is_empty();
    if let Some(common) = session.common.filter(|_| is_text) {
        // Nothing can go wrong: a line that can't be written is counted.
        let _ = write!(page, "{}", common.tree.natives);
    }
}

/// Reports on the process, and lets the tools say what they have gathered.
fn say(session: &Session) {
    let Output::File(path) = &session.output else {
        session.tree.while_speaking(|| {
            let mut write = |text: &[u8]| session.output.append(text);
            Page::fill(&mut write, |page| (session.print_report)(session, page));
            Page::fill(&mut write, |page| print_last_words(session, page));
        });
        return;
    };
    while_locked(path, |open| {
        let mut write = |text: &[u8]| write_quietly(open.fd(), text);
        Page::fill(&mut write, |page| (session.print_report)(session, page));
        let at = file::facts(open.fd()).map_or(0, |facts| facts.len);
        let len = Page::fill(&mut write, |page| print_last_words(session, page));
        session.tree.close((at, len));
    });
}

/// Reports on a process of which the tools' last words are not, and lets them say those again, in place of what was
/// said before; only if that still ends the file. Processes that do so at the same time wait for each other, so the last
/// to write has the highest counts.
fn update(session: &Session) {
    let Output::File(path) = &session.output else {
        let mut write = |text: &[u8]| session.output.append(text);
        session.tree.while_speaking(|| {
            Page::fill(&mut write, |page| (session.print_report)(session, page));
        });
        return;
    };
    while_locked(path, |open| {
        let mut write = |text: &[u8]| write_quietly(open.fd(), text);
        let is_end = |&(at, len): &(u64, u64)| {
            file::facts(open.fd()).is_ok_and(|facts| facts.is_regular() && facts.len == at + len)
        };
        let replaced = session.tree.table().filter(is_end).filter(|&(at, _)| open.truncate(at).is_ok());
        let report_len = Page::fill(&mut write, |page| (session.print_report)(session, page));
        if let Some((at, _)) = replaced {
            let len = Page::fill(&mut write, |page| print_last_words(session, page));
            session.tree.close((at + report_len, len));
        }
    });
}
