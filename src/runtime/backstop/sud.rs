//! The backstop: the kernel reports system calls from elsewhere (Syscall User Dispatch, Linux 5.11). Zone: call.
//!
//! The kernel lets calls through that return into the gate, all of the loader's own among them, and raises SIGSYS instead
//! of every other one (kernel/entry/syscall_user_dispatch.c). What comes of those is in [`crate::runtime::backstop::caught`].
//!
//! The kernel keeps this per thread, and no child inherits it: each child is armed before it leaves the gate for the first
//! time.

use crate::abi::errno::Errno;
use crate::abi::signal::Signal;
use crate::addr::{AddrRange, GuestAddr};
use crate::options::Intercept;
use crate::report::Caught;
use crate::runtime::code::concern::{Concern, Reason};
use crate::runtime::code::patcher::{self, Patcher};
use crate::runtime::gate::block::Block;
use crate::runtime::gate::gate_asm;
use crate::runtime::gate::policy::{self, UNARMED};
use crate::runtime::memory::maps;
use crate::runtime::session::{self, Session, last_words, not_followed};
use crate::runtime::signal::{reserved, reserved_mask};
use crate::runtime::tasks;
use crate::sys::ids::{self, Status};
use crate::sys::line::Line;
use crate::sys::process;
use crate::sys::signal::AllBlocked;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// The signal that the kernel raises.
const SIGNAL: Signal = Signal::SIGSYS;
/// Threads that are told apart when the backstop is armed late.
const CAPACITY: usize = 1024;
/// Part of the count of armed threads once some have not been told apart.
const UNCOUNTABLE: u32 = 1 << 31;

/// How the backstop stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// It is never armed.
    Off,
    /// Nothing has called for it.
    NotNeeded,
    /// It is armed.
    Armed {
        /// Why.
        why: Reason,
        /// Where the cause lies; 0 if it has no place.
        place: GuestAddr,
        /// Whether it has been armed since before the program's first instruction.
        since_start: bool,
    },
    /// It was called for, and can't be had.
    Unavailable(Errno),
}

/// What is known of the backstop; all of it is zero at first.
#[derive(Debug)]
pub(crate) struct Backstop {
    /// Whether threads that start are armed.
    is_armed: AtomicBool,
    /// Whether the program runs.
    has_begun: AtomicBool,
    is_since_start: AtomicBool,
    /// Whether a filter of the program's does not go with it.
    gives_way: AtomicBool,
    /// A [`Reason`], or 0.
    why: AtomicU32,
    place: AtomicU64,
    /// The error number that arming failed with, or 0.
    errno: AtomicU32,
    /// Whether threads that ran before may not be armed yet.
    is_joining: AtomicBool,
    /// Threads that are armed, while that is so.
    joined: AtomicU32,
    /// Their ids; 0 where there is none.
    armed: [AtomicU32; CAPACITY],
    /// Calls that were caught.
    caught: AtomicU64,
    /// Of those, calls that were made without a stub, since there was none left.
    bare: AtomicU64,
    /// Sites that were patched after a call of theirs was caught.
    patched: AtomicU64,
    /// Threads and processes that run without it.
    unarmed: AtomicU64,
    /// Seccomp filters of the program's that look at where calls come from.
    address_filters: AtomicU64,
}

impl Backstop {
    /// It is not out.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self {
            is_armed: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
            is_since_start: AtomicBool::new(false),
            gives_way: AtomicBool::new(false),
            why: AtomicU32::new(0),
            place: AtomicU64::new(0),
            errno: AtomicU32::new(0),
            is_joining: AtomicBool::new(false),
            joined: AtomicU32::new(0),
            armed: [const { AtomicU32::new(0) }; CAPACITY],
            caught: AtomicU64::new(0),
            bare: AtomicU64::new(0),
            patched: AtomicU64::new(0),
            unarmed: AtomicU64::new(0),
            address_filters: AtomicU64::new(0),
        }
    }

    fn why(&self) -> Option<Reason> {
        let why = self.why.load(Ordering::Relaxed);
        Reason::ALL.into_iter().find(|reason| *reason as u32 == why)
    }

    /// Whether threads that start are armed.
    #[must_use]
    pub(crate) fn is_armed(&self) -> bool {
        self.is_armed.load(Ordering::SeqCst)
    }

    fn gives_way(&self) -> bool {
        self.gives_way.load(Ordering::Relaxed)
    }

    fn has_armed(&self, thread: u32) -> bool {
        thread != 0 && self.armed.iter().any(|armed| armed.load(Ordering::Relaxed) == thread)
    }

    fn add_armed(&self, thread: u32) {
        let is_free = |armed: &&AtomicU32| {
            armed.compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if thread == 0 || self.armed.iter().find(is_free).is_none() {
            self.joined.fetch_or(UNCOUNTABLE, Ordering::Relaxed);
        }
    }

    fn remove_armed(&self, thread: u32) {
        for armed in self.armed.iter().filter(|armed| armed.load(Ordering::Relaxed) == thread) {
            armed.store(0, Ordering::Relaxed);
        }
    }
}

