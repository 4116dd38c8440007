//! The one place with state that changes while the program runs. Zone: call.
//!
//! Part of it is read by assembly at constant offsets: the policy by every stub, the blocks by the landings. What is
//! decided before the program starts is in [`Frozen`], written once and only read from then on.

use crate::addr::GuestAddr;
use crate::hook::interest::NUMBERS;
use crate::runtime::backstop::guest_sud::Dispatching;
use crate::runtime::backstop::sud::Net;
use crate::runtime::code::notes::Noted;
use crate::runtime::code::patched::Patched;
use crate::runtime::code::patcher::Modules;
use crate::runtime::code::traps::Traps;
use crate::runtime::gate::altstacks::AltStacks;
use crate::runtime::gate::block::Adopted;
use crate::runtime::gate::dedicated::Filters;
use crate::runtime::gate::record::Records;
use crate::runtime::memory::file_pages::FilePages;
use crate::runtime::session::Frozen;
use crate::runtime::session::output::Kept;
use crate::runtime::session::tree::Tree;
use crate::runtime::signal::handlers::Handlers;
use crate::runtime::signal::reserved::Reserved;
use crate::runtime::signal::reserved_mask::Masks;
use crate::runtime::tasks::fs_bases::Bases;
use crate::sys::lock::RobustLock;
use crate::sys::process;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Call numbers that the policy tells apart: the low 16 bits; others alias one of them and are told apart by the hook.
pub const POLICY_LEN: usize = 1 << 16;

/// Policy of a call that is hooked.
pub const HOOKED: u8 = 1;

/// Policy of a call that is hooked if its filter says so when it has returned ([`crate::runtime::calls::exit_filter`]).
pub const FILTERED: u8 = 2;

/// Part of every call's policy while a thread has its calls dispatched ([`crate::runtime::backstop::guest_sud`]).
pub const DISPATCHED: u8 = 4;

/// Part of every call's policy while threads run that the net is not under yet ([`crate::runtime::backstop::sud`]).
pub const UNARMED: u8 = 8;

/// Nobody has said the last words.
const UNSAID: u32 = 0;

/// A thread is saying them.
const SPEAKING: u32 = 1;

/// They are said.
const SAID: u32 = 2;

/// All state; see [`STATE`].
#[repr(C)]
#[derive(Debug)]
pub struct State {
    /// By call number: 0 passes, [`FILTERED`] alone is filtered, anything else is hooked.
    pub policy: [AtomicU8; POLICY_LEN],
    /// The header of the first owned block.
    pub blocks: AtomicU64,
    /// The header of the first shared block.
    pub shared_blocks: AtomicU64,
    /// The end of the shared blocks.
    pub shared_blocks_end: AtomicU64,
    /// How many forks lead from the loader's start to this process, plus one: see [`crate::runtime::gate::block`].
    pub generation: AtomicU32,
    /// How many `vfork`s there have been, plus one.
    pub vforks: AtomicU32,
    /// Which owned blocks have had owners.
    pub adopted: Adopted,
    /// The end of the program's stack.
    pub stack_top: AtomicU64,
    /// 1 if `rdfsbase` may be used (AT_HWCAP2 bit 1, Documentation/arch/x86/x86_64/fsgs.rst).
    pub fsgsbase: AtomicU8,
    /// The mask of every signal, for assembly.
    pub all_signals: AtomicU64,
    /// Where filtered calls go.
    pub filters: Filters,
    /// The inode number of the loader's own file; 0 if it is not known.
    pub own_inode: AtomicU64,
    /// Pending calls with an exit hook.
    pub records: Records,
    /// Calls whose exit event was lost because every slot was taken.
    pub missed_exits: AtomicU64,
    /// Rings of io_uring that the program has asked for.
    pub rings: AtomicU64,
    /// For the report.
    pub noted: Noted,
    /// Seccomp filters that look at where calls come from.
    pub address_filters: AtomicU64,
    /// The stderr that the program has closed, or the tools' file where it may not be opened again.
    pub kept: Kept,
    /// Lines that a tool could not write.
    pub lost_lines: AtomicU64,
    /// The process that this memory belongs to: not a `vfork` child that is a guest in it. 0 while it has none such and
    /// has not been asked for.
    pub process: AtomicU32,
    /// 1 in the process that was started first, and in guests in its memory.
    pub is_root: AtomicU32,
    /// 1 while the signals that end the process by default come to the loader first: see [`crate::runtime::signal::fatal`].
    pub heeds_signals: AtomicU32,
    /// Threads of this process besides the first.
    pub more_threads: AtomicU32,
    /// Other processes in this memory; those that ended while their parent ran are still counted.
    pub relatives: AtomicU32,
    /// A pid namespace, by its inode number, that another process in this memory has been in: ids may mean somebody
    /// else then. 0 if all are in one.
    pub other_namespace: AtomicU64,
    /// fs bases that more than one thread has.
    pub shared_bases: Bases,
    /// Threads that have freed the memory at their fs base.
    pub departing: Bases,
    /// fs bases of other processes in this memory that have one of their own.
    pub relative_bases: Bases,
    /// Its alternate signal stacks.
    pub altstacks: AltStacks,
    /// The program's signal handlers.
    pub handlers: Handlers,
    /// Code that was written to.
    pub patched: Patched,
    /// Sites that trap.
    pub traps: Traps,
    /// The program's actions for the signals that it shares with the loader.
    pub reserved: Reserved,
    /// Threads that block such signals.
    pub trap_masks: Masks,
    /// Threads whose calls the program has dispatched.
    pub dispatching: Dispatching,
    /// What catches calls from elsewhere than the gate.
    pub net: Net,
    /// Pages of files.
    pub file_pages: FilePages,
    /// The highest break that the program has asked for.
    pub highest_break: AtomicU64,
    /// Whether a thread has had reading imply execution.
    pub reading_executes: AtomicBool,
    /// What is patched; taken with all signals blocked.
    pub modules: RobustLock<Modules>,
    frozen: AtomicPtr<Frozen>,
    /// How far the last words of the process are: [`UNSAID`], [`SPEAKING`] or [`SAID`].
    last_words_are: AtomicU32,
    /// For a run without common memory.
    pub tree: Tree,
}

