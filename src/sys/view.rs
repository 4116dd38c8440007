//! A file as bytes in memory. Zone: call.

use crate::abi::errno::Errno;
use crate::abi::map::Protection;
use crate::addr::{AddrRange, GuestAddr};
use crate::sys::fd::Fd;
use crate::sys::{file, mem};

/// A whole file, readable in memory until dropped.
#[derive(Debug)]
pub(crate) struct View {
    at: GuestAddr,
    len: u64,
}

impl View {
    /// Maps the file behind `fd`.
    ///
    /// # Errors
    ///
    /// The kernel's; an empty file gives an empty view.
    pub(crate) fn of(fd: Fd) -> Result<Self, Errno> {
        let len = file::facts(fd)?.len;
        if len == 0 {
            return Ok(Self { at: GuestAddr(0), len });
        }
        let at = mem::map_file(mem::Place::Anywhere, len, Protection::READ, fd, 0)?;
        Ok(Self { at, len })
    }

    /// Zeros in place of a file, to be filled in by `fill`.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(crate) fn made(len: usize, fill: impl FnOnce(&mut [u8])) -> Result<Self, Errno> {
        let at = mem::map_anonymous(mem::Place::Anywhere, len as u64, Protection::READ_WRITE)?;
        let bytes = core::ptr::with_exposed_provenance_mut(at.0 as usize);
        // SAFETY: the mapping was just made, and nobody else knows of it.
        fill(unsafe { core::slice::from_raw_parts_mut(bytes, len) });
        Ok(Self { at, len: len as u64 })
    }

    /// Its bytes. A file that shrinks while it is viewed raises SIGBUS, as it does for the kernel's own readers.
    #[must_use]
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: `of` mapped `len` readable bytes at `at`, private, and they stay until `self` is dropped.
        unsafe {
            core::slice::from_raw_parts(
                core::ptr::with_exposed_provenance(self.at.0 as usize),
                self.len as usize,
            )
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let end = crate::addr::page_ceil(self.len).unwrap_or(self.len);
        mem::unmap(AddrRange::new(self.at, self.at.wrapping_add(end)));
    }
}
