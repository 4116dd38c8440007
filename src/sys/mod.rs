//! Raw system calls of the loader itself, as typed wrappers. Zone: call.
//!
//! Every one of them executes the single `syscall` instruction of [`gate_asm`], so that whoever watches the process
//! (a seccomp filter, a debugger) sees the loader's own calls come from the gate.

pub(crate) mod fd;
pub(crate) mod file;
pub(crate) mod gate_asm;
pub(crate) mod guest_memory;
pub(crate) mod ids;
pub(crate) mod line;
pub(crate) mod lock;
pub(crate) mod errand;
pub(crate) mod errand_asm;
pub(crate) mod mem;
pub(crate) mod process;
pub(crate) mod seccomp;
pub(crate) mod shared;
pub(crate) mod signal;
pub(crate) mod view;

use crate::abi::call::Outcome;
use crate::abi::errno::Errno;

/// Makes the call `nr`, unless a filter of the program's is against it, and splits its outcome.
///
/// # Safety
///
/// The call must do nothing that breaks the memory that Rust code relies on: what `nr` and `args` ask of the kernel
/// is up to the caller.
///
/// # Errors
///
/// What the kernel answers; `EPERM` for a call that a filter does not let through.
pub(crate) unsafe fn call(nr: u32, args: [u64; 6]) -> Result<u64, Errno> {
    if !seccomp::allows(nr, args) {
        return Err(Errno::EPERM);
    }
    // SAFETY: the caller vouches for what the call does.
    unsafe { program_call(nr, args) }
}

/// As [`call`], for a call that the program itself makes: what its filters say to it is the program's business.
///
/// # Safety
///
/// As for [`call`].
///
/// # Errors
///
/// What the kernel answers.
pub(crate) unsafe fn program_call(nr: u32, args: [u64; 6]) -> Result<u64, Errno> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the caller vouches for what the call does; the gate itself touches only registers.
    let outcome = Outcome(unsafe { gate_asm::syscall(nr, a, b, c, d, e, f) });
    match outcome.errno() {
        Some(errno) => Err(errno),
        None => Ok(outcome.0),
    }
}
