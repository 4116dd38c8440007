//! Where pages of files are mapped without execution. Zone: call.
//!
//! What lies there, a constant of the program's mostly, can be read without asking the kernel whether it may be; and
//! nobody executes anything where code is mapped over such pages, as dynamic loaders do. A range is known from the
//! call that maps it to the one that unmaps it or makes it executable, by whatever thread, so there is no lock: an entry is
//! taken and published by its start.

use crate::addr::{AddrRange, GuestAddr};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const RANGES: usize = 256;
/// The start of an entry that is taken and not yet published.
const TAKEN: u64 = 1;

/// Ranges of pages; those that find it full are not known.
#[derive(Debug)]
pub(crate) struct FilePages {
    starts: [AtomicU64; RANGES],
    ends: [AtomicU64; RANGES],
    /// How many entries have ever been taken, from the first on: only these are looked at.
    used: AtomicUsize,
}

impl FilePages {
    /// No pages.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self {
            starts: [const { AtomicU64::new(0) }; RANGES],
            ends: [const { AtomicU64::new(0) }; RANGES],
            used: AtomicUsize::new(0),
        }
    }

    fn used(&self) -> impl Iterator<Item = (&AtomicU64, &AtomicU64)> {
        self.starts.iter().zip(&self.ends).take(self.used.load(Ordering::Acquire))
    }

    /// Adds a range.
    pub(crate) fn insert(&self, range: AddrRange) {
        if range.is_empty() || self.holds(range) {
            return;
        }
        let free = self.starts.iter().zip(&self.ends).enumerate().find(|(_, (start, _))| {
            start.load(Ordering::Relaxed) == 0
                && start.compare_exchange(0, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
        });
        if let Some((index, (start, end))) = free {
            end.store(range.end.0, Ordering::Relaxed);
            start.store(range.start.0, Ordering::Release);
            self.used.fetch_max(index + 1, Ordering::Release);
        }
    }

    /// Forgets what lies in `range`.
    pub(crate) fn remove(&self, range: AddrRange) {
        for (start, end) in self.used() {
            let from = start.load(Ordering::Acquire);
            let known = AddrRange::new(GuestAddr(from), GuestAddr(end.load(Ordering::Relaxed)));
            if from <= TAKEN || !known.overlaps(&range) {
                continue;
            }
            // Others may shrink it as well: it never grows again.
            if known.start < range.start {
                end.fetch_min(range.start.0, Ordering::Relaxed);
                self.insert(AddrRange::new(range.end, known.end));
            } else if range.end < known.end {
                start.fetch_max(range.end.0, Ordering::Relaxed);
            } else {
                let _ = start.compare_exchange(from, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// Whether all of `range` is known to hold pages of one file.
    #[must_use]
    pub(crate) fn holds(&self, range: AddrRange) -> bool {
        self.used().any(|(start, end)| {
            let from = start.load(Ordering::Acquire);
            TAKEN < from && from <= range.start.0 && range.end.0 <= end.load(Ordering::Relaxed)
        })
    }
}

/// Those of this memory. A fork keeps them.
static FILE_PAGES: FilePages = FilePages::new();

/// The pages that are known in this memory.
#[must_use]
pub(crate) fn known() -> &'static FilePages {
    &FILE_PAGES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> AddrRange {
        AddrRange::new(GuestAddr(start), GuestAddr(end))
    }

    #[test]
    fn what_was_unmapped_is_not_known_any_more() {
        let pages = FilePages::new();
        pages.insert(range(0x1000, 0x3000));
        assert!(pages.holds(range(0x2000, 0x3000)) && !pages.holds(range(0x2000, 0x3001)));
        pages.remove(range(0x2000, 0x2800));
        assert!(pages.holds(range(0x1000, 0x2000)) && !pages.holds(range(0x2000, 0x2001)));
        pages.remove(range(0x800, 0x1800));
        assert!(pages.holds(range(0x1800, 0x2000)) && !pages.holds(range(0x1000, 0x1001)));
        pages.remove(range(0x1800, 0x2000));
        assert!(!pages.holds(range(0x1800, 0x1801)));
    }

    #[test]
    fn its_room_is_used_again() {
        let pages = FilePages::new();
        for index in 1..1000_u64 {
            pages.insert(range(index << 20, (index << 20) + 1));
            assert!(pages.holds(range(index << 20, (index << 20) + 1)));
            pages.remove(range(index << 20, (index + 1) << 20));
        }
    }
}