/// That of this process. A fork's child is armed anew.
static BACKSTOP: Backstop = Backstop::new();

impl Default for Backstop {
    fn default() -> Self {
        Self::new()
    }
}

/// Counters are read at the end, so no order is needed.
fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Counts a call that was caught.
pub(crate) fn count_caught() {
    count(&BACKSTOP.caught);
}

/// Counts a caught call that was made without a stub, since there was none left.
pub(crate) fn count_bare() {
    count(&BACKSTOP.bare);
}

/// Counts a site that was patched after a call of its had been caught.
pub(crate) fn count_patched() {
    count(&BACKSTOP.patched);
}

/// What has been counted so far.
#[must_use]
pub(crate) fn counts() -> Caught {
    let [calls, bare, patched, unarmed] =
        [&BACKSTOP.caught, &BACKSTOP.bare, &BACKSTOP.patched, &BACKSTOP.unarmed]
            .map(|counter| counter.load(Ordering::Relaxed));
    Caught { calls, bare, patched, unarmed }
}

/// Whether a filter of the program's looks at where calls come from: code must not be patched then.
#[must_use]
pub(crate) fn has_address_filters() -> bool {
    BACKSTOP.address_filters.load(Ordering::Relaxed) != 0
}

/// The program is about to install a filter that looks at where calls come from.
pub(crate) fn meet_address_filter() {
    count(&BACKSTOP.address_filters);
    give_way();
}

/// How it stands.
#[must_use]
pub(crate) fn standing() -> Standing {
    let backstop = &BACKSTOP;
    let errno = Some(Errno(backstop.errno.load(Ordering::Relaxed) as u16)).filter(|errno| errno.0 != 0);
    match (errno, backstop.why()) {
        (Some(errno), _) => Standing::Unavailable(errno),
        (None, Some(why)) if backstop.is_armed() => Standing::Armed {
            why,
            place: GuestAddr(backstop.place.load(Ordering::Relaxed)),
            since_start: backstop.is_since_start.load(Ordering::Relaxed),
        },
        _ if session::get().is_some_and(|session| session.intercept == Intercept::Fast) => Standing::Off,
        _ => Standing::NotNeeded,
    }
}

/// Arms the backstop before the program is there, where that is asked for.
pub(crate) fn set_up(session: &Session) {
    if session.intercept != Intercept::Exhaustive {
        return;
    }
    let armed = patcher::lock().stubs.write_restorer().and_then(|()| reserved::reserve(SIGNAL));
    let armed = armed.and_then(|()| arm_thread());
    note(Reason::Asked, GuestAddr(0));
    BACKSTOP.is_since_start.store(true, Ordering::Relaxed);
    match armed {
        Ok(()) => BACKSTOP.is_armed.store(true, Ordering::SeqCst),
        Err(errno) => fail(errno),
    }
}

fn note(why: Reason, place: GuestAddr) {
    let none = BACKSTOP.why.compare_exchange(0, why as u32, Ordering::Relaxed, Ordering::Relaxed);
    if none.is_ok() {
        BACKSTOP.place.store(place.0, Ordering::Relaxed);
    }
}

/// There can't be one.
fn fail(errno: Errno) {
    BACKSTOP.errno.store(errno.0.into(), Ordering::Relaxed);
    if is_strict() {
        end(format_args!("the kernel does not report calls from elsewhere than the gate: {errno}"));
    }
}

/// From now on the kernel reports the calling thread's calls from outside of the gate.
fn arm_thread() -> Result<(), Errno> {
    process::dispatch_calls(Some(gate_asm::whole()))
}

