//! Calls that matter only once in a while, which shows only when they have returned. Zone: call.
//!
//! `openat` and `newfstatat` are too frequent for a hook, and what they name can't be looked at before the call without
//! asking the kernel whether it may be read. Behind the call it can: where the kernel has just read a path or written
//! a buffer, so may we, unless another thread unmaps it in that very moment, which no correct program does. So such a
//! call is made in a slot that is *dedicated* to its stub and number: any number of threads may be in it at once, nothing
//! is taken or given back, and behind the `syscall` a few instructions (`filter_asm`) decide whether a hook has to see it.

use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::open::PATH_MAX;
use crate::abi::sysno;
use crate::addr::GuestAddr;
use crate::runtime::calls::{exit_filter_asm, proc_exe};
use crate::runtime::gate::dedicated;
use crate::runtime::gate::step::Step;
use crate::runtime::session;
use crate::runtime::session::followed::{Followed, Returned};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering;

/// What has to be looked at when a call has returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Filter {
    /// The path that this argument points to: whether it could name a link called `exe`.
    Path(usize),
    /// The inode number at an offset of what an argument points to: whether it is the loader's.
    Inode {
        /// The argument.
        argument: usize,
        /// The offset in bytes.
        offset: u64,
    },
}

/// Offset of `st_ino` in `struct stat` (arch/x86/include/uapi/asm/stat.h).
pub(crate) const STAT_INODE: u64 = 8;

/// Offset of `stx_ino` in `struct statx` (include/uapi/linux/stat.h).
pub(crate) const STATX_INODE: u64 = 32;

/// The filter of each call that has one. `lstat` has none: it shows the link itself.
const FILTERS: [(u32, Filter); 11] = [
    (sysno::OPEN, Filter::Path(0)),
    (sysno::OPENAT, Filter::Path(1)),
    (sysno::OPENAT2, Filter::Path(1)),
    (sysno::ACCESS, Filter::Path(0)),
    (sysno::FACCESSAT, Filter::Path(1)),
    (sysno::FACCESSAT2, Filter::Path(1)),
    (sysno::READLINK, Filter::Path(0)),
    (sysno::READLINKAT, Filter::Path(1)),
    (sysno::STAT, Filter::Inode { argument: 1, offset: STAT_INODE }),
    (sysno::NEWFSTATAT, Filter::Inode { argument: 2, offset: STAT_INODE }),
    (sysno::STATX, Filter::Inode { argument: 4, offset: STATX_INODE }),
];

/// The calls that have a filter.
#[expect(clippy::indexing_slicing, reason = "an index out of bounds is an error at compile time")]
pub(crate) const CALLS: [u32; FILTERS.len()] = {
    let mut calls = [0; FILTERS.len()];
    let mut rest: &[(u32, Filter)] = &FILTERS;
    while let [head @ .., (nr, _)] = rest {
        calls[head.len()] = *nr;
        rest = head;
    }
    calls
};

/// The inode number of the loader's own file, which the filters read; 0 if it is not known. A fork keeps it.
pub(super) static OWN_INODE: AtomicU64 = AtomicU64::new(0);

/// Says which file is the loader's own, by its inode number.
pub(crate) fn set_own_inode(inode: u64) {
    OWN_INODE.store(inode, Ordering::Relaxed);
}

/// The filter of the calls numbered `nr`.
fn of(nr: u32) -> Option<Filter> {
    FILTERS.iter().find(|(known, _)| *known == nr).map(|(_, filter)| *filter)
}

/// Before a call that has a filter.
pub(crate) fn begin(_: Followed<'_>) -> Step {
    Step::Filter
}

/// After one that has returned in a record slot.
pub(crate) fn finish(returned: Returned<'_>) -> Outcome {
    end(returned.call(), returned.outcome)
}

/// After one: the outcome that the program is to see.
pub(crate) fn end(call: &Call, outcome: Outcome) -> Outcome {
    match session::get() {
        Some(session) if wants(call, outcome) => proc_exe::corrected(call, outcome, session),
        _ => outcome,
    }
}

