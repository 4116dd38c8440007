//! What the processes of one run have in common, across fork and exec. Zone: call.

use crate::abi::errno::Errno;
use crate::addr::{AddrRange, GuestAddr};
use crate::runtime::session::not_followed::Natives;
use crate::sys::file::OpenFile;
use crate::sys::shared::{self, Segment};
use crate::sys::{ids, mem, process};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How often a process looks whether another one still speaks, a millisecond apart.
const PATIENCE: u32 = 1000;

/// The head of the common memory; all bytes zero but for the root.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Tree {
    /// The process that was started first: tells the segment from another that has got the same number.
    root: AtomicU32,
    /// 1 once the root has had its last words.
    closed: AtomicU32,
    /// Where they stand in the tools' file, and how many bytes they are.
    table_at: AtomicU64,
    table_len: AtomicU64,
    /// Programs that run natively, because they can't run under the loader.
    pub natives: Natives,
    /// Processes for which the tools have asked for room.
    pub started: AtomicU32,
    /// The thread that writes to a stream that others write to; 0 if none does.
    speaker: AtomicU32,
}

/// Bytes that the tools want in the common memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedLayout {
    /// In any case.
    pub fixed: usize,
    /// For each process.
    pub process: usize,
    /// How many processes there is room for.
    pub processes: usize,
}

impl SharedLayout {
    /// Bytes of the common memory while `started` processes have their room.
    const fn len(&self, started: usize) -> u64 {
        let processes = if started < self.processes { started } else { self.processes };
        (size_of::<Tree>() + self.fixed + self.process * processes) as u64
    }
}

impl Tree {
    /// A tree of one process, for a run in which nobody needs more.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self {
            root: AtomicU32::new(0),
            closed: AtomicU32::new(0),
            table_at: AtomicU64::new(0),
            table_len: AtomicU64::new(0),
            natives: Natives::new(),
            started: AtomicU32::new(0),
            speaker: AtomicU32::new(0),
        }
    }

    /// Runs `speak` while no other process of the run does so. One that is gone is not waited for, nor any for ever: it may
    /// be stopped.
    pub(crate) fn while_speaking(&self, speak: impl FnOnce()) {
        let own = ids::thread_id();
        for _ in 0..PATIENCE {
            let holder = self.speaker.load(Ordering::Relaxed);
            let is_free = holder == 0 || process::is_gone(holder);
            let exchange =
                || self.speaker.compare_exchange(holder, own, Ordering::Acquire, Ordering::Relaxed);
            if is_free && exchange().is_ok() {
                break;
            }
            process::doze();
        }
        speak();
        self.speaker.store(0, Ordering::Release);
    }

    /// The last words of the run stand in the tools' file, `len` bytes at `at`: from now on, whoever ends later brings
    /// them up to date.
    pub(crate) fn close(&self, (at, len): (u64, u64)) {
        self.table_at.store(at, Ordering::Relaxed);
        self.table_len.store(len, Ordering::Relaxed);
        self.closed.store(1, Ordering::Release);
    }

    /// The root goes on after all.
    pub(crate) fn reopen(&self) {
        self.closed.store(0, Ordering::Relaxed);
    }

    /// Offset and length of the last words, once they are said to a file.
    #[must_use]
    pub(crate) fn table(&self) -> Option<(u64, u64)> {
        (self.closed.load(Ordering::Acquire) != 0)
            .then(|| (self.table_at.load(Ordering::Relaxed), self.table_len.load(Ordering::Relaxed)))
    }
}

/// For a run without common memory. A fork keeps it.
static ALONE: Tree = Tree::new();

/// The tree of a run without common memory.
#[must_use]
pub(crate) fn alone() -> &'static Tree {
    &ALONE
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

/// The common memory as this process has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common {
    /// Its head.
    pub tree: &'static Tree,
    room: SharedLayout,
    /// By what number an exec'd program finds it; without one it finds only a copy.
    pub segment: Option<Segment>,
}

impl Common {
    /// Makes it: zeros, or a copy of what the loader that exec'd this one had.
    ///
    /// # Errors
    ///
    /// The kernel's, when there is no memory.
    pub(crate) fn make(root: u32, room: SharedLayout, copy: Option<OpenFile>) -> Result<Self, Errno> {
        let len = room.len(room.processes);
        let (segment, at) = match shared::make(len) {
            Ok((segment, at)) => (Some(segment), at),
            Err(_) => (None, mem::map_shared(len)?),
        };
        if let Some(copy) = copy {
            // What can't be read is lost.
            let _ = shared::fill(AddrRange::new(at, at.wrapping_add(len)), &copy);
        }
        let common = Self::at(at, room, segment);
        common.tree.root.store(root, Ordering::Relaxed);
        Ok(common)
    }

    /// Finds what the loader that exec'd this one has made; `None` if nobody was left to hold it.
    #[must_use]
    pub(crate) fn find(segment: Segment, root: u32, room: SharedLayout) -> Option<Self> {
        let at = shared::find(segment, room.len(room.processes)).ok()?;
        let common = Self::at(at, room, Some(segment));
        (common.tree.root.load(Ordering::Relaxed) == root).then_some(common)
    }

    fn at(at: GuestAddr, room: SharedLayout, segment: Option<Segment>) -> Self {
        // SAFETY: the memory is long enough, page-aligned, valid when zero and only accessed by atomics, and it stays.
        let tree = unsafe { &*core::ptr::with_exposed_provenance::<Tree>(at.0 as usize) };
        Self { tree, room, segment }
    }

    /// Where the tools' room starts: 64-aligned, behind it that of the processes.
    #[must_use]
    pub(crate) fn room(&self) -> GuestAddr {
        self.start().wrapping_add(size_of::<Tree>() as u64)
    }

    /// A copy of all that is in use, in a file that an exec'd program inherits.
    ///
    /// # Errors
    ///
    /// The kernel's, when there is no memory or no descriptor.
    pub(crate) fn copy(&self) -> Result<OpenFile, Errno> {
        let len = self.room.len(self.tree.started.load(Ordering::Relaxed) as usize);
        shared::copy(AddrRange::new(self.start(), self.start().wrapping_add(len)))
    }

    fn start(&self) -> GuestAddr {
        GuestAddr(core::ptr::from_ref(self.tree).expose_provenance() as u64)
    }
}
