//! Last words of a process that a signal ends. Zone: call.
//!
//! Nobody is left to speak for the process that was started. So where it has something to say, the loader handles the
//! signals whose default action ends it: it speaks, restores the default and sends the signal anew with all that was
//! known about it, to be delivered where the first one was. The program goes on seeing the default action; only the
//! kernel's `SigCgt` shows the handlers. What no handler sees ends the process unheard: SIGKILL, a fault whose
//! signal is blocked or whose stack has no room for a frame; and real-time signals, which are left alone.

use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::map::Protection;
use crate::abi::signal::{
    SA_ONSTACK, SA_RESTORER, SA_SIGINFO, SIG_DFL, SigAction, SigInfo, Signal, SignalSet,
};
use crate::addr::GuestAddr;
use crate::runtime::dispatch::Step;
use crate::runtime::fatal_asm::on_fatal_signal;
use crate::runtime::state::STATE;
use crate::runtime::{processes, trap};
use crate::sys::mem::{self, Place};
use crate::sys::{process, signal};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Those that end a process by default (man 7 signal), but for SIGKILL, real-time signals, and SIGILL, which [`trap`]
/// handles.
const FATAL: [Signal; 21] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTRAP,
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGUSR1,
    Signal::SIGSEGV,
    Signal::SIGUSR2,
    Signal::SIGPIPE,
    Signal::SIGALRM,
    Signal::SIGTERM,
    Signal::SIGSTKFLT,
    Signal::SIGXCPU,
    Signal::SIGXFSZ,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGSYS,
];

/// Bytes of the stack on which the last words are made up.
const STACK_LEN: u64 = 64 * 1024;

/// Whether, and where, last words are spoken for a signal.
#[derive(Debug)]
pub struct LastWords {
    is_armed: AtomicBool,
    /// The upper end of the stack; 0 once a thread has taken it.
    stack: AtomicU64,
}

impl LastWords {
    /// Signals do what they do.
    #[must_use]
    pub const fn new() -> Self {
        Self { is_armed: AtomicBool::new(false), stack: AtomicU64::new(0) }
    }
}

impl Default for LastWords {
    fn default() -> Self {
        Self::new()
    }
}

/// The action while the program's is the default.
fn installed() -> SigAction {
    SigAction {
        handler: on_fatal_signal as *const () as u64,
        flags: SA_SIGINFO | SA_ONSTACK | SA_RESTORER,
        restorer: trap::restorer(),
        mask: SignalSet::ALL,
    }
}

/// Handles the signals whose action is the default. Zone: load. The first process of a pid namespace is left alone: to
/// the kernel there is a difference between its default actions and handlers (`SIGNAL_UNKILLABLE`).
///
/// # Errors
///
/// The kernel's.
pub fn arm() -> Result<(), Errno> {
    if process::id() == 1 {
        return Ok(());
    }
    trap::arm()?;
    let stack = mem::map_anonymous(Place::Anywhere, STACK_LEN, Protection::READ_WRITE)?;
    STATE.last_words.stack.store(stack.0 + STACK_LEN, Ordering::Relaxed);
    STATE.last_words.is_armed.store(true, Ordering::Relaxed);
    for signal in FATAL {
        if signal::action(signal)?.handler == SIG_DFL {
            signal::set_action(signal, &installed())?;
        }
    }
    Ok(())
}

/// `rt_sigaction` of a signal that is handled here while its action is the default; `None` for others.
pub fn set_action(call: &Call) -> Option<Step> {
    let [number, new, old, ..] = call.args;
    let signal = FATAL.into_iter().find(|signal| signal.0 == number as u32)?;
    if !STATE.last_words.is_armed.load(Ordering::Relaxed) {
        return None;
    }
    Some(Step::Answer(match exchange(signal, GuestAddr(new), GuestAddr(old)) {
        Ok(()) => Outcome(0),
        Err(errno) => Outcome::failure(errno),
    }))
}

fn exchange(signal: Signal, new: GuestAddr, old: GuestAddr) -> Result<(), Errno> {
    let replacement = trap::read_action(new)?.map(|action| match action.handler {
        SIG_DFL => installed(),
        _ => trap::without_blocking(action),
    });
    let before = signal::exchange_action(signal, replacement.as_ref())?;
    let shown = if before.handler == installed().handler { SigAction::DEFAULT } else { before };
    if old.0 != 0 && process::write_memory(old, &shown.to_bytes())? != size_of::<SigAction>() {
        return Err(Errno::EFAULT);
    }
    Ok(())
}

/// The upper end of the stack, 16-aligned, for the first thread that asks; 0 for others.
pub extern "C" fn take_stack() -> u64 {
    STATE.last_words.stack.swap(0, Ordering::Relaxed)
}

/// Lets the tools have their last words.
pub extern "C" fn speak() {
    if let Some(frozen) = STATE.frozen() {
        processes::finish(frozen);
    }
}

/// Sends the calling thread the signal that it handles, which is blocked until its handler returns, to end the process;
/// but lets another thread finish what it is saying.
///
/// # Safety
///
/// `info` is that of the signal.
pub unsafe extern "C" fn resend(info: *const SigInfo) {
    STATE.wait_for_last_words();
    // SAFETY: the kernel has put it into the frame of the handler that is running.
    let info = unsafe { &*info };
    let signal = Signal(info.signo.cast_unsigned());
    let _ = signal::set_action(signal, &SigAction::DEFAULT);
    signal::send_to_self(signal, info);
}
