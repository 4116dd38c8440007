//! The program's alternate signal stacks. Zone: call.
//!
//! The kernel starts a frame at the top of the alternate stack unless the stack pointer is on that stack already
//! (`get_sigframe`, arch/x86/kernel/signal.c). A hook runs on a block, so while one runs for a handler that is on the
//! alternate stack, the next frame would overwrite what that handler has there. Such a hook therefore blocks all signals
//! before it leaves the alternate stack and unblocks them when it is back (`enter_asm`). To find out whether a stack pointer
//! is on one, the ranges are hashed by 8 KiB pieces of the address space.

use crate::abi::call::Call;
use crate::abi::signal::{SET_LEN, SIG_SETMASK, SS_DISABLE, SigStack, SignalSet};
use crate::abi::sysno;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// Hooks on an alternate stack block signals.
const BLOCKS: u8 = 0;
/// The program is about to restrict its calls so that they can't.
const SUSPENDED: u8 = 1;
/// They can't.
const NEVER: u8 = 2;

/// `log2` of the bytes of a piece.
pub(crate) const PIECE_SHIFT: u32 = 13;
/// Entries; a power of two.
pub(crate) const ENTRIES: usize = 1024;

/// The stacks, read by `enter_asm`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct AltStacks {
    /// 1 if hooks have to look at them.
    pub exist: AtomicU8,
    /// The address of the entries.
    pub entries_at: AtomicU64,
    /// The mask of every signal, for assembly.
    pub all_signals: AtomicU64,
    entries: [Entry; ENTRIES],
    /// Whether there is one.
    is_one_known: AtomicBool,
    /// Whether hooks may block signals: [`BLOCKS`], [`SUSPENDED`] or [`NEVER`].
    blocking: AtomicU8,
}

/// A range that holds all stacks with a piece here: at worst too many addresses count as being on one.
#[repr(C, align(16))]
#[derive(Debug)]
struct Entry {
    start: AtomicU64,
    /// The last stack pointer that is on the stack; 0 while there is none.
    last: AtomicU64,
}

impl AltStacks {
    /// None.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self {
            exist: AtomicU8::new(0),
            entries_at: AtomicU64::new(0),
            all_signals: AtomicU64::new(0),
            entries: [const { Entry { start: AtomicU64::new(0), last: AtomicU64::new(0) } }; ENTRIES],
            is_one_known: AtomicBool::new(false),
            blocking: AtomicU8::new(BLOCKS),
        }
    }

    fn insert(&self, stack: &SigStack) {
        let last = stack.base.wrapping_add(stack.len);
        for piece in stack.base >> PIECE_SHIFT..=last >> PIECE_SHIFT {
            let Some(entry) = self.entries.get(piece as usize % ENTRIES) else { continue };
            let is_empty = entry.last.load(Ordering::Relaxed) == 0;
            entry.last.fetch_max(last, Ordering::Relaxed);
            if is_empty {
                entry.start.store(stack.base, Ordering::Relaxed);
            } else {
                entry.start.fetch_min(stack.base, Ordering::Relaxed);
            }
        }
        self.entries_at
            .store(core::ptr::from_ref(&self.entries).expose_provenance() as u64, Ordering::Relaxed);
        self.all_signals.store(SignalSet::ALL.0, Ordering::Relaxed);
        self.is_one_known.store(true, Ordering::Release);
        self.renew();
    }

    /// Has hooks look at the stacks if there are any and signals can be blocked.
    fn renew(&self) {
        let does_block = self.blocking.load(Ordering::Relaxed) == BLOCKS;
        let do_look = does_block && self.is_one_known.load(Ordering::Acquire);
        self.exist.store(do_look.into(), Ordering::Release);
    }

    fn change_blocking(&self, from: u8, to: u8) {
        let _ = self.blocking.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
        self.renew();
    }

    /// The check that `enter_asm` makes.
    #[cfg(test)]
    fn hold(&self, sp: u64) -> bool {
        let entry = &self.entries[(sp >> PIECE_SHIFT) as usize % ENTRIES];
        entry.start.load(Ordering::Relaxed) <= sp && sp <= entry.last.load(Ordering::Relaxed)
    }
}

/// Those of this process. A fork keeps them.
pub(super) static ALTSTACKS: AltStacks = AltStacks::new();

impl Default for AltStacks {
    fn default() -> Self {
        Self::new()
    }
}

/// The program has a new one: hooks of handlers on it block signals.
pub(crate) fn note(stack: &SigStack) {
    if stack.flags & SS_DISABLE == 0 {
        ALTSTACKS.insert(stack);
    }
}

/// Before the program restricts its calls: no hook blocks signals any more if the restriction does not let that through.
/// A signal that comes in the middle of a hook may then overwrite what is on the alternate stack, but the call that would end
/// the process is not made.
pub(crate) fn suspend_unless(lets_through: impl Fn(&Call) -> bool) {
    let at = core::ptr::from_ref(&ALTSTACKS.all_signals).expose_provenance() as u64;
    let call = Call { nr: sysno::RT_SIGPROCMASK, args: [SIG_SETMASK.into(), at, at, SET_LEN, 0, 0] };
    if !lets_through(&call) {
        ALTSTACKS.change_blocking(BLOCKS, SUSPENDED);
    }
}

/// After that: for good, or because it could not be restricted, as before.
pub(crate) fn decide(is_restricted: bool) {
    ALTSTACKS.change_blocking(SUSPENDED, if is_restricted { NEVER } else { BLOCKS });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stack(base: u64, len: u64) -> SigStack {
        SigStack { base, flags: 0, pad: 0, len }
    }

    #[test]
    fn hooks_look_at_stacks_only_while_signals_can_be_blocked() {
        let stacks = std::boxed::Box::new(AltStacks::new());
        let do_look = || stacks.exist.load(Ordering::Relaxed) != 0;
        stacks.change_blocking(BLOCKS, SUSPENDED);
        stacks.insert(&stack(0x1000, 0x1000));
        assert!(!do_look());
        stacks.change_blocking(SUSPENDED, BLOCKS);
        assert!(do_look());
        stacks.change_blocking(BLOCKS, SUSPENDED);
        stacks.change_blocking(SUSPENDED, NEVER);
        stacks.insert(&stack(0x8000, 0x1000));
        stacks.change_blocking(SUSPENDED, BLOCKS);
        assert!(!do_look());
    }

    #[test]
    fn no_address_is_on_a_stack_while_there_is_none() {
        let stacks = std::boxed::Box::new(AltStacks::new());
        assert!(!stacks.hold(0x7fff_0000_1000));
    }

    proptest! {
        #[test]
        fn every_address_on_a_stack_is_found(
            known in proptest::collection::vec((0x1000_u64..1 << 46, 2048_u64..200_000), 1..20),
            which in any::<prop::sample::Index>(),
            offset in 1_u64..200_000,
        ) {
            let stacks = std::boxed::Box::new(AltStacks::new());
            known.iter().for_each(|&(base, len)| stacks.insert(&stack(base, len)));
            let (base, len) = known[which.index(known.len())];
            prop_assert!(stacks.hold(base + offset.min(len)));
        }
    }
}
