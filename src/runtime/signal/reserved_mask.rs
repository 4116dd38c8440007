//! Reserved signals in the masks of the program's threads. Zone: call.
//!
//! A trap whose signal is blocked kills (kernel/signal.c, `force_sig_info_to_task`), so the kernel's mask never has the
//! signals that are [reserved](crate::runtime::signal::reserved). A thread that blocks one is remembered by its fs base instead:
//! it reads back the mask that it set, and a signal that somebody sends it waits here until it unblocks it or asks for
//! it. All of an entry is its own thread's.

use crate::abi::call::Outcome;
use crate::abi::signal::{SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SigInfo, Signal, SignalSet};
use crate::abi::sysno;
use crate::addr::GuestAddr;
use crate::runtime::gate::block::Block;
use crate::runtime::gate::pending::{MaskPair, Returns};
use crate::runtime::gate::policy;
use crate::runtime::gate::step::Step;
use crate::runtime::memory::read;
use crate::runtime::session::followed::{Followed, Returned};
use crate::runtime::signal::reservable::{self, RESERVABLE};
use crate::runtime::signal::{action, reserved};
use crate::runtime::tasks;
use crate::sys::signal;
use core::sync::atomic::{AtomicU64, Ordering};

/// Threads that can block such a signal at the same time; others find it unblocked.
const CAPACITY: usize = 256;
/// Words of a [`SigInfo`] that a sent signal uses: number, code, sender and value.
const SENT_WORDS: usize = 4;

/// The threads that block such signals.
#[derive(Debug)]
pub(crate) struct Masks {
    entries: [Entry; CAPACITY],
}

#[derive(Debug)]
struct Entry {
    /// The thread's fs base plus one; 0 while the entry is free.
    key: AtomicU64,
    /// What it blocks.
    blocked: AtomicU64,
    /// The signals that wait, as in [`RESERVABLE`]; all zero if none does.
    waiting: [Waiting; RESERVABLE.len()],
}

#[derive(Debug)]
struct Waiting([AtomicU64; SENT_WORDS]);

impl Masks {
    /// Nobody.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self { entries: [const { Entry::new() }; CAPACITY] }
    }

    fn of(&self, key: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key.load(Ordering::Relaxed) == key)
    }

    /// What the thread blocks.
    fn blocked(&self, key: u64) -> SignalSet {
        self.of(key).map_or(SignalSet::NONE, |entry| SignalSet(entry.blocked.load(Ordering::Relaxed)))
    }

    /// The thread blocks `set`. Who finds no entry free blocks nothing.
    fn block(&self, key: u64, set: SignalSet) {
        let free =
            |entry: &&Entry| entry.key.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if set == SignalSet::NONE {
            return;
        }
        if let Some(entry) = self.of(key).or_else(|| self.entries.iter().find(free)) {
            entry.blocked.fetch_or(set.0, Ordering::Relaxed);
        }
    }

    /// It blocks them no longer; returns those that have waited.
    fn unblock(&self, key: u64, set: SignalSet) -> [Option<SigInfo>; RESERVABLE.len()] {
        let Some(entry) = self.of(key) else { return [None; RESERVABLE.len()] };
        let mut freed = [None; RESERVABLE.len()];
        for ((freed, waiting), signal) in freed.iter_mut().zip(&entry.waiting).zip(RESERVABLE) {
            if set.contains(signal) {
                *freed = waiting.take();
            }
        }
        if entry.blocked.fetch_and(!set.0, Ordering::Relaxed) & !set.0 == 0 {
            entry.blocked.store(0, Ordering::Relaxed);
            entry.key.store(0, Ordering::Relaxed);
        }
        freed
    }
}

/// Those of this memory. A fork keeps them.
static MASKS: Masks = Masks::new();

impl Default for Masks {
    fn default() -> Self {
        Self::new()
    }
}

impl Entry {
    const fn new() -> Self {
        let waiting = [const { Waiting([const { AtomicU64::new(0) }; SENT_WORDS]) }; RESERVABLE.len()];
        Self { key: AtomicU64::new(0), blocked: AtomicU64::new(0), waiting }
    }

    /// The signals that wait.
    fn waiting(&self) -> SignalSet {
        let waits = RESERVABLE.into_iter().zip(&self.waiting).filter(|(_, waiting)| waiting.is_there());
        waits.fold(SignalSet::NONE, |set, (signal, _)| set.with(signal))
    }

