//! Sites that trap: the last tactic, and boundaries that nothing is known to enter. Zone: call.
//!
//! The bytes there raise SIGILL (`ud2`, guaranteed by SDM 2B). What is done about it is no more than to send the thread to
//! the site's stub, which makes the call with the state of that moment. The program's own use of SIGILL goes on
//! underneath: it sees the action that it set, and its handler gets every SIGILL that is not one of our sites.

use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::signal::{
    SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_RESTART, SA_RESTORER, SA_SIGINFO, SIG_DFL, SIG_IGN, SigAction,
    Signal, SignalSet,
};
use crate::abi::sysno;
use crate::addr::{AddrRange, GuestAddr};
use crate::patch::site::RESTORER;
use crate::patch::{relay, stub};
use crate::runtime::dispatch::Step;
use crate::runtime::frame::Frame;
use crate::runtime::state::STATE;
use crate::runtime::{fatal, gate_asm, handlers, int80, processes, stubs, trap_mask};
use crate::sys::lock::RobustLock;
use crate::sys::{process, signal};
use crate::x86::encode::INT3;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Sites that can trap at the same time.
const CAPACITY: usize = 16_384;

/// The signal that a trap raises.
pub const SIGNAL: Signal = Signal::SIGILL;

/// The stub that holds [`RESTORER`] instead of a site.
pub const RESTORER_STUB: u32 = 0;
/// Where in it a call is made for which there is no stack: `syscall; jmp rbx`.
pub const BARE_CALL: usize = 16;
/// Where in it a signal ends that no handler of the program's is to see.
const WAY_OUT: usize = 32;

/// The bytes of the restorer's stub.
#[must_use]
pub fn restorer_stub() -> [u8; stub::LEN] {
    let mut bytes = [INT3; stub::LEN];
    for (start, part) in [(0, &RESTORER[..]), (BARE_CALL, &[0x0f, 0x05, 0xff, 0xe3]), (WAY_OUT, &RESTORER)] {
        bytes.iter_mut().skip(start).zip(part).for_each(|(to, from)| *to = *from);
    }
    bytes
}

/// Where a signal ends that no handler of the program's is to see: its frame lies above the stack pointer.
#[must_use]
pub fn way_out() -> GuestAddr {
    restorer().wrapping_add(WAY_OUT as u64)
}

/// Whether such a signal is about to end, if the next instruction is at `at`.
#[must_use]
pub fn is_on_way_out(at: GuestAddr) -> bool {
    at.0.wrapping_sub(way_out().0) < RESTORER.len() as u64
}

/// How far `at` is into the restorer, if it is there.
#[must_use]
pub fn offset_in_restorer(at: GuestAddr) -> Option<u64> {
    let offset = at.0.wrapping_sub(restorer().0);
    (offset < RESTORER.len() as u64).then_some(offset)
}

/// Whether `at` is at the bare call, or behind it.
#[must_use]
pub fn is_in_bare_call(at: GuestAddr) -> bool {
    (BARE_CALL as u64..BARE_CALL as u64 + 4).contains(&at.0.wrapping_sub(restorer().0))
}

/// Where each trapping site goes; appended to under the modules' lock, read by the handler at any time.
#[derive(Debug)]
pub struct Traps {
    sites: [AtomicU64; CAPACITY],
    entries: [AtomicU64; CAPACITY],
    len: AtomicU32,
    /// The program's own action for the signal, while the loader's is installed.
    program: RobustLock<Actions>,
    /// 1 once there is one.
    armed: AtomicU32,
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
            Some((id, action)) if !processes::is_own_process() && id == process::id() => action,
            _ => own,
        })
    }

    fn set(&mut self, action: SigAction) {
        if processes::is_own_process() {
            self.own = Some(action);
        } else {
            self.lodger = Some((process::id(), action));
        }
    }
}

