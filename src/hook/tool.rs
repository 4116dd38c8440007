//! The two sides of a hook: [`Tool`], which decides about calls, and [`Guest`], the program it asks about.
//!
//! A tool is one value for the whole process and all of its threads; what it counts, it counts in atomics. Hooks
//! run in zone call: they must not allocate, take a lock, panic or make a system call except through [`Guest`].
//! They may run on several threads at once, and within a signal handler of the program; never within
//! another hook of the same thread, since signals wait until a hook is done.

use core::fmt;

use super::interest::Interest;
use crate::abi::call::{Call, Outcome};
use crate::addr::GuestAddr;

/// What a tool decides about a call before it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Make the call as `call` now says it.
    Pass,
    /// Make the call as `call` now says it, then run [`Tool::exit`].
    PassThenExit,
    /// Make no call; run [`Tool::exit`], and give the program this outcome.
    Answer(Outcome),
}

/// Who has begun to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Newcomer<'a> {
    /// A thread of a process that is known.
    Thread,
    /// A process with a copy of its parent's memory: what a tool keeps in its own memory, it has now too.
    Process,
    /// A process in its parent's memory, until it execs or ends (`vfork`): only its id tells them apart.
    VforkChild,
    /// The program of this name, in a new process or in one that has run another before.
    Program(&'a [u8]),
}

/// What a tool can ask of the program's side while a hook runs.
pub trait Guest {
    /// The kernel's id of the calling thread.
    fn thread_id(&self) -> u32;

    /// The kernel's id of the process; cheap.
    fn process_id(&self) -> u32;

    /// Copies the program's bytes from `at` on and returns how many could be read, at most `into.len()`.
    ///
    /// Never faults. The rest of `into` is left as it was. Another thread may be writing those bytes
    /// meanwhile: what the kernel later reads there may differ.
    fn read(&self, at: GuestAddr, into: &mut [u8]) -> usize;

    /// Copies `from` to the program's memory at `at` and returns how many bytes could be written.
    ///
    /// Never faults, and does not override protections: memory that the program can't write stays as it is.
    fn write(&self, at: GuestAddr, from: &[u8]) -> usize;

    /// Writes `line` to where the tools' output goes, in one piece; its newline is part of it.
    ///
    /// Nobody is told if that fails: a full disk must not change what the program does.
    fn emit(&self, line: &[u8]);
}

/// Watches, answers or changes the program's system calls.
///
/// The life of one call, for a tool that is interested in its number:
///
/// 1. [`enter`](Self::enter) runs once, before the kernel sees the call.
/// 2. The kernel does the call, unless it was answered.
/// 3. [`exit`](Self::exit) runs once on the same thread, if the verdict was not [`Verdict::Pass`].
///
/// Step 3 does not come where the program does not come back: after `exit`, `exit_group` and `rt_sigreturn`, and
/// after an `execve` or `execveat` that succeeded; nor where the thread is ended in the middle of a call. Where
/// the gate has no slot left for a call, step 3 is missed, and the gate counts that. So count calls at `enter`,
/// and errors at `exit`.
/// Of a call that makes a thread or a process, only the caller sees step 3, not the new one.
pub trait Tool: Sync {
    /// The calls that this tool wants to see; asked once, before the program starts.
    fn interest(&self) -> Interest;

    /// Decides about a call before it is made.
    ///
    /// On entry `call` is what the program asked for, or what the tools before this one made of it. Number and
    /// arguments may be changed; the kernel, later tools and `exit` see the changed call, the program's
    /// registers stay as they were. Memory that an argument points to is the program's and may change meanwhile.
    fn enter(&self, call: &mut Call, guest: &dyn Guest) -> Verdict;

    /// Runs after the call was made, or after this tool answered it.
    ///
    /// `call` is what `enter` left behind, `outcome` what the program is about to see; it may be changed.
    /// A call that a signal interrupted before it did anything, and that is to be made again, comes with one
    /// of the errors of [`Errno::is_restart`](crate::abi::errno::Errno::is_restart). Changing that outcome has no
    /// effect, and if the call is made again, it enters anew.
    fn exit(&self, call: &Call, outcome: &mut Outcome, guest: &dyn Guest);

    /// Hears of a newcomer, on the newcomer's own thread before it goes on, or before the program's first instruction.
    ///
    /// A thread or process whose call found no slot comes unannounced, as does what runs natively.
    fn started(&self, _: Newcomer<'_>, _: &dyn Guest) {}

    /// Runs once, when the process is about to end: the last chance to print.
    ///
    /// Other threads may still make calls meanwhile.
    /// An error of `out` can only be passed by in silence.
    fn finish(&self, out: &mut dyn fmt::Write);
}

/// The empty tool: interested in nothing, so it never sees a call.
impl Tool for () {
    fn interest(&self) -> Interest {
        Interest::NONE
    }

    fn enter(&self, _: &mut Call, _: &dyn Guest) -> Verdict {
        Verdict::Pass
    }

    fn exit(&self, _: &Call, _: &mut Outcome, _: &dyn Guest) {}

    fn finish(&self, _: &mut dyn fmt::Write) {}
}
