//! Mappings. Zone: call.

use crate::abi::errno::Errno;
use crate::abi::map::{self as flags, Protection, Sharing};
use crate::abi::signal::SET_LEN;
use crate::abi::sysno;
use crate::addr::{AddrRange, GuestAddr, PAGE};
pub(crate) use crate::sys::fd::Fd;
use crate::sys::{call, ids};
use core::ffi::CStr;

/// Where a mapping goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// Wherever the kernel likes.
    Anywhere,
    /// Exactly here, and only if nothing lies there (`MAP_FIXED_NOREPLACE`).
    Free(GuestAddr),
    /// Exactly here, over whatever lies there: only inside a range that the loader has reserved.
    Over(GuestAddr),
}

impl Place {
    const fn split(self) -> (u64, u32) {
        match self {
            Self::Anywhere => (0, 0),
            Self::Free(at) => (at.0, flags::FIXED_NOREPLACE),
            Self::Over(at) => (at.0, flags::FIXED),
        }
    }
}

/// Maps zeroed private memory, mostly address space: it is accounted for when it is touched.
///
/// # Errors
///
/// The kernel's; `EEXIST` where [`Place::Free`] is taken.
pub(crate) fn map_anonymous(place: Place, len: u64, protection: Protection) -> Result<GuestAddr, Errno> {
    let (at, fixed) = place.split();
    let flags = Sharing::Private.bits() | flags::ANONYMOUS | flags::NORESERVE | fixed;
    map(at, len, protection, flags, u64::MAX, 0, place)
}

/// Maps zeroed private memory for the program, accounted for at once and whatever its rights, as the kernel does for a
/// program's own (mm/vma.c, `do_brk_flags`).
///
/// # Errors
///
/// The kernel's; `ENOMEM` for more than the machine can have.
pub(crate) fn map_zeroed(at: GuestAddr, len: u64, protection: Protection) -> Result<(), Errno> {
    let bits = Sharing::Private.bits() | flags::ANONYMOUS | flags::FIXED;
    map(at.0, len, Protection::READ_WRITE, bits, u64::MAX, 0, Place::Over(at))?;
    if protection == Protection::READ_WRITE {
        return Ok(());
    }
    protect(AddrRange::new(at, at.wrapping_add(len)), protection)
}

/// Maps zeroed memory that forked children share.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn map_shared(len: u64) -> Result<GuestAddr, Errno> {
    let flags = Sharing::Shared.bits() | flags::ANONYMOUS;
    map(0, len, Protection::READ_WRITE, flags, u64::MAX, 0, Place::Anywhere)
}

/// Maps `len` bytes of a file from `offset` on, private.
///
/// # Errors
///
/// The kernel's; `EEXIST` where [`Place::Free`] is taken.
pub(crate) fn map_file(
    place: Place,
    len: u64,
    protection: Protection,
    fd: Fd,
    offset: u64,
) -> Result<GuestAddr, Errno> {
    let (at, fixed) = place.split();
    map(at, len, protection, Sharing::Private.bits() | fixed, fd.number(), offset, place)
}

fn map(
    at: u64,
    len: u64,
    protection: Protection,
    flags: u32,
    fd: u64,
    offset: u64,
    place: Place,
) -> Result<GuestAddr, Errno> {
    let args = [at, len, protection.bits().into(), flags.into(), fd, offset];
    // SAFETY: without MAP_FIXED the kernel takes free addresses only; with it the caller names a range of its own.
    let got = unsafe { call(sysno::MMAP, args) }?;
    if let Place::Free(wanted) = place
        && wanted.0 != got
    {
        // Kernels before 4.17 take MAP_FIXED_NOREPLACE for a hint (man 2 mmap).
        unmap(AddrRange::new(GuestAddr(got), GuestAddr(got.wrapping_add(len))));
        return Err(Errno::EEXIST);
    }
    Ok(GuestAddr(got))
}

/// Removes mappings; the range must be the loader's to remove.
pub(crate) fn unmap(range: AddrRange) {
    if !range.is_empty() {
        // SAFETY: callers own the range. Failure leaves it mapped, which costs address space and nothing else.
        let _ = unsafe { call(sysno::MUNMAP, [range.start.0, range.len(), 0, 0, 0, 0]) };
    }
}

/// Moves a mapping to `to`, over whatever lies there, at one moment.
///
/// # Errors
///
/// The kernel's; it stays where it is then.
pub(crate) fn move_over(range: AddrRange, to: GuestAddr) -> Result<(), Errno> {
    let bits = flags::REMAP_MAYMOVE | flags::REMAP_FIXED;
    // SAFETY: callers own the range, and have been asked to put it where it goes.
    unsafe { call(sysno::MREMAP, [range.start.0, range.len(), range.len(), bits.into(), to.0, 0]) }?;
    Ok(())
}

