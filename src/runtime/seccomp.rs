//! Programs that restrict their own calls. Zone: call.
//!
//! From then on the loader makes no call of its own that the restriction does not let through
//! ([`crate::sys::seccomp`]). What it will still need is made ready before: spare slots, and the output of the tools,
//! since a file can perhaps no longer be opened.

use crate::abi::bpf::{self, Instruction};
use crate::abi::call::{Call, Outcome};
use crate::abi::process::{
    PR_SET_SECCOMP, SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_MODE_FILTER, SECCOMP_MODE_STRICT,
    SECCOMP_SET_MODE_FILTER, SECCOMP_SET_MODE_STRICT,
};
use crate::abi::sysno;
use crate::runtime::dispatch::Step;
use crate::runtime::handlers;
use crate::runtime::record::{self, Returns};
use crate::runtime::state::{Frozen, STATE};
use crate::sys::seccomp as filters;
use core::sync::atomic::Ordering;

/// What a call restricts the program to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Restriction {
    /// Strict mode.
    Strict,
    /// A filter: the address of its `struct sock_fprog`.
    Filter(u64),
}

fn restriction(call: &Call) -> Option<Restriction> {
    let [operation, mode, program, ..] = call.args;
    match (call.nr, operation as u32, mode) {
        (sysno::SECCOMP, SECCOMP_SET_MODE_STRICT, _)
        | (sysno::PRCTL, PR_SET_SECCOMP, SECCOMP_MODE_STRICT) => Some(Restriction::Strict),
        (sysno::SECCOMP, SECCOMP_SET_MODE_FILTER, _)
        | (sysno::PRCTL, PR_SET_SECCOMP, SECCOMP_MODE_FILTER) => Some(Restriction::Filter(program)),
        _ => None,
    }
}

/// Before `seccomp` and `prctl`.
pub fn begin(call: &Call, frozen: &Frozen) -> Step {
    if restriction(call).is_none() {
        return Step::Pass;
    }
    record::make_ready();
    let _ = handlers::make_ready(); // without entries, handlers are the kernel's as they are
    frozen.output.keep(&frozen.tools);
    // With the flag to synchronise threads it may be in force for others before this thread is back.
    filters::close();
    Step::Tell(Returns::Once)
}

/// After `seccomp` and `prctl`.
pub fn finish(call: &Call, outcome: Outcome) {
    let Some(restriction) = restriction(call) else { return };
    let is_known = outcome.errno().is_some()
        // SECCOMP_FILTER_FLAG_TSYNC answers with the id of a thread that could not be synchronised: nothing is installed.
        || outcome.0 as i32 > 0 && call.nr == sysno::SECCOMP && call.args[1] & SECCOMP_FILTER_FLAG_TSYNC != 0
        || match restriction {
            Restriction::Strict => {
                filters::add_strict();
                true
            }
            // SAFETY: the kernel has just read it there.
            Restriction::Filter(at) => unsafe { remember(at) },
        };
    if is_known {
        filters::open();
    }
}

/// Remembers the filter of the `struct sock_fprog` at `at`; returns whether the loader can follow what it does.
///
/// # Safety
///
/// It is readable, and the filter that it names is.
unsafe fn remember(at: u64) -> bool {
    let header = core::ptr::with_exposed_provenance::<u64>(at as usize);
    // SAFETY: a 16-bit count and, 8 bytes on, a pointer (include/uapi/linux/filter.h); as the caller vouches.
    let (len, first) = unsafe { (header.cast::<u16>().read_unaligned(), header.add(1).read_unaligned()) };
    let words = core::ptr::with_exposed_provenance::<u64>(first as usize);
    // SAFETY: `len` instructions of 8 bytes lie there, as the caller vouches.
    let instruction = |index: usize| Instruction(unsafe { words.add(index).read_unaligned() });
    let looks_at_addresses = (0..usize::from(len)).any(|index| instruction(index).reads_pointer());
    if looks_at_addresses {
        STATE.address_filters.fetch_add(1, Ordering::Relaxed);
    }
    usize::from(len) <= bpf::LEN_MAX && filters::add((0..usize::from(len)).map(instruction))
}