impl Traps {
    /// An empty table; the signal is the program's.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sites: [const { AtomicU64::new(0) }; CAPACITY],
            entries: [const { AtomicU64::new(0) }; CAPACITY],
            len: AtomicU32::new(0),
            program: RobustLock::new(Actions { own: None, lodger: None }),
            armed: AtomicU32::new(0),
        }
    }

    /// Whether the loader's handler is installed.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Acquire) != 0
    }

    /// The sites that trap.
    pub fn sites(&self) -> impl Iterator<Item = GuestAddr> {
        let len = self.len.load(Ordering::Acquire) as usize;
        let sites = self.sites.iter().take(len).map(|at| GuestAddr(at.load(Ordering::Acquire)));
        sites.filter(|site| site.0 != 0)
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

/// Where a trap at `site` goes.
pub fn entry_of(site: GuestAddr) -> Option<GuestAddr> {
    STATE.traps.entry_of(site).map(GuestAddr)
}

/// Makes a trap at `site` go to `entry` from now on. Returns false if the table is full: the site must not trap then.
#[must_use]
pub fn add(site: GuestAddr, entry: GuestAddr) -> bool {
    let traps = &STATE.traps;
    let len = traps.len.load(Ordering::Relaxed) as usize;
    let find = |wanted: u64| traps.sites.iter().take(len).position(|at| at.load(Ordering::Relaxed) == wanted);
    let free = find(site.0).or_else(|| find(0)).unwrap_or(len);
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
    retain(range, |_| false);
}

/// Forgets the traps in `range` but for those whose entry is `kept`.
pub fn retain(range: AddrRange, kept: impl Fn(GuestAddr) -> bool) {
    let traps = &STATE.traps;
    let len = traps.len.load(Ordering::Relaxed) as usize;
    for (at, entry) in traps.sites.iter().zip(&traps.entries).take(len) {
        let is_in_range = range.contains(GuestAddr(at.load(Ordering::Relaxed)));
        if is_in_range && !kept(GuestAddr(entry.load(Ordering::Relaxed))) {
            at.store(0, Ordering::Release);
        }
    }
}

/// The gate's restorer.
#[must_use]
pub fn restorer() -> GuestAddr {
    GuestAddr(gate_asm::stubs()).wrapping_add(u64::from(RESTORER_STUB) * stub::LEN as u64)
}

/// The action that makes traps work while the program's is `program`.
fn installed_for(program: &SigAction) -> Option<SigAction> {
    let handles = program.handler != SIG_DFL && program.handler != SIG_IGN;
    // The program's flags decide on which stack and with which mask its handler runs. SA_RESETHAND would take our
    // handler away; it is acted out in `handler_for`. A signal that nobody handles interrupts no call.
    let flags = if handles { program.flags & !SA_RESETHAND } else { SA_ONSTACK | SA_NODEFER | SA_RESTART };
    Some(SigAction {
        handler: handlers::trap_entry()?,
        flags: flags | SA_SIGINFO | SA_RESTORER,
        restorer: restorer().0,
        mask: if handles { program.mask.without(reserved()) } else { SignalSet::NONE },
    })
}

/// Makes the kernel act for the program as `action` says.
fn install(action: &SigAction) -> Result<(), Errno> {
    installed_for(action).ok_or(Errno::ENOMEM).and_then(|installed| signal::set_action(SIGNAL, &installed))
}

/// What a handler of the program's can't block: a blocked trap would kill.
#[must_use]
pub fn reserved() -> SignalSet {
    if STATE.traps.is_armed() { SignalSet::of(&[SIGNAL]) } else { SignalSet::NONE }
}

/// Whether the program's action for `signal` is kept here, and the kernel has the loader's.
#[must_use]
pub fn owns(signal: Signal) -> bool {
    reserved().contains(signal)
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
        install(&current)?;
        program.own = Some(current);
        STATE.hook(sysno::RT_SIGPROCMASK);
        STATE.traps.armed.store(1, Ordering::Release);
    }
    Ok(())
}

/// When the handler has been installed in a program that runs already: its own handlers don't block the trap signal.
pub fn unblock_in_handlers() {
    (1..=Signal::MAX.0).map(Signal).for_each(unblock_in_handler_of);
}

