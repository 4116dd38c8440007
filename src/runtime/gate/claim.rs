//! Who holds a block or a slot, so that it can be taken from those who never give it back. Zone: call.
//!
//! Hooks run in the program's threads, and those end anywhere: a forked child is alone in a copy of a memory in which
//! many were at work; a `vfork` child execs, or is killed in the middle of a hook. So whoever takes something
//! leaves with it its fs base, and how many `vfork`s there had been. A parent and its `vfork` child have the same fs base
//! but never run at the same time, so what bears that base and was taken after the `vfork` is the child's. Other
//! processes in this memory run beside their parent, and leave their id instead. Whoever gives something back clears its
//! claim first, or the next holder could be taken for the last.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How many `vfork`s there have been, plus one once hooks run; also read by `enter_asm`. A fork keeps it.
pub(super) static VFORKS: AtomicU32 = AtomicU32::new(0);

/// Before any hook runs: what has never been claimed is told from what was claimed before the first `vfork`.
pub(crate) fn set_up() {
    VFORKS.store(1, Ordering::Relaxed);
}

/// Counts a `vfork` that is about to be made.
pub(crate) fn count_vfork() {
    VFORKS.fetch_add(1, Ordering::Relaxed);
}

/// Tells an id from an fs base, which is an address of the program's.
const IS_ID: u64 = 1 << 63;

/// The mark of a holder.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Claim {
    /// Its fs base or, with [`IS_ID`], its id; 0 for nobody. Also set by `enter_asm`.
    pub holder: AtomicU64,
    /// How many `vfork`s there had been, from 1 on; also set by `enter_asm`.
    pub vforks: AtomicU32,
}

/// A [`Claim::holder`] that has an id.
#[must_use]
pub(crate) const fn holder_of(thread: u32) -> u64 {
    IS_ID | thread as u64
}

impl Claim {
    /// Of nobody.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self { holder: AtomicU64::new(0), vforks: AtomicU32::new(0) }
    }

    /// `holder` takes it now.
    pub(crate) fn stamp(&self, holder: u64) {
        self.vforks.store(VFORKS.load(Ordering::Relaxed), Ordering::Relaxed);
        self.holder.store(holder, Ordering::Relaxed);
    }

    /// Nobody holds it from now on.
    pub(crate) fn clear(&self) {
        self.holder.store(0, Ordering::Relaxed);
    }

    /// The holder; 0 if there is none, or nothing is known of it.
    #[must_use]
    pub(crate) fn holder(&self) -> u64 {
        self.holder.load(Ordering::Relaxed)
    }

    /// How many `vfork`s there had been; 0 if it has never had a holder.
    #[must_use]
    pub(crate) fn vforks(&self) -> u32 {
        self.vforks.load(Ordering::Relaxed)
    }

    /// Whether it is one of `lost`.
    #[must_use]
    pub(crate) fn is_of(&self, lost: Lost) -> bool {
        match lost {
            Lost::Since { base, vforks } => self.holder() == base && self.vforks() >= vforks,
            Lost::Gone(is_gone) => {
                let holder = self.holder();
                holder & IS_ID != 0 && is_gone(holder as u32)
            }
        }
    }
}

impl Default for Claim {
    fn default() -> Self {
        Self::new()
    }
}

/// Holders that will never give anything back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lost {
    /// Those with `base`, not 0, that took it when there had been that many `vforks` or more.
    Since {
        /// No other thread that runs now has it.
        base: u64,
        /// 0 for all that the thread ever took.
        vforks: u32,
    },
    /// Those that have left their id, if that is nobody's any more.
    Gone(fn(u32) -> bool),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_took_is_told_from_what_its_parent_holds() {
        let claim = Claim { holder: AtomicU64::new(0x1000), vforks: AtomicU32::new(5) };
        assert!(claim.is_of(Lost::Since { base: 0x1000, vforks: 5 }));
        assert!(!claim.is_of(Lost::Since { base: 0x1000, vforks: 6 }));
        assert!(!claim.is_of(Lost::Since { base: 0x2000, vforks: 0 }));
        claim.clear();
        assert!(!claim.is_of(Lost::Since { base: 0x1000, vforks: 0 }));
    }

    #[test]
    fn only_who_has_left_an_id_can_be_gone() {
        let claim = Claim { holder: AtomicU64::new(holder_of(7)), vforks: AtomicU32::new(1) };
        assert!(claim.is_of(Lost::Gone(|thread| thread == 7)));
        assert!(!claim.is_of(Lost::Gone(|thread| thread == 8)));
        claim.holder.store(7, Ordering::Relaxed);
        assert!(!claim.is_of(Lost::Gone(|_| true)));
    }
}
