//! fs bases by which no thread can be known, because another one may have the same. Zone: call.
//!
//! Children of `CLONE_VM` without `CLONE_SETTLS` have their parent's base until they set their own or end. And a thread
//! that has freed the memory that its base points to, as musl's detached threads do before they exit, may meet a new
//! thread there at any moment. Neither state lasts, so the tables are small; once one overflows, it contains every base.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const ENTRIES: usize = 64;

/// A set of pairs of a base and the thread for which it was put there.
#[derive(Debug)]
pub(crate) struct FsBases {
    /// 0 where the entry is free.
    bases: [AtomicU64; ENTRIES],
    /// 0 as long as the thread's id is not known.
    threads: [AtomicU32; ENTRIES],
    overflowed: AtomicU32,
}

impl FsBases {
    /// The empty set.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self {
            bases: [const { AtomicU64::new(0) }; ENTRIES],
            threads: [const { AtomicU32::new(0) }; ENTRIES],
            overflowed: AtomicU32::new(0),
        }
    }

    fn entries(&self) -> impl Iterator<Item = (&AtomicU64, &AtomicU32)> {
        self.bases.iter().zip(&self.threads)
    }

    /// Whether `base` is there for any thread.
    #[must_use]
    pub(crate) fn contains(&self, base: u64) -> bool {
        self.overflowed.load(Ordering::Relaxed) != 0
            || self.bases.iter().any(|entry| entry.load(Ordering::Relaxed) == base)
    }

    /// Puts `base` there for `thread`, which is 0 if its id is not known yet. A base of 0 is nobody's anyway.
    pub(crate) fn insert(&self, base: u64, thread: u32) {
        if base == 0 {
            return;
        }
        let is_free = |entry: &(&AtomicU64, &AtomicU32)| {
            entry.0.compare_exchange(0, base, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        match self.entries().find(is_free) {
            Some((_, of)) => of.store(thread, Ordering::Relaxed),
            None => self.overflowed.store(1, Ordering::Relaxed),
        }
    }

    /// Completes an entry of a thread whose id was not known; there is none if that has left already.
    pub(crate) fn assign(&self, base: u64, thread: u32) {
        let is_open = |(at, of): &(&AtomicU64, &AtomicU32)| {
            base != 0
                && at.load(Ordering::Relaxed) == base
                && of.compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        let _ = self.entries().find(is_open);
    }

    /// Takes away what is there of `thread`, or else of a thread whose id is not known. Returns whether there was any.
    pub(crate) fn remove(&self, base: u64, thread: u32) -> bool {
        base != 0 && (self.remove_exactly(base, thread) || self.remove_exactly(base, 0))
    }

    fn remove_exactly(&self, base: u64, thread: u32) -> bool {
        let is_it = |(at, of): &(&AtomicU64, &AtomicU32)| {
            of.load(Ordering::Relaxed) == thread
                && at.compare_exchange(base, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        self.entries().any(|entry| is_it(&entry))
    }

    /// Takes away the entries of known threads that are gone; tells which bases are no longer there by that.
    pub(crate) fn forget(&self, is_gone: impl Fn(u32) -> bool, mut tell: impl FnMut(u64)) {
        for (base, thread) in self.entries() {
            let id = thread.load(Ordering::Relaxed);
            let at = base.load(Ordering::Relaxed);
            if at != 0 && id != 0 && is_gone(id) {
                let _ = base.compare_exchange(at, 0, Ordering::Relaxed, Ordering::Relaxed);
                if !self.contains(at) {
                    tell(at);
                }
            }
        }
    }

    /// In a forked child: no other thread has come along.
    pub(crate) fn clear(&self) {
        self.bases.iter().filter(|base| base.load(Ordering::Relaxed) != 0).for_each(|base| {
            base.store(0, Ordering::Relaxed);
        });
        self.overflowed.store(0, Ordering::Relaxed);
    }
}

impl Default for FsBases {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_there_until_its_last_thread_has_left() {
        let bases = FsBases::new();
        bases.insert(0x1000, 7);
        bases.insert(0x1000, 0);
        assert!(bases.contains(0x1000) && !bases.contains(0x2000));
        assert!(bases.remove(0x1000, 7));
        assert!(bases.contains(0x1000));
        assert!(bases.remove(0x1000, 8)); // the one that was not known
        assert!(!bases.contains(0x1000));
        assert!(!bases.remove(0x1000, 8));
    }

    #[test]
    fn an_open_entry_becomes_the_threads() {
        let bases = FsBases::new();
        bases.insert(0x1000, 0);
        bases.assign(0x1000, 7);
        assert!(!bases.remove(0x1000, 8));
        assert!(bases.remove(0x1000, 7));
    }

    #[test]
    fn entries_of_threads_that_are_gone_are_forgotten() {
        let bases = FsBases::new();
        bases.insert(0x1000, 7);
        bases.insert(0x2000, 7);
        bases.insert(0x2000, 8);
        let mut told = std::vec::Vec::new();
        bases.forget(|thread| thread == 7, |base| told.push(base));
        assert_eq!(told, [0x1000]);
        assert!(!bases.contains(0x1000) && bases.contains(0x2000));
    }

    #[test]
    fn a_full_set_contains_everything() {
        let bases = FsBases::new();
        (1..=ENTRIES as u64 + 1).for_each(|base| bases.insert(base, 1));
        assert!(bases.contains(0x1234_5678));
        bases.clear();
        assert!(!bases.contains(1));
    }
}
