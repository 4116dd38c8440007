//! What becomes of a reserved signal. Zone: call.

use crate::abi::signal::{SA_RESETHAND, SIG_DFL, SIG_IGN, SYS_SECCOMP, SigAction, Signal};
use crate::addr::GuestAddr;
use crate::runtime::backstop::caught;
use crate::runtime::signal::frame::Frame;
use crate::runtime::signal::{fatal, reserved, reserved_mask};
use crate::sys::signal;
use crate::x86::scan::SYSCALL;

/// Decides on a reserved signal: `None` if it is dealt with, else the program's handler for it.
#[must_use]
pub(crate) fn resolve(frame: Frame) -> Option<GuestAddr> {
    let info = frame.info();
    let signal = Signal(info.signo.cast_unsigned());
    let is_dealt_with = match signal {
        Signal::SIGSYS => caught::resume_in_stub(frame),
        _ => caught::resume_trapped(frame),
    };
    if is_dealt_with || info.code <= 0 && reserved_mask::keep(info) {
        return None;
    }
    handler_for(signal, frame)
}

/// What the program does about a signal of its own.
fn handler_for(signal: Signal, frame: Frame) -> Option<GuestAddr> {
    let mut program = reserved::program_of(signal)?.lock();
    let action = program.get()?;
    let is_fault = frame.info().code > 0;
    // A fault kills whose signal the program has blocked, whatever its reserved::action (`force_sig_info_to_task`).
    let is_lethal = is_fault && reserved_mask::blocked().contains(signal);
    match action.handler {
        SIG_IGN if !is_fault => None,
        handler if is_lethal || handler == SIG_DFL || handler == SIG_IGN => {
            fatal::speak();
            if is_fault {
                meet_again(signal, frame);
            } else {
                signal::set_default(signal);
                signal::raise(signal);
                // Only the first process of a machine survives that (kernel/signal.c, `sig_task_ignored`).
                let _ = reserved::install(signal, &action);
            }
            None
        }
        handler => {
            if action.flags & SA_RESETHAND != 0 {
                program.set(SigAction::DEFAULT);
                let _ = reserved::install(signal, &SigAction::DEFAULT);
            }
            Some(GuestAddr(handler))
        }
    }
}

/// Has the thread meet the instruction again that has raised `signal`, which is blocked then: ignored or not, that kills
/// (kernel/signal.c, `force_sig_info_to_task`). A call that a filter has turned down is behind it, with its number and
/// arguments as they were.
fn meet_again(signal: Signal, frame: Frame) {
    let mask = &mut frame.ucontext().sigmask;
    *mask = mask.with(signal);
    if signal == Signal::SIGSYS && frame.info().code == SYS_SECCOMP {
        frame.context().rip -= SYSCALL.len() as u64;
    }
}
