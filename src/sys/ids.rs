//! Who the calling thread is, and how a process ends. Zone: call.

use crate::abi::sysno;
use crate::sys::{call, gate_asm};

/// Exit statuses of the loader's own, as a shell would give them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Status {
    /// All is said: `--help`, `--version`.
    Success = 0,
    /// The command line makes no sense.
    Usage = 2,
    /// The loader itself failed (`env` and `timeout` use the same).
    Internal = 125,
    /// The program was found and can't be run.
    CannotRun = 126,
    /// There is no such program.
    NotFound = 127,
}

/// Ends every thread of the process.
pub(crate) fn exit_all(status: Status) -> ! {
    loop {
        // SAFETY: the process ends.
        unsafe { gate_asm::syscall(sysno::EXIT_GROUP, u64::from(status as u8), 0, 0, 0, 0, 0) };
    }
}

/// The parent's id in this process's pid namespace; 0 if it is not in there.
#[must_use]
pub(crate) fn parent_id() -> u32 {
    // SAFETY: getppid touches no memory and does not fail.
    unsafe { gate_asm::syscall(sysno::GETPPID, 0, 0, 0, 0, 0, 0) as u32 }
}

/// The process's id in its own pid namespace; 0 if a filter of the program's forbids to ask.
#[must_use]
pub(crate) fn id() -> u32 {
    // SAFETY: getpid touches no memory.
    unsafe { call(sysno::GETPID, [0; 6]) }.map_or(0, |id| id as u32)
}

/// The calling thread's id in its own pid namespace; 0 if a filter of the program's forbids to ask.
#[must_use]
pub(crate) fn thread_id() -> u32 {
    // SAFETY: gettid touches no memory.
    unsafe { call(sysno::GETTID, [0; 6]) }.map_or(0, |id| id as u32)
}
