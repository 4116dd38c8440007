//! Tests of [`super`].

use super::*;
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;

/// An empty ledger.
pub(in crate::report) fn ledger() -> Box<Ledger> {
    let hit = || Hit { key: AtomicU32::new(0), offset: AtomicU64::new(0) };
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
        hits_len: AtomicU32::new(0),
        stubs: [const { AtomicU32::new(0) }; STUBS],
        hits: core::array::from_fn(|_| hit()),
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
fn every_reason_is_read_back() {
    let unproved =
        REASONS.into_iter().flat_map(|reason| [true, false].map(|plausible| unproved(reason, plausible)));
    let refused = REFUSALS.into_iter().map(Left::Refused);
    for left in unproved.chain(refused).chain([Left::Unwritten, Left::Restorer]) {
        assert_eq!(Left::of_code(left.code()), Some(left));
    }
    assert_eq!(Left::of_code(0xff), None);
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
    for at in 0..HITS as u64 + 5 {
        ledger.leave(index, 0x1000 + at, Left::Restorer);
    }
    assert_eq!(ledger.modules()[0].left(Sort::Restorer), HITS as u32 + 5);
    assert_eq!(ledger.hits(index).count(), HITS);
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
