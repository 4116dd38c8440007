//! Who holds something of the loader's, so that it can be taken from those who never give it back. Zone: call.
//!
//! Hooks run in the program's threads, and those end anywhere: a forked child is alone in a copy of a memory in which
//! many were at work; a `vfork` child execs, or is killed in the middle of a hook. So whoever takes a block, a slot or
//! the patcher's lock leaves two facts with it: its fs base, and how many `vfork`s there had been. A parent and its
//! `vfork` child have the same fs base but never run at the same time, so what bears that base and was taken
//! after the `vfork` is the child's.

use crate::runtime::processes;
use crate::runtime::state::STATE;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The mark of the last holder.
#[derive(Debug)]
pub struct Claim {
    base: AtomicU64,
    vforks: AtomicU32,
}

impl Claim {
    /// Of nobody.
    #[must_use]
    pub const fn new() -> Self {
        Self { base: AtomicU64::new(0), vforks: AtomicU32::new(0) }
    }

    /// The thread with `base` takes it now; 0 if the base is not known.
    pub fn stamp(&self, base: u64) {
        self.base.store(base, Ordering::Relaxed);
        self.vforks.store(STATE.vforks.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The holder's fs base; 0 if it is not known.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base.load(Ordering::Relaxed)
    }

    /// How many `vfork`s there had been.
    #[must_use]
    pub fn vforks(&self) -> u32 {
        self.vforks.load(Ordering::Relaxed)
    }

    /// Whether it is one of `lost`.
    #[must_use]
    pub fn is_of(&self, lost: Lost) -> bool {
        self.base() == lost.base && self.vforks() >= lost.since
    }
}

impl Default for Claim {
    fn default() -> Self {
        Self::new()
    }
}

/// Holders that will never give anything back: those with `base` that took it after `since` vforks.
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    base: u64,
    since: u32,
}

impl Lost {
    /// All that the calling thread ever took, if its fs base is nobody else's.
    #[must_use]
    pub fn by_this_thread() -> Option<Self> {
        Some(Self { base: processes::own_base()?, since: 0 })
    }

    /// What a `vfork` child of the calling thread took, since there had been `since` vforks.
    #[must_use]
    pub fn by_child(since: u32) -> Option<Self> {
        Some(Self { base: processes::own_base()?, since })
    }
}
