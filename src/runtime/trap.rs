//! Sites that trap: the last tactic, and boundaries that nothing is known to enter. Zone: call.
//!
//! The bytes there raise SIGILL (`ud2`, guaranteed by SDM 2B). The handler does no more than send the thread to the
//! site's stub, which makes the call with the state of that moment. The program's own use of SIGILL goes on
//! underneath: it sees the action that it set, and its handler gets every SIGILL that is not one of our sites.

use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::signal::{
    SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_RESTORER, SA_SIGINFO, SIG_DFL, SIG_IGN, SIG_UNBLOCK, SigAction,
    SigInfo, Signal, SignalSet, UContext,
};
use crate::abi::sysno;
use crate::addr::{AddrRange, GuestAddr};
use crate::patch::stub;
use crate::runtime::dispatch::Step;
use crate::runtime::state::STATE;
use crate::runtime::trap_asm::on_illegal_instruction;
use crate::runtime::{fatal, gate_asm};
use crate::sys::lock::Lock;
use crate::sys::{process, signal};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Sites that can trap at the same time.
const CAPACITY: usize = 16_384;

/// The signal that a trap raises.
const SIGNAL: Signal = Signal::SIGILL;

/// The bytes of glibc's and the kernel's signal return, `mov rax, 15; syscall`: unwinders and debuggers recognise a
/// signal frame by them.
pub const RESTORER: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];

/// The stub that holds [`RESTORER`] instead of a site.
pub const RESTORER_STUB: u32 = 0;

/// Where each trapping site goes; appended to under the modules' lock, read by the handler at any time.
#[derive(Debug)]
pub struct Traps {
    sites: [AtomicU64; CAPACITY],
    entries: [AtomicU64; CAPACITY],
    len: AtomicU32,
    /// The program's own action for the signal, while the loader's is installed.
    program: Lock<Actions>,
}

/// The program's own actions for the signal.
///
/// A `vfork` child has actions of its own and shares this memory. What it sets is kept apart, or its parent would lose
/// its handler to every `posix_spawn`. Two such children at the same time are told apart by their ids; the first one
/// then has its parent's action again.
#[derive(Clone, Copy, Debug)]
struct Actions {
    own: Option<SigAction>,
    lodger: Option<(u32, SigAction)>,
}

impl Actions {
    /// That of the calling process; `None` before the loader's is installed.
    fn get(&self) -> Option<SigAction> {
        self.own.map(|own| match self.lodger {
            Some((id, action)) if is_lodger() && id == process::id() => action,
            _ => own,
        })
    }

    fn set(&mut self, action: SigAction) {
        if is_lodger() {
            self.lodger = Some((process::id(), action));
        } else {
            self.own = Some(action);
        }
    }
}

/// Whether the calling process is in the memory of another.
fn is_lodger() -> bool {
    process::id() != STATE.process.load(Ordering::Relaxed)
}

impl Traps {
    /// An empty table; the signal is the program's.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sites: [const { AtomicU64::new(0) }; CAPACITY],
            entries: [const { AtomicU64::new(0) }; CAPACITY],
            len: AtomicU32::new(0),
            program: Lock::new(Actions { own: None, lodger: None }),
        }
    }

    fn entry_of(&self, site: GuestAddr) -> Option<u64> {
        let len = self.len.load(Ordering::Acquire) as usize;
        let index = self.sites.iter().take(len).position(|at| at.load(Ordering::Acquire) == site.0)?;
        self.entries.get(index).map(|entry| entry.load(Ordering::Relaxed))
    }
}

