//! New threads and processes, and their ends. Zone: call.

use crate::abi::call::{Call, Outcome};
use crate::abi::process::{ARCH_SET_FS, CLONE_SETTLS, CLONE_THREAD, CLONE_VFORK, CLONE_VM};
use crate::abi::sysno;
use crate::addr::GuestAddr;
use crate::hook::tool::Newcomer;
use crate::runtime::block::{self, Block};
use crate::runtime::dispatch::Step;
use crate::runtime::guest::Memory;
use crate::runtime::record::{self, Returns};
use crate::runtime::state::{Frozen, STATE};
use crate::runtime::{base_asm, modules};
use crate::sys::process;
use crate::sys::signal::AllBlocked;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The thread's fs base, as a key.
#[must_use]
pub fn fs_base() -> u64 {
    // SAFETY: callers have seen `fsgsbase` set, so the instruction exists.
    unsafe { base_asm::read_fs_base() }
}

/// fs bases that several threads have at once: children of `CLONE_VM` without `CLONE_SETTLS`, until they set their own.
///
/// Such threads never own a block. The table is small, because the sharing is short (Go's runtime ends it in the first
/// lines of a new thread); once it overflows, every base counts as shared.
#[derive(Debug)]
pub struct SharedBases {
    bases: [AtomicU64; 64],
    overflowed: AtomicU32,
}

impl SharedBases {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Self {
        Self { bases: [const { AtomicU64::new(0) }; 64], overflowed: AtomicU32::new(0) }
    }

    /// Whether more than one thread may have `base`.
    #[must_use]
    pub fn contains(&self, base: u64) -> bool {
        self.overflowed.load(Ordering::Relaxed) != 0
            || self.bases.iter().any(|slot| slot.load(Ordering::Relaxed) == base)
    }

