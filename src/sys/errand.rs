//! Opening a file where the process may open no more. Zone: call.
//!
//! The kernel starts programs without a descriptor; the loader needs one for a moment, and the program may have used up
//! what its limit allows (RLIMIT_NOFILE). To raise the limit would be visible to other threads. But limits belong to
//! processes, descriptor tables and memory need not: a child that shares both, with a higher limit of its own, makes
//! the descriptor in the one table, and is gone before its parent goes on. Only where the hard limit is used up as
//! well, and may not be raised, there is none to be had.

use crate::abi::call::Outcome;
use crate::abi::errno::Errno;
use crate::abi::process::{CLONE_FILES, CLONE_VFORK, CLONE_VM};
use crate::abi::sysno;
use crate::sys::ids::{self, Status};
use crate::sys::signal::AllBlocked;
use crate::sys::{call, errand_asm, gate_asm};
use core::sync::atomic::{AtomicU64, Ordering};

/// `RLIMIT_NOFILE` (include/uapi/asm-generic/resource.h).
const NOFILE: u64 = 7;
/// `__WCLONE`: waits for a child that sends no signal when it ends (include/uapi/linux/wait.h).
const WAIT_SILENT: u64 = 0x8000_0000;
/// Descriptors that are enough.
const ENOUGH: u64 = 4096;
/// Words of the child's stack: three calls need little.
const STACK_WORDS: usize = 1024;

/// What the child does, and what came of it.
#[derive(Debug)]
pub(crate) struct Errand {
    nr: u32,
    args: [u64; 6],
    outcome: AtomicU64,
}

/// The child's stack; `call` wants it aligned.
#[repr(C, align(16))]
struct Stack([u64; STACK_WORDS]);

/// Makes a call that makes a descriptor, with a limit that does not count for the process itself.
///
/// # Safety
///
/// As for [`super::call`].
///
/// # Errors
///
/// The kernel's for the call, or for the child.
#[cold]
#[inline(never)]
pub(crate) unsafe fn call_unlimited(nr: u32, args: [u64; 6]) -> Result<u64, Errno> {
    // The child must not run the program's handlers.
    let _blocked = AllBlocked::new().ok_or(Errno::EMFILE)?;
    let errand = Errand { nr, args, outcome: AtomicU64::new(Outcome::failure(Errno::EMFILE).0) };
    let mut stack = Stack([0; STACK_WORDS]);
    let [.., begin, argument] = &mut stack.0;
    *begin = errand_asm::begin as *const () as u64;
    *argument = (&raw const errand).expose_provenance() as u64;
    let top = core::ptr::from_mut(begin).expose_provenance() as u64;
    // SAFETY: the child returns from the gate to `begin` on a stack of its own, and touches nothing but the errand; the
    // caller goes on when it has ended.
    let child = unsafe { call(sysno::CLONE, [CLONE_VM | CLONE_VFORK | CLONE_FILES, top, 0, 0, 0, 0]) }?;
    // SAFETY: the kernel writes nothing.
    let _ = unsafe { call(sysno::WAIT4, [child, 0, WAIT_SILENT, 0, 0, 0]) };
    let outcome = Outcome(errand.outcome.load(Ordering::Acquire));
    outcome.errno().map_or(Ok(outcome.0), Err)
}

/// The child's life.
pub(super) extern "C" fn run(errand: &Errand) -> ! {
    let mut limit = [0_u64; 2];
    let set = |limit: &[u64; 2]| {
        let at = (&raw const *limit).addr() as u64;
        // SAFETY: the kernel reads `limit`.
        unsafe { call(sysno::PRLIMIT64, [0, NOFILE, at, 0, 0, 0]) }
    };
    let into = (&raw mut limit).expose_provenance() as u64;
    // SAFETY: the kernel writes `limit`.
    let _ = unsafe { call(sysno::PRLIMIT64, [0, NOFILE, 0, into, 0, 0]) };
    let [_, hard] = limit;
    if set(&[hard.max(ENOUGH); 2]).is_err() {
        let _ = set(&[hard; 2]);
    }
    let [a, b, c, d, e, f] = errand.args;
    // SAFETY: as the caller of `call_unlimited` vouches.
    let outcome = unsafe { gate_asm::syscall(errand.nr, a, b, c, d, e, f) };
    errand.outcome.store(outcome, Ordering::Release);
    ids::exit_all(Status::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_makes_a_descriptor_for_its_parent() {
        const F_DUPFD_CLOEXEC: u64 = 1030;
        const ABOVE: u64 = 2000;
        // SAFETY: it makes a descriptor, and changes none.
        let made = unsafe { call_unlimited(sysno::FCNTL, [0, F_DUPFD_CLOEXEC, ABOVE, 0, 0, 0]) };
        let made = made.expect("standard input is open");
        assert!(made >= ABOVE);
        // SAFETY: the descriptor is the test's own.
        assert_eq!(unsafe { call(sysno::CLOSE, [made, 0, 0, 0, 0, 0]) }, Ok(0));
        // SAFETY: as above.
        let none = unsafe { call_unlimited(sysno::FCNTL, [u64::MAX, F_DUPFD_CLOEXEC, 0, 0, 0, 0]) };
        assert_eq!(none, Err(Errno::EBADF));
    }
}