impl Default for Traps {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes a trap at `site` go to `entry`. Returns false if the table is full: the site must not trap then.
#[must_use]
pub fn add(site: GuestAddr, entry: GuestAddr) -> bool {
    let traps = &STATE.traps;
    let len = traps.len.load(Ordering::Relaxed) as usize;
    let free = traps.sites.iter().take(len).position(|at| at.load(Ordering::Relaxed) == 0).unwrap_or(len);
    let (Some(at), Some(to)) = (traps.sites.get(free), traps.entries.get(free)) else { return false };
    to.store(entry.0, Ordering::Relaxed);
    at.store(site.0, Ordering::Release);
    if free == len {
        traps.len.store(len as u32 + 1, Ordering::Release);
    }
    true
}

/// Forgets the traps in `range`, whose bytes are about to be others.
pub fn forget(range: AddrRange) {
    let len = STATE.traps.len.load(Ordering::Relaxed) as usize;
    for at in STATE.traps.sites.iter().take(len) {
        if range.contains(GuestAddr(at.load(Ordering::Relaxed))) {
            at.store(0, Ordering::Release);
        }
    }
}

/// The address of [`RESTORER`] in the gate.
pub fn restorer() -> u64 {
    gate_asm::stubs() + u64::from(RESTORER_STUB) * stub::LEN as u64
}

/// The action that makes traps work while the program's is `program`.
fn installed_for(program: &SigAction) -> SigAction {
    let handles = program.handler != SIG_DFL && program.handler != SIG_IGN;
    // The program's flags decide on which stack and with which mask its handler runs. SA_RESETHAND would take our
    // handler away; it is acted out in `deliver`.
    let flags = if handles { program.flags & !SA_RESETHAND } else { SA_ONSTACK | SA_NODEFER };
    SigAction {
        handler: on_illegal_instruction as *const () as u64,
        flags: flags | SA_SIGINFO | SA_RESTORER,
        restorer: if program.flags & SA_RESTORER != 0 { program.restorer } else { restorer() },
        mask: if handles { program.mask } else { SignalSet::NONE },
    }
}

/// Installs the handler, if it is not yet.
///
/// # Errors
///
/// The kernel's.
pub fn arm() -> Result<(), Errno> {
    let mut program = STATE.traps.program.lock();
    if program.own.is_none() {
        let current = signal::action(SIGNAL)?;
        signal::set_action(SIGNAL, &installed_for(&current))?;
        program.own = Some(current);
        STATE.hook(sysno::RT_SIGPROCMASK);
    }
    Ok(())
}

/// A trap signal that the program ignores, ignored for as long as this lives: that is what an exec hands on, where a
/// handler of ours would become the default action.
#[derive(Debug)]
pub struct Ignored {
    is_restored: bool,
}

impl Ignored {
    /// Ignores the signal if the program does.
    #[must_use]
    pub fn restored() -> Self {
        let is_ignored = {
            let _blocked = signal::AllBlocked::new();
            STATE.traps.program.lock().get().is_some_and(|action| action.handler == SIG_IGN)
        };
        let action = SigAction { handler: SIG_IGN, ..SigAction::DEFAULT };
        Self { is_restored: is_ignored && signal::set_action(SIGNAL, &action).is_ok() }
    }
}

impl Drop for Ignored {
    fn drop(&mut self) {
        if self.is_restored {
            let ignore = SigAction { handler: SIG_IGN, ..SigAction::DEFAULT };
            let _ = signal::set_action(SIGNAL, &installed_for(&ignore));
        }
    }
}

/// After `rt_sigprocmask`: a blocked trap signal would kill the program at the next trap (kernel/signal.c,
/// `force_sig_info_to_task`), so it is unblocked again. The set was readable, since the call succeeded.
pub fn keep_unblocked(call: &Call, outcome: Outcome) {
    let [how, set, _, _, ..] = call.args;
    if call.nr != sysno::RT_SIGPROCMASK || outcome.errno().is_some() || set == 0 || how as u32 == SIG_UNBLOCK
    {
        return;
    }
    let mut bytes = [0; size_of::<SignalSet>()];
    let is_read = process::read_memory(GuestAddr(set), &mut bytes).is_ok_and(|len| len == bytes.len());
    if is_read && SignalSet(u64::from_ne_bytes(bytes)).contains(SIGNAL) {
        signal::unblock(SignalSet::of(&[SIGNAL]));
    }
}

/// `rt_sigaction`: the trap signal's action is the program's in all it sees, and other handlers don't block it.
pub fn set_action(call: &Call) -> Step {
    let [number, new, _, set_len, ..] = call.args;
    if set_len != size_of::<SignalSet>() as u64 {
        return Step::Pass;
    }
    if let Some(step) = fatal::set_action(call) {
        return step;
    }
    if number as u32 != SIGNAL.0 {
        return match read_action(GuestAddr(new)) {
            Ok(Some(action)) if action.mask.contains(SIGNAL) => {
                Step::Answer(set_without_blocking(call, action))
            }
            _ => Step::Pass,
        };
    }
    set_own_action(call)
}

/// Another signal's action, with a mask that leaves the trap signal alone.
#[must_use]
pub const fn without_blocking(action: SigAction) -> SigAction {
    SigAction { mask: action.mask.without(SignalSet::of(&[SIGNAL])), ..action }
}

/// Sets another signal's action in that way.
fn set_without_blocking(call: &Call, action: SigAction) -> Outcome {
    let action = without_blocking(action);
    let mut args = call.args;
    args[1] = (&raw const action).expose_provenance() as u64;
    // SAFETY: it is the program's own call, with a copy of its action.
    match unsafe { crate::sys::call(call.nr, args) } {
        Ok(value) => Outcome(value),
        Err(errno) => Outcome::failure(errno),
    }
}

fn set_own_action(call: &Call) -> Step {
    let [_, new, old, ..] = call.args;
    let _blocked = signal::AllBlocked::new(); // the handler takes the same lock
    let mut program = STATE.traps.program.lock();
    let Some(current) = program.get() else { return Step::Pass };
    let answer = exchange(&current, GuestAddr(new), GuestAddr(old)).and_then(|replacement| {
        if let Some(replacement) = replacement {
            signal::set_action(SIGNAL, &installed_for(&replacement))?;
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
    if old.0 != 0 && process::write_memory(old, &current.to_bytes())? != size_of::<SigAction>() {
        return Err(Errno::EFAULT);
    }
    Ok(replacement)
}

/// The action at `at`; none at address 0.
///
/// # Errors
///
/// `EFAULT` where it can't be read.
pub fn read_action(at: GuestAddr) -> Result<Option<SigAction>, Errno> {
    if at.0 == 0 {
        return Ok(None);
    }
    let mut bytes = [0_u8; size_of::<SigAction>()];
    match process::read_memory(at, &mut bytes)? {
        len if len == bytes.len() => Ok(Some(SigAction::from_bytes(bytes))),
        _ => Err(Errno::EFAULT),
    }
}

/// Decides on a SIGILL: 0 if it is dealt with, else the program's handler to jump to.
///
/// # Safety
///
/// `context` is the frame that the kernel built for the signal being handled.
pub unsafe extern "C" fn resolve(context: *mut UContext, info: *const SigInfo) -> u64 {
    // SAFETY: the kernel built the frame, and nobody else knows of it yet.
    let context = unsafe { &mut *context };
    if let Some(entry) = STATE.traps.entry_of(GuestAddr(context.mcontext.rip)) {
        context.mcontext.rip = entry;
        return 0;
    }
    // SAFETY: as above; siginfo lies in the same frame.
    deliver(unsafe { (*info).code })
}

/// Gives a SIGILL of the program's own to the program.
fn deliver(code: i32) -> u64 {
    let mut program = STATE.traps.program.lock();
    let Some(action) = program.get() else { return 0 };
    let is_fault = code > 0;
    match action.handler {
        SIG_IGN if !is_fault => 0,
        SIG_DFL | SIG_IGN => {
            // A fault that nobody handles kills, ignored or not: so it does when the instruction is met again.
            fatal::speak();
            let _ = signal::set_action(SIGNAL, &SigAction::DEFAULT);
            if !is_fault {
                signal::raise(SIGNAL);
            }
            0
        }
        handler => {
            if action.flags & SA_RESETHAND != 0 {
                program.set(SigAction::DEFAULT);
                let _ = signal::set_action(SIGNAL, &installed_for(&SigAction::DEFAULT));
            }
            handler
        }
    }
}
