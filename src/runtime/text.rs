//! Writing code that is already executable. Zone: load, and call with the modules' lock held.
//!
//! `/proc/self/mem` writes read-execute pages without a moment in which they are not executable, without splitting
//! a mapping, and where `mprotect` is not allowed to make anything executable any more (PR_SET_MDWE). Where it can't
//! be opened (no `/proc`, no descriptor left) two `mprotect` calls do it, and only for pages that nobody executes yet.

use crate::abi::errno::Errno;
use crate::abi::map::Protection;
use crate::addr::{AddrRange, GuestAddr, page_ceil, page_floor};
use crate::sys::file::{self, Access, OpenFile};
use crate::sys::mem;

/// Puts `bytes` at the start of `range`: whole pages of the gate in which no thread can be yet.
///
/// # Errors
///
/// The kernel's, when both ways are closed; nothing is changed then.
pub fn write_fresh(range: AddrRange, bytes: &[u8]) -> Result<(), Errno> {
    if let Ok(memory) = OpenFile::open(c"/proc/self/mem", Access::ReadWrite)
        && file::write_at(memory.fd(), bytes, range.start.0).is_ok()
    {
        return Ok(());
    }
    mem::protect(range, Protection::READ_WRITE)?;
    // SAFETY: the pages are the gate's, writable now, and nobody executes or reads them yet.
    unsafe { write(range.start, bytes) };
    mem::protect(range, Protection::READ_EXECUTE)
}

/// Replaces bytes of a mapping that is executable already.
///
/// # Errors
///
/// The kernel's.
pub fn write_live(at: GuestAddr, bytes: &[u8]) -> Result<(), Errno> {
    let memory = OpenFile::open(c"/proc/self/mem", Access::ReadWrite)?;
    file::write_at(memory.fd(), bytes, at.0)
}

/// Copies `bytes` to `at`.
///
/// # Safety
///
/// The range is mapped writable, and nobody else reads or writes it meanwhile.
pub unsafe fn write(at: GuestAddr, bytes: &[u8]) {
    let to = core::ptr::with_exposed_provenance_mut::<u8>(at.0 as usize);
    // SAFETY: the caller vouches for the target; `bytes` is the loader's own memory and lies elsewhere.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
}

/// The pages that `range` touches.
#[must_use]
pub fn pages(range: AddrRange) -> AddrRange {
    let end = page_ceil(range.end.0).unwrap_or(page_floor(range.end.0));
    AddrRange::new(range.start.page_floor(), GuestAddr(end))
}