/// Whether memory that is writable and executable calls for the backstop.
#[must_use]
pub(crate) fn minds_rights() -> bool {
    is_strict() && BACKSTOP.why().is_none()
}

/// Before another program runs natively, which `reason` is for: under `--strict` it must not.
#[must_use]
pub(crate) fn refuses_native(path: &[u8], reason: not_followed::Reason) -> bool {
    if !is_strict() {
        return false;
    }
    let mut line = Line::<512>::new();
    line.push(b"loader: --strict: ");
    line.push(path.get(..256).unwrap_or(path));
    let _ = line.write_fmt(format_args!(" would run natively: {}\n", reason.text()));
    line.to_stderr();
    true
}

/// Whether it is armed.
#[must_use]
pub(crate) fn is_armed() -> bool {
    BACKSTOP.is_armed()
}

/// The program is about to have its calls filtered in a way that does not go with the backstop: by the addresses that they come
/// from, or so that no signal handler can return. Rather than break it, threads that are caught run without it from
/// then on; under `--strict` the filter meets the calls of the gate.
pub(crate) fn give_way() {
    if BACKSTOP.is_armed() && !is_strict() {
        BACKSTOP.gives_way.store(true, Ordering::Relaxed);
        let _ = disarm();
    }
}

/// Whether the calling thread, which was caught, runs without the backstop from now on.
#[must_use]
pub(crate) fn yields() -> bool {
    BACKSTOP.gives_way() && disarm()
}

/// Disarms the backstop for the calling thread. Returns whether that could be done.
fn disarm() -> bool {
    let is_done = process::dispatch_calls(None).is_ok();
    if is_done {
        count(&BACKSTOP.unarmed);
    }
    is_done
}

/// Deals with what patching has noted. Called before the code that it is about can run.
pub(crate) fn consider(patcher: &mut Patcher) {
    for Concern { reason, place } in patcher.concerns.take() {
        need(patcher, reason, place);
    }
}

/// Something at `place` may make calls that nobody would see: arms the backstop, or ends the process, as the options say.
pub(crate) fn need(patcher: &mut Patcher, why: Reason, place: GuestAddr) {
    let Some(session) = session::get() else { return };
    let is_enough =
        matches!(why, Reason::Unproved | Reason::Refused | Reason::Dispatched) || session.is_strict;
    if !is_enough || BACKSTOP.why().is_some() {
        return;
    }
    match session.intercept {
        Intercept::Fast if session.is_strict && why != Reason::Dispatched => {
            end(format_args!("{}", Cause(why, place)))
        }
        Intercept::Fast | Intercept::Exhaustive => {}
        // SAFETY: nothing that is allocated is left.
        Intercept::Auto => unsafe { patcher::with_scratch(|| arm(patcher, why, place)) },
    }
}

/// Memory at `at` has been made writable and executable for the program.
pub(crate) fn note_writable(at: GuestAddr) {
    let _blocked = AllBlocked::new();
    need(&mut patcher::lock(), Reason::Writable, at);
}

/// Arms the backstop. Threads that run already are armed at their next calls, which are hooked for that.
fn arm(patcher: &mut Patcher, why: Reason, place: GuestAddr) {
    let backstop = &BACKSTOP;
    note(why, place);
    let reserved = patcher.stubs.write_restorer().and_then(|()| reserved::reserve(SIGNAL));
    let has_begun = backstop.has_begun.load(Ordering::Relaxed);
    // The loader's own calls come from the gate, so while there are no others this is soon enough.
    let armed = reserved.and_then(|()| if has_begun { Ok(()) } else { arm_thread() });
    if let Err(errno) = armed {
        return fail(errno);
    }
    backstop.is_since_start.store(!has_begun, Ordering::Relaxed);
    backstop.is_armed.store(true, Ordering::SeqCst);
    if has_begun {
        reserved::unblock_in_handlers(SIGNAL);
        backstop.is_joining.store(true, Ordering::Relaxed);
        policy::hook_all(UNARMED);
    }
}

/// The program's first instruction is next.
pub(crate) fn begin() {
    let backstop = &BACKSTOP;
    backstop.has_begun.store(true, Ordering::Relaxed);
    if backstop.is_armed() {
        reserved_mask::take_over(None, SIGNAL);
    }
}

