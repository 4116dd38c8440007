//! Who runs in this memory: threads, processes, their ids and fs bases. Zone: call.
//!
//! Above `gate`, whose blocks are found by fs bases; `session` asks here whose end is the tools' end.

pub(crate) mod base_asm;
pub(crate) mod fs_bases;

use crate::runtime::gate::block::Block;
use crate::runtime::gate::{claim, pool};
use crate::runtime::tasks::fs_bases::FsBases;
use crate::sys::{file, ids};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Who runs in this memory.
#[derive(Debug)]
struct Tasks {
    /// The id of the process that owns this memory, not of a `vfork` child that runs in it; 0 if it has not been looked up yet.
    process: AtomicU32,
    /// 1 in the process that was started first, and in `vfork` children that run in its memory.
    is_root: AtomicU32,
    /// Threads of this process besides the first.
    more_threads: AtomicU32,
    /// Other processes in this memory; those that ended while their parent ran are still counted.
    vm_sharers: AtomicU32,
    /// A pid namespace, by its inode number, that another process in this memory has been in: ids may mean somebody
    /// else then. 0 if all are in one.
    other_namespace: AtomicU64,
    /// fs bases that more than one thread has.
    shared_bases: FsBases,
    /// fs bases whose memory their threads have freed.
    bases_being_freed: FsBases,
    /// fs bases of other processes in this memory that have one of their own.
    vm_sharer_bases: FsBases,
}

/// A fork leaves one thread and no other process: [`begin_process`].
static TASKS: Tasks = Tasks {
    process: AtomicU32::new(0),
    is_root: AtomicU32::new(0),
    more_threads: AtomicU32::new(0),
    vm_sharers: AtomicU32::new(0),
    other_namespace: AtomicU64::new(0),
    shared_bases: FsBases::new(),
    bases_being_freed: FsBases::new(),
    vm_sharer_bases: FsBases::new(),
};

/// Before the program starts: `is_root` says whether this process was started first.
pub(crate) fn set_up(is_root: bool) {
    TASKS.process.store(ids::id(), Ordering::Relaxed);
    TASKS.is_root.store(is_root.into(), Ordering::Relaxed);
}

/// In a forked child: its one thread is all that runs in the copy of the memory.
pub(crate) fn begin_process() {
    TASKS.shared_bases.clear();
    TASKS.bases_being_freed.clear();
    TASKS.vm_sharer_bases.clear();
    TASKS.is_root.store(0, Ordering::Relaxed);
    TASKS.more_threads.store(0, Ordering::Relaxed);
    TASKS.vm_sharers.store(0, Ordering::Relaxed);
    TASKS.other_namespace.store(0, Ordering::Relaxed);
    TASKS.process.store(0, Ordering::Relaxed); // looked up when there is a need
}

/// fs bases that more than one thread has.
#[must_use]
pub(crate) fn shared_bases() -> &'static FsBases {
    &TASKS.shared_bases
}

/// fs bases whose memory their threads have freed.
#[must_use]
pub(crate) fn bases_being_freed() -> &'static FsBases {
    &TASKS.bases_being_freed
}

/// fs bases of other processes in this memory that have one of their own.
#[must_use]
pub(crate) fn vm_sharer_bases() -> &'static FsBases {
    &TASKS.vm_sharer_bases
}

/// How many threads this process has.
#[must_use]
pub(crate) fn threads() -> u32 {
    TASKS.more_threads.load(Ordering::Relaxed) + 1
}

/// A thread of this process is about to be made.
pub(crate) fn add_thread() {
    TASKS.more_threads.fetch_add(1, Ordering::Relaxed);
}

/// A thread is about to exit, or was not made after all. Returns whether it was the last.
pub(crate) fn remove_thread() -> bool {
    TASKS.more_threads.fetch_sub(1, Ordering::AcqRel) == 0
}

/// Whether other processes run in this memory.
#[must_use]
pub(crate) fn has_vm_sharers() -> bool {
    TASKS.vm_sharers.load(Ordering::Relaxed) != 0
}

