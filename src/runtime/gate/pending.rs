//! What a call leaves for its return, as plain data. Zone: call.

use crate::abi::call::Call;
use crate::abi::process::{CLONE_VFORK, CLONE_VM};
use crate::abi::signal::SignalSet;
use crate::hook::chain::Owed;

/// How often a call returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Returns {
    /// Once.
    Once,
    /// In the caller and in a new thread or process, made with these `CLONE_*` flags.
    Twice {
        /// The flags of `clone` or `clone3`, or what `fork` and `vfork` amount to.
        flags: u64,
    },
}

impl Returns {
    /// Whether caller and child return in the same memory.
    #[must_use]
    pub(crate) const fn share_memory(self) -> bool {
        matches!(self, Self::Twice { flags } if flags & CLONE_VM != 0)
    }

    /// Whether the caller returns only when the child has left its memory.
    #[must_use]
    pub(crate) const fn wait_for_child(self) -> bool {
        const WAITING: u64 = CLONE_VM | CLONE_VFORK;
        matches!(self, Self::Twice { flags } if flags & WAITING == WAITING)
    }
}

/// A mask that the program asks for, and what the kernel is told instead: it never has signals that are reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MaskPair {
    /// What the program asks for.
    pub asked: SignalSet,
    /// What the kernel is told.
    pub kernel: SignalSet,
}

/// What a call leaves for its return.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    /// The call as the kernel was asked.
    pub call: Call,
    /// The number as the program gave it.
    pub original_nr: u32,
    /// The masks, where the kernel is told of another than the program asks for.
    pub masks: Option<MaskPair>,
    /// The arguments as the program gave them: its registers afterwards.
    pub originals: [u64; 6],
    /// The stub it came through.
    pub stub: u32,
    /// The tools that want to hear of its return.
    pub owed: Owed,
    /// How often it returns.
    pub returns: Returns,
}

/// A call that has returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Collected {
    /// What it left behind.
    pub pending: Pending,
    /// Who has returned from it.
    pub side: Side,
    /// How many `vfork`s there had been when it was made, itself included.
    pub vforks: u32,
    /// Whether the enter hook ran on a block that its thread owns, which was free from then on.
    pub ran_owned: bool,
}

/// Who returned in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// The thread that made the call.
    Caller,
    /// The new thread or process.
    Child,
}
