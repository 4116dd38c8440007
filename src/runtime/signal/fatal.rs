//! Last words of a process that a signal ends. Zone: call.
//!
//! Nobody is left to speak for the process that was started. So where it has something to say, the loader handles the
//! signals whose default action ends it: it speaks, restores the default and sends the signal anew with all that was
//! known about it, to be delivered where the first one was. The program goes on seeing the default action; only the
//! kernel's `SigCgt` shows the handlers. What no handler sees ends the process unheard: SIGKILL, a fault whose
//! signal is blocked or whose stack has no room for a frame; and real-time signals, which are left alone.

use crate::abi::call::Call;
use crate::abi::errno::Errno;
use crate::abi::signal::{SA_ONSTACK, SA_RESTORER, SA_SIGINFO, SIG_DFL, SigAction, Signal, SignalSet};
use crate::abi::sysno;
use crate::runtime::gate::restorer;
use crate::runtime::session;
use crate::runtime::session::last_words;
use crate::runtime::signal::frame::Frame;
use crate::runtime::signal::{handlers, reserved};
use crate::sys::ids;
use crate::sys::signal::{self, AllBlocked};
use core::sync::atomic::{AtomicU32, Ordering};

/// Those that end a process by default (man 7 signal), but for SIGKILL, real-time signals, and SIGILL, which is
/// [reserved](crate::runtime::signal::reserved).
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

/// Signals do what they do.
const OFF: u32 = 0;
/// They come to the loader first.
const ON: u32 = 1;
/// The program is about to restrict its calls so that they can't.
const SUSPENDED: u32 = 2;

/// Whether the signals that end the process by default come to the loader first: [`OFF`], [`ON`] or [`SUSPENDED`]. A fork
/// keeps it.
static HEEDS_SIGNALS: AtomicU32 = AtomicU32::new(OFF);

/// Whether `signal` ends the process by default, and comes to the loader first.
#[must_use]
pub(crate) fn heeds(signal: Signal) -> bool {
    HEEDS_SIGNALS.load(Ordering::Relaxed) == ON && FATAL.contains(&signal)
}

/// The action while the program's is the default; `None` if there can't be one.
#[must_use]
pub(crate) fn installed() -> Option<SigAction> {
    Some(SigAction {
        handler: handlers::fatal_entry()?,
        flags: SA_SIGINFO | SA_ONSTACK | SA_RESTORER,
        restorer: restorer::restorer().0,
        mask: SignalSet::ALL,
    })
}

/// Handles the signals whose action is the default. Zone: load. The first process of a pid namespace is left alone: to
/// the kernel there is a difference between its default actions and handlers (`SIGNAL_UNKILLABLE`).
///
/// # Errors
///
/// The kernel's.
pub(crate) fn arm() -> Result<(), Errno> {
    if ids::id() == 1 {
        return Ok(());
    }
    let installed = installed().ok_or(Errno::ENOMEM)?;
    reserved::reserve_trap()?;
    exchange_all(SIG_DFL, &installed)?;
    HEEDS_SIGNALS.store(ON, Ordering::Relaxed);
    Ok(())
}

/// Sets the action of each of them whose handler is `from`.
fn exchange_all(from: u64, to: &SigAction) -> Result<(), Errno> {
    FATAL.into_iter().try_for_each(|signal| match signal::action(signal)?.handler {
        handler if handler == from => signal::set_action(signal, to),
        _ => Ok(()),
    })
}

/// Before the program restricts its own calls: signals do what they do if one that they need here is not let through.
pub(crate) fn suspend_unless(lets_through: impl Fn(&Call) -> bool) {
    const NEEDED: [u32; 5] =
        [sysno::RT_SIGACTION, sysno::GETPID, sysno::GETTID, sysno::RT_TGSIGQUEUEINFO, sysno::RT_SIGRETURN];
    if HEEDS_SIGNALS.load(Ordering::Relaxed) == ON
        && !NEEDED.iter().all(|&nr| lets_through(&Call { nr, args: [0; 6] }))
        && let Some(installed) = installed()
    {
        HEEDS_SIGNALS.store(SUSPENDED, Ordering::Relaxed);
        let _ = exchange_all(installed.handler, &SigAction::DEFAULT);
    }
}

/// After that: for good, or because it could not restrict them, not at all.
pub(crate) fn decide(is_restricted: bool) {
    let state = if is_restricted { OFF } else { ON };
    let suspended = HEEDS_SIGNALS.compare_exchange(SUSPENDED, state, Ordering::Relaxed, Ordering::Relaxed);
    if suspended.is_ok()
        && !is_restricted
        && let Some(installed) = installed()
    {
        let _ = exchange_all(SIG_DFL, &installed);
    }
}

/// Lets the tools have their last words, if signals are heeded at all.
pub(crate) fn speak() {
    if HEEDS_SIGNALS.load(Ordering::Relaxed) == ON
        && let Some(session) = session::get()
        && last_words::has_last_words(session)
    {
        let _blocked = AllBlocked::new(); // another signal shall not cut them off
        last_words::finish(session);
    }
}

/// Ends the process by `signal`, blocked or handled as it may be (`force_exit_sig`, kernel/signal.c).
pub(crate) fn force(signal: Signal) -> ! {
    speak();
    last_words::wait();
    signal::set_default(signal);
    let _ = signal::unblock(SignalSet::of(&[signal]));
    signal::raise(signal);
    ids::exit_all(ids::Status::Internal) // only the first process of a machine comes here
}

/// Deals with a signal that ends the process. It is sent to the calling thread anew, which has it blocked until the frame
/// is given back, and then dies where the first one came; but another thread finishes what it is saying.
pub(crate) fn end(frame: Frame) {
    speak();
    last_words::wait();
    let info = frame.info();
    let signal = Signal(info.signo.cast_unsigned());
    signal::set_default(signal);
    signal::send_to_self(signal, info);
}
