//! New threads and processes, and their ends. Zone: call.

use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::process::{ARCH_SET_FS, CLONE_SETTLS, CLONE_THREAD, CLONE_VFORK, CLONE_VM};
use crate::abi::sysno;
use crate::addr::GuestAddr;
use crate::runtime::block::{self, Block};
use crate::runtime::dispatch::Step;
use crate::runtime::guest::peek;
use crate::runtime::record::{self, Returns};
use crate::runtime::state::{Frozen, STATE};
use crate::runtime::{base_asm, modules};
use crate::sys::process;
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

/// Reads a word of the program's. Where the kernel may not be asked, a bad address is a fault, as it would be in the vDSO.
fn read_word(at: GuestAddr, stack: GuestAddr) -> Option<u64> {
    if let Some(bytes) = peek(at, stack) {
        return Some(u64::from_ne_bytes(bytes));
    }
    let mut bytes = [0_u8; 8];
    match process::read_memory(at, &mut bytes) {
        Ok(len) => return (len == bytes.len()).then(|| u64::from_ne_bytes(bytes)),
        Err(Errno::EFAULT) => return None,
        Err(_) => {}
    }
    // SAFETY: it is mapped, or the program has passed the kernel a bad address.
    Some(unsafe { core::ptr::with_exposed_provenance::<u64>(at.0 as usize).read_unaligned() })
}

/// The flags of a call that makes a thread or process; `None` if its arguments can't be read.
fn flags_of(call: &Call, stack: GuestAddr) -> Option<u64> {
    match call.nr {
        sysno::FORK => Some(0),
        sysno::VFORK => Some(CLONE_VM | CLONE_VFORK),
        sysno::CLONE => Some(call.args[0]),
        // clone3's struct starts with the flags (include/uapi/linux/sched.h).
        _ => read_word(GuestAddr(call.args[0]), stack),
    }
}

/// Before `fork`, `vfork`, `clone`, `clone3`: the call returns twice, with every register as the kernel leaves it.
pub fn split(block: &Block, call: &Call) -> Step {
    let Some(flags) = flags_of(call, GuestAddr(block.regs.rsp)) else {
        return Step::Tell(Returns::Once); // the kernel will say EFAULT
    };
    // Counted before they can end; taken back if the call fails.
    match flags & (CLONE_VM | CLONE_THREAD) {
        0 | CLONE_THREAD => {}
        CLONE_VM => {
            if STATE.process.load(Ordering::Relaxed) == 0 {
                STATE.process.store(process::id(), Ordering::Relaxed);
            }
            STATE.relatives.fetch_add(1, Ordering::Relaxed);
        }
        _ => {
            STATE.more_threads.fetch_add(1, Ordering::Relaxed);
        }
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

const fn shares_base(flags: u64) -> bool {
    flags & CLONE_VM != 0 && flags & (CLONE_SETTLS | CLONE_VFORK) == 0
}

/// In the caller, after such a call: a failed one has made nobody.
pub fn finish_split(returns: Returns, outcome: Outcome) {
    let Returns::Twice { flags } = returns else { return };
    let is_gone = outcome.errno().is_some() || flags & CLONE_VFORK != 0;
    if is_gone && flags & (CLONE_VM | CLONE_THREAD) == CLONE_VM {
        STATE.relatives.fetch_sub(1, Ordering::Relaxed);
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
    if let Returns::Twice { flags } = returns
        && flags & CLONE_VM == 0
    {
        // A copy of the memory with this one thread in it.
        STATE.process.store(0, Ordering::Relaxed);
        STATE.more_threads.store(0, Ordering::Relaxed);
        STATE.relatives.store(0, Ordering::Relaxed);
        block::release_all_but(block);
        record::release_pending();
        modules::release_lock_in_child();
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

/// Lets the tools have their last word, once, in the process that was started. Whoever ends after it brings the word up
/// to date, where that can be done.
fn finish(frozen: &Frozen) {
    if frozen.tools.interest().is_empty() {
        return; // they have nothing to say
    }
    if is_root(frozen) {
        if STATE.finish_once() {
            frozen.output.last_words(&frozen.tools, frozen.tree);
        }
    } else if frozen.tree.table().is_some() {
        frozen.output.update_last_words(&frozen.tools, frozen.tree);
    }
}

/// Whether this memory is the calling process's own, and not that of a parent that waits in `vfork`. The kernel is asked
/// only where both are possible.
#[must_use]
pub fn is_own_process() -> bool {
    STATE.relatives.load(Ordering::Relaxed) == 0 || process::id() == STATE.process.load(Ordering::Relaxed)
}

fn is_root(frozen: &Frozen) -> bool {
    STATE.process.load(Ordering::Relaxed) == frozen.root && is_own_process()
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
