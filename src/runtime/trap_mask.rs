//! The trap signal in the masks of the program's threads. Zone: call.
//!
//! A trap whose signal is blocked kills (kernel/signal.c, `force_sig_info_to_task`), so the kernel's mask never has it while
//! sites trap. A thread that blocks it is remembered by its fs base instead: it reads back the mask that it set, and a
//! signal that somebody sends it waits here until it unblocks it or asks for it. All of an entry is its own thread's.

use crate::abi::call::{Call, Outcome};
use crate::abi::signal::{SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SigInfo, SignalSet};
use crate::abi::sysno;
use crate::addr::GuestAddr;
use crate::runtime::block::Block;
use crate::runtime::dispatch::Step;
use crate::runtime::pending::Returns;
use crate::runtime::state::STATE;
use crate::runtime::trap::SIGNAL;
use crate::runtime::{guest, processes, signals};
use crate::sys::signal;
use core::sync::atomic::{AtomicU64, Ordering};

/// Threads that can block the signal at the same time; others find it unblocked.
const CAPACITY: usize = 256;
/// Words of a [`SigInfo`] that a sent signal uses: number, code, sender and value.
const SENT_WORDS: usize = 4;

/// The threads that block the signal.
#[derive(Debug)]
pub struct Masks {
    entries: [Entry; CAPACITY],
}

#[derive(Debug)]
struct Entry {
    /// The thread's fs base plus one; 0 while the entry is free.
    key: AtomicU64,
    /// The signal that waits; all zero if none does.
    waiting: [AtomicU64; SENT_WORDS],
}

impl Masks {
    /// Nobody.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: [const {
                Entry { key: AtomicU64::new(0), waiting: [const { AtomicU64::new(0) }; SENT_WORDS] }
            }; CAPACITY],
        }
    }

    fn of(&self, key: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key.load(Ordering::Relaxed) == key)
    }

    fn insert(&self, key: u64) {
        let free =
            |entry: &&Entry| entry.key.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let _ = self.of(key).or_else(|| self.entries.iter().find(free));
    }

    /// Takes the thread out; returns the signal that has waited.
    fn remove(&self, key: u64) -> Option<SigInfo> {
        let entry = self.of(key)?;
        let waiting = entry.take();
        entry.key.store(0, Ordering::Relaxed);
        waiting
    }
}

impl Default for Masks {
    fn default() -> Self {
        Self::new()
    }
}

