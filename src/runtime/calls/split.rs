//! New threads and processes, and their ends. Zone: call.

use crate::abi::call::{Call, Outcome};
use crate::abi::process::{CLONE_SETTLS, CLONE_THREAD, CLONE_VFORK, CLONE_VM};
use crate::abi::sysno;
use crate::addr::GuestAddr;
use crate::hook::tool::Newcomer;
use crate::runtime::backstop::{guest_sud, sud};
use crate::runtime::code::patcher;
use crate::runtime::gate::block::Block;
use crate::runtime::gate::claim::{self, Lost};
use crate::runtime::gate::pending::Returns;
use crate::runtime::gate::step::Step;
use crate::runtime::gate::{generation, pages, pool, slots};
use crate::runtime::memory::read;
use crate::runtime::session::followed::{Followed, Returned};
use crate::runtime::session::guest::Memory;
use crate::runtime::session::last_words;
use crate::runtime::signal::reserved;
use crate::runtime::{session, tasks};
use crate::sys::{ids, process};

/// Others are about to have the calling thread's fs base, until [`tasks::withdraw_base`].
fn share_base() {
    // In this order: no hook may adopt the block again.
    tasks::shared_bases().insert(tasks::fs_base(), 0);
    disown(tasks::fs_base());
}

pub(crate) fn disown(base: u64) {
    if let Some(slot) = pool::disown(base) {
        slots::release_spare(slot);
    }
}

/// The flags of a call that makes a thread or process; `None` if its arguments can't be read.
fn flags_of(call: &Call, stack: GuestAddr) -> Option<u64> {
    match call.nr {
        sysno::FORK => Some(0),
        sysno::VFORK => Some(CLONE_VM | CLONE_VFORK),
        sysno::CLONE => Some(call.args[0]),
        // clone3's struct starts with the flags (include/uapi/linux/sched.h).
        _ => read::read(GuestAddr(call.args[0]), stack).map(u64::from_ne_bytes),
    }
}

/// Before `fork`, `vfork`, `clone`, `clone3`: the call returns twice, with every register as the kernel leaves it. What
/// is counted here is counted before the child can end, and taken back if the call fails.
pub(crate) fn split(followed: Followed<'_>) -> Step {
    let Followed { block, call, .. } = followed;
    let Some(flags) = flags_of(call, GuestAddr(block.regs.rsp)) else {
        return Step::PassThenExit(Returns::Once); // the kernel will say EFAULT
    };
    if is_vm_sharer(flags) {
        tasks::look_up_id();
        forget_the_dead(block);
        tasks::add_vm_sharer();
        claim::count_vfork();
    }
    if flags & CLONE_THREAD != 0 && tasks::is_own_process() {
        tasks::add_thread();
    }
    if shares_base(flags) {
        share_base();
    }
    Step::PassThenExit(Returns::Twice { flags })
}

/// Whether the child is another process in this memory.
const fn is_vm_sharer(flags: u64) -> bool {
    flags & (CLONE_VM | CLONE_THREAD) == CLONE_VM
}

const fn shares_base(flags: u64) -> bool {
    flags & CLONE_VM != 0 && flags & (CLONE_SETTLS | CLONE_VFORK) == 0
}

/// Takes back what other processes in this memory held when they were killed.
fn forget_the_dead(block: &Block) {
    if tasks::has_vm_sharers() && tasks::are_in_one_namespace() {
        let lost = Lost::Gone(process::is_gone);
        slots::release(lost, None);
        pool::release(lost, block);
        // What bears the base of one of the dead, and no id, it had not come to leave its id with. Where it had its
        // parent's base, only the parent itself knows that it is not its own.
        let release = |base| pool::release(Lost::Since { base, vforks: 0 }, block);
        tasks::vm_sharer_bases().forget(process::is_gone, release);
        tasks::shared_bases().forget(process::is_gone, |base| {
            if base == tasks::fs_base() {
                release(base);
            }
        });
    }
}

/// In the caller, after such a call: a failed one has made nobody, and a `vfork` child is gone, whatever it held.
pub(crate) fn finish_split(returned: Returned<'_>) -> Outcome {
    let Returned { block, collected, outcome } = returned;
    let returns = collected.pending.returns;
    let Returns::Twice { flags } = returns else { return outcome };
    let has_failed = outcome.errno().is_some();
    if returns.wait_for_child() && !has_failed {
        guest_sud::forget(outcome.0 as u32);
    }
    if has_failed && flags & CLONE_THREAD != 0 && tasks::is_own_process() {
        tasks::remove_thread();
    }
    if is_vm_sharer(flags) && (has_failed || returns.wait_for_child()) {
        tasks::remove_vm_sharer();
    }
    if shares_base(flags) {
        if has_failed {
            tasks::withdraw_base(0);
        } else {
            tasks::shared_bases().assign(tasks::fs_base(), outcome.0 as u32);
        }
    } else if returns.wait_for_child()
        && let Some(base) = tasks::own_base()
    {
        if collected.ran_owned {
            pool::release_owned(base, block);
        }
        release(Lost::Since { base, vforks: collected.vforks }, base, block);
    }
    outcome
}

pub(crate) fn release(lost: Lost, base: u64, block: &Block) {
    slots::release(lost, pool::spare_of(base));
    pool::release(lost, block);
}

/// In the child, after such a call.
pub(crate) fn begin_child(block: &mut Block, returns: Returns) {
    let Returns::Twice { flags } = returns else { return };
    let is_process = flags & CLONE_VM == 0;
    let newcomer = if is_process {
        begin_process(block);
        Newcomer::Process
    } else {
        guest_sud::forget_own();
        if is_vm_sharer(flags) {
            begin_vm_sharer(flags);
            Newcomer::VforkChild
        } else {
            Newcomer::Thread
        }
    };
    sud::begin_child(block, is_process);
    if let Some(session) = session::get() {
        session.tools.started(newcomer, &Memory);
    }
}

/// In another process in this memory.
fn begin_vm_sharer(flags: u64) {
    if flags & CLONE_SETTLS != 0 {
        tasks::vm_sharer_bases().insert(tasks::fs_base(), ids::thread_id());
    }
    if ids::parent_id() == 0 {
        tasks::note_own_namespace();
    }
}

/// In a copy of the memory, with the one thread that made it: what others held there is free.
fn begin_process(block: &Block) {
    // SAFETY: the thread that is here holds no lock, and the others are not here.
    unsafe {
        patcher::break_lock();
        pages::break_lock();
        reserved::break_locks();
    }
    guest_sud::forget_all();
    tasks::begin_process();
    let base = tasks::own_base();
    let next = generation::current() + 1;
    pool::keep_busy(block, base, next);
    slots::release_all_but(base);
    generation::start(next);
    block.keep_waiting(next); // signals that have come meanwhile, and are held by blocks of the old generation
    pool::forget_owners(base);
    last_words::unfinish();
}
