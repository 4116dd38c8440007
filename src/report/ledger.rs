//! Which code was looked at, which sites lead to the gate by which tactic, and which hits were left as they are.
//!
//! All of it is atomics in memory of a fixed size, of which all bytes zero is a valid value: one writes at a time, and a
//! process that ends reads whatever the others are doing. Counts are of what there is room for and of what there is not;
//! only lists end where the room does. Code of a file is known by its place in the file, so what is mapped again is not
//! counted again; code in memory without a file is one module, by its addresses.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use crate::addr::{AddrRange, GuestAddr};
use crate::hook::text::SharedText;
use crate::plan::Tactic;
use crate::report::hits::Hits;
use crate::report::left::{Left, Sort};

/// Modules that are told apart.
pub(crate) const MODULES: usize = 512;
/// Stubs that sites can have.
pub(crate) const STUBS: usize = 1 << 16;
/// Bytes of a name; of a longer one the end is kept.
pub(crate) const NAME_MAX: usize = NAME_WORDS * 8 - 1;
const NAME_WORDS: usize = 32;

/// Where code comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A file; its code is known by offsets.
    File,
    /// The kernel's own image.
    Vdso,
    /// Memory without a file: whoever generates code. All of it under one name is one module.
    Memory,
}

impl Kind {
    const ALL: [Self; 3] = [Self::File, Self::Vdso, Self::Memory];
}

/// A text, as it is about to be noted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Where it comes from.
    pub kind: Kind,
    /// The file's path or the memory's name.
    pub name: &'a [u8],
    /// The inode of the file; 0 for others.
    pub inode: u64,
    /// Where in the file it starts; of memory, where it lies.
    pub offset: u64,
    /// Where it lies.
    pub range: AddrRange,
}

/// Whether a module's code is still where it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Presence {
    /// Nobody knows.
    Unknown,
    /// It is.
    Mapped,
    /// It is not.
    Gone,
}

impl Presence {
    const ALL: [Self; 3] = [Self::Unknown, Self::Mapped, Self::Gone];
}

/// Code of one origin.
#[repr(C)]
pub(crate) struct Module {
    /// One more than the index in [`Kind::ALL`]; 0 while the record is free.
    kind: AtomicU32,
    presence: AtomicU32,
    name: SharedText<NAME_WORDS>,
    inode: AtomicU64,
    offset: AtomicU64,
    start: AtomicU64,
    end: AtomicU64,
    /// By [`Tactic::index`].
    sites: [AtomicU32; Tactic::INDEX_END],
    left: [AtomicU32; Sort::ALL.len()],
}

impl Module {
    /// Where it comes from.
    #[must_use]
    pub(crate) fn kind(&self) -> Kind {
        let index = (self.kind.load(Acquire) as usize).saturating_sub(1);
        Kind::ALL.get(index).copied().unwrap_or(Kind::Memory)
    }

    /// Its name, whose end is kept if it is too long, and its length in bytes.
    #[must_use]
    pub(crate) fn name(&self) -> ([u8; NAME_MAX], usize) {
        let mut name = [0; NAME_MAX];
        let mut len = 0;
        for (to, from) in name.iter_mut().zip(self.name.bytes()) {
            *to = from;
            len += 1;
        }
        (name, len)
    }

    /// Where it was mapped last; of memory, the text that was noted last.
    #[must_use]
    pub(crate) fn range(&self) -> AddrRange {
        AddrRange::new(GuestAddr(self.start.load(Relaxed)), GuestAddr(self.end.load(Relaxed)))
    }

    /// Where in its file it starts.
    #[must_use]
    pub(crate) fn offset(&self) -> u64 {
        self.offset.load(Relaxed)
    }

    /// The inode of its file.
    #[must_use]
    pub(crate) fn inode(&self) -> u64 {
        self.inode.load(Relaxed)
    }

    /// Whether it is still there.
    #[must_use]
    pub(crate) fn presence(&self) -> Presence {
        Presence::ALL.get(self.presence.load(Relaxed) as usize).copied().unwrap_or(Presence::Unknown)
    }

