//! Syscall User Dispatch for the program: `prctl(PR_SET_SYSCALL_USER_DISPATCH)`. Zone: call.
//!
//! A thread that asks for it gets a SIGSYS in place of each call, unless the call comes from a range of addresses, or a
//! byte of the program's, the selector, lets it through. The kernel itself can't do that here, since all calls come to it
//! from the gate. So what threads ask for is kept here, every call is hooked while there is one that does, and a
//! call is held against it before anything else, with the address that it would have come from
//! (kernel/entry/syscall_user_dispatch.c). What is dispatched is no call, for tools as for the kernel's own tracers.
//!
//! Two things differ. A handler's end is not dispatched, for handlers return through the gate; natively it is, unless
//! the range or the selector lets it through. And of a number the handler finds the low half in rax.

use crate::abi::bpf::{AUDIT_ARCH_I386, AUDIT_ARCH_X86_64};
use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::process::{
    PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_INCLUSIVE_ON, PR_SYS_DISPATCH_OFF, SYSCALL_DISPATCH_ALLOW,
    SYSCALL_DISPATCH_BLOCK,
};
use crate::abi::signal::{SIG_DFL, SIG_IGN, SIG_SETMASK, SigInfo, Signal, SignalSet};
use crate::abi::sysno;
use crate::addr::GuestAddr;
use crate::plan::stub;
use crate::runtime::backstop::{selector_asm, sud};
use crate::runtime::code::concern::Reason;
use crate::runtime::code::patcher;
use crate::runtime::gate::block::Block;
use crate::runtime::gate::policy::{self, DISPATCHED};
use crate::runtime::gate::step::Step;
use crate::runtime::gate::{pool, stubs};
use crate::runtime::session::followed::Followed;
use crate::runtime::signal::frame::Frame;
use crate::runtime::signal::{fatal, handlers, reserved, reserved_mask};
use crate::sys::signal::{self, AllBlocked};
use crate::sys::{ids, process};
use crate::x86::scan::INT80;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Threads that can have their calls dispatched at the same time.
const CAPACITY: usize = 1024;
/// Entries that a thread can have one of, from the one on that its id leads to: ids of threads follow on each other.
const REACH: usize = 16;

/// An address that no process has, and that the kernel says so of.
const NOWHERE: u64 = 1 << 63;

/// What one thread has asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Rule {
    /// The first address from which calls are made.
    start: u64,
    /// How many there are from there on, beyond the last address also from the first one on.
    len: u64,
    /// The address of the selector; 0 if there is none.
    selector: u64,
}

impl Rule {
    /// That of a call whose arguments are good. Inclusive means the calls to dispatch: the others are the range.
    const fn of([_, mode, start, len, selector, _]: [u64; 6]) -> Self {
        if mode == PR_SYS_DISPATCH_INCLUSIVE_ON {
            Self { start: start.wrapping_add(len), len: len.wrapping_neg(), selector }
        } else {
            Self { start, len, selector }
        }
    }

    /// Whether a call is made whatever the selector says, whose instruction ends at `at`.
    const fn lets_through(&self, at: GuestAddr) -> bool {
        at.0.wrapping_sub(self.start) < self.len
    }
}

/// The threads that have asked for it.
#[derive(Debug)]
pub(crate) struct DispatchedThreads {
    entries: [Entry; CAPACITY],
    users: AtomicU32,
}

/// All of it is the thread's own, but for its being free.
#[derive(Debug)]
struct Entry {
    /// The thread's id; 0 while the entry is free.
    thread: AtomicU32,
    start: AtomicU64,
    len: AtomicU64,
    selector: AtomicU64,
}

impl Entry {
    const fn new() -> Self {
        Self {
            thread: AtomicU32::new(0),
            start: AtomicU64::new(0),
            len: AtomicU64::new(0),
            selector: AtomicU64::new(0),
        }
    }

    fn rule(&self) -> Rule {
        let [start, len, selector] =
            [&self.start, &self.len, &self.selector].map(|word| word.load(Ordering::Relaxed));
        Rule { start, len, selector }
    }
}