/// Changes the protection of whole pages.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn protect(range: AddrRange, protection: Protection) -> Result<(), Errno> {
    // SAFETY: callers own the range and do not rely on a right that they take away.
    unsafe { call(sysno::MPROTECT, [range.start.0, range.len(), protection.bits().into(), 0, 0, 0]) }?;
    Ok(())
}

/// Gives anonymous memory a name in `/proc/self/maps`, for whoever reads that; not every kernel can.
pub(crate) fn name(range: AddrRange, name: &'static CStr) {
    use crate::abi::process::{PR_SET_VMA, PR_SET_VMA_ANON_NAME};
    let at = name.as_ptr().addr() as u64;
    // SAFETY: the kernel reads the name and changes no memory.
    let _ =
        unsafe { call(sysno::PRCTL, [PR_SET_VMA, PR_SET_VMA_ANON_NAME, range.start.0, range.len(), at, 0]) };
}

/// Gives the pages' memory back; private anonymous pages read as zero afterwards.
pub(crate) fn discard(range: AddrRange) {
    const MADV_DONTNEED: u64 = 4;
    if !range.is_empty() {
        // SAFETY: callers own the range and no longer need what it holds.
        let _ = unsafe { call(sysno::MADVISE, [range.start.0, range.len(), MADV_DONTNEED, 0, 0, 0]) };
    }
}

/// Where the first page of `range` lies that the program could not read now; its end if there is none.
#[must_use]
pub(crate) fn readable_end(range: AddrRange) -> GuestAddr {
    /// Fewer pages are asked for one by one, at some 100 ns each.
    const BATCH_MIN: u64 = 8;
    let mut at = range.start;
    while at < range.end {
        let pages = (range.end.0 - at.0).div_ceil(PAGE);
        let batch = if pages < BATCH_MIN { None } else { count_readable(at, pages) };
        let readable = batch.unwrap_or_else(|| u64::from(is_readable(at)));
        if readable == 0 {
            return at;
        }
        at = at.wrapping_add(readable * PAGE);
    }
    range.end
}

/// How many of the next pages can be read, at most `pages`; 0 if it is not the first. `None` where the call is not to be had.
///
/// The kernel copies a byte of each to `bytes`, as it reads any argument. The other way round it would look up and pin
/// each page instead, which takes 25 times as long.
fn count_readable(at: GuestAddr, pages: u64) -> Option<u64> {
    const BATCH: usize = 128;
    let mut bytes = [0_u8; BATCH];
    let mut local = [[0_u64; 2]; BATCH]; // struct iovec
    let pages = pages.min(BATCH as u64);
    for (page, vector) in (0..pages).zip(&mut local) {
        *vector = [at.0 + page * PAGE, 1];
    }
    let remote = [bytes.as_mut_ptr().expose_provenance() as u64, pages];
    let (local, remote) = (local.as_ptr().addr() as u64, remote.as_ptr().addr() as u64);
    // SAFETY: the kernel writes to `bytes`, which are enough, and checks what it reads.
    match unsafe { call(sysno::PROCESS_VM_WRITEV, [ids::id().into(), local, pages, remote, 1, 0]) } {
        Ok(copied) => Some(copied),
        Err(Errno::EFAULT) => Some(0),
        Err(_) => None,
    }
}

/// Whether the page at `at` can be read: the kernel reads a signal set there before it finds that it is told to do nothing
/// known with it (kernel/signal.c, `rt_sigprocmask`).
fn is_readable(at: GuestAddr) -> bool {
    const NOTHING_KNOWN: u64 = u32::MAX as u64;
    // SAFETY: nothing is written.
    let answer = unsafe { call(sysno::RT_SIGPROCMASK, [NOTHING_KNOWN, at.0, 0, SET_LEN, 0, 0]) };
    answer == Err(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_ends_before_the_first_page_that_cannot() {
        for pages in [1, 2, 7, 8, 200, 300] {
            let len = (pages + 1) * PAGE;
            let start = map_anonymous(Place::Anywhere, len, Protection::READ_WRITE).unwrap();
            let all = AddrRange::new(start, start.wrapping_add(len));
            assert_eq!(readable_end(all), all.end);
            for closed in [0, pages / 2, pages] {
                let page = start.wrapping_add(closed * PAGE);
                let page = AddrRange::new(page, page.wrapping_add(PAGE));
                protect(page, Protection::NONE).unwrap();
                assert_eq!(readable_end(all), page.start, "page {closed} of {pages}");
                protect(page, Protection::READ).unwrap();
            }
            unmap(AddrRange::new(start.wrapping_add(pages * PAGE), all.end));
            assert_eq!(readable_end(all), start.wrapping_add(pages * PAGE));
            unmap(all);
            assert_eq!(readable_end(all), all.start);
        }
    }
}