    /// Sets whether it is still there.
    pub(crate) fn set_presence(&self, presence: Presence) {
        self.presence.store(presence as u32, Relaxed);
    }

    /// How many of its sites lead to the gate by this tactic.
    #[must_use]
    pub(crate) fn sites(&self, tactic: Tactic) -> u32 {
        self.sites.get(tactic.index()).map_or(0, |count| count.load(Relaxed))
    }

    /// How many of its sites lead to the gate.
    #[must_use]
    pub(crate) fn all_sites(&self) -> u32 {
        Tactic::all().map(|tactic| self.sites(tactic)).fold(0, u32::saturating_add)
    }

    /// How many of its hits are left for this sort of reason.
    #[must_use]
    pub(crate) fn left(&self, sort: Sort) -> u32 {
        self.left.get(sort as usize).map_or(0, |count| count.load(Relaxed))
    }

    fn is(&self, place: &Place<'_>) -> bool {
        let is_named = || self.name.bytes().eq(fitted(place.name).iter().copied());
        self.kind() == place.kind
            && match place.kind {
                Kind::File => {
                    let len = self.range().len();
                    let is_inside = place.offset.checked_sub(self.offset()).is_some_and(|into| into < len);
                    self.inode() == place.inode && is_inside && is_named()
                }
                Kind::Vdso | Kind::Memory => is_named(),
            }
    }

    /// Notes where it lies, unless that is only a piece of it.
    fn settle(&self, place: &Place<'_>) {
        let is_piece = place.kind == Kind::File && place.range.len() < self.range().len();
        if !is_piece {
            self.offset.store(place.offset, Relaxed);
            self.start.store(place.range.start.0, Relaxed);
            self.end.store(place.range.end.0, Relaxed);
        }
    }

    fn begin(&self, place: &Place<'_>) {
        self.name.set(fitted(place.name));
        self.inode.store(place.inode, Relaxed);
        self.settle(place);
        self.kind.store(place.kind as u32 + 1, Release);
    }
}

/// As much of the end of `name` as a record holds.
fn fitted(name: &[u8]) -> &[u8] {
    name.split_at_checked(name.len().saturating_sub(NAME_MAX)).map_or(name, |(_, end)| end)
}

/// All that is known of the code of a process.
#[repr(C)]
pub(crate) struct Ledger {
    modules: [Module; MODULES],
    modules_len: AtomicU32,
    /// Texts that found no record.
    texts_left_out: AtomicU32,
    /// By number: the module of a stub's site, and below it the tactic.
    stubs: [AtomicU32; STUBS],
    hits: Hits,
}

impl Ledger {
    /// The modules, in the order in which they were met.
    #[must_use]
    pub(crate) fn modules(&self) -> &[Module] {
        let len = self.modules_len.load(Acquire) as usize;
        self.modules.get(..len).unwrap_or(&self.modules)
    }

    /// Texts of which nothing is known, since there was no room.
    #[must_use]
    pub(crate) fn texts_left_out(&self) -> u32 {
        self.texts_left_out.load(Relaxed)
    }

    /// The module that lies at `at`, and how far into its file that is; of memory, none is known by its address.
    #[must_use]
    pub(crate) fn module_at(&self, at: GuestAddr) -> Option<(&Module, u64)> {
        let is_it = |module: &&Module| module.kind() != Kind::Memory && module.range().contains(at);
        let module =
            self.modules().iter().filter(is_it).max_by_key(|module| module.presence() == Presence::Mapped)?;
        Some((module, module.offset() + (at.0 - module.range().start.0)))
    }

    /// The listed hits of the module at `index`: their places, and why they are left.
    pub(crate) fn hits(&self, index: usize) -> impl Iterator<Item = (u64, Left)> + Clone {
        self.hits.of(index).filter_map(|(offset, code)| Some((offset, Left::of_code(code)?)))
    }