/// The slot for the calls numbered `nr` of a stub that goes back to `back`; `None` if they have no filter, or there is no
/// room for one.
pub(crate) fn slot(stub: u32, nr: u32, back: GuestAddr) -> Option<GuestAddr> {
    dedicated::slot(stub, nr, back, landing_of(of(nr)?))
}

fn landing_of(filter: Filter) -> u64 {
    let landing: unsafe extern "C" fn() -> ! = match filter {
        Filter::Path(0) => exit_filter_asm::path_in_rdi,
        Filter::Path(_) => exit_filter_asm::path_in_rsi,
        Filter::Inode { argument: 1, .. } => exit_filter_asm::stat_in_rsi,
        Filter::Inode { offset: STAT_INODE, .. } => exit_filter_asm::stat_in_rdx,
        Filter::Inode { .. } => exit_filter_asm::statx_in_r8,
    };
    landing as *const () as u64
}

/// The filter as a hook runs it that sees every call: whether to look closer at one that has returned.
#[must_use]
pub(crate) fn wants(call: &Call, outcome: Outcome) -> bool {
    let argument = |index: usize| call.args.get(index).copied().unwrap_or_default();
    match (of(call.nr), outcome.errno()) {
        // The kernel refuses the loader's file, and has read the path.
        (Some(Filter::Path(_)), Some(Errno::EACCES | Errno::EROFS)) => true,
        // SAFETY: the kernel has just read the path, which ends within `PATH_MAX`.
        (Some(Filter::Path(index)), None) => unsafe { may_name_exe(GuestAddr(argument(index))) },
        (Some(Filter::Inode { argument: index, offset }), None) => {
            let at = argument(index).wrapping_add(offset) as usize;
            // SAFETY: the kernel has just written the struct; it need not be aligned.
            let inode = unsafe { core::ptr::with_exposed_provenance::<u64>(at).read_unaligned() };
            inode == OWN_INODE.load(Ordering::Relaxed)
        }
        _ => false,
    }
}

/// Whether a path is empty, or ends as one to a link called `exe` does.
///
/// # Safety
///
/// The bytes from `path` on are readable up to a zero byte or for [`PATH_MAX`].
unsafe fn may_name_exe(path: GuestAddr) -> bool {
    let mut last = [0_u8; 3];
    for index in 0..PATH_MAX {
        // SAFETY: the caller vouches for all bytes up to the end, which has not been reached.
        match unsafe { *core::ptr::with_exposed_provenance::<u8>(path.0 as usize + index) } {
            0 => return index == 0 || last == *b"exe",
            byte => last = [last[1], last[2], byte],
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_is_wanted(path: &core::ffi::CStr, outcome: Outcome) -> bool {
        let at = path.as_ptr().expose_provenance() as u64;
        wants(&Call { nr: sysno::OPENAT, args: [0, at, 0, 0, 0, 0] }, outcome)
    }

    #[test]
    fn a_path_is_wanted_if_it_could_name_the_link() {
        for path in [c"/proc/self/exe", c"exe", c"./exe", c"", c"notepad.exe"] {
            assert!(path_is_wanted(path, Outcome(3)), "{path:?}");
        }
        for path in [c"/", c"xe", c"/proc/self/ex", c"/proc/self/exe/", c"e"] {
            assert!(!path_is_wanted(path, Outcome(3)), "{path:?}");
        }
        assert!(!path_is_wanted(c"/proc/self/exe", Outcome::failure(Errno::ENOENT)));
        assert!(path_is_wanted(c"/", Outcome::failure(Errno::EACCES)));
    }

    #[test]
    fn a_call_without_a_filter_is_not_wanted() {
        assert!(!wants(&Call { nr: sysno::GETPID, args: [0; 6] }, Outcome(0)));
    }

    #[test]
    fn keys_tell_stubs_and_numbers_apart() {
        assert_ne!(dedicated::key_of(1, sysno::OPENAT), dedicated::key_of(2, sysno::OPENAT));
        assert_ne!(dedicated::key_of(1, sysno::OPENAT), dedicated::key_of(1, sysno::NEWFSTATAT));
        assert_ne!(dedicated::key_of(1, sysno::OPENAT), dedicated::key_of(1, sysno::OPENAT + (1 << 16)));
        assert_eq!(dedicated::key_of(0, 0x1234_5678), 0x7856_3412 << 32);
    }
}
