//! Writing code that is already executable. Zone: load, and call with the patcher's lock held.
//!
//! `/proc/self/mem` writes read-execute pages without a moment in which they are not executable, without splitting
//! a mapping, and where `mprotect` is not allowed to make anything executable any more (PR_SET_MDWE). Where it can't
//! be opened (no `/proc`, no descriptor left) two `mprotect` calls do it, and only for pages that nobody executes yet.
//! What threads may be executing is changed in steps ([`crate::plan::live`]), never by taking the right away.

use crate::abi::errno::Errno;
use crate::abi::map::Protection;
use crate::addr::{AddrRange, GuestAddr, page_ceil, page_floor};
use crate::plan::live::Change;
use crate::sys::file::{self, Access, OpenFile};
use crate::sys::{mem, process};
use core::sync::atomic::{AtomicU64, Ordering};

/// Puts `bytes` at the start of `range`: whole pages of the gate in which no thread can be yet.
///
/// # Errors
///
/// The kernel's, when both ways are closed; nothing is changed then.
pub(crate) fn write_fresh(range: AddrRange, bytes: &[u8]) -> Result<(), Errno> {
    if write_live(range.start, bytes).is_ok() {
        return Ok(());
    }
    mem::protect(range, Protection::READ_WRITE)?;
    // SAFETY: the pages are the gate's, writable now, and nobody executes or reads them yet.
    unsafe { write(range.start, bytes) };
    mem::protect(range, Protection::READ_EXECUTE)
}

/// A way to write what is executable already.
#[derive(Debug)]
pub(crate) struct LiveMemory(OpenFile);

impl LiveMemory {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(crate) fn open() -> Result<Self, Errno> {
        OpenFile::open(c"/proc/self/mem", Access::ReadWrite).map(Self)
    }

    /// Replaces bytes of any private mapping.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(crate) fn write(&self, at: GuestAddr, bytes: &[u8]) -> Result<(), Errno> {
        file::write_at(self.0.fd(), bytes, at.0)
    }
}

/// Replaces bytes of a mapping that is executable already.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn write_live(at: GuestAddr, bytes: &[u8]) -> Result<(), Errno> {
    LiveMemory::open()?.write(at, bytes)
}

/// Changes code that threads may be executing; `is_writable` says that it can be written as data can.
///
/// # Errors
///
/// The kernel's. What has been changed by then stays so, and everybody who gets there finds a trap, or a way to a stub.
///
/// # Safety
///
/// The bytes are code, mapped as `is_writable` says, and the traps of `change` are known.
pub(crate) unsafe fn change_live(change: &Change, is_writable: bool) -> Result<(), Errno> {
    for step in change.steps.iter().filter(|step| !step.is_empty()) {
        for (at, bytes) in step {
            if is_writable {
                // SAFETY: as the caller vouches.
                unsafe { store(*at, bytes) };
            } else {
                write_live(*at, bytes)?;
            }
        }
        process::synchronize_cores();
    }
    Ok(())
}

/// Writes bytes, at once if they lie in one aligned word.
///
/// # Safety
///
/// They lie in a mapping that is writable, and nobody else writes to them.
unsafe fn store(at: GuestAddr, bytes: &[u8]) {
    let word_at = at.0 & !7;
    let offset = (at.0 - word_at) as usize;
    if offset + bytes.len() > size_of::<u64>() {
        // SAFETY: as the caller vouches.
        return unsafe { write(at, bytes) };
    }
    // SAFETY: the page holds all of the word.
    let word = unsafe { AtomicU64::from_ptr(core::ptr::with_exposed_provenance_mut(word_at as usize)) };
    // The program may be writing to the bytes beside them.
    let _ = word.fetch_update(Ordering::Release, Ordering::Relaxed, |old| {
        let mut changed = old.to_ne_bytes();
        changed.iter_mut().skip(offset).zip(bytes).for_each(|(to, from)| *to = *from);
        Some(u64::from_ne_bytes(changed))
    });
}

/// Copies `bytes` to `at`.
///
/// # Safety
///
/// The range is mapped writable, and nobody else reads or writes it meanwhile.
pub(crate) unsafe fn write(at: GuestAddr, bytes: &[u8]) {
    let to = core::ptr::with_exposed_provenance_mut::<u8>(at.0 as usize);
    // SAFETY: the caller vouches for the target; `bytes` is the loader's own memory and lies elsewhere.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
}

/// The pages that `range` touches.
#[must_use]
pub(crate) fn pages(range: AddrRange) -> AddrRange {
    let end = page_ceil(range.end.0).unwrap_or(page_floor(range.end.0));
    AddrRange::new(range.start.page_floor(), GuestAddr(end))
}
