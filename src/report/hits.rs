//! Hits that stay as they are, as a list of a fixed size. Of what has no room nothing is kept; whoever counts does so elsewhere.
//!
//! All of it is atomics, of which all bytes zero is an empty list: one writes at a time, others read meanwhile.

use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// Hits that can be listed.
pub(super) const HITS: usize = 4096;

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
    records: [Hit; HITS],
}

const fn key(module: usize, code: u8) -> u32 {
    (module as u32 + 1) << 8 | code as u32
}

impl Hits {
    #[cfg(test)]
    pub(super) fn new() -> Self {
        let free = || Hit { key: AtomicU32::new(0), offset: AtomicU64::new(0) };
        Self { len: AtomicU32::new(0), records: core::array::from_fn(|_| free()) }
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
        let free = self.records.iter().position(|hit| hit.key.load(Relaxed) == 0);
        if let Some((at, hit)) = free.and_then(|at| Some((at, self.records.get(at)?))) {
            hit.offset.store(offset, Relaxed);
            hit.key.store(key(module, code), Release);
            self.len.fetch_max(at as u32 + 1, Release);
        }
    }

    /// Takes out the hits of a module in a range of places, and says of each why it stayed.
    pub(super) fn remove(&self, module: usize, places: Range<u64>, removed: impl Fn(u8)) {
        for hit in &self.records {
            let found = hit.key.load(Relaxed);
            if found >> 8 == key(module, 0) >> 8 && places.contains(&hit.offset.load(Relaxed)) {
                hit.key.store(0, Release);
                removed(found as u8);
            }
        }
    }
}