impl Entry {
    fn is_waited_for(&self) -> bool {
        self.waiting.iter().any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// Keeps a signal; one that waits already stays, as standard signals don't queue.
    fn keep(&self, info: &SigInfo) {
        if !self.is_waited_for() {
            let words = info.sent_words();
            self.waiting.iter().zip(words).for_each(|(to, from)| to.store(from, Ordering::Relaxed));
        }
    }

    fn take(&self) -> Option<SigInfo> {
        let words = self.waiting.each_ref().map(|word| word.swap(0, Ordering::Relaxed));
        (words != [0; SENT_WORDS]).then(|| SigInfo::from_sent_words(words))
    }
}

fn key() -> u64 {
    processes::fs_base().wrapping_add(1)
}

/// Whether the calling thread blocks the signal.
#[must_use]
pub fn is_blocked() -> bool {
    STATE.trap_masks.of(key()).is_some()
}

/// Before the program starts: what it inherits blocked is.
pub fn set_up() {
    if signal::unblock(SignalSet::of(&[SIGNAL])).is_some_and(|before| before.contains(SIGNAL)) {
        STATE.trap_masks.insert(key());
        STATE.hook(sysno::RT_SIGPROCMASK);
    }
}

/// Keeps a signal that was sent to the calling thread, if it blocks it.
#[must_use]
pub fn keep(info: &SigInfo) -> bool {
    let entry = STATE.trap_masks.of(key());
    if let Some(entry) = entry {
        entry.keep(info);
        STATE.hook(sysno::RT_SIGTIMEDWAIT);
        STATE.hook(sysno::RT_SIGPENDING);
    }
    entry.is_some()
}

/// Before `rt_sigprocmask`: the kernel is told of the other signals.
///
/// The call is made where the program would make it and not in the hook, for which signals may be waiting whose handlers
/// come before it.
pub fn begin(block: &Block, call: &Call) -> Step {
    let [how, set, old, ..] = call.args;
    let was = is_blocked();
    if set == 0 {
        return if was && old != 0 { Step::Tell(Returns::Once) } else { Step::Pass };
    }
    let Some(bytes) = guest::read(GuestAddr(set), GuestAddr(block.regs.rsp)) else {
        return Step::Pass; // the kernel will say EFAULT
    };
    let set = SignalSet(u64::from_ne_bytes(bytes));
    if was || set.contains(SIGNAL) && how as u32 != SIG_UNBLOCK { Step::TellOfMask(set) } else { Step::Pass }
}

/// What the kernel is told instead of `set`.
#[must_use]
pub const fn others(set: SignalSet) -> SignalSet {
    set.without(SignalSet::of(&[SIGNAL]))
}

/// After `rt_sigprocmask`, which `asked` for this if [`begin`] has read it.
pub fn finish(call: &Call, asked: Option<SignalSet>, outcome: Outcome) {
    let [how, _, old, ..] = call.args;
    if call.nr != sysno::RT_SIGPROCMASK || outcome.errno().is_some() {
        return;
    }
    if is_blocked() && old != 0 {
        add_to_set(old);
    }
    let Some(set) = asked else { return };
    match (how as u32, set.contains(SIGNAL)) {
        (SIG_BLOCK | SIG_SETMASK, true) => STATE.trap_masks.insert(key()),
        (SIG_BLOCK | SIG_UNBLOCK, false) => {}
        _ => {
            if let Some(info) = STATE.trap_masks.remove(key()) {
                let _ = signal::queue(&info);
            }
        }
    }
}

fn add_to_set(at: u64) {
    let at = core::ptr::with_exposed_provenance_mut::<SignalSet>(at as usize);
    // SAFETY: the kernel has just written there.
    unsafe { at.write_unaligned(at.read_unaligned().with(SIGNAL)) };
}

/// `rt_sigpending`: also what waits here.
pub fn pending(call: &Call) -> Step {
    let waits = STATE.trap_masks.of(key()).is_some_and(Entry::is_waited_for);
    if !waits {
        return Step::Pass;
    }
    let outcome = signals::as_it_is(call);
    if outcome.errno().is_none() {
        add_to_set(call.args[0]);
    }
    Step::Answer(outcome)
}

/// `rt_sigtimedwait`: what waits here comes first.
pub fn wait(block: &Block, call: &Call) -> Step {
    let [set, info, ..] = call.args;
    let bytes = guest::read(GuestAddr(set), GuestAddr(block.regs.rsp));
    let wants = bytes.is_some_and(|bytes| SignalSet(u64::from_ne_bytes(bytes)).contains(SIGNAL));
    let entry = STATE.trap_masks.of(key()).filter(|_| wants);
    let Some(taken) = entry.and_then(Entry::take) else { return Step::Pass };
    if info != 0 {
        // SAFETY: the program has passed room for it; a bad address is a fault, as it would be in a library.
        unsafe { core::ptr::with_exposed_provenance_mut::<SigInfo>(info as usize).write_unaligned(taken) };
    }
    Step::Answer(Outcome(SIGNAL.0.into()))
}

/// Before the calling thread's fs base changes to `base`.
pub fn rename(base: u64) {
    if let Some(entry) = STATE.trap_masks.of(key()) {
        entry.key.store(base.wrapping_add(1), Ordering::Relaxed);
    }
}

/// The mask that the program has set, in the kernel for as long as this lives: that is what an exec hands on.
#[derive(Debug)]
pub struct Real {
    before: Option<SignalSet>,
}

impl Real {
    /// Gives the kernel the mask of the program that the hook on `block` runs for.
    #[must_use]
    pub fn restored(block: &Block) -> Self {
        let own = if is_blocked() { SignalSet::of(&[SIGNAL]) } else { SignalSet::NONE };
        let before = match block.masked.load(Ordering::Relaxed) {
            0 if own == SignalSet::NONE => None,
            0 => signal::change_mask(SIG_BLOCK, own),
            _ => signal::change_mask(SIG_SETMASK, SignalSet(block.mask.0 | own.0)),
        };
        Self { before }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            let _ = signal::change_mask(SIG_SETMASK, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::signal::SI_TKILL;

    fn sent(pid: u64) -> SigInfo {
        let mut info =
            SigInfo { signo: SIGNAL.0.cast_signed(), errno: 0, code: SI_TKILL, pad: 0, fields: [0; 14] };
        info.fields[0] = pid;
        info
    }

    #[test]
    fn of_two_signals_the_first_waits_until_it_is_taken() {
        let masks = std::boxed::Box::new(Masks::new());
        assert!(masks.of(7).is_none());
        masks.insert(7);
        masks.insert(7);
        let entry = masks.of(7).unwrap();
        assert_eq!(entry.take(), None);
        entry.keep(&sent(100));
        entry.keep(&sent(200));
        assert!(entry.is_waited_for());
        assert_eq!(masks.remove(7), Some(sent(100)));
        assert!(masks.of(7).is_none() && masks.remove(7).is_none());
    }
}