impl DispatchedThreads {
    /// Nobody.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self { entries: [const { Entry::new() }; CAPACITY], users: AtomicU32::new(0) }
    }

    /// Whether any thread has asked for it.
    #[must_use]
    fn is_used(&self) -> bool {
        self.users.load(Ordering::Relaxed) != 0
    }

    fn reach(&self, thread: u32) -> impl Iterator<Item = &Entry> {
        (0..REACH).filter_map(move |step| self.entries.get((thread as usize + step) % CAPACITY))
    }

    /// The thread's entry; none for 0, which is no thread.
    fn of(&self, thread: u32) -> Option<&Entry> {
        self.reach(thread).find(|entry| thread != 0 && entry.thread.load(Ordering::Relaxed) == thread)
    }

    /// Puts the thread there; returns false if there is no room for it.
    fn insert(&self, thread: u32, rule: Rule) -> bool {
        let is_free = |entry: &&Entry| {
            let taken = entry.thread.compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed);
            taken.is_ok()
        };
        let Some(entry) = self.of(thread).or_else(|| {
            let entry = self.reach(thread).find(is_free);
            self.users.fetch_add(entry.is_some().into(), Ordering::Relaxed);
            entry
        }) else {
            return false;
        };
        entry.start.store(rule.start, Ordering::Relaxed);
        entry.len.store(rule.len, Ordering::Relaxed);
        entry.selector.store(rule.selector, Ordering::Relaxed);
        true
    }

    /// Takes the thread out, if it is there.
    fn remove(&self, thread: u32) {
        if let Some(entry) = self.of(thread) {
            entry.thread.store(0, Ordering::Relaxed);
            self.users.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The threads of this process that have asked for it. A fork's child starts with none.
static USERS: DispatchedThreads = DispatchedThreads::new();

/// Whether any thread has asked for it.
#[must_use]
pub(crate) fn is_used() -> bool {
    USERS.is_used()
}

impl Default for DispatchedThreads {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a call sets what is dispatched.
#[must_use]
pub(crate) const fn is_set_by(call: &Call) -> bool {
    call.nr == sysno::PRCTL && call.args[0] as u32 == PR_SET_SYSCALL_USER_DISPATCH
}

/// `prctl(PR_SET_SYSCALL_USER_DISPATCH)`, for the calling thread.
pub(crate) fn set(followed: Followed<'_>) -> Step {
    let Followed { call, .. } = followed;
    let outcome = judged(call).and_then(|wanted| match ids::thread_id() {
        0 => Err(Errno::EPERM), // a filter forbids to ask
        thread => change(thread, wanted),
    });
    Step::Answer(match outcome {
        Ok(()) => Outcome(0),
        Err(errno) => Outcome::failure(errno),
    })
}

/// What the call asks for, `None` for nothing to be dispatched any more, or how it fails.
fn judged(call: &Call) -> Result<Option<Rule>, Errno> {
    let [option, mode, start, len, selector, last] = call.args;
    if mode == PR_SYS_DISPATCH_OFF {
        return if [start, len, selector] == [0; 3] { Ok(None) } else { Err(Errno::EINVAL) };
    }
    // Which modes there are and what ranges they take is the kernel's to say. It looks at the selector last, and with this
    // one it never does what it is asked for.
    let asked = Call { nr: call.nr, args: [option, mode, start, len, NOWHERE, last] };
    // SAFETY: the call fails.
    match unsafe { crate::sys::program_call(asked.nr, asked.args) } {
        Err(Errno::EFAULT) if process::may_have(GuestAddr(selector)) => Ok(Some(Rule::of(call.args))),
        Err(errno) => Err(errno),
        Ok(_) => Err(Errno::EINVAL),
    }
}

/// Makes `wanted` the rule of `thread`, and every call hooked as long as there is one.
fn change(thread: u32, wanted: Option<Rule>) -> Result<(), Errno> {
    let _blocked = AllBlocked::new().ok_or(Errno::EPERM)?;
    let mut patcher = patcher::lock();
    let was_used = USERS.is_used();
    let is_done = match wanted {
        Some(rule) => USERS.insert(thread, rule),
        None => {
            USERS.remove(thread);
            true
        }
    };
    match (was_used, USERS.is_used()) {
        (false, true) => {
            policy::hook(sysno::RT_SIGPROCMASK); // for good: once it was seen, part of a mask may be kept here
            policy::hook_all(DISPATCHED);
            sud::need(&mut patcher, Reason::Dispatched, GuestAddr(0));
        }
        (true, false) => policy::unhook_all(DISPATCHED),
        _ => {}
    }
    if is_done { Ok(()) } else { Err(Errno::ENOMEM) }
}

/// The calling thread is new, or about to exit: nothing of it is dispatched.
pub(crate) fn forget_own() {
    if USERS.is_used() {
        forget(ids::thread_id());
    }
}

/// The thread is gone.
pub(crate) fn forget(thread: u32) {
    if USERS.is_used() && USERS.of(thread).is_some() {
        let _ = change(thread, None);
    }
}

/// In a forked child: its one thread starts with nothing dispatched.
pub(crate) fn forget_all() {
    if USERS.is_used() {
        let entries = USERS.entries.iter();
        entries.for_each(|entry| entry.thread.store(0, Ordering::Relaxed));
        USERS.users.store(0, Ordering::Relaxed);
        policy::unhook_all(DISPATCHED);
    }
}

/// Before anybody hears of the call in `block`: whether it is dispatched. It then ends with the signal on the program's stack,
/// as if the call had been the instruction after it.
#[cold]
#[inline(never)]
pub(crate) fn takes(block: &mut Block) -> bool {
    let at = stubs::way_back(block.stub);
    if !is_dispatched(at) {
        return false;
    }
    let is_raised = raise(&SigInfo::dispatched(at.0, block.call().nr, AUDIT_ARCH_X86_64), None);
    block.target = stubs::in_stub(block.stub, if is_raised { stub::RETURN } else { stub::SYSCALL });
    true
}

/// The same for an `int 0x80` that ends at `at` and has trapped with this frame.
#[cold]
pub(crate) fn takes_int80(frame: Frame, at: GuestAddr) -> bool {
    if !is_dispatched(at) {
        return false;
    }
    let context = frame.context();
    let info = SigInfo::dispatched(at.0, context.rax as u32, AUDIT_ARCH_I386);
    let is_raised = raise(&info, Some(frame.ucontext().sigmask));
    context.rip = if is_raised { at.0 } else { at.0.wrapping_sub(INT80.len() as u64) };
    true
}

/// Whether the calling thread's call, whose instruction ends at `at`, is dispatched.
fn is_dispatched(at: GuestAddr) -> bool {
    let Some(entry) = USERS.of(ids::thread_id()) else { return false };
    let rule = entry.rule();
    if rule.lets_through(at) {
        return false;
    }
    if rule.selector != 0 {
        // SAFETY: what can't be read ends the process, as `ends_at` says.
        match unsafe { selector_asm::read_selector(rule.selector) } {
            SYSCALL_DISPATCH_ALLOW => return false,
            SYSCALL_DISPATCH_BLOCK => {}
            _ => fatal::force(Signal::SIGSYS),
        }
    }
    true
}

/// Whether a fault at `at` is that of a selector that can't be read: the kernel kills then, whoever handles faults.
#[must_use]
pub(crate) fn faults_at(at: GuestAddr) -> bool {
    at.0 == (selector_asm::read_selector as *const ()).expose_provenance() as u64
}

/// Sends the thread the signal, which comes before the hook that runs ends, or, where signals are blocked for that, at its end.
/// Blocked otherwise, as `own_mask` says where the hook is not the call's, or ignored it kills (`force_sig_info_to_task`,
/// kernel/signal.c).
///
/// Returns false if signals have come before it: they find the thread at its site, which is then entered anew. Those that come
/// with it the kernel delivers in its own order. `info` lies on the stack of the hook.
fn raise(info: &SigInfo, own_mask: Option<SignalSet>) -> bool {
    let Some(hook) = pool::around(GuestAddr(core::ptr::from_ref(info).addr() as u64)) else {
        fatal::force(Signal::SIGSYS);
    };
    let is_masked = hook.masked.load(Ordering::Relaxed) != 0;
    let before = if is_masked { None } else { signal::change_mask(SIG_SETMASK, SignalSet::ALL) };
    let comes_next = !hook.has_waiting();
    if comes_next {
        let blocked = own_mask.or(before).or(is_masked.then_some(hook.mask));
        let is_blocked = blocked.is_some_and(|mask| mask.contains(Signal::SIGSYS))
            || reserved_mask::blocked().contains(Signal::SIGSYS);
        if is_blocked || !is_handled() || signal::queue(info).is_err() {
            fatal::force(Signal::SIGSYS);
        }
    }
    if let Some(before) = before {
        hook.raises.store(comes_next.into(), Ordering::Relaxed);
        let _ = signal::change_mask(SIG_SETMASK, before);
        hook.raises.store(0, Ordering::Relaxed);
    }
    comes_next
}

fn is_handled() -> bool {
    let installed = || signal::action(Signal::SIGSYS).ok();
    let action = || installed().map(|installed| handlers::behind(&installed).unwrap_or(installed));
    let action = reserved::action(Signal::SIGSYS).or_else(action);
    action.is_some_and(|action| action.handler != SIG_DFL && action.handler != SIG_IGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE_END: GuestAddr = GuestAddr(0x40_1002);

    #[test]
    fn a_range_is_compared_with_the_address_after_the_instruction() {
        let lets_through = |mode, start, len| Rule::of([59, mode, start, len, 0, 0]).lets_through(SITE_END);
        assert!(!lets_through(1, 0, 0));
        assert!(lets_through(1, 0x40_1002, 1));
        assert!(!lets_through(1, 0x40_1000, 2));
        assert!(lets_through(1, 0x40_1000, 3));
        assert!(!lets_through(2, 0x40_1002, 1));
        assert!(lets_through(2, 0x40_1000, 2));
    }

    #[test]
    fn threads_have_what_they_asked_for_last_until_they_are_gone() {
        let all = std::boxed::Box::new(DispatchedThreads::new());
        let rule = |start| Rule { start, len: 1, selector: 0 };
        assert!(all.insert(7, rule(1)) && all.insert(8, rule(2)) && all.insert(7, rule(3)));
        let of = |thread| all.of(thread).map(Entry::rule);
        assert_eq!([of(0), of(6), of(7), of(8)], [None, None, Some(rule(3)), Some(rule(2))]);
        all.remove(7);
        all.remove(7);
        assert_eq!((of(7), all.is_used()), (None, true));
        all.remove(8);
        assert!(!all.is_used());
    }

    #[test]
    fn no_more_threads_than_there_is_room_for() {
        let all = std::boxed::Box::new(DispatchedThreads::new());
        let rule = Rule { start: 0, len: 0, selector: 0 };
        assert!((1..=CAPACITY as u32).all(|thread| all.insert(thread, rule)));
        assert!(!all.insert(5000, rule));
        assert!(all.insert(1, rule));
    }
}
