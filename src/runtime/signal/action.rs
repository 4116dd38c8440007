//! The program's signal actions. Zone: call.
//!
//! The kernel is given an entry of the gate for each handler, and the gate's restorer; the program is given back what it has
//! set. Everything else of an action is the program's, in the kernel as well.

use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::signal::{SA_RESTORER, SIG_DFL, SIG_IGN, SigAction, SigStack, Signal, SignalSet};
use crate::addr::GuestAddr;
use crate::runtime::gate::pending::Returns;
use crate::runtime::gate::step::Step;
use crate::runtime::gate::{altstacks, restorer};
use crate::runtime::memory::read;
use crate::runtime::session::followed::{Followed, Returned};
use crate::runtime::signal::{fatal, handlers, reserved};

/// `rt_sigaction`: as the kernel does it, with an entry of the gate in place of a handler.
pub(crate) fn set_action(followed: Followed<'_>) -> Step {
    let Followed { block, call, .. } = followed;
    let [number, new, old, set_len, ..] = call.args;
    if set_len != size_of::<SignalSet>() as u64 {
        return Step::Pass;
    }
    let signal = Signal(number as u32);
    if reserved::owns(signal) {
        return reserved::set_own_action(signal, call);
    }
    let replacement = match new {
        0 => None,
        at => match read::read(GuestAddr(at), GuestAddr(block.regs.rsp)) {
            Some(bytes) => Some(installed_for(signal, &SigAction::from_bytes(bytes))),
            None => return Step::Answer(Outcome::failure(Errno::EFAULT)),
        },
    };
    let outcome = with_second(call, replacement.as_ref());
    if outcome.errno().is_none() {
        give_back(GuestAddr(old));
    }
    Step::Answer(outcome)
}

/// Before `sigaltstack`: only the kernel knows whether it takes the new one.
pub(crate) fn ask_altstack(_: Followed<'_>) -> Step {
    Step::PassThenExit(Returns::Once)
}

/// After `sigaltstack`.
pub(crate) fn note_altstack(returned: Returned<'_>) -> Outcome {
    let new = returned.call().args[0];
    if !returned.has_failed() && new != 0 {
        // SAFETY: the kernel has just read it there.
        altstacks::note(&unsafe {
            core::ptr::with_exposed_provenance::<SigStack>(new as usize).read_unaligned()
        });
    }
    returned.outcome
}

/// Before `rt_sigreturn`, which never comes back.
pub(crate) fn leave_handler(_: Followed<'_>) -> Step {
    Step::Leave
}

/// Makes a call of the program's as it is.
pub(crate) fn as_it_is(call: &Call) -> Outcome {
    // SAFETY: it is the program's own call.
    match unsafe { crate::sys::program_call(call.nr, call.args) } {
        Ok(value) => Outcome(value),
        Err(errno) => Outcome::failure(errno),
    }
}

/// Makes a call of the program's with a struct of ours as its second argument.
pub(crate) fn with_second<T>(call: &Call, second: Option<&T>) -> Outcome {
    let mut changed = *call;
    changed.args[1] = second.map_or(0, |second| core::ptr::from_ref(second).expose_provenance() as u64);
    as_it_is(&changed)
}

/// What the kernel is told when the program sets `action` for `signal`.
fn installed_for(signal: Signal, action: &SigAction) -> SigAction {
    if action.handler == SIG_DFL
        && fatal::heeds(signal)
        && let Some(installed) = fatal::installed()
    {
        return installed;
    }
    let mut installed = *action;
    installed.mask = action.mask.without(reserved::reserved());
    let is_handler = action.handler != SIG_DFL && action.handler != SIG_IGN;
    if is_handler && let Some(entry) = handlers::entry(action) {
        installed.handler = entry;
        if action.flags & SA_RESTORER != 0 {
            installed.restorer = restorer::restorer().0;
        }
    }
    installed
}

/// Makes the action that the kernel has just written at `old` the program's again; nothing at 0.
fn give_back(old: GuestAddr) {
    if old.0 == 0 {
        return;
    }
    let at = core::ptr::with_exposed_provenance_mut::<SigAction>(old.0 as usize);
    // SAFETY: the kernel has just written there.
    let action = unsafe { at.read_unaligned() };
    if let Some(action) = handlers::behind(&action) {
        // SAFETY: as above.
        unsafe { at.write_unaligned(action) };
    }
}
