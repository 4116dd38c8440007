//! Blocks: the loader's own stacks, one for each hook that runs. Zone: call.
//!
//! A hook never runs on the program's stack, which may have no room at all. An *owned* block belongs to the thread
//! whose fs base it stores: found by hashing the fs base (a mere key, never dereferenced), taken without a locked
//! instruction, which next to a system call would cost more than all the rest. The *shared* blocks serve everybody
//! else: threads without an fs base or with one that others may share, hash collisions, processors without FSGSBASE,
//! and hooks nested in a hook of the same thread. They are taken with `xchg`.
//!
//! An owner is a key, not a promise that the thread lives: that of a dead thread serves the next one with the same fs
//! base. Two threads that have one fs base at the same time must not own a block, so whoever is about to share its
//! base, or to free the memory that it points to, disowns its block first.
//!
//! A block is busy while it bears the number of the current *generation*. A forked child starts the next one, which
//! frees, without touching them, all blocks that other threads were on when the memory was copied, page by page and so
//! not even in one moment.
//!
//! A block's header stands at its upper end, next to the stack's first page, so that a small hook touches one page.

use crate::abi::call::Call;
use crate::abi::signal::SignalSet;
use crate::addr::GuestAddr;
use crate::runtime::gate::claim::Claim;
use crate::runtime::gate::generation;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// TF, DF, NT and AC: what only `popfq` can set, and what Rust code must not run with.
pub(super) const CONTROL_FLAGS: u64 = 0x4_4500;

/// `log2` of the bytes of a block.
pub(crate) const SHIFT: u32 = 16;

/// Bytes of a block: room for planning patches and for two signal frames with AMX state (AT_MINSIGSTKSZ, 11 KiB).
pub(crate) const LEN: u64 = 1 << SHIFT;

/// The general registers of the program at a call, and where it goes on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rflags: u64,
}

/// The header of a block; offsets are used by `enter_asm`.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Block {
    /// The owner's fs base plus one; 0 while nobody owns it.
    pub owner: AtomicU64,
    /// What `owner` becomes when the current hook ends.
    pub next_owner: AtomicU64,
    /// The generation, or a later one, while a hook runs on it.
    pub busy: AtomicU32,
    /// Index of the stub that the call came through; set on the way in.
    pub stub: u32,
    /// The area of the record whose call has returned; set on the way in of a told call.
    pub area: u64,
    /// Where to jump when the hook is done.
    pub target: GuestAddr,
    /// The block that holds the first signal that waits for the hook to end; 0 if none does.
    pub waiting: AtomicU64,
    /// Where this block holds a signal: the next one that waits for the same hook; 0 if there is none.
    next: AtomicU64,
    /// 1 while its hook sends the thread a signal that looks as if the kernel had raised it.
    pub raises: AtomicU32,
    /// The owner that the backstop has been armed for ([`crate::runtime::backstop::sud`]); 0 if none has.
    pub armed_for: u64,
    /// 1 while its hook has all signals blocked.
    pub masked: AtomicU32,
    /// The mask that it had found.
    pub mask: SignalSet,
    /// What rax held when they were about to be blocked.
    pub spilled: u64,
    /// The block whose hook the signal on this one waits for; 0 if there is none.
    pub holds_for: AtomicU64,
    /// Whose hook runs on it, where nobody owns it.
    pub claim: Claim,
    /// A record slot kept for its owner's next call.
    pub spare: Spare,
    /// A mapping for the arguments of an exec that has very many; 0 while there was none.
    pub far_words: u64,
    /// The program's registers.
    pub regs: Registers,
    /// xmm0 to xmm15; the upper halves are never touched.
    pub xmm: Vectors,
}

/// Reach for a record slot: the slot plus one, 0 if none, and in the upper half the generation. What a former generation
/// left in it is no longer there.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Spare(AtomicU64);

impl Spare {
    /// The slot that is there.
    #[must_use]
    pub(crate) fn slot(&self) -> Option<u32> {
        let word = self.0.load(Ordering::Relaxed);
        let is_current = (word >> 32) as u32 == generation::current();
        (word as u32).checked_sub(1).filter(|_| is_current)
    }

    /// Puts a slot in, or takes it out.
    pub(crate) fn set(&self, slot: Option<u32>) {
        let word = slot.map_or(0, |slot| u64::from(generation::current()) << 32 | u64::from(slot + 1));
        self.0.store(word, Ordering::Relaxed);
    }
}

/// Sixteen vector registers; `movaps` wants them aligned.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vectors([[u64; 2]; 16]);

impl Vectors {
    /// As the kernel gives them to a handler.
    pub(crate) const ZERO: Self = Self([[0; 2]; 16]);
}

/// Bytes at a block's upper end that its header takes.
pub(crate) const HEADER: u64 = 1024;

const _: () = assert!(size_of::<Block>() as u64 <= HEADER);

impl Block {
    /// The call that the registers spell.
    #[must_use]
    pub(crate) const fn call(&self) -> Call {
        let regs = &self.regs;
        Call { nr: regs.rax as u32, args: [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] }
    }

    /// Puts a call that a hook may have changed into the registers.
    pub(crate) const fn set_call(&mut self, call: &Call) {
        self.regs.rax = call.nr as u64;
        self.set_arguments(call.args);
    }

