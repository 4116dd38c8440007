//! One run: what was decided before it, what its processes share, where the tools' words go. Zone: call.
//!
//! Above `tasks`; all rooms from `signal` on read the [`Session`], and handlers of calls get it with each call ([`followed`]).

pub(crate) mod followed;
pub(crate) mod guest;
pub(crate) mod last_words;
pub(crate) mod not_followed;
pub(crate) mod output;
pub(crate) mod tree;

use crate::hook::chain::Chain;
use crate::options::{Intercept, Report};
use crate::runtime::session::output::Output;
use crate::runtime::session::tree::{Common, Tree};
use crate::sys::file::Identity;
use core::ffi::CStr;
use core::fmt;
use core::sync::atomic::{AtomicPtr, Ordering};

/// What was decided before the program started; null only before that. A fork keeps it.
static SESSION: AtomicPtr<Session> = AtomicPtr::new(core::ptr::null_mut());

/// What is decided before the program starts.
pub(crate) struct Session {
    /// Who hears of the calls.
    pub tools: Chain<'static>,
    /// Where their words go.
    pub output: Output,
    /// The program's file, as `/proc/self/exe` would show it.
    pub program: &'static CStr,
    /// The loader's own file, as `/proc/self/exe` shows it.
    pub loader: &'static CStr,
    /// Which file that is; `None` if it could not be found out.
    pub own: Option<Identity>,
    /// The words that started the loader, up to the last option: its name first.
    pub words: &'static [&'static CStr],
    /// Whether what the program execs runs under the loader too.
    pub follows: bool,
    /// What is done about system call instructions that can't be proved.
    pub intercept: Intercept,
    /// Whether the program ends rather than have a call pass unseen.
    pub is_strict: bool,
    /// Whether the program is told that there is no io_uring.
    pub refuses_io_uring: bool,
    /// How each process tells, when it ends, what was intercepted in it; `None` if it does not.
    pub report: Option<Report>,
    /// Prints it.
    pub print_report: fn(&Session, &mut dyn fmt::Write),
    /// What this process has in common with the others of the run.
    pub tree: &'static Tree,
    /// The memory that it lies in, if there is more than that.
    pub common: Option<Common>,
    /// The process that was started first, by its own id: its end is the tools' end.
    pub root: u32,
    /// Whether that is this one.
    pub is_root: bool,
}

/// Fixes what does not change any more. Called once, before any call is hooked.
pub(crate) fn begin(session: &'static Session) {
    SESSION.store(core::ptr::from_ref(session).cast_mut(), Ordering::Release);
}

/// What was fixed before the program started; `None` only before that.
#[must_use]
pub(crate) fn get() -> Option<&'static Session> {
    // SAFETY: only `begin` stores to it, a reference that lives as long as the process; nobody writes through it.
    unsafe { SESSION.load(Ordering::Relaxed).as_ref() }
}