    /// The module of a text that is looked at now, for [`Self::serve`] and [`Self::leave`]: what was known of hits there is
    /// forgotten. `None` if there is no room for one more.
    pub(crate) fn look(&self, place: &Place<'_>) -> Option<usize> {
        let known = self.modules().iter().position(|module| module.is(place));
        let index = known.unwrap_or_else(|| self.modules().len());
        let Some(module) = self.modules.get(index) else {
            self.texts_left_out.fetch_add(1, Relaxed);
            return None;
        };
        if known.is_some() {
            module.settle(place);
            self.forget(index, place);
        } else {
            module.begin(place);
            self.modules_len.store(index as u32 + 1, Release);
        }
        Some(index)
    }

    fn forget(&self, index: usize, place: &Place<'_>) {
        let Some(module) = self.modules.get(index) else { return };
        let end = place.offset.saturating_add(place.range.len());
        self.hits.remove(index, place.offset..end, |code| add_left(module, Left::of_code(code), u32::MAX));
    }

    /// The site of the stub numbered `stub` is one of that module's, and leads there by `tactic`.
    pub(crate) fn serve(&self, index: usize, stub: u32, tactic: Tactic) {
        let Some(record) = self.stubs.get(stub as usize) else { return };
        let key = (index as u32 + 1) << 8 | tactic.index() as u32;
        let before = record.swap(key, Relaxed);
        self.add_site(before, u32::MAX);
        self.add_site(key, 1);
    }

    fn add_site(&self, key: u32, more: u32) {
        let module = (key as usize >> 8).checked_sub(1).and_then(|index| self.modules.get(index));
        if let Some(count) = module.and_then(|module| module.sites.get(key as usize & 0xff)) {
            count.fetch_add(more, Relaxed);
        }
    }

    /// The hit at `offset` of that module's file, or address of its memory, stays as it is.
    pub(crate) fn leave(&self, index: usize, offset: u64, left: Left) {
        let Some(module) = self.modules.get(index) else { return };
        add_left(module, Some(left), 1);
        self.hits.add(index, offset, left.code());
    }
}

