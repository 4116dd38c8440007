//! Signals that the loader needs for itself, and leaves to the program all the same. Zone: call.
//!
//! Sites that trap raise SIGILL ([`traps`](crate::runtime::code::traps)), and calls from elsewhere than the gate raise SIGSYS
//! ([`sud`](crate::runtime::backstop::sud)). Once one of
//! them is reserved, the kernel has the loader's action for it, and what is not the loader's own goes on to the
//! action that the program has set, which is kept here. What of it the program blocks is kept in
//! [`crate::runtime::signal::reserved_mask`].

use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::signal::{
    SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_RESTART, SA_RESTORER, SA_SIGINFO, SIG_DFL, SIG_IGN, SigAction,
    Signal, SignalSet,
};
use crate::abi::sysno;
use crate::addr::GuestAddr;
use crate::runtime::gate::step::Step;
use crate::runtime::gate::{policy, restorer};
use crate::runtime::signal::handlers;
use crate::runtime::signal::reservable::{self, RESERVABLE};
use crate::runtime::tasks;
use crate::sys::lock::RobustLock;
use crate::sys::{guest_memory, ids, signal};
use core::sync::atomic::{AtomicU32, Ordering};

/// The signal that the bytes of a trap raise.
pub(crate) const TRAP_SIGNAL: Signal = Signal::SIGILL;

/// The program's actions for the reserved signals.
#[derive(Debug)]
pub(crate) struct Reserved([Own; RESERVABLE.len()]);

#[derive(Debug)]
struct Own {
    program: RobustLock<Actions>,
    /// 1 once the kernel has the loader's action.
    is_reserved: AtomicU32,
}

impl Reserved {
    /// All signals are the program's.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self(
            [const {
                Own {
                    program: RobustLock::new(Actions { own: None, vfork_child: None }),
                    is_reserved: AtomicU32::new(0),
                }
            }; RESERVABLE.len()],
        )
    }

    fn of(&self, signal: Signal) -> Option<&Own> {
        self.0.get(reservable::place_of(signal)?)
    }
}

/// Those of this memory. A fork keeps them, and breaks their locks.
static RESERVED: Reserved = Reserved::new();

impl Default for Reserved {
    fn default() -> Self {
        Self::new()
    }
}

/// The program's own actions for a signal.
///
/// A `vfork` child has actions of its own and shares this memory. What it sets is kept apart, or its parent would lose
/// its handler to every `posix_spawn`. Two such children at the same time are told apart by their ids; the first one
/// then has its parent's action again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Actions {
    own: Option<SigAction>,
    vfork_child: Option<(u32, SigAction)>,
}

impl Actions {
    /// That of the calling process; `None` before the loader's is installed.
    pub(crate) fn get(&self) -> Option<SigAction> {
        self.own.map(|own| match self.vfork_child {
            Some((id, action)) if !tasks::is_own_process() && id == ids::id() => action,
            _ => own,
        })
    }

    pub(crate) fn set(&mut self, action: SigAction) {
        if tasks::is_own_process() {
            self.own = Some(action);
        } else {
            self.vfork_child = Some((ids::id(), action));
        }
    }
}

/// The action that serves the loader while the program's is `program`.
fn installed_for(program: &SigAction) -> Option<SigAction> {
    let handles = program.handler != SIG_DFL && program.handler != SIG_IGN;
    // The program's flags decide on which stack and with which mask its handler runs. SA_RESETHAND would take our
    // handler away; it is acted out in `handler_for`. A signal that nobody handles interrupts no call.
    let flags = if handles { program.flags & !SA_RESETHAND } else { SA_ONSTACK | SA_NODEFER | SA_RESTART };
    Some(SigAction {
        handler: handlers::reserved_entry()?,
        flags: flags | SA_SIGINFO | SA_RESTORER,
        restorer: restorer::restorer().0,
        mask: if handles { program.mask.without(reserved()) } else { SignalSet::NONE },
    })
}

/// Makes the kernel act for the program as `action` says.
pub(crate) fn install(signal: Signal, action: &SigAction) -> Result<(), Errno> {
    let installed = installed_for(action).ok_or(Errno::ENOMEM)?;
    signal::set_action(signal, &installed)
}

/// What a handler of the program's can't block: who traps while it is blocked is killed.
#[must_use]
pub(crate) fn reserved() -> SignalSet {
    let is_reserved = |signal: &Signal| owns(*signal);
    RESERVABLE.into_iter().filter(is_reserved).fold(SignalSet::NONE, SignalSet::with)
}

/// Whether the program's action for `signal` is kept here, and the kernel has the loader's.
#[must_use]
pub(crate) fn owns(signal: Signal) -> bool {
    RESERVED.of(signal).is_some_and(|own| own.is_reserved.load(Ordering::Acquire) != 0)
}

/// The program's action for `signal`, if that is reserved. Called with all signals blocked, for the handler takes the same
/// lock.
#[must_use]
pub(crate) fn action(signal: Signal) -> Option<SigAction> {
    RESERVED.of(signal)?.program.lock().get()
}

