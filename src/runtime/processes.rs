//! New threads and processes, and their ends. Zone: call.

use crate::abi::call::{Call, Outcome};
use crate::abi::process::{ARCH_SET_FS, CLONE_SETTLS, CLONE_THREAD, CLONE_VFORK, CLONE_VM, ends_machine};
use crate::abi::sysno;
use crate::addr::GuestAddr;
use crate::runtime::block::{self, Block};
use crate::runtime::claim::Lost;
use crate::runtime::dispatch::Step;
use crate::runtime::record::{self, Collected, Returns};
use crate::runtime::state::{Frozen, STATE};
use crate::runtime::{base_asm, guest, modules, trap};
use crate::sys::process;
use crate::sys::signal::AllBlocked;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

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

/// Others are about to have the calling thread's fs base, until [`withdraw_base`].
fn share_base() {
    // In this order: no hook may adopt the block again.
    STATE.shared_bases.insert(fs_base());
    block::disown(fs_base());
}

/// One thread less has the calling thread's fs base.
fn withdraw_base() {
    STATE.shared_bases.remove(fs_base());
}

/// fs bases that several threads have at once: children of `CLONE_VM` without `CLONE_SETTLS`, until they set their own
/// or end.
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

    /// One thread more has `base`; a base of 0 is nobody's anyway.
    fn insert(&self, base: u64) {
        if base == 0 {
            return;
        }
        let free =
            |slot: &&AtomicU64| slot.compare_exchange(0, base, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if self.bases.iter().find(free).is_none() {
            self.overflowed.store(1, Ordering::Relaxed);
        }
    }

    /// One thread less has `base`.
    fn remove(&self, base: u64) {
        if base == 0 {
            return;
        }
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

/// Threads that have freed the memory that their fs base points to, as musl's detached threads do before they exit: at
/// any moment until then, a new thread may have the same base.
#[derive(Debug)]
pub struct Departing {
    threads: [AtomicU32; 64],
    bases: [AtomicU64; 64],
    overflowed: AtomicU32,
}

impl Departing {
    /// Nobody.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            threads: [const { AtomicU32::new(0) }; 64],
            bases: [const { AtomicU64::new(0) }; 64],
            overflowed: AtomicU32::new(0),
        }
    }

    /// Whether a thread with `base` is on its way out.
    #[must_use]
    pub fn contains(&self, base: u64) -> bool {
        self.overflowed.load(Ordering::Relaxed) != 0
            || self.bases.iter().any(|slot| slot.load(Ordering::Relaxed) == base)
    }

    fn insert(&self, base: u64, thread: u32) {
        let free = |slot: &(&AtomicU32, &AtomicU64)| {
            slot.0.compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        match self.threads.iter().zip(&self.bases).find(free) {
            Some((_, slot)) => slot.store(base, Ordering::Relaxed),
            None => self.overflowed.store(1, Ordering::Relaxed),
        }
    }

    /// In a forked child: none of them has come along.
    fn clear(&self) {
        for (thread, base) in self.threads.iter().zip(&self.bases) {
            if thread.load(Ordering::Relaxed) != 0 {
                base.store(0, Ordering::Relaxed);
                thread.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Whether `thread` was there.
    fn remove(&self, thread: u32) -> bool {
        let mut slots = self.threads.iter().zip(&self.bases);
        let found = slots.find(|(slot, _)| slot.load(Ordering::Relaxed) == thread);
        found.is_some_and(|(slot, base)| {
            base.store(0, Ordering::Relaxed);
            slot.store(0, Ordering::Release);
            true
        })
    }
}

impl Default for Departing {
    fn default() -> Self {
        Self::new()
    }
}

/// The flags of a call that makes a thread or process; `None` if its arguments can't be read.
fn flags_of(call: &Call, stack: GuestAddr) -> Option<u64> {
    match call.nr {
        sysno::FORK => Some(0),
        sysno::VFORK => Some(CLONE_VM | CLONE_VFORK),
        sysno::CLONE => Some(call.args[0]),
        // clone3's struct starts with the flags (include/uapi/linux/sched.h).
        _ => guest::read(GuestAddr(call.args[0]), stack).map(u64::from_ne_bytes),
    }
}

/// Before `fork`, `vfork`, `clone`, `clone3`: the call returns twice, with every register as the kernel leaves it. What
/// is counted here is counted before the child can end, and taken back if the call fails.
pub fn split(block: &Block, call: &Call) -> Step {
    let Some(flags) = flags_of(call, GuestAddr(block.regs.rsp)) else {
        return Step::Tell(Returns::Once); // the kernel will say EFAULT
    };
    match flags & (CLONE_VM | CLONE_THREAD) {
        CLONE_VM => {
            if STATE.process.load(Ordering::Relaxed) == 0 {
                STATE.process.store(process::id(), Ordering::Relaxed);
            }
            STATE.relatives.fetch_add(1, Ordering::Relaxed);
            STATE.vforks.fetch_add(1, Ordering::Relaxed);
        }
        0 | CLONE_THREAD => {}
        _ => {
            STATE.more_threads.fetch_add(1, Ordering::Relaxed);
        }
    }
    if shares_base(flags) {
        share_base();
    }
    Step::Tell(Returns::Twice { flags })
}

const fn shares_base(flags: u64) -> bool {
    flags & CLONE_VM != 0 && flags & (CLONE_SETTLS | CLONE_VFORK) == 0
}

/// In the caller, after such a call: a failed one has made nobody, and a `vfork` child is gone, whatever it held.
pub fn finish_split(block: &Block, collected: &Collected, outcome: Outcome) {
    let returns = collected.pending.returns;
    let Returns::Twice { flags } = returns else { return };
    let has_failed = outcome.errno().is_some();
    if has_failed && flags & CLONE_THREAD != 0 {
        STATE.more_threads.fetch_sub(1, Ordering::Relaxed);
    }
    if has_failed && shares_base(flags) {
        withdraw_base();
    }
    if flags & (CLONE_VM | CLONE_THREAD) == CLONE_VM && (has_failed || returns.wait_for_child()) {
        STATE.relatives.fetch_sub(1, Ordering::Relaxed);
    }
    if returns.wait_for_child()
        && !shares_base(flags)
        && let Some(lost) = Lost::by_child(collected.vforks)
    {
        release(lost, block);
        modules::release(lost);
    }
}

fn release(lost: Lost, block: &Block) {
    record::release(lost);
    block::release(lost, block);
}

/// In the child, after such a call.
pub fn begin_child(block: &Block, returns: Returns) {
    if let Returns::Twice { flags } = returns
        && flags & CLONE_VM == 0
    {
        begin_process(block);
    }
}

/// In a copy of the memory, with the one thread that made it: what others held there is free. Handlers may run and make
/// calls at any point, so locks come first, and blocks and slots are those of the new generation at one store.
fn begin_process(block: &Block) {
    // SAFETY: the thread that is here holds no lock, and the others are not here.
    unsafe {
        modules::break_lock();
        trap::break_lock();
    }
    let base = own_base();
    let next = STATE.generation.load(Ordering::Relaxed) + 1;
    block::keep_busy(block, base, next);
    record::release_all_but(base);
    STATE.generation.store(next, Ordering::Release);
    block::forget_owners(base);
    STATE.departing.clear();
    STATE.more_threads.store(0, Ordering::Relaxed);
    STATE.relatives.store(0, Ordering::Relaxed);
    STATE.process.store(0, Ordering::Relaxed); // asked for when there is a need
}

/// Before `arch_prctl`: a thread that sets its fs base no longer shares the one it had, once that has happened.
pub fn set_base(call: &Call) -> Step {
    let shared = fs_base();
    if call.args[0] as u32 != ARCH_SET_FS || shared == 0 || !STATE.shared_bases.contains(shared) {
        return Step::Pass;
    }
    // SAFETY: it is the program's own call; the loader does not use the fs base.
    Step::Answer(match unsafe { crate::sys::call(call.nr, call.args) } {
        Ok(value) => {
            STATE.shared_bases.remove(shared);
            Outcome(value)
        }
        Err(errno) => Outcome::failure(errno),
    })
}

/// Before `munmap`: a thread that frees the memory at its own fs base gives up all that is found by it.
pub fn free_base(block: &Block, call: &Call) -> Step {
    let [at, len, ..] = call.args;
    let base = fs_base();
    if base != 0 && base.checked_sub(at).is_some_and(|offset| offset < len) {
        if let Some(lost) = Lost::by_this_thread() {
            release(lost, block);
        }
        STATE.departing.insert(base, process::thread_id());
        block::disown(base);
    }
    Step::Pass
}

/// Before `exit`: what the thread holds is free for others; the last thread's end is the process's.
pub fn exit_thread(block: &mut Block, frozen: &Frozen) -> Step {
    if !is_own_process() {
        withdraw_base();
        return Step::Leave;
    }
    record::release_spare(block);
    match Lost::by_this_thread() {
        Some(lost) => {
            // Calls and hooks that a handler has left by a jump or a cancellation.
            release(lost, block);
            block::disown(fs_base());
        }
        None if STATE.departing.contains(fs_base()) && STATE.departing.remove(process::thread_id()) => {}
        None => withdraw_base(),
    }
    if STATE.more_threads.fetch_sub(1, Ordering::AcqRel) == 0 {
        finish(frozen);
    }
    Step::Leave
}

/// Before `exit_group`.
pub fn exit_process(frozen: &Frozen) -> Step {
    if is_own_process() {
        finish(frozen);
    } else {
        withdraw_base();
    }
    Step::Leave
}

/// Whether the caller belongs to the process that this memory belongs to, and is not another process in it. Asks the
/// kernel only while there is one.
pub fn is_own_process() -> bool {
    STATE.relatives.load(Ordering::Relaxed) == 0 || process::id() == STATE.process.load(Ordering::Relaxed)
}

/// Before `reboot`: where it ends the machine, no process comes to its own end, so the last words are said now.
pub fn end_machine(call: &Call, frozen: &Frozen) -> Step {
    let is_said = frozen.tree.table().is_some();
    if !is_said && ends_machine(call.args) && process::may_reboot() && STATE.finish_once() {
        frozen.output.last_words(&frozen.tools, frozen.tree);
    }
    Step::Pass
}

/// Lets the tools have their last word, once, in the process that was started. Other threads that end it meanwhile wait
/// here until it has ended, or they would cut the word off.
fn finish(frozen: &Frozen) {
    if frozen.tools.interest().is_empty() {
        return; // they have nothing to say
    }
    if STATE.process.load(Ordering::Relaxed) != frozen.root {
        if frozen.tree.table().is_some() {
            frozen.output.update_last_words(&frozen.tools, frozen.tree);
        }
        return;
    }
    // Never unblocked again: a handler must not end the process in the middle either.
    let _blocked = core::mem::ManuallyDrop::new(AllBlocked::new());
    while !STATE.finish_once() {
        process::doze();
    }
    frozen.output.last_words(&frozen.tools, frozen.tree);
}

/// Before the process goes on as a program that is not the loader's: its last words, if they are its to say. Returns
/// whether they are.
pub fn close_before_native(frozen: &Frozen) -> bool {
    let is_root = is_own_process() && STATE.process.load(Ordering::Relaxed) == frozen.root;
    let is_last = is_root && STATE.finish_once();
    if is_last {
        frozen.output.last_words(&frozen.tools, frozen.tree);
    }
    is_last
}

/// It could not be run: the process goes on.
pub fn reopen(frozen: &Frozen) {
    STATE.unfinish();
    frozen.tree.reopen();
}
