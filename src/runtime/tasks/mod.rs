//! Who runs in this memory: threads, processes, their ids and fs bases. Zone: call.

pub mod base_asm;
pub mod fs_bases;

use crate::runtime::gate::block::Block;
use crate::runtime::gate::claim;
use crate::runtime::state::STATE;
use crate::sys::{file, ids};
use core::sync::atomic::Ordering;

/// The thread's fs base, as a key; 0 where it can't be read.
#[must_use]
pub fn fs_base() -> u64 {
    if STATE.fsgsbase.load(Ordering::Relaxed) == 0 {
        return 0;
    }
    // SAFETY: `fsgsbase` is set, so the instruction exists.
    unsafe { base_asm::read_fs_base() }
}

/// The calling thread's fs base, if no other thread has it.
#[must_use]
pub fn own_base() -> Option<u64> {
    let base = fs_base();
    (base != 0 && !STATE.shared_bases.contains(base) && !STATE.departing.contains(base)).then_some(base)
}

/// Puts the calling thread's id on a block that is not found by its fs base, if it may be killed on its own.
pub fn claim(block: &Block) {
    if STATE.relatives.load(Ordering::Relaxed) != 0 {
        block.claim.stamp(claim::holder_of(ids::thread_id()));
    }
}

/// One thread less has the calling thread's fs base: one with this id.
pub(crate) fn withdraw_base(thread: u32) {
    let base = fs_base();
    if !STATE.relative_bases.remove(base, thread) {
        STATE.shared_bases.remove(base, thread);
    }
}

/// Whether the caller belongs to the process that this memory belongs to, and is not another process in it. Asks the
/// kernel only while there is one.
pub fn is_own_process() -> bool {
    STATE.relatives.load(Ordering::Relaxed) == 0
        || ids::id() == STATE.process.load(Ordering::Relaxed) && !is_in_other_namespace()
}

/// Whether nobody else runs in this memory.
pub fn is_only_thread() -> bool {
    STATE.more_threads.load(Ordering::Relaxed) == 0 && STATE.relatives.load(Ordering::Relaxed) == 0
}

/// The calling process's id. Asks the kernel only once, or while there is another process in this memory.
#[must_use]
pub fn own_id() -> u32 {
    if STATE.relatives.load(Ordering::Relaxed) != 0 {
        return ids::id();
    }
    match STATE.process.load(Ordering::Relaxed) {
        0 => {
            let id = ids::id();
            STATE.process.store(id, Ordering::Relaxed);
            id
        }
        id => id,
    }
}

/// Whether the caller's id is one of another pid namespace than the process's, and so may be the same by chance.
fn is_in_other_namespace() -> bool {
    let other = STATE.other_namespace.load(Ordering::Relaxed);
    other != 0 && namespace() == other
}

/// The calling process's pid namespace; 1 if that can't be found out.
pub(crate) fn namespace() -> u64 {
    file::facts_at(c"/proc/self/ns/pid").map_or(1, |facts| facts.identity.inode())
}

/// Whether the calling process is the one that was started first.
#[must_use]
pub fn is_root() -> bool {
    STATE.is_root.load(Ordering::Relaxed) != 0 && is_own_process()
}