/// Another process in this memory is about to be made.
pub(crate) fn add_vm_sharer() {
    TASKS.vm_sharers.fetch_add(1, Ordering::Relaxed);
}

/// Another process has left this memory, or was not made after all.
pub(crate) fn remove_vm_sharer() {
    TASKS.vm_sharers.fetch_sub(1, Ordering::Relaxed);
}

/// Looks up the id of this process, if that has not been done yet.
pub(crate) fn look_up_id() {
    if TASKS.process.load(Ordering::Relaxed) == 0 {
        TASKS.process.store(ids::id(), Ordering::Relaxed);
    }
}

/// Whether all processes in this memory have been in one pid namespace, so that an id means one of them only.
#[must_use]
pub(crate) fn are_in_one_namespace() -> bool {
    TASKS.other_namespace.load(Ordering::Relaxed) == 0
}

/// The calling process is in this memory and in a pid namespace that its parent can't be seen from.
pub(crate) fn note_own_namespace() {
    TASKS.other_namespace.store(namespace(), Ordering::Relaxed);
}

/// The thread's fs base, as a key; 0 where it can't be read.
#[must_use]
pub(crate) fn fs_base() -> u64 {
    if !pool::has_fsgsbase() {
        return 0;
    }
    // SAFETY: FSGSBASE is there, so the instruction exists.
    unsafe { base_asm::read_fs_base() }
}

/// The calling thread's fs base, if no other thread has it.
#[must_use]
pub(crate) fn own_base() -> Option<u64> {
    let base = fs_base();
    (base != 0 && !TASKS.shared_bases.contains(base) && !TASKS.bases_being_freed.contains(base))
        .then_some(base)
}

/// Puts the calling thread's id on a block that is not found by its fs base, if it may be killed on its own.
pub(crate) fn claim(block: &Block) {
    if has_vm_sharers() {
        block.claim.stamp(claim::holder_of(ids::thread_id()));
    }
}

/// One thread less has the calling thread's fs base: one with this id.
pub(crate) fn withdraw_base(thread: u32) {
    let base = fs_base();
    if !TASKS.vm_sharer_bases.remove(base, thread) {
        TASKS.shared_bases.remove(base, thread);
    }
}

/// Whether the caller belongs to the process that this memory belongs to, and is not another process in it. Asks the
/// kernel only while there is one.
pub(crate) fn is_own_process() -> bool {
    TASKS.vm_sharers.load(Ordering::Relaxed) == 0
        || ids::id() == TASKS.process.load(Ordering::Relaxed) && !is_in_other_namespace()
}

/// Whether nobody else runs in this memory.
pub(crate) fn is_only_thread() -> bool {
    TASKS.more_threads.load(Ordering::Relaxed) == 0 && TASKS.vm_sharers.load(Ordering::Relaxed) == 0
}

/// The calling process's id. Asks the kernel only once, or while there is another process in this memory.
#[must_use]
pub(crate) fn own_id() -> u32 {
    if TASKS.vm_sharers.load(Ordering::Relaxed) != 0 {
        return ids::id();
    }
    match TASKS.process.load(Ordering::Relaxed) {
        0 => {
            let id = ids::id();
            TASKS.process.store(id, Ordering::Relaxed);
            id
        }
        id => id,
    }
}

/// Whether the caller's id is one of another pid namespace than the process's, and so may be the same by chance.
fn is_in_other_namespace() -> bool {
    let other = TASKS.other_namespace.load(Ordering::Relaxed);
    other != 0 && namespace() == other
}

/// The calling process's pid namespace; 1 if that can't be found out.
fn namespace() -> u64 {
    file::facts_at(c"/proc/self/ns/pid").map_or(1, |facts| facts.identity.inode())
}

/// Whether the calling process is the one that was started first.
#[must_use]
pub(crate) fn is_root() -> bool {
    TASKS.is_root.load(Ordering::Relaxed) != 0 && is_own_process()
}