/// Arms the calling thread, whose hook runs on `block`, if the backstop has been armed since it started. Returns whether
/// there are such threads.
pub(crate) fn join(block: &mut Block) -> bool {
    let is_joining = BACKSTOP.is_joining.load(Ordering::Relaxed);
    if is_joining {
        join_late(block);
    }
    is_joining
}

#[cold]
#[inline(never)]
fn join_late(block: &mut Block) {
    if has_joined(block) {
        return;
    }
    reserved_mask::take_over(Some(block), SIGNAL);
    if let Err(errno) = arm_thread() {
        fail(errno);
        count(&BACKSTOP.unarmed);
    }
    count_joined(block);
}

/// Whether the calling thread is armed, or can't be.
fn has_joined(block: &Block) -> bool {
    let owner = block.owner.load(Ordering::Relaxed);
    owner != 0 && block.armed_for == owner || BACKSTOP.has_armed(ids::thread_id())
}

/// The calling thread need not join any more. Other processes in this memory are not counted, and armed at each of their
/// calls: a `vfork` child has its parent's block.
fn count_joined(block: &mut Block) {
    let backstop = &BACKSTOP;
    if !tasks::is_own_process() {
        return;
    }
    block.armed_for = block.owner.load(Ordering::Relaxed);
    backstop.add_armed(ids::thread_id());
    backstop.joined.fetch_add(1, Ordering::Relaxed);
    let are_all = !tasks::has_vm_sharers() && backstop.joined.load(Ordering::Relaxed) == tasks::threads();
    if are_all && let Some(_blocked) = AllBlocked::new() {
        let _patcher = patcher::lock();
        stop_joining();
    }
}

/// All threads are armed.
fn stop_joining() {
    if BACKSTOP.is_joining.swap(false, Ordering::Relaxed) {
        policy::unhook_all(UNARMED);
    }
}

/// Before the calling thread exits, whose hook runs on `block`.
pub(crate) fn leave(block: &mut Block) {
    let backstop = &BACKSTOP;
    if backstop.is_joining.load(Ordering::Relaxed) && has_joined(block) {
        block.armed_for = 0;
        backstop.remove_armed(ids::thread_id());
        backstop.joined.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Arms the backstop for a child before it leaves the gate; `is_process` says that it has the memory for itself.
pub(crate) fn begin_child(block: &mut Block, is_process: bool) {
    let backstop = &BACKSTOP;
    if is_process {
        stop_joining();
    }
    if !backstop.is_armed() {
        return;
    }
    if backstop.gives_way() {
        return count(&backstop.unarmed);
    }
    match arm_thread() {
        Ok(()) => {}
        Err(errno) if is_strict() => {
            end(format_args!("the kernel would not report the calls of a child: {errno}"))
        }
        Err(_) => count(&backstop.unarmed),
    }
    if backstop.is_joining.load(Ordering::Relaxed) {
        count_joined(block);
    }
}

/// A child is made for which there is no slot, and nobody to arm it. Returns whether it must not be made.
#[must_use]
pub(crate) fn refuses_unarmed_child() -> bool {
    BACKSTOP.is_armed() && {
        count(&BACKSTOP.unarmed);
        is_strict()
    }
}

/// Whether a call must not pass unseen.
#[must_use]
pub(crate) fn is_strict() -> bool {
    session::get().is_some_and(|session| session.is_strict)
}

/// Ends the process, since a call would pass unseen.
#[cold]
pub(crate) fn end(why: fmt::Arguments<'_>) -> ! {
    let mut line = Line::<512>::new();
    let _ = line.write_fmt(format_args!("loader: --strict: {why}\n"));
    line.to_stderr();
    if !BACKSTOP.has_begun.load(Ordering::Relaxed) {
        ids::exit_all(Status::CannotRun);
    }
    if let Some(session) = session::get() {
        last_words::end_process(session);
    }
    ids::exit_all(Status::Internal)
}

/// A reason and its place, by file and offset where there is a file.
struct Cause(Reason, GuestAddr);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(why, at) = *self;
        f.write_str(why.text())?;
        let here = maps::within(AddrRange::new(at, at.wrapping_add(1))).ok();
        match here.as_ref().and_then(|found| found.first()).filter(|mapping| mapping.inode != 0) {
            Some(mapping) => write!(f, ": {}+{:#x}", mapping.name.to_string_lossy(), mapping.offset),
            None => write!(f, ": {:#x}", at.0),
        }
    }
}
