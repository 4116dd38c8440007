//! Sites that trap, and where they go. Zone: call.
//!
//! The last tactic, and boundaries that nothing is known to enter, have bytes that raise SIGILL (`ud2`, guaranteed by
//! SDM 2B). Sites that stay as they are raise SIGSYS where the [backstop](crate::runtime::backstop::sud) is armed. What is done about
//! either is no more than to send the thread to the site's stub, which makes the call with the state of that moment.
//!
//! A handler may ask at any time, so there is no lock for readers: an entry is published by its site. The list of entries
//! is searched from its start. Once it is long, a table of hints says where in it a site probably stands; a hint that is wrong
//! or missing costs the search.

use crate::addr::{AddrRange, GuestAddr};
use crate::plan::TrapSite;
use crate::runtime::code::share;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Sites that can trap at the same time: about as many as there are stubs, and their places fit into a hint.
const CAPACITY: usize = u16::MAX as usize;
/// Up to this length the list is searched without hints, which keeps their pages untouched.
const SHORT: usize = 512;
/// Hints; a power of two.
const HINTS: usize = 65_536;
/// Neighbouring hints that may be a site's.
const PROBES: usize = 4;

/// Where each trapping site goes; changed under the patcher's lock, read by the handler at any time.
#[derive(Debug)]
pub(crate) struct Traps {
    /// 0 where an entry is free.
    sites: [AtomicU64; CAPACITY],
    entries: [AtomicU64; CAPACITY],
    /// How many entries have ever been used, from the first on.
    len: AtomicU32,
    /// The place in the list of a site that hashes to here, plus one; 0 where there is none.
    hints: [AtomicU16; HINTS],
}

/// Those of this memory. A fork keeps them.
static TRAPS: Traps = Traps::new();

impl Traps {
    /// An empty table.
    #[must_use]
    const fn new() -> Self {
        Self {
            sites: [const { AtomicU64::new(0) }; CAPACITY],
            entries: [const { AtomicU64::new(0) }; CAPACITY],
            len: AtomicU32::new(0),
            hints: [const { AtomicU16::new(0) }; HINTS],
        }
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Acquire) as usize
    }

    /// The sites that trap, each with its place; free places as address 0.
    fn places(&self) -> impl Iterator<Item = (usize, GuestAddr)> {
        self.sites.iter().take(self.len()).map(|at| GuestAddr(at.load(Ordering::Acquire))).enumerate()
    }

    /// The hints that may be those of `site`.
    fn hints_of(&self, site: GuestAddr) -> impl Iterator<Item = &AtomicU16> {
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 divided by the golden ratio
        let first = (site.0.wrapping_mul(SPREAD) >> 48) as usize;
        (0..PROBES).filter_map(move |step| self.hints.get((first + step) % HINTS))
    }

    fn is_at(&self, place: usize, site: GuestAddr) -> bool {
        place < self.len() && self.sites.get(place).is_some_and(|at| at.load(Ordering::Acquire) == site.0)
    }

    fn place_of(&self, site: GuestAddr) -> Option<usize> {
        if site.0 == 0 {
            return None;
        }
        let hinted = || {
            let mut places = self.hints_of(site).filter_map(place_in);
            places.find(|place| self.is_at(*place, site))
        };
        let listed = || self.places().find(|(_, at)| *at == site).map(|(place, _)| place);
        if self.len() <= SHORT { listed() } else { hinted().or_else(listed) }
    }

    fn entry_of(&self, site: GuestAddr) -> Option<GuestAddr> {
        let entry = self.entries.get(self.place_of(site)?)?;
        Some(GuestAddr(entry.load(Ordering::Relaxed)))
    }

    /// Leaves a hint for what stands at `place`, in place of one that is not true any more, or of the last.
    fn hint(&self, place: usize, site: GuestAddr) {
        let is_stale = |hint: &&AtomicU16| {
            let there = place_in(hint).and_then(|place| self.sites.get(place));
            there.is_none_or(|at| [0, site.0].contains(&at.load(Ordering::Relaxed)))
        };
        if let Some(hint) = self.hints_of(site).find(is_stale).or_else(|| self.hints_of(site).last()) {
            hint.store(place as u16 + 1, Ordering::Relaxed);
        }
    }

    /// How many more sites there is room for.
    fn room(&self) -> usize {
        let len = self.len();
        CAPACITY - len + self.places().filter(|(_, at)| at.0 == 0).count()
    }

    /// Makes each of `traps`, which are in ascending order, go where it says.
    fn add_all(&self, traps: &[TrapSite]) -> bool {
        let of = |at: GuestAddr| traps.binary_search_by_key(&at, |trap| trap.at).ok();
        let known = self.places().filter_map(|(place, at)| Some((place, traps.get(of(at)?)?)));
        // Whoever patches a text has forgotten its traps first, so this is seldom one, and then a search for each will do.
        let mut are_known = false;
        for (place, trap) in known {
            are_known |= self.put(place, trap);
        }
        let was_short = self.len() <= SHORT;
        let mut next = 0;
        let mut news = traps.iter().filter(|trap| !are_known || self.place_of(trap.at).is_none());
        let are_added = news.all(|trap| {
            while next < self.len() && self.sites.get(next).is_some_and(|at| at.load(Ordering::Relaxed) != 0)
            {
                next += 1;
            }
            self.put(next, trap)
        });
        if self.len() > SHORT {
            let hinted = self.places().filter(|(_, at)| at.0 != 0 && (was_short || of(*at).is_some()));
            hinted.for_each(|(place, at)| self.hint(place, at));
        }
        are_added
    }

    fn put(&self, place: usize, trap: &TrapSite) -> bool {
        let (Some(at), Some(to)) = (self.sites.get(place), self.entries.get(place)) else { return false };
        to.store(trap.entry.0, Ordering::Relaxed);
        at.store(trap.at.0, Ordering::Release);
        self.len.fetch_max(place as u32 + 1, Ordering::Release);
        true
    }

    fn forget_all(&self, traps: &[TrapSite]) {
        for (place, at) in self.places() {
            let is_one = traps.binary_search_by_key(&at, |trap| trap.at).is_ok();
            if let Some(site) = self.sites.get(place).filter(|_| is_one) {
                site.store(0, Ordering::Release);
            }
        }
    }

    fn retain(&self, range: AddrRange, kept: impl Fn(GuestAddr) -> bool) {
        for (at, entry) in self.sites.iter().zip(&self.entries).take(self.len()) {
            let is_in_range = range.contains(GuestAddr(at.load(Ordering::Relaxed)));
            if is_in_range && !kept(GuestAddr(entry.load(Ordering::Relaxed))) {
                at.store(0, Ordering::Release);
            }
        }
    }
}