/// The state of this process: all zero at first, so that it takes no room in the file.
pub static STATE: State = State {
    policy: [const { AtomicU8::new(0) }; POLICY_LEN],
    blocks: AtomicU64::new(0),
    shared_blocks: AtomicU64::new(0),
    shared_blocks_end: AtomicU64::new(0),
    generation: AtomicU32::new(0),
    vforks: AtomicU32::new(0),
    adopted: Adopted::new(),
    stack_top: AtomicU64::new(0),
    fsgsbase: AtomicU8::new(0),
    all_signals: AtomicU64::new(0),
    filters: Filters::new(),
    own_inode: AtomicU64::new(0),
    records: Records::new(),
    missed_exits: AtomicU64::new(0),
    rings: AtomicU64::new(0),
    noted: Noted::new(),
    address_filters: AtomicU64::new(0),
    kept: Kept::new(),
    lost_lines: AtomicU64::new(0),
    process: AtomicU32::new(0),
    is_root: AtomicU32::new(0),
    heeds_signals: AtomicU32::new(0),
    more_threads: AtomicU32::new(0),
    relatives: AtomicU32::new(0),
    other_namespace: AtomicU64::new(0),
    shared_bases: Bases::new(),
    departing: Bases::new(),
    relative_bases: Bases::new(),
    altstacks: AltStacks::new(),
    handlers: Handlers::new(),
    patched: Patched::new(),
    traps: Traps::new(),
    reserved: Reserved::new(),
    trap_masks: Masks::new(),
    dispatching: Dispatching::new(),
    net: Net::new(),
    file_pages: FilePages::new(),
    highest_break: AtomicU64::new(0),
    reading_executes: AtomicBool::new(false),
    modules: RobustLock::new(Modules::new()),
    frozen: AtomicPtr::new(core::ptr::null_mut()),
    last_words_are: AtomicU32::new(UNSAID),
    tree: Tree::new(),
};

impl State {
    /// Fixes what does not change any more. Called once, before any call is hooked.
    pub fn freeze(&self, frozen: &'static Frozen) {
        self.frozen.store(core::ptr::from_ref(frozen).cast_mut(), Ordering::Release);
    }

    /// What was fixed before the program started; `None` only before that.
    #[must_use]
    pub fn frozen(&self) -> Option<&'static Frozen> {
        // SAFETY: only `freeze` stores to it, a reference that lives as long as the process; nobody writes through it.
        unsafe { self.frozen.load(Ordering::Relaxed).as_ref() }
    }

    /// Hooks the calls numbered `nr`.
    pub fn hook(&self, nr: u32) {
        self.set_policy(nr, HOOKED);
    }

    /// Hooks the calls numbered `nr` where their filter says so.
    pub fn filter(&self, nr: u32) {
        self.set_policy(nr, FILTERED);
    }

    fn set_policy(&self, nr: u32, policy: u8) {
        if let Some(byte) = self.policy.get(nr as usize % POLICY_LEN) {
            byte.fetch_or(policy, Ordering::Relaxed);
        }
    }

    /// Hooks every call for `reason`, which is a bit that no single call has in its policy. One caller at a time.
    pub fn hook_all(&self, reason: u8) {
        self.change_policies(|byte| byte.fetch_or(reason, Ordering::Relaxed), |policy| policy | reason);
    }

    /// Takes [`Self::hook_all`] back. One caller at a time.
    pub fn unhook_all(&self, reason: u8) {
        self.change_policies(|byte| byte.fetch_and(!reason, Ordering::Relaxed), |policy| policy & !reason);
    }

    /// Changes all policies. Those of calls that there are may be changed by [`Self::hook`] meanwhile; for the many others
    /// a locked instruction each would take a millisecond.
    fn change_policies(&self, shared: impl Fn(&AtomicU8) -> u8, own: impl Fn(u8) -> u8) {
        let (known, unknown) = self.policy.split_at(NUMBERS as usize);
        known.iter().for_each(|byte| {
            shared(byte);
        });
        unknown.iter().for_each(|byte| byte.store(own(byte.load(Ordering::Relaxed)), Ordering::Relaxed));
    }

    /// Says the last words, once in the life of the process: meanwhile, other callers wait. Returns whether it was this
    /// one that said them.
    pub fn finish_once(&self, say: impl FnOnce()) -> bool {
        let words = &self.last_words_are;
        loop {
            match words.compare_exchange(UNSAID, SPEAKING, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    say();
                    words.store(SAID, Ordering::Release);
                    return true;
                }
                Err(SAID) => return false,
                Err(_) => process::doze(),
            }
        }
    }

    /// Waits until the thread that says the last words has done so: until then nobody may end the process.
    pub fn wait_for_last_words(&self) {
        while self.last_words_are.load(Ordering::Acquire) == SPEAKING {
            process::doze();
        }
    }

    /// The process does not end after all, or is a child of one that did: its last words are to be said.
    pub fn unfinish(&self) {
        self.last_words_are.store(UNSAID, Ordering::Release);
    }
}

/// The address of the policy table.
#[must_use]
pub fn policy_address() -> GuestAddr {
    GuestAddr((&raw const STATE.policy).expose_provenance() as u64)
}