    /// Puts arguments into their registers.
    pub(crate) const fn set_arguments(&mut self, args: [u64; 6]) {
        [self.regs.rdi, self.regs.rsi, self.regs.rdx, self.regs.r10, self.regs.r8, self.regs.r9] = args;
    }

    /// Its address.
    #[must_use]
    pub(crate) fn header(&self) -> GuestAddr {
        GuestAddr(core::ptr::from_ref(self).expose_provenance() as u64)
    }

    /// Its lowest byte.
    #[must_use]
    pub(crate) fn lowest(&self) -> GuestAddr {
        GuestAddr((core::ptr::from_ref(self).addr() as u64 + HEADER).wrapping_sub(LEN))
    }

    /// What the last instructions of a hook do: it is anybody's again.
    pub(crate) fn leave(&self) {
        self.masked.store(0, Ordering::Relaxed);
        self.owner.store(self.next_owner.load(Ordering::Relaxed), Ordering::Relaxed);
        self.free();
    }

    /// The mask to put back, if all signals are blocked for what runs here; whoever asks does so.
    #[must_use]
    pub(crate) fn take_mask(&self) -> Option<SignalSet> {
        (self.masked.swap(0, Ordering::Relaxed) != 0).then_some(self.mask)
    }

    /// Nothing runs on it any more, and it holds nothing.
    pub(crate) fn free(&self) {
        self.holds_for.store(0, Ordering::Relaxed);
        self.claim.clear();
        self.busy.store(0, Ordering::Release);
    }

    /// Keeps the blocks whose signals wait for its hook in `generation`.
    pub(crate) fn keep_waiting(&self, generation: u32) {
        let first = Self::at(&self.waiting);
        let waiting = core::iter::successors(first, |block| Self::at(&block.next));
        waiting.for_each(|block| block.busy.store(generation, Ordering::Relaxed));
    }

    /// Its hook was lost, with all that it has left behind.
    pub(super) fn forget(&self) {
        for link in [&self.waiting, &self.next] {
            link.store(0, Ordering::Relaxed);
        }
        self.masked.store(0, Ordering::Relaxed);
        self.raises.store(0, Ordering::Relaxed);
        self.free();
    }

    /// Whether it is `own`, or holds a signal that waits for what runs there.
    pub(super) fn belongs_to(&self, own: &Self) -> bool {
        core::ptr::eq(self, own) || self.holds_for.load(Ordering::Relaxed) == own.header().0
    }

    /// The block whose end a signal waits for that has interrupted what runs on this one.
    #[must_use]
    pub(crate) fn waits_for(&'static self) -> &'static Self {
        Self::at(&self.holds_for).unwrap_or(self)
    }

    /// Whether signals wait for its hook to end.
    #[must_use]
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) != 0
    }

    /// Makes the signal on `holder` wait for this one's hook. One that comes meanwhile waits for what runs on `holder`, so
    /// nothing else changes the list.
    pub(crate) fn append_waiting(&self, holder: &Self) {
        let first = Self::at(&self.waiting);
        let end = first.map_or(&self.waiting, |first| &first.last().next);
        end.store(holder.header().0, Ordering::Relaxed);
        holder.holds_for.store(self.header().0, Ordering::Relaxed);
    }

    /// Takes all of them out: the first, with the others behind it. One instruction, since another may come at any time.
    pub(crate) fn take_waiting(&self) -> Option<&'static Self> {
        Self::taken(&self.waiting)
    }

    /// What came after the signal that this one holds: those that waited for its delivery, then those that waited with it.
    pub(crate) fn take_followers(&self) -> Option<&'static Self> {
        let behind = Self::taken(&self.next);
        let inner = self.take_waiting();
        if let (Some(inner), Some(behind)) = (inner, behind) {
            inner.last().next.store(behind.header().0, Ordering::Relaxed);
        }
        inner.or(behind)
    }

    fn last(&'static self) -> &'static Self {
        core::iter::successors(Some(self), |block| Self::at(&block.next)).last().unwrap_or(self)
    }

    fn at(link: &AtomicU64) -> Option<&'static Self> {
        Self::behind(link.load(Ordering::Relaxed))
    }

    fn taken(link: &AtomicU64) -> Option<&'static Self> {
        Self::behind(link.swap(0, Ordering::Relaxed))
    }

    fn behind(header: u64) -> Option<&'static Self> {
        // SAFETY: links hold addresses of blocks, and blocks are mapped for good.
        (header != 0).then(|| unsafe { &*core::ptr::with_exposed_provenance::<Self>(header as usize) })
    }

    /// Whose hook runs on it, as a [`Claim`] has it.
    #[must_use]
    pub(crate) fn holder(&self) -> u64 {
        match self.owner.load(Ordering::Relaxed) {
            0 => self.claim.holder(),
            owner => owner - 1,
        }
    }

    /// Whether it belongs to a thread, and still will when the current hook has ended.
    #[must_use]
    pub(crate) fn is_owned(&self) -> bool {
        self.owner.load(Ordering::Relaxed) != 0 && self.next_owner.load(Ordering::Relaxed) != 0
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) >= generation::current()
    }
}

/// The offset in a block of a register that is saved there.
pub(super) const fn register(offset: usize) -> usize {
    offset_of!(Block, regs) + offset
}