/// The place that a hint names.
fn place_in(hint: &AtomicU16) -> Option<usize> {
    usize::from(hint.load(Ordering::Relaxed)).checked_sub(1)
}

/// The sites that trap.
pub(crate) fn sites() -> impl Iterator<Item = GuestAddr> {
    TRAPS.places().map(|(_, at)| at).filter(|at| at.0 != 0)
}

/// Where a trap at `site` goes.
pub(crate) fn entry_of(site: GuestAddr) -> Option<GuestAddr> {
    TRAPS.entry_of(site)
}

/// Whether one module may have so many more.
pub(super) fn has_room_for(wanted: usize) -> bool {
    // Nearly always there is room without a look at what has become free.
    share::is_granted(wanted, CAPACITY - TRAPS.len(), CAPACITY)
        || share::is_granted(wanted, TRAPS.room(), CAPACITY)
}

/// Makes each of `traps`, which are in ascending order, go where it says from now on. Returns false if the table is full: those
/// sites must not trap then.
#[must_use]
pub(crate) fn add_all(traps: &[TrapSite]) -> bool {
    TRAPS.add_all(traps)
}

/// Makes a trap at `site` go to `entry` from now on. Returns false if the table is full: the site must not trap then.
#[must_use]
pub(crate) fn add(site: GuestAddr, entry: GuestAddr) -> bool {
    TRAPS.add_all(&[TrapSite { at: site, entry }])
}

/// Forgets each of `traps`, which are in ascending order.
pub(crate) fn forget_all(traps: &[TrapSite]) {
    TRAPS.forget_all(traps);
}

/// Forgets the traps in `range`, whose bytes are about to be others.
pub(crate) fn forget(range: AddrRange) {
    retain(range, |_| false);
}

/// Forgets the traps in `range` but for those whose entry is `kept`.
pub(crate) fn retain(range: AddrRange, kept: impl Fn(GuestAddr) -> bool) {
    TRAPS.retain(range, kept);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    fn trap(at: u64) -> TrapSite {
        TrapSite { at: GuestAddr(at), entry: GuestAddr(at ^ 0xff_0000) }
    }

    fn table() -> Box<Traps> {
        // SAFETY: all zero is the empty table.
        unsafe { Box::<Traps>::new_zeroed().assume_init() }
    }

    #[test]
    fn every_site_is_found_in_a_long_list() {
        let all: Vec<TrapSite> = (1..=20_000).map(|index| trap(index * 7)).collect();
        let table = table();
        assert!(table.add_all(&all));
        assert!(all.iter().all(|site| table.entry_of(site.at) == Some(site.entry)));
        assert_eq!(table.entry_of(GuestAddr(3)), None);
        assert_eq!(table.room(), CAPACITY - all.len());
    }

    #[test]
    fn a_full_table_says_so() {
        let all: Vec<TrapSite> = (1..=CAPACITY as u64).map(trap).collect();
        let table = table();
        assert!(table.add_all(&all));
        assert!(!table.add_all(&[trap(1 << 40)]));
        assert!(table.add_all(&all[..3]));
        table.retain(AddrRange::new(GuestAddr(2), GuestAddr(3)), |_| false);
        assert!(table.add_all(&[trap(1 << 40)]));
        assert!(!table.add_all(&[trap(1 << 41)]));
        assert_eq!(table.entry_of(GuestAddr(1 << 40)), Some(trap(1 << 40).entry));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn it_says_what_a_map_says(
            batches in proptest::collection::vec((proptest::collection::btree_set(1_u64..3000, 0..700), 1_u64..3000, 0_u64..1500, 1_u64..1 << 30), 1..6),
        ) {
            let (table, mut model) = (table(), BTreeMap::new());
            for (sites, start, len, entry) in batches {
                let range = AddrRange::new(GuestAddr(start), GuestAddr(start + len));
                table.retain(range, |entry| entry.0.is_multiple_of(2));
                model.retain(|at, entry: &mut u64| !range.contains(GuestAddr(*at)) || entry.is_multiple_of(2));
                let traps: Vec<TrapSite> = sites
                    .iter()
                    .map(|at| TrapSite { at: GuestAddr(*at), entry: GuestAddr(entry + at) })
                    .collect();
                prop_assert!(table.add_all(&traps));
                model.extend(traps.iter().map(|trap| (trap.at.0, trap.entry.0)));
                for at in 0..3000 {
                    prop_assert_eq!(table.entry_of(GuestAddr(at)).map(|entry| entry.0), model.get(&at).copied());
                }
            }
        }
    }
}
