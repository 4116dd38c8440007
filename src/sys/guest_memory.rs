//! Copying to and from memory of the program that may not be there: the kernel reports what would fault here. Zone: call.

use crate::abi::errno::Errno;
use crate::abi::sysno;
use crate::addr::GuestAddr;
use crate::sys::{call, ids};

/// Reads another part of this very process, or fails where it is not mapped, instead of faulting.
///
/// # Errors
///
/// `EFAULT` if not even the first byte is readable.
pub(crate) fn read_memory(at: GuestAddr, into: &mut [u8]) -> Result<usize, Errno> {
    transfer(sysno::PROCESS_VM_READV, at, into.as_mut_ptr().addr(), into.len())
}

/// Writes another part of this very process, or fails where it is not writable.
///
/// # Errors
///
/// `EFAULT` if not even the first byte is writable.
pub(crate) fn write_memory(at: GuestAddr, from: &[u8]) -> Result<usize, Errno> {
    transfer(sysno::PROCESS_VM_WRITEV, at, from.as_ptr().addr(), from.len())
}

fn transfer(nr: u32, remote: GuestAddr, local: usize, len: usize) -> Result<usize, Errno> {
    let ours = [local as u64, len as u64];
    let theirs = [remote.0, len as u64];
    let args = [u64::from(ids::id()), ours.as_ptr().addr() as u64, 1, theirs.as_ptr().addr() as u64, 1, 0];
    // SAFETY: the local side is a slice of the caller's; the remote side is checked by the kernel.
    match unsafe { call(nr, args) } {
        Ok(len) => Ok(len as usize),
        // Kernels without CONFIG_CROSS_MEMORY_ATTACH, and containers that forbid it.
        Err(Errno::ENOSYS | Errno::EPERM) => transfer_by_file(nr, remote, local, len),
        Err(errno) => Err(errno),
    }
}

/// As [`transfer`], through the process's memory as a file.
#[cold]
fn transfer_by_file(nr: u32, remote: GuestAddr, local: usize, len: usize) -> Result<usize, Errno> {
    use crate::sys::file::{Access, OpenFile};
    let memory = OpenFile::open(c"/proc/self/mem", Access::ReadWrite)?;
    let nr = if nr == sysno::PROCESS_VM_READV { sysno::PREAD64 } else { sysno::PWRITE64 };
    let args = [memory.fd().number(), local as u64, len as u64, remote.0, 0, 0];
    // SAFETY: as for `transfer`.
    match unsafe { call(nr, args) } {
        Ok(len) => Ok(len as usize),
        Err(Errno::EIO) => Err(Errno::EFAULT), // what is not mapped (fs/proc/base.c, `mem_rw`)
        Err(errno) => Err(errno),
    }
}
