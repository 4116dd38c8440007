//! The one place with state that changes while the program runs. Zone: call.
//!
//! Part of it is read by assembly at constant offsets: the policy by every stub, the blocks by the landings. What is
//! decided before the program starts is in [`Frozen`], written once and only read from then on.

use crate::addr::GuestAddr;
use crate::hook::chain::Chain;
use crate::runtime::altstacks::AltStacks;
use crate::runtime::bases::Bases;
use crate::runtime::block::Adopted;
use crate::runtime::file_pages::FilePages;
use crate::runtime::filter::Filters;
use crate::runtime::handlers::Handlers;
use crate::runtime::modules::Modules;
use crate::runtime::output::Output;
use crate::runtime::patched::Patched;
use crate::runtime::record::Records;
use crate::runtime::trap::Traps;
use crate::runtime::tree::Tree;
use crate::sys::file::Identity;
use crate::sys::lock::RobustLock;
use crate::sys::shared::Segment;
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Call numbers that the policy tells apart: the low 16 bits; others alias one of them and are told apart by the hook.
pub const POLICY_LEN: usize = 1 << 16;
/// Policy of a call that is hooked.
pub const HOOKED: u8 = 1;
/// Policy of a call that is hooked if its filter says so when it has returned ([`crate::runtime::filter`]).
pub const FILTERED: u8 = 2;

/// All state; see [`STATE`].
#[repr(C)]
#[derive(Debug)]
pub struct State {
    /// By call number: 0 passes, [`HOOKED`] or [`FILTERED`].
    pub policy: [AtomicU8; POLICY_LEN],
    /// The header of the first owned block.
    pub blocks: AtomicU64,
    /// The header of the first shared block.
    pub shared_blocks: AtomicU64,
    /// The end of the shared blocks.
    pub shared_blocks_end: AtomicU64,
    /// How many forks lead from the loader's start to this process, plus one: see [`crate::runtime::block`].
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
    /// The stderr that the program has closed, or the tools' file that it forbids to open, kept open; 0 if none.
    pub kept_output: AtomicU32,
    /// Seccomp filters that look at where calls come from.
    pub address_filters: AtomicU64,
    /// Lines that a tool could not write.
    pub lost_lines: AtomicU64,
    /// The process that this memory belongs to: not a `vfork` child that is a guest in it. 0 while it has none such and
    /// has not been asked for.
    pub process: AtomicU32,
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
    /// Pages of files that are mapped without execution.
    pub file_pages: FilePages,
    /// What is patched; taken with all signals blocked.
    pub modules: RobustLock<Modules>,
    frozen: AtomicPtr<Frozen>,
    finished: AtomicBool,
    /// For a run without common memory.
    pub tree: Tree,
}

/// What is decided before the program starts.
///
/// It lies outside of [`STATE`], which is to be all zero.
#[expect(missing_debug_implementations, reason = "tools need not be printable")]
pub struct Frozen {
    /// Who hears of the calls.
    pub tools: Chain<'static>,
    /// Where their words go.
    pub output: Output,
    /// The program's file, as `/proc/self/exe` would show it.
    pub program: &'static CStr,
    /// Which file that is.
    pub program_identity: Option<Identity>,
    /// The loader's own file, as `/proc/self/exe` shows it.
    pub loader: &'static CStr,
    /// Which file that is; `None` if it could not be found out.
    pub own: Option<Identity>,
    /// The words that started the loader, up to the last option: its name first.
    pub words: &'static [&'static CStr],
    /// Whether what the program execs runs under the loader too.
    pub follows: bool,
    /// What this process has in common with the others of the run.
    pub tree: &'static Tree,
    /// By what number an exec'd program finds that again.
    pub segment: Option<Segment>,
    /// The process that was started; its end is the tool's end.
    pub root: u32,
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
    kept_output: AtomicU32::new(0),
    address_filters: AtomicU64::new(0),
    lost_lines: AtomicU64::new(0),
    process: AtomicU32::new(0),
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
    file_pages: FilePages::new(),
    modules: RobustLock::new(Modules::new()),
    frozen: AtomicPtr::new(core::ptr::null_mut()),
    finished: AtomicBool::new(false),
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
            byte.store(policy, Ordering::Relaxed);
        }
    }

    /// True for exactly one caller in the life of the process.
    pub fn finish_once(&self) -> bool {
        !self.finished.swap(true, Ordering::AcqRel)
    }

    /// The process does not end after all.
    pub fn unfinish(&self) {
        self.finished.store(false, Ordering::Release);
    }
}

/// Adds one; counters are read at the end, so no order is needed.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The address of the policy table.
#[must_use]
pub fn policy_address() -> GuestAddr {
    GuestAddr((&raw const STATE.policy).expose_provenance() as u64)
}
