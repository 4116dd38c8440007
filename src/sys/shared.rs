//! Memory that processes find again by a number: System V segments. Zone: call.
//!
//! The only memory that a process can hand to the program that it execs without a descriptor or a file. A segment is
//! removed as soon as it is attached: Linux then keeps it until the last process has left it, and lets others
//! attach to it meanwhile (man 2 shmctl, `IPC_RMID`). So nothing is left behind, whatever kills the processes; and where
//! the only process that has it execs, it is gone: a copy in a file bridges that.

use super::call;
use super::file::OpenFile;
use crate::abi::errno::Errno;
use crate::abi::sysno;
use crate::addr::{AddrRange, GuestAddr};

/// `IPC_PRIVATE`, `IPC_RMID`, `IPC_STAT` (include/uapi/linux/ipc.h).
const PRIVATE: u64 = 0;
const REMOVE: u64 = 0;
const STAT: u64 = 2;
/// Words of `struct shmid64_ds`, and the index of its `shm_segsz` (include/uapi/asm-generic/shmbuf.h).
const FACTS_WORDS: usize = 14;
const FACTS_LEN_AT: usize = 6;

/// A segment's number in its IPC namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment(pub u32);

/// Makes and attaches a zeroed segment.
///
/// # Errors
///
/// The kernel's: `ENOSYS` without System V IPC, `ENOSPC` if there are too many segments.
pub(crate) fn make(len: u64) -> Result<(Segment, GuestAddr), Errno> {
    // SAFETY: a new segment touches no memory yet.
    let id = unsafe { call(sysno::SHMGET, [PRIVATE, len, 0o600, 0, 0, 0]) }?;
    let segment = Segment(id as u32);
    let attached = attach(segment);
    // SAFETY: the segment is ours; it goes when it is left.
    let _ = unsafe { call(sysno::SHMCTL, [id, REMOVE, 0, 0, 0, 0]) };
    attached.map(|at| (segment, at))
}

/// Attaches to a segment that has at least `len` bytes.
///
/// # Errors
///
/// The kernel's: `EINVAL` where there is no such segment, or a shorter one.
pub(crate) fn find(segment: Segment, len: u64) -> Result<GuestAddr, Errno> {
    let mut facts = [0_u64; FACTS_WORDS];
    let at = (&raw mut facts).expose_provenance() as u64;
    // SAFETY: the kernel fills `facts`, which has the length of its struct.
    unsafe { call(sysno::SHMCTL, [segment.0.into(), STAT, at, 0, 0, 0]) }?;
    match facts.get(FACTS_LEN_AT) {
        Some(&held) if held >= len => attach(segment),
        _ => Err(Errno::EINVAL),
    }
}

/// Copies memory to a file that has no name and that an exec leaves open.
///
/// # Errors
///
/// The kernel's, when there is no memory or no descriptor.
pub(crate) fn copy(from: AddrRange) -> Result<OpenFile, Errno> {
    let name = c"loader".as_ptr().addr() as u64;
    // SAFETY: the kernel reads the name and makes a descriptor.
    let fd = unsafe { call(sysno::MEMFD_CREATE, [name, 0, 0, 0, 0, 0]) }?;
    let file = OpenFile::inherited(fd as u32);
    // SAFETY: the kernel reads memory that stays mapped; what others write there meanwhile, it copies or not.
    let len = unsafe { call(sysno::PWRITE64, [fd, from.start.0, from.len(), 0, 0, 0]) }?;
    if len == from.len() { Ok(file) } else { Err(Errno::ENOSPC) }
}

/// Fills memory from the start of such a file, as far as that goes.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn fill(to: AddrRange, from: &OpenFile) -> Result<(), Errno> {
    // SAFETY: callers have just made the memory, and nobody refers to it yet.
    unsafe { call(sysno::PREAD64, [from.fd().number(), to.start.0, to.len(), 0, 0, 0]) }.map(drop)
}

fn attach(segment: Segment) -> Result<GuestAddr, Errno> {
    // SAFETY: without an address the kernel takes free ones.
    unsafe { call(sysno::SHMAT, [segment.0.into(), 0, 0, 0, 0, 0]) }.map(GuestAddr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_fills_the_start() {
        let from: [u64; 2] = [1, 2];
        let mut to: [u64; 3] = [7; 3];
        let range = |at: *const u64, len: usize| {
            let at = GuestAddr(at.expose_provenance() as u64);
            AddrRange::new(at, at.wrapping_add(len as u64 * 8))
        };
        let file = copy(range(from.as_ptr(), 2)).unwrap();
        fill(range(to.as_mut_ptr(), 3), &file).unwrap();
        assert_eq!(to, [1, 2, 7]);
    }

    #[test]
    fn a_removed_segment_is_found_while_somebody_is_attached() {
        let Ok((segment, at)) = make(100) else { return };
        let again = find(segment, 100).unwrap();
        assert_ne!(at, again);
        // SAFETY: both are mapped, the same memory, and nobody else uses it.
        unsafe {
            *core::ptr::with_exposed_provenance_mut::<u64>(at.0 as usize) = 7;
            assert_eq!(*core::ptr::with_exposed_provenance::<u64>(again.0 as usize), 7);
        }
        assert_eq!(find(segment, 1 << 20), Err(Errno::EINVAL));
        for at in [at, again] {
            // SAFETY: nobody refers to it any more.
            unsafe { call(sysno::SHMDT, [at.0, 0, 0, 0, 0, 0]) }.unwrap();
        }
        assert_eq!(find(segment, 100), Err(Errno::EINVAL));
    }
}
