//! Sites that trap, and where they go. Zone: call.
//!
//! The last tactic, and boundaries that nothing is known to enter, have bytes that raise SIGILL (`ud2`, guaranteed by
//! SDM 2B). Sites that stay as they are raise SIGSYS where the [backstop](crate::runtime::backstop::sud) is armed. What is done about
//! either is no more than to send the thread to the site's stub, which makes the call with the state of that moment.

use crate::addr::{AddrRange, GuestAddr};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Sites that can trap at the same time.
const CAPACITY: usize = 16_384;

/// Where each trapping site goes; appended to under the patcher's lock, read by the handler at any time.
#[derive(Debug)]
pub(crate) struct Traps {
    sites: [AtomicU64; CAPACITY],
    entries: [AtomicU64; CAPACITY],
    len: AtomicU32,
}

impl Traps {
    /// An empty table.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self {
            sites: [const { AtomicU64::new(0) }; CAPACITY],
            entries: [const { AtomicU64::new(0) }; CAPACITY],
            len: AtomicU32::new(0),
        }
    }

    /// The sites that trap.
    fn sites(&self) -> impl Iterator<Item = GuestAddr> {
        let len = self.len.load(Ordering::Acquire) as usize;
        let sites = self.sites.iter().take(len).map(|at| GuestAddr(at.load(Ordering::Acquire)));
        sites.filter(|site| site.0 != 0)
    }

    fn entry_of(&self, site: GuestAddr) -> Option<u64> {
        let len = self.len.load(Ordering::Acquire) as usize;
        let index = self.sites.iter().take(len).position(|at| at.load(Ordering::Acquire) == site.0)?;
        self.entries.get(index).map(|entry| entry.load(Ordering::Relaxed))
    }
}

/// Those of this memory. A fork keeps them.
static TRAPS: Traps = Traps::new();

/// The sites that trap.
pub(crate) fn sites() -> impl Iterator<Item = GuestAddr> {
    TRAPS.sites()
}

impl Default for Traps {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a trap at `site` goes.
pub(crate) fn entry_of(site: GuestAddr) -> Option<GuestAddr> {
    TRAPS.entry_of(site).map(GuestAddr)
}

/// Makes a trap at `site` go to `entry` from now on. Returns false if the table is full: the site must not trap then.
#[must_use]
pub(crate) fn add(site: GuestAddr, entry: GuestAddr) -> bool {
    let traps = &TRAPS;
    let len = traps.len.load(Ordering::Relaxed) as usize;
    let find = |wanted: u64| traps.sites.iter().take(len).position(|at| at.load(Ordering::Relaxed) == wanted);
    let free = find(site.0).or_else(|| find(0)).unwrap_or(len);
    let (Some(at), Some(to)) = (traps.sites.get(free), traps.entries.get(free)) else { return false };
    to.store(entry.0, Ordering::Relaxed);
    at.store(site.0, Ordering::Release);
    if free == len {
        traps.len.store(len as u32 + 1, Ordering::Release);
    }
    true
}

/// Forgets the traps in `range`, whose bytes are about to be others.
pub(crate) fn forget(range: AddrRange) {
    retain(range, |_| false);
}

/// Forgets the traps in `range` but for those whose entry is `kept`.
pub(crate) fn retain(range: AddrRange, kept: impl Fn(GuestAddr) -> bool) {
    let traps = &TRAPS;
    let len = traps.len.load(Ordering::Relaxed) as usize;
    for (at, entry) in traps.sites.iter().zip(&traps.entries).take(len) {
        let is_in_range = range.contains(GuestAddr(at.load(Ordering::Relaxed)));
        if is_in_range && !kept(GuestAddr(entry.load(Ordering::Relaxed))) {
            at.store(0, Ordering::Release);
        }
    }
}