fn add_left(module: &Module, left: Option<Left>, more: u32) {
    if let Some(count) = left.and_then(|left| module.left.get(left.sort() as usize)) {
        count.fetch_add(more, Relaxed);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::find::site::{Reason, Unproved};
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    /// An empty ledger.
    pub(in crate::report) fn ledger() -> Box<Ledger> {
        let module = || Module {
            kind: AtomicU32::new(0),
            presence: AtomicU32::new(0),
            name: SharedText::new(),
            inode: AtomicU64::new(0),
            offset: AtomicU64::new(0),
            start: AtomicU64::new(0),
            end: AtomicU64::new(0),
            sites: Default::default(),
            left: Default::default(),
        };
        Box::new(Ledger {
            modules: core::array::from_fn(|_| module()),
            modules_len: AtomicU32::new(0),
            texts_left_out: AtomicU32::new(0),
            stubs: [const { AtomicU32::new(0) }; STUBS],
            hits: Hits::new(),
        })
    }

    /// A page or more of a file.
    pub(in crate::report) fn file(name: &[u8], offset: u64, start: u64, len: u64) -> Place<'_> {
        let range = AddrRange::new(GuestAddr(start), GuestAddr(start + len));
        Place { kind: Kind::File, name, inode: 7, offset, range }
    }

    pub(in crate::report) fn memory(start: u64, len: u64) -> Place<'static> {
        Place { kind: Kind::Memory, name: b"", inode: 0, ..file(b"", start, start, len) }
    }

    pub(in crate::report) fn unproved(reason: Reason, is_plausible: bool) -> Left {
        Left::Unproved(Unproved { reason, is_plausible })
    }

    #[test]
    fn code_of_a_file_that_is_mapped_again_is_not_counted_again() {
        let ledger = ledger();
        for start in [0x10_0000, 0x70_0000] {
            let index = ledger.look(&file(b"/lib/a.so", 0x2000, start, 0x3000)).unwrap();
            ledger.serve(index, 1, Tactic::of_key("pun"));
            ledger.leave(index, 0x2010, Left::Restorer);
        }
        let [module] = ledger.modules() else { panic!("one module") };
        assert_eq!(
            (module.sites(Tactic::of_key("pun")), module.all_sites(), module.left(Sort::Restorer)),
            (1, 1, 1)
        );
        assert_eq!(module.range().start, GuestAddr(0x70_0000));
        // A page of it that is looked at by itself is a piece of it, wherever it lies.
        ledger.look(&file(b"/lib/a.so", 0x3000, 0x90_0000, 0x1000));
        assert_eq!(module.range().start, GuestAddr(0x70_0000));
        assert_eq!((ledger.modules().len(), module.range().len(), module.offset()), (1, 0x3000, 0x2000));
        assert_eq!(ledger.hits(0).collect::<Vec<_>>(), [(0x2010, Left::Restorer)]);
        ledger.look(&file(b"/lib/b.so", 0x3000, 0x70_1000, 0x1000));
        assert_eq!(ledger.modules().len(), 2);
    }

    #[test]
    fn an_address_is_found_where_it_is_mapped() {
        let ledger = ledger();
        for (name, start) in [(b"/gone", 0x1000), (b"/here", 0x1000), (b"/else", 0x9000)] {
            ledger.look(&file(name, 0x2000, start, 0x1000));
        }
        ledger.look(&memory(0x5000, 0x1000));
        ledger.modules()[1].set_presence(Presence::Mapped);
        let (module, offset) = ledger.module_at(GuestAddr(0x1010)).unwrap();
        let (name, len) = module.name();
        assert_eq!((&name[..len], offset), (&b"/here"[..], 0x2010));
        assert!(ledger.module_at(GuestAddr(0x5010)).is_none());
    }

    #[test]
    fn a_stub_counts_where_it_was_used_last() {
        let ledger = ledger();
        let first = ledger.look(&memory(0x1000, 0x1000)).unwrap();
        ledger.serve(first, 9, Tactic::TRAP);
        let second = ledger.look(&file(b"/a", 0, 0x5000, 0x1000)).unwrap();
        ledger.serve(second, 9, Tactic::of_key("eviction"));
        let sites: Vec<u32> = ledger.modules().iter().map(Module::all_sites).collect();
        assert_eq!(sites, [0, 1]);
    }

    #[test]
    fn of_a_long_name_the_end_is_kept() {
        let ledger = ledger();
        let long = [b'x'; 400];
        let name = [&long[..], b"/end"].concat();
        ledger.look(&file(&name, 0, 0x1000, 0x1000));
        ledger.look(&file(&name, 0, 0x1000, 0x1000));
        let [module] = ledger.modules() else { panic!("one module") };
        let (kept, len) = module.name();
        assert_eq!((len, kept.ends_with(b"/end")), (NAME_MAX, true));
    }

    #[test]
    fn a_full_ledger_still_counts() {
        let ledger = ledger();
        let index = ledger.look(&memory(0x1000, 0x10_0000)).unwrap();
        (0..5000).for_each(|at| ledger.leave(index, 0x1000 + at, Left::Restorer));
        assert_eq!(ledger.modules()[0].left(Sort::Restorer), 5000);
        for file_number in 0..MODULES as u64 + 1 {
            ledger.look(&file(b"/f", file_number << 12, 0x1000, 0x1000));
        }
        assert_eq!((ledger.modules().len(), ledger.texts_left_out()), (MODULES, 2));
    }

    proptest! {
        #[test]
        fn hits_are_those_of_the_last_look(looks in proptest::collection::vec(
            (0_u64..4, 1_u64..4, proptest::collection::btree_set(0_u64..0x40, 0..6)), 1..12,
        )) {
            let ledger = ledger();
            let mut expected = BTreeMap::new();
            for (page, pages, hits) in looks {
                let (start, len) = (0x1000 + page * 0x10, pages * 0x10);
                let index = ledger.look(&memory(start, len)).unwrap();
                expected.retain(|at, ()| !(start..start + len).contains(at));
                for hit in hits.into_iter().filter(|hit| *hit < len) {
                    ledger.leave(index, start + hit, unproved(Reason::Overlap, false));
                    expected.insert(start + hit, ());
                }
            }
            let listed: BTreeMap<u64, ()> = ledger.hits(0).map(|(at, _)| (at, ())).collect();
            prop_assert_eq!(ledger.modules()[0].left(Sort::Implausible) as usize, expected.len());
            prop_assert_eq!(listed, expected);
        }
    }
}
