//! Ends of threads, processes and machines, and fs bases that are given up. Zone: call.

use crate::abi::call::{Call, Outcome};
use crate::abi::process::{ARCH_SET_FS, ends_machine};
use crate::runtime::backstop::{guest_sud, sud};
use crate::runtime::calls::split;
use crate::runtime::gate::block::Block;
use crate::runtime::gate::claim::Lost;
use crate::runtime::gate::pool;
use crate::runtime::gate::step::Step;
use crate::runtime::session::followed::Followed;
use crate::runtime::session::last_words;
use crate::runtime::signal::reserved_mask;
use crate::runtime::tasks;
use crate::sys::{ids, process};

/// Before `arch_prctl`: a thread that sets its fs base no longer shares the one it had, once that has happened.
pub(crate) fn set_base(followed: Followed<'_>) -> Step {
    let Followed { call, .. } = followed;
    let shared = tasks::fs_base();
    if call.args[0] as u32 == ARCH_SET_FS {
        reserved_mask::rename(call.args[1]);
    }
    if call.args[0] as u32 != ARCH_SET_FS || shared == 0 || !tasks::shared_bases().contains(shared) {
        return Step::Pass;
    }
    // SAFETY: it is the program's own call; the loader does not use the fs base.
    Step::Answer(match unsafe { crate::sys::call(call.nr, call.args) } {
        Ok(value) => {
            tasks::shared_bases().remove(shared, ids::thread_id());
            Outcome(value)
        }
        Err(errno) => Outcome::failure(errno),
    })
}

/// Before `munmap`: a thread that frees the memory at its own fs base gives up all that is found by it.
pub(crate) fn free_base(block: &Block, call: &Call) {
    let [at, len, ..] = call.args;
    let base = tasks::fs_base();
    if base != 0 && base.checked_sub(at).is_some_and(|offset| offset < len) {
        give_up(block);
        tasks::bases_being_freed().insert(base, ids::thread_id());
    }
}

/// Gives back all that is found by the calling thread's fs base: its block, and what hooks and calls hold that a handler
/// has left by a jump or a cancellation.
fn give_up(block: &Block) {
    if let Some(base) = tasks::own_base() {
        pool::release_owned(base, block);
        split::release(Lost::Since { base, vforks: 0 }, base, block);
        split::disown(base);
    }
}

/// Before `exit`: what the thread holds is free for others; the last thread's end is the process's.
pub(crate) fn exit_thread(followed: Followed<'_>) -> Step {
    let Followed { block, session, .. } = followed;
    guest_sud::forget_own();
    if !tasks::is_own_process() {
        tasks::withdraw_base(ids::thread_id());
        return Step::Leave;
    }
    sud::leave(block);
    if tasks::own_base().is_some() {
        give_up(block);
    } else {
        let thread = ids::thread_id();
        if !tasks::bases_being_freed().remove(tasks::fs_base(), thread) {
            tasks::withdraw_base(thread);
        }
    }
    if tasks::remove_thread() {
        last_words::finish_for_good(session);
    }
    Step::Leave
}

/// Before `exit_group`.
pub(crate) fn exit_process(followed: Followed<'_>) -> Step {
    let Followed { session, .. } = followed;
    last_words::end_process(session);
    Step::Leave
}

/// Before `reboot`: where it ends the machine, no process comes to its own end, so the last words are said now.
pub(crate) fn end_machine(followed: Followed<'_>) -> Step {
    let Followed { call, session, .. } = followed;
    let is_said = session.tree.table().is_some();
    if !is_said && ends_machine(call.args) && process::may_reboot() {
        last_words::say_early(session);
    }
    Step::Pass
}