    /// Keeps a signal; one that waits already stays, as standard signals don't queue.
    fn keep(&self, signal: Signal, info: &SigInfo) {
        let place = reservable::place_of(signal).and_then(|place| self.waiting.get(place));
        if let Some(Waiting(words)) = place.filter(|waiting| !waiting.is_there()) {
            words.iter().zip(info.sent_words()).for_each(|(to, from)| to.store(from, Ordering::Relaxed));
        }
    }

    /// Takes the first that waits and is in `set`.
    fn take(&self, set: SignalSet) -> Option<(Signal, SigInfo)> {
        let wanted = RESERVABLE.into_iter().zip(&self.waiting).filter(|(signal, _)| set.contains(*signal));
        wanted.into_iter().find_map(|(signal, waiting)| Some((signal, waiting.take()?)))
    }
}

impl Waiting {
    fn is_there(&self) -> bool {
        self.0.iter().any(|word| word.load(Ordering::Relaxed) != 0)
    }

    fn take(&self) -> Option<SigInfo> {
        let words = self.0.each_ref().map(|word| word.swap(0, Ordering::Relaxed));
        (words != [0; SENT_WORDS]).then(|| SigInfo::from_sent_words(words))
    }
}

fn key() -> u64 {
    tasks::fs_base().wrapping_add(1)
}

/// What the kernel is never told to block: reserved or not, SIGILL may be at any time.
fn kept() -> SignalSet {
    reserved::reserved().with(reserved::TRAP_SIGNAL)
}

/// The signals of [`RESERVABLE`] that the calling thread blocks and the kernel does not know of.
#[must_use]
pub(crate) fn blocked() -> SignalSet {
    MASKS.blocked(key())
}

/// Makes the kernel forget that the calling thread blocks `signal`. `block` is that of the hook that runs.
pub(crate) fn take_over(block: Option<&mut Block>, signal: Signal) {
    let set = SignalSet::of(&[signal]);
    let hidden = block.filter(|block| block.masked.load(Ordering::Relaxed) != 0);
    let mask = match &hidden {
        Some(block) => Some(block.mask),
        None => signal::change_mask(SIG_BLOCK, SignalSet::NONE),
    };
    if !mask.is_some_and(|mask| mask.contains(signal)) {
        return;
    }
    // In this order: what is pending comes at once.
    MASKS.block(key(), set);
    policy::hook(sysno::RT_SIGPROCMASK);
    match hidden {
        Some(block) => block.mask = block.mask.without(set),
        None => {
            let _ = signal::unblock(set);
        }
    }
}

/// Keeps a signal that was sent to the calling thread, if it blocks it.
#[must_use]
pub(crate) fn keep(info: &SigInfo) -> bool {
    let signal = Signal(info.signo.cast_unsigned());
    let entry = MASKS.of(key()).filter(|_| blocked().contains(signal));
    if let Some(entry) = entry {
        entry.keep(signal, info);
        policy::hook(sysno::RT_SIGTIMEDWAIT);
        policy::hook(sysno::RT_SIGPENDING);
    }
    entry.is_some()
}

/// Before `rt_sigprocmask`: the kernel is told of the other signals.
///
/// The call is made where the program would make it and not in the hook, for which signals may be waiting whose handlers
/// come before it.
pub(crate) fn begin(followed: Followed<'_>) -> Step {
    let Followed { block, call, .. } = followed;
    let [how, set, old, ..] = call.args;
    let was = blocked() != SignalSet::NONE;
    if set == 0 {
        return if was && old != 0 { Step::PassThenExit(Returns::Once) } else { Step::Pass };
    }
    let Some(bytes) = read::read(GuestAddr(set), GuestAddr(block.regs.rsp)) else {
        return Step::Pass; // the kernel will say EFAULT
    };
    let set = SignalSet(u64::from_ne_bytes(bytes));
    let kernel = others(set);
    let is_told = was || kernel != set && how as u32 != SIG_UNBLOCK;
    if is_told { Step::PassWithMask(MaskPair { asked: set, kernel }) } else { Step::Pass }
}

/// What the kernel is told instead of `set`.
#[must_use]
fn others(set: SignalSet) -> SignalSet {
    set.without(kept())
}

/// After `rt_sigprocmask`, with the masks that [`begin`] has found, if it has.
pub(crate) fn finish(returned: Returned<'_>) -> Outcome {
    let [how, _, old, ..] = returned.call().args;
    if !returned.has_failed() {
        if old != 0 {
            add_to_set(old, blocked());
        }
        if let Some(MaskPair { asked, .. }) = returned.collected.pending.masks {
            change(how as u32, asked);
        }
    }
    returned.outcome
}