/// Takes the trap signal out of the mask of a handler that the program has installed so far.
fn unblock_in_handler_of(number: Signal) {
    if let Ok(mut action) = signal::action(number)
        && number != SIGNAL
        && action.mask.contains(SIGNAL)
    {
        action.mask = action.mask.without(SignalSet::of(&[SIGNAL]));
        let _ = signal::set_action(number, &action);
    }
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
        let is_ignored = STATE.traps.is_armed()
            && signal::AllBlocked::new().is_some_and(|_blocked| {
                STATE.traps.program.lock().get().is_some_and(|action| action.handler == SIG_IGN)
            });
        let action = SigAction { handler: SIG_IGN, ..SigAction::DEFAULT };
        Self { is_restored: is_ignored && signal::set_action(SIGNAL, &action).is_ok() }
    }
}

impl Drop for Ignored {
    fn drop(&mut self) {
        if self.is_restored {
            let ignore = SigAction { handler: SIG_IGN, ..SigAction::DEFAULT };
            let _ = install(&ignore);
        }
    }
}

/// Takes the lock away from whoever holds it.
///
/// # Safety
///
/// Nobody who may hold it will ever run again.
pub unsafe fn break_lock() {
    // SAFETY: as the caller vouches.
    unsafe { STATE.traps.program.force_unlock() };
}

/// `rt_sigaction` of the trap signal: its action is the program's in all that the program sees.
pub fn set_own_action(call: &Call) -> Step {
    let [_, new, old, ..] = call.args;
    // The handler takes the same lock.
    let Some(_blocked) = signal::AllBlocked::new() else { return Step::Pass };
    let mut program = STATE.traps.program.lock();
    let Some(current) = program.get() else { return Step::Pass };
    let answer = exchange(&current, GuestAddr(new), GuestAddr(old)).and_then(|replacement| {
        if let Some(replacement) = replacement {
            install(&replacement)?;
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
fn read_action(at: GuestAddr) -> Result<Option<SigAction>, Errno> {
    if at.0 == 0 {
        return Ok(None);
    }
    let mut bytes = [0_u8; size_of::<SigAction>()];
    match process::read_memory(at, &mut bytes)? {
        len if len == bytes.len() => Ok(Some(SigAction::from_bytes(bytes))),
        _ => Err(Errno::EFAULT),
    }
}

/// Decides on a trap signal: `None` if it is dealt with, else the program's handler for it.
#[must_use]
pub fn resolve(frame: Frame) -> Option<GuestAddr> {
    let context = frame.context();
    let at = GuestAddr(context.rip);
    // Where none is known any more, a jump to a stub may have taken its place meanwhile.
    let jump = || relay::entry_from(at, stubs::range(), |at| STATE.patched.window(at), |_| Some(at));
    let info = frame.info();
    if let Some(entry) = entry_of(at).or_else(|| jump().filter(|_| info.code > 0)) {
        int80::go_on(frame, entry);
        return None;
    }
    if info.code <= 0 && trap_mask::keep(info) {
        return None;
    }
    handler_for(frame)
}

/// What the program does about a signal of its own.
fn handler_for(frame: Frame) -> Option<GuestAddr> {
    let mut program = STATE.traps.program.lock();
    let action = program.get()?;
    let is_fault = frame.info().code > 0;
    // A fault kills whose signal the program has blocked, whatever its action (`force_sig_info_to_task`).
    let is_lethal = is_fault && trap_mask::is_blocked();
    match action.handler {
        SIG_IGN if !is_fault => None,
        handler if is_lethal || handler == SIG_DFL || handler == SIG_IGN => {
            fatal::speak();
            if is_fault {
                // Ignored or not it kills, for it is blocked when the instruction is met again (kernel/signal.c,
                // `force_sig_info_to_task`).
                let mask = &mut frame.ucontext().sigmask;
                *mask = mask.with(SIGNAL);
            } else {
                signal::set_default(SIGNAL);
                signal::raise(SIGNAL);
                // Only the first process of a machine survives that (kernel/signal.c, `sig_task_ignored`).
                let _ = install(&action);
            }
            None
        }
        handler => {
            if action.flags & SA_RESETHAND != 0 {
                program.set(SigAction::DEFAULT);
                let _ = install(&SigAction::DEFAULT);
            }
            Some(GuestAddr(handler))
        }
    }
}