    /// One thread more has `base`.
    fn insert(&self, base: u64) {
        let free =
            |slot: &&AtomicU64| slot.compare_exchange(0, base, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if self.bases.iter().find(free).is_none() {
            self.overflowed.store(1, Ordering::Relaxed);
        }
    }

    /// One thread less has `base`.
    fn remove(&self, base: u64) {
        let taken =
            |slot: &&AtomicU64| slot.compare_exchange(base, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let _ = self.bases.iter().find(taken);
    }
}

impl Default for SharedBases {
    fn default() -> Self {
        Self::new()
    }
}

/// The flags of a call that makes a thread or process; `None` if its arguments can't be read.
fn flags_of(call: &Call) -> Option<u64> {
    match call.nr {
        sysno::FORK => Some(0),
        sysno::VFORK => Some(CLONE_VM | CLONE_VFORK),
        sysno::CLONE => Some(call.args[0]),
        _ => {
            // clone3's struct starts with the flags (include/uapi/linux/sched.h).
            let mut flags = [0_u8; 8];
            let read = process::read_memory(GuestAddr(call.args[0]), &mut flags);
            read.is_ok_and(|len| len == flags.len()).then(|| u64::from_ne_bytes(flags))
        }
    }
}

/// Before `fork`, `vfork`, `clone`, `clone3`: the call returns twice, with every register as the kernel leaves it.
pub fn split(block: &Block, call: &Call) -> Step {
    let Some(flags) = flags_of(call) else {
        return Step::Tell(Returns::Once); // the kernel will say EFAULT
    };
    if flags & CLONE_THREAD != 0 {
        // Counted before it can end; taken back if the call fails.
        STATE.more_threads.fetch_add(1, Ordering::Relaxed);
    }
    if is_lodger(flags) {
        STATE.lodgers.fetch_add(1, Ordering::Relaxed);
    }
    if shares_base(flags) {
        // The child has our fs base until it sets its own, and runs at the same time.
        block.disown();
        if STATE.fsgsbase.load(Ordering::Relaxed) != 0 {
            STATE.shared_bases.insert(fs_base());
        }
    }
    Step::Tell(Returns::Twice { flags })
}

/// Whether the child is a process in the caller's memory.
const fn is_lodger(flags: u64) -> bool {
    flags & CLONE_VM != 0 && flags & CLONE_THREAD == 0
}

const fn shares_base(flags: u64) -> bool {
    flags & CLONE_VM != 0 && flags & (CLONE_SETTLS | CLONE_VFORK) == 0
}

/// In the caller, after such a call: a failed one has made nobody, and a child of `vfork` has gone its way.
pub fn finish_split(returns: Returns, outcome: Outcome) {
    let Returns::Twice { flags } = returns else { return };
    if is_lodger(flags) && (outcome.errno().is_some() || flags & CLONE_VFORK != 0) {
        STATE.lodgers.fetch_sub(1, Ordering::Relaxed);
    }
    if outcome.errno().is_none() {
        return;
    }
    if flags & CLONE_THREAD != 0 {
        STATE.more_threads.fetch_sub(1, Ordering::Relaxed);
    }
    if shares_base(flags) && STATE.fsgsbase.load(Ordering::Relaxed) != 0 {
        STATE.shared_bases.remove(fs_base());
    }
}

/// In the child, after such a call.
pub fn begin_child(block: &Block, returns: Returns) {
    let Returns::Twice { flags } = returns else { return };
    let newcomer = match flags & (CLONE_VM | CLONE_THREAD) {
        0 => Newcomer::Process,
        CLONE_VM => Newcomer::Lodger,
        _ => Newcomer::Thread,
    };
    if newcomer == Newcomer::Process {
        // A copy of the memory with this one thread in it.
        STATE.process.store(process::id(), Ordering::Relaxed);
        STATE.is_root.store(0, Ordering::Relaxed);
        STATE.lodgers.store(0, Ordering::Relaxed);
        STATE.unfinish();
        STATE.more_threads.store(0, Ordering::Relaxed);
        block::release_all_but(block);
        record::release_pending();
        modules::release_lock_in_child();
    }
    if let Some(frozen) = STATE.frozen() {
        frozen.tools.started(newcomer, &Memory);
    }
}

/// Before `arch_prctl`: a thread that sets its fs base no longer shares the one it had.
pub fn set_base(call: &Call) -> Step {
    if call.args[0] as u32 == ARCH_SET_FS && STATE.fsgsbase.load(Ordering::Relaxed) != 0 {
        STATE.shared_bases.remove(fs_base());
    }
    Step::Pass
}

/// Before `exit`: the thread's block is free for another; the last thread's end is the process's.
pub fn exit_thread(block: &mut Block, frozen: &Frozen) -> Step {
    block.disown();
    record::release_spare(&mut block.spare);
    if STATE.more_threads.fetch_sub(1, Ordering::AcqRel) == 0 {
        finish(frozen);
    }
    Step::Leave
}

/// Before `exit_group`.
pub fn exit_process(frozen: &Frozen) -> Step {
    finish(frozen);
    Step::Leave
}

/// Whether the calling process is the one that was started first.
#[must_use]
pub fn is_root(frozen: &Frozen) -> bool {
    STATE.is_root.load(Ordering::Relaxed) != 0 && process::id() == frozen.root
}

/// Lets the tools have their last word, once, in the process that was started. Whoever ends after it brings the word up
/// to date, where that can be done.
pub fn finish(frozen: &Frozen) {
    if frozen.common.is_none() {
        return;
    }
    let _blocked = AllBlocked::new(); // a signal that ends the process shall not cut them off
    if is_root(frozen) {
        STATE.finish_once(|| frozen.output.last_words(frozen));
    } else if frozen.tree.table().is_some() {
        frozen.output.update_last_words(frozen);
    }
}

/// Before the process goes on as a program that is not the loader's: its last words, if they are its to say. Returns
/// whether they are.
pub fn close_before_native(frozen: &Frozen) -> bool {
    let is_root = is_root(frozen);
    if is_root {
        finish(frozen);
    }
    is_root
}

/// It could not be run: the process goes on.
pub fn reopen(frozen: &Frozen) {
    STATE.unfinish();
    frozen.tree.reopen();
}
