//! SIGSYS: calls that a filter turned down by a signal (SECCOMP_RET_TRAP), as the program's handler sees them. Zone: call,
//! on the stack that the kernel chose for the signal.
//!
//! Such a handler reads the call from its frame, does something else in its place and returns behind it. The frame
//! that the kernel makes shows the gate. So once the program has a filter its handler is entered through the loader's,
//! which makes the frame show the site: instruction pointer, rcx and `si_call_addr`.

use crate::abi::call::Call;
use crate::abi::call::Outcome;
use crate::abi::errno::Errno;
use crate::abi::signal::{
    SA_SIGINFO, SIG_DFL, SIG_IGN, SYS_SECCOMP, SYS_USER_DISPATCH, SigAction, SigInfo, Signal, UContext,
};
use crate::abi::sysno;
use crate::addr::GuestAddr;
use crate::runtime::dispatch::Step;
use crate::runtime::record::{self, Returns};
use crate::runtime::state::STATE;
use crate::runtime::trap_asm::on_bad_call;
use crate::runtime::{dispatch, processes, seccomp};
use crate::sys::signal;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const SIGNAL: Signal = Signal::SIGSYS;

/// The program's handler behind the loader's.
#[derive(Debug)]
pub struct BadCalls {
    /// Whether the program's actions for the signal are looked at.
    is_watched: AtomicBool,
    handler: AtomicU64,
    /// Whether that handler takes three arguments.
    takes_info: AtomicBool,
}

impl BadCalls {
    /// Nobody looks.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            is_watched: AtomicBool::new(false),
            handler: AtomicU64::new(0),
            takes_info: AtomicBool::new(false),
        }
    }
}

impl Default for BadCalls {
    fn default() -> Self {
        Self::new()
    }
}

fn own_handler() -> u64 {
    on_bad_call as *const () as u64
}

/// Before the first filter: from now on the program's handler, now or later installed, is entered through the loader's.
pub fn take_over() {
    STATE.bad_calls.is_watched.store(true, Ordering::Relaxed);
    STATE.hook(sysno::RT_SIGACTION);
    if let Ok(action) = signal::action(SIGNAL) {
        stand_before(action);
    }
}

fn stand_before(action: SigAction) {
    if matches!(action.handler, SIG_DFL | SIG_IGN) || action.handler == own_handler() {
        return;
    }
    let state = &STATE.bad_calls;
    state.handler.store(action.handler, Ordering::Relaxed);
    state.takes_info.store(action.flags & SA_SIGINFO != 0, Ordering::Relaxed);
    let own = SigAction { handler: own_handler(), flags: action.flags | SA_SIGINFO, ..action };
    // Refused by a filter, the program's handler stays, and sees the gate.
    let _ = signal::set_action(SIGNAL, &own);
}

/// Before `rt_sigaction`: what to do if it is about this signal.
pub fn set_action(call: &Call) -> Option<Step> {
    let is_it = call.args[0] as u32 == SIGNAL.0 && STATE.bad_calls.is_watched.load(Ordering::Relaxed);
    is_it.then_some(Step::Tell(Returns::Once))
}

/// After `rt_sigaction`: the program sees its own handler as the old one, and the loader's stands before the new one.
pub fn finish_action(call: &Call, outcome: Outcome) {
    let [_, new, old, ..] = call.args;
    if call.nr != sysno::RT_SIGACTION || outcome.errno().is_some() || set_action(call).is_none() {
        return;
    }
    let state = &STATE.bad_calls;
    let (handler, takes_info) =
        (state.handler.load(Ordering::Relaxed), state.takes_info.load(Ordering::Relaxed));
    if new != 0 {
        // SAFETY: the kernel has just read it there.
        stand_before(unsafe { *action_at(new) });
    }
    if old != 0 {
        // SAFETY: the kernel has just written it there; no other reference to it exists.
        let old = unsafe { &mut *action_at(old) };
        if old.handler == own_handler() {
            old.handler = handler;
            old.flags &= if takes_info { u64::MAX } else { !SA_SIGINFO };
        }
    }
}

const fn action_at(at: u64) -> *mut SigAction {
    core::ptr::with_exposed_provenance_mut(at as usize)
}

/// Makes the frame show the site; returns the program's handler.
///
/// # Safety
///
/// `context` and `info` are the frame that the kernel built for the signal being handled.
pub unsafe extern "C" fn resolve(context: *mut UContext, info: *mut SigInfo) -> u64 {
    // SAFETY: the kernel built the frame, and nobody else knows of it yet.
    let (context, info) = unsafe { (&mut *context, &mut *info) };
    let is_of_call = matches!(info.code, SYS_SECCOMP | SYS_USER_DISPATCH);
    if is_of_call && let Some(site) = site_of(context) {
        context.mcontext.rip = site.0;
        context.mcontext.rcx = site.0;
        info.fields[0] = site.0;
    }
    STATE.bad_calls.handler.load(Ordering::Relaxed)
}

/// The address after the site whose call was made at the frame's place in the gate. A call that was to come back to a
/// slot will not: what waits there is told that it has failed.
fn site_of(context: &mut UContext) -> Option<GuestAddr> {
    let at = GuestAddr(context.mcontext.rip);
    if let Some(stub) = dispatch::stub_at(at) {
        return Some(dispatch::way_back(stub));
    }
    let (area, back) = record::waiting_at(at)?;
    let mut no_spare = u32::MAX;
    if let Some((pending, _)) = area.and_then(|area| record::collect(area, true, &mut no_spare)) {
        let registers = &mut context.mcontext;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] =
            pending.originals;
        let failure = Outcome::failure(Errno::ENOSYS);
        processes::finish_split(pending.returns, failure);
        seccomp::finish(&pending.call, failure);
    }
    Some(back)
}
