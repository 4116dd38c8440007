//! A list of the hits that stay as they are, of a fixed size. A hit that finds no room is not listed; the ledger counts it all
//! the same.
//!
//! All of it is atomics, of which all bytes zero is an empty list: one writes at a time, others read meanwhile.

use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// Hits that can be listed.
const HITS: usize = 4096;

/// A hit that stays as it is.
#[repr(C)]
struct Hit {
    /// One more than its module's index, and below it why it stays; 0 while the record is free.
    key: AtomicU32,
    /// Its place in the file; of memory, its address.
    offset: AtomicU64,
}

/// The hits of all modules.
#[repr(C)]
pub(super) struct Hits {
    /// All records from here on are free.
    len: AtomicU32,
    /// None before this one is free.
    first_free: AtomicU32,
    records: [Hit; HITS],
}

const fn key(module: usize, code: u8) -> u32 {
    (module as u32 + 1) << 8 | code as u32
}

impl Hits {
    #[cfg(test)]
    pub(super) fn new() -> Self {
        let free = || Hit { key: AtomicU32::new(0), offset: AtomicU64::new(0) };
        let [len, first_free] = [AtomicU32::new(0), AtomicU32::new(0)];
        Self { len, first_free, records: core::array::from_fn(|_| free()) }
    }

    /// Those of a module: their places, and why they stay.
    pub(super) fn of(&self, module: usize) -> impl Iterator<Item = (u64, u8)> + Clone {
        let used = self.records.get(..self.len.load(Acquire) as usize).unwrap_or(&self.records);
        used.iter().filter_map(move |hit| {
            let found = hit.key.load(Acquire);
            (found >> 8 == key(module, 0) >> 8).then(|| (hit.offset.load(Relaxed), found as u8))
        })
    }

    /// Lists a hit, if there is room.
    pub(super) fn add(&self, module: usize, offset: u64, code: u8) {
        let first = self.first_free.load(Relaxed) as usize;
        let mut from = self.records.iter().enumerate().skip(first);
        let free = from.find(|(_, hit)| hit.key.load(Relaxed) == 0);
        self.first_free.store(free.map_or(HITS, |(at, _)| at + 1) as u32, Relaxed);
        if let Some((at, hit)) = free {
            hit.offset.store(offset, Relaxed);
            hit.key.store(key(module, code), Release);
            self.len.fetch_max(at as u32 + 1, Release);
        }
    }

    /// Takes out the hits of a module in a range of places, and says of each why it stayed.
    pub(super) fn remove(&self, module: usize, places: Range<u64>, removed: impl Fn(u8)) {
        let used = self.records.iter().enumerate().take(self.len.load(Relaxed) as usize);
        for (at, hit) in used {
            let found = hit.key.load(Relaxed);
            if found >> 8 == key(module, 0) >> 8 && places.contains(&hit.offset.load(Relaxed)) {
                hit.key.store(0, Release);
                self.first_free.fetch_min(at as u32, Relaxed);
                removed(found as u8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_full_list_takes_what_there_is_room_for_again() {
        let hits = Hits::new();
        (0..HITS as u64 + 5).for_each(|place| hits.add(1, place, 7));
        assert_eq!(hits.of(1).count(), HITS);
        hits.remove(1, 10..12, |code| assert_eq!(code, 7));
        (0..3).for_each(|place| hits.add(2, 100 + place, 8));
        assert_eq!(hits.of(2).collect::<Vec<_>>(), [(100, 8), (101, 8)]);
        assert_eq!((hits.of(1).count(), hits.of(0).count()), (HITS - 2, 0));
    }
}
