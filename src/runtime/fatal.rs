//! Last words of a process that a signal ends. Zone: call.
//!
//! Nobody is left to speak for the process that was started. So where it has something to say, the loader handles the
//! signals whose default action ends it: it speaks, restores the default and sends the signal anew with all that was
//! known about it, to be delivered where the first one was. The program goes on seeing the default action; only the
//! kernel's `SigCgt` shows the handlers. What no handler sees ends the process unheard: SIGKILL, a fault whose
//! signal is blocked or whose stack has no room for a frame; and real-time signals, which are left alone.

use crate::abi::errno::Errno;
use crate::abi::signal::{SA_ONSTACK, SA_RESTORER, SA_SIGINFO, SIG_DFL, SigAction, Signal, SignalSet};
use crate::runtime::frame::Frame;
use crate::runtime::state::STATE;
use crate::runtime::{handlers, processes, trap};
use crate::sys::signal::AllBlocked;
use crate::sys::{process, signal};
use core::sync::atomic::Ordering;

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

/// Whether `signal` ends the process by default, and comes to the loader first.
#[must_use]
pub fn heeds(signal: Signal) -> bool {
    STATE.heeds_signals.load(Ordering::Relaxed) != 0 && FATAL.contains(&signal)
}

/// The action while the program's is the default; `None` if there can't be one.
#[must_use]
pub fn installed() -> Option<SigAction> {
    Some(SigAction {
        handler: handlers::fatal_entry()?,
        flags: SA_SIGINFO | SA_ONSTACK | SA_RESTORER,
        restorer: trap::restorer().0,
        mask: SignalSet::ALL,
    })
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
    let installed = installed().ok_or(Errno::ENOMEM)?;
    trap::arm()?;
    STATE.heeds_signals.store(1, Ordering::Relaxed);
    for signal in FATAL {
        if signal::action(signal)?.handler == SIG_DFL {
            signal::set_action(signal, &installed)?;
        }
    }
    Ok(())
}

/// Lets the tools have their last words.
pub fn speak() {
    let _blocked = AllBlocked::new(); // a signal that ends the process shall not cut them off
    if let Some(frozen) = STATE.frozen() {
        processes::finish(frozen);
    }
}

/// Deals with a signal that ends the process. It is sent to the calling thread anew, which has it blocked until the frame
/// is given back, and then dies where the first one came; but another thread finishes what it is saying.
pub fn end(frame: Frame) {
    speak();
    STATE.wait_for_last_words();
    let info = frame.info();
    let signal = Signal(info.signo.cast_unsigned());
    let _ = signal::set_action(signal, &SigAction::DEFAULT);
    signal::send_to_self(signal, info);
}