/// The calling thread's mask changes as it has asked; what has waited for that comes now.
fn change(how: u32, asked: SignalSet) {
    let (blocks, unblocks) = match how {
        SIG_BLOCK => (asked, SignalSet::NONE),
        SIG_UNBLOCK => (SignalSet::NONE, asked),
        _ => (asked, SignalSet::ALL.without(asked)),
    };
    MASKS.block(key(), blocks.without(others(blocks)));
    let freed = MASKS.unblock(key(), unblocks);
    freed.iter().flatten().for_each(|info| {
        let _ = signal::queue(info);
    });
}

fn add_to_set(at: u64, more: SignalSet) {
    let at = core::ptr::with_exposed_provenance_mut::<SignalSet>(at as usize);
    if more != SignalSet::NONE {
        // SAFETY: the kernel has just written there.
        unsafe { at.write_unaligned(SignalSet(at.read_unaligned().0 | more.0)) };
    }
}

/// `rt_sigpending`: also what waits here.
pub(crate) fn pending(followed: Followed<'_>) -> Step {
    let Followed { call, .. } = followed;
    let waiting = MASKS.of(key()).map_or(SignalSet::NONE, Entry::waiting);
    if waiting == SignalSet::NONE {
        return Step::Pass;
    }
    let outcome = action::as_it_is(call);
    if outcome.errno().is_none() {
        add_to_set(call.args[0], waiting);
    }
    Step::Answer(outcome)
}

/// `rt_sigtimedwait`: what waits here comes first.
pub(crate) fn wait(followed: Followed<'_>) -> Step {
    let Followed { block, call, .. } = followed;
    let [set, info, ..] = call.args;
    let Some(entry) = MASKS.of(key()) else { return Step::Pass };
    let Some(bytes) = read::read(GuestAddr(set), GuestAddr(block.regs.rsp)) else { return Step::Pass };
    let Some((signal, taken)) = entry.take(SignalSet(u64::from_ne_bytes(bytes))) else { return Step::Pass };
    if info != 0 {
        // SAFETY: the program has passed room for it; a bad address is a fault, as it would be in a library.
        unsafe { core::ptr::with_exposed_provenance_mut::<SigInfo>(info as usize).write_unaligned(taken) };
    }
    Step::Answer(Outcome(signal.0.into()))
}

/// Before the calling thread's fs base changes to `base`.
pub(crate) fn rename(base: u64) {
    if let Some(entry) = MASKS.of(key()) {
        entry.key.store(base.wrapping_add(1), Ordering::Relaxed);
    }
}

/// The mask that the program has set, in the kernel for as long as this lives: that is what an exec hands on.
#[derive(Debug)]
pub(crate) struct Real {
    before: Option<SignalSet>,
}

impl Real {
    /// Gives the kernel the mask of the program that the hook on `block` runs for.
    #[must_use]
    pub(crate) fn restored(block: &Block) -> Self {
        let own = blocked();
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

    fn sent(signal: Signal, pid: u64) -> SigInfo {
        let mut info =
            SigInfo { signo: signal.0.cast_signed(), errno: 0, code: SI_TKILL, pad: 0, fields: [0; 14] };
        info.fields[0] = pid;
        info
    }

    #[test]
    fn of_two_signals_the_first_waits_until_it_is_taken() {
        let [trap, call] = RESERVABLE;
        let set = |signal| SignalSet::of(&[signal]);
        let masks = std::boxed::Box::new(Masks::new());
        assert!(masks.of(7).is_none());
        masks.block(7, set(trap));
        masks.block(7, set(trap));
        let entry = masks.of(7).unwrap();
        assert_eq!(entry.take(SignalSet::ALL), None);
        entry.keep(trap, &sent(trap, 100));
        entry.keep(trap, &sent(trap, 200));
        masks.block(7, set(call));
        entry.keep(call, &sent(call, 300));
        assert_eq!(entry.waiting(), SignalSet::of(&RESERVABLE));
        assert_eq!(entry.take(set(call)), Some((call, sent(call, 300))));
        assert_eq!(masks.unblock(7, set(trap)), [Some(sent(trap, 100)), None]);
        assert_eq!(masks.blocked(7), set(call));
        assert_eq!(masks.unblock(7, SignalSet::ALL), [None; 2]);
        assert!(masks.of(7).is_none());
    }
}
