//! What the processes of one run have in common, across fork and exec. Zone: call.

use crate::abi::errno::Errno;
use crate::addr::GuestAddr;
use crate::sys::mem;
use crate::sys::shared::{self, Segment};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The head of the common memory; all bytes zero but for the root.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Tree {
    /// The process that was started first: tells the segment from another that has got the same number.
    root: AtomicU32,
    /// 1 once the root has had its last words.
    closed: AtomicU32,
    /// Where they stand in the tools' file, and how many bytes they are.
    table_at: AtomicU64,
    table_len: AtomicU64,
    /// Programs that run natively, because they can't run under the loader.
    native: AtomicU64,
}

impl Tree {
    /// A tree of one process, for a run in which nobody needs more.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            root: AtomicU32::new(0),
            closed: AtomicU32::new(0),
            table_at: AtomicU64::new(0),
            table_len: AtomicU64::new(0),
            native: AtomicU64::new(0),
        }
    }

    /// The last words of the run stand in the tools' file, `len` bytes at `at`: from now on, whoever ends later brings
    /// them up to date.
    pub fn close(&self, (at, len): (u64, u64)) {
        self.table_at.store(at, Ordering::Relaxed);
        self.table_len.store(len, Ordering::Relaxed);
        self.closed.store(1, Ordering::Release);
    }

    /// The root goes on after all.
    pub fn reopen(&self) {
        self.closed.store(0, Ordering::Relaxed);
    }

    /// Offset and length of the last words, once they are said to a file.
    #[must_use]
    pub fn table(&self) -> Option<(u64, u64)> {
        (self.closed.load(Ordering::Acquire) != 0)
            .then(|| (self.table_at.load(Ordering::Relaxed), self.table_len.load(Ordering::Relaxed)))
    }

    /// A program is about to run natively.
    pub fn leave(&self) {
        self.native.fetch_add(1, Ordering::Relaxed);
    }

    /// It could not be run after all.
    pub fn come_back(&self) {
        self.native.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many programs run, or ran, natively.
    #[must_use]
    pub fn native(&self) -> u64 {
        self.native.load(Ordering::Relaxed)
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

/// The common memory as this process has it.
#[derive(Clone, Copy, Debug)]
pub struct Common {
    /// Its head.
    pub tree: &'static Tree,
    /// Room for the tools behind the head, 64-aligned and zero at first.
    pub room: GuestAddr,
    /// By what number an exec'd program finds it; without one it finds nothing.
    pub segment: Option<Segment>,
}

impl Common {
    /// Makes it, with `room` bytes for the tools.
    ///
    /// # Errors
    ///
    /// The kernel's, when there is no memory.
    pub fn make(root: u32, room: usize) -> Result<Self, Errno> {
        let len = (size_of::<Tree>() + room) as u64;
        let (segment, at) = match shared::make(len) {
            Ok((segment, at)) => (Some(segment), at),
            Err(_) => (None, mem::map_shared(len)?),
        };
        let common = Self::at(at, segment);
        common.tree.root.store(root, Ordering::Relaxed);
        Ok(common)
    }

    /// Finds what the loader that exec'd this one has made; `None` if nobody was left to hold it.
    #[must_use]
    pub fn find(segment: Segment, root: u32, room: usize) -> Option<Self> {
        let at = shared::find(segment, (size_of::<Tree>() + room) as u64).ok()?;
        let common = Self::at(at, Some(segment));
        (common.tree.root.load(Ordering::Relaxed) == root).then_some(common)
    }

    fn at(at: GuestAddr, segment: Option<Segment>) -> Self {
        // SAFETY: the memory is long enough, page-aligned, valid when zero and only accessed by atomics, and it stays.
        let tree = unsafe { &*core::ptr::with_exposed_provenance::<Tree>(at.0 as usize) };
        Self { tree, room: at.wrapping_add(size_of::<Tree>() as u64), segment }
    }
}