/// Where the program's actions for `signal` are kept, if it can be reserved. Called with all signals blocked, as [`action`].
pub(crate) fn program_of(signal: Signal) -> Option<&'static RobustLock<Actions>> {
    RESERVED.of(signal).map(|own| &own.program)
}

/// Takes `signal` for the loader, if it has not got it yet. Needs the patcher's lock once the program runs.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn reserve(signal: Signal) -> Result<(), Errno> {
    let Some(own) = RESERVED.of(signal) else { return Ok(()) };
    let mut program = own.program.lock();
    if program.own.is_none() {
        let current = signal::action(signal)?;
        let current = handlers::behind(&current).unwrap_or(current);
        install(signal, &current)?;
        program.own = Some(current);
        policy::hook(sysno::RT_SIGPROCMASK);
        own.is_reserved.store(1, Ordering::Release);
    }
    Ok(())
}

/// When `signal` has been reserved in a program that runs already: its own handlers don't block it.
pub(crate) fn unblock_in_handlers(signal: Signal) {
    (1..=Signal::MAX.0).map(Signal).for_each(|number| unblock_in_handler_of(number, signal));
}

/// Takes `signal` out of the mask of a handler that the program has installed so far.
fn unblock_in_handler_of(number: Signal, signal: Signal) {
    if let Ok(mut action) = signal::action(number)
        && number != signal
        && action.mask.contains(signal)
    {
        action.mask = action.mask.without(SignalSet::of(&[signal]));
        let _ = signal::set_action(number, &action);
    }
}

/// Reserved signals that the program ignores, ignored for as long as this lives: that is what an exec hands on, where
/// a handler of ours would become the default action.
#[derive(Debug)]
pub(crate) struct Ignored(SignalSet);

impl Ignored {
    const IGNORE: SigAction = SigAction { handler: SIG_IGN, ..SigAction::DEFAULT };

    /// Ignores those that the program does.
    #[must_use]
    pub(crate) fn restored() -> Self {
        let is_ignored = |signal: &Signal| {
            owns(*signal)
                && signal::AllBlocked::new()
                    .is_some_and(|_blocked| action(*signal).is_some_and(|action| action.handler == SIG_IGN))
        };
        let ignored = RESERVABLE.into_iter().filter(is_ignored);
        let done = ignored.filter(|signal| signal::set_action(*signal, &Self::IGNORE).is_ok());
        Self(done.fold(SignalSet::NONE, SignalSet::with))
    }
}

impl Drop for Ignored {
    fn drop(&mut self) {
        for signal in RESERVABLE.into_iter().filter(|signal| self.0.contains(*signal)) {
            let _ = install(signal, &Self::IGNORE);
        }
    }
}

/// Takes the locks away from whoever holds them.
///
/// # Safety
///
/// Nobody who may hold them will ever run again.
pub(crate) unsafe fn break_locks() {
    for own in &RESERVED.0 {
        // SAFETY: as the caller vouches.
        unsafe { own.program.force_unlock() };
    }
}

/// `rt_sigaction` of a reserved signal: its action is the program's in all that the program sees.
pub(crate) fn set_own_action(signal: Signal, call: &Call) -> Step {
    let [_, new, old, ..] = call.args;
    // The handler takes the same lock.
    let Some(_blocked) = signal::AllBlocked::new() else { return Step::Pass };
    let Some(own) = RESERVED.of(signal) else { return Step::Pass };
    let mut program = own.program.lock();
    let Some(current) = program.get() else { return Step::Pass };
    let answer = exchange(&current, GuestAddr(new), GuestAddr(old)).and_then(|replacement| {
        if let Some(replacement) = replacement {
            install(signal, &replacement)?;
            program.set(replacement);
        }
        Ok(())
    });
    Step::Answer(match answer {
        Ok(()) => Outcome(0),
        Err(errno) => Outcome::failure(errno),
    })
}

/// Reads the new action and writes the current one, in the kernel's order (kernel/signal.c, `rt_sigaction`): a new
/// action that can't be read changes nothing, an old one that can't be written is reported after the change.
fn exchange(current: &SigAction, new: GuestAddr, old: GuestAddr) -> Result<Option<SigAction>, Errno> {
    let replacement = read_action(new)?;
    if old.0 != 0 && guest_memory::write_memory(old, &current.to_bytes())? != size_of::<SigAction>() {
        return Err(Errno::EFAULT);
    }
    Ok(replacement)
}

/// The action at `at`; none at address 0.
fn read_action(at: GuestAddr) -> Result<Option<SigAction>, Errno> {
    if at.0 == 0 {
        return Ok(None);
    }
    let mut bytes = [0_u8; size_of::<SigAction>()];
    match guest_memory::read_memory(at, &mut bytes)? {
        len if len == bytes.len() => Ok(Some(SigAction::from_bytes(bytes))),
        _ => Err(Errno::EFAULT),
    }
}

/// Takes the signal that traps raise for the loader.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn reserve_trap() -> Result<(), Errno> {
    reserve(TRAP_SIGNAL)
}

/// Whether that has been done.
#[must_use]
pub(crate) fn owns_trap() -> bool {
    owns(TRAP_SIGNAL)
}
