//! Counts of calls and errors in memory that the processes of a run share.
//!
//! [`Counts`] has a row for every number: one of them serves a whole tree. An [`Entry`] is the same for one process, in
//! few bytes, since a process makes few kinds of calls. Everything is counted where it stays: whatever ends a
//! process, and however many end at once, nothing has to be gathered. Entries are handed out once and in order, so the
//! memory in use is a prefix, and its size is the only limit: later processes are counted together.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::abi::sysno;
use crate::hook::interest::NUMBERS;
use crate::hook::text::SharedText;

/// Of all unknown numbers together.
const UNKNOWN: usize = NUMBERS as usize;
/// Numbers of the i386 table that are told apart.
const I386: u32 = 512;
const ROWS: usize = UNKNOWN + 1 + I386 as usize;

/// Kinds of calls that an entry tells apart.
const CELLS: usize = 64;

/// Words of a process's name: as many bytes as the kernel keeps (`TASK_COMM_LEN`, include/linux/sched.h).
const NAME_WORDS: usize = 16 / 8;

/// How often each call was made, and how often it failed: a row for each number of x86-64, one for all unknown numbers
/// together, and one for each of the i386 table.
///
/// All bytes zero is a valid value: nothing counted yet.
#[repr(C)]
pub(crate) struct Counts {
    calls: [AtomicU64; ROWS],
    errors: [AtomicU64; ROWS],
}

impl Default for Counts {
    fn default() -> Self {
        Self { calls: [const { AtomicU64::new(0) }; ROWS], errors: [const { AtomicU64::new(0) }; ROWS] }
    }
}

impl Counts {
    /// Counts a call.
    pub(crate) fn add_call(&self, nr: u32) {
        add(&self.calls, row_of(nr), 1);
    }

    /// Counts an error.
    pub(crate) fn add_error(&self, nr: u32) {
        add(&self.errors, row_of(nr), 1);
    }

    /// Calls and errors of the row; from [`NUMBERS`] on, of all unknown numbers.
    #[must_use]
    pub(crate) fn row(&self, nr: u32) -> (u64, u64) {
        let count =
            |column: &[AtomicU64; ROWS]| column.get(row_of(nr)).map_or(0, |count| count.load(Relaxed));
        (count(&self.calls), count(&self.errors))
    }
}

const fn row_of(nr: u32) -> usize {
    if nr < NUMBERS {
        return nr as usize;
    }
    match sysno::i386(nr) {
        Some(other) if other < I386 => UNKNOWN.wrapping_add(1).wrapping_add(other as usize),
        _ => UNKNOWN,
    }
}

/// A number for each row of [`Counts`]; [`NUMBERS`] for that of the unknown ones.
pub(crate) fn numbers() -> impl Iterator<Item = u32> {
    (0..=NUMBERS).chain((0..I386).map(sysno::of_i386))
}

/// Some rows of [`Counts`].
#[derive(Default)]
pub(crate) struct Rows([u64; ROWS.div_ceil(64)]);

impl Rows {
    /// Whether that of `nr` is among them.
    #[must_use]
    pub(crate) fn contains(&self, nr: u32) -> bool {
        self.0.get(row_of(nr) / 64).is_some_and(|word| word & 1 << (row_of(nr) % 64) != 0)
    }

    /// Adds that of `nr`.
    pub(crate) fn insert(&mut self, nr: u32) {
        if let Some(word) = self.0.get_mut(row_of(nr) / 64) {
            *word |= 1 << (row_of(nr) % 64);
        }
    }
}

fn add(column: &[AtomicU64; ROWS], row: usize, more: u64) {
    if let Some(count) = column.get(row) {
        count.fetch_add(more, Relaxed);
    }
}

/// Calls and errors of one kind in one process.
#[repr(C)]
struct Cell {
    /// The row in [`Counts`], plus one; 0 while the cell is free.
    key: AtomicU32,
    calls: AtomicU64,
    errors: AtomicU64,
}

/// One process. All bytes zero is a valid value: nobody's.
#[repr(C, align(64))]
pub(crate) struct Entry {
    process: AtomicU32,
    name: SharedText<NAME_WORDS>,
    cells: [Cell; CELLS],
    /// Kinds of calls beyond [`CELLS`], together.
    rest: Cell,
}

impl Cell {
    const fn new() -> Self {
        Self { key: AtomicU32::new(0), calls: AtomicU64::new(0), errors: AtomicU64::new(0) }
    }
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            process: AtomicU32::new(0),
            name: SharedText::new(),
            cells: [const { Cell::new() }; CELLS],
            rest: Cell::new(),
        }
    }
}

impl Entry {
    /// The process's id in its own namespace.
    #[must_use]
    pub(crate) fn process(&self) -> u32 {
        self.process.load(Relaxed)
    }

    /// Counts a call.
    pub(crate) fn add_call(&self, nr: u32) {
        self.cell(nr).calls.fetch_add(1, Relaxed);
    }

    /// Counts an error.
    pub(crate) fn add_error(&self, nr: u32) {
        self.cell(nr).errors.fetch_add(1, Relaxed);
    }

    /// Calls and errors of kinds that found no cell.
    #[must_use]
    pub(crate) fn rest(&self) -> (u64, u64) {
        (self.rest.calls.load(Relaxed), self.rest.errors.load(Relaxed))
    }

    /// Adds every row to `counts`.
    pub(crate) fn add_to(&self, counts: &Counts) {
        for cell in &self.cells {
            if let Some(row) = cell.key.load(Relaxed).checked_sub(1) {
                add(&counts.calls, row as usize, cell.calls.load(Relaxed));
                add(&counts.errors, row as usize, cell.errors.load(Relaxed));
            }
        }
    }

    /// Its name: that of its program, at most 15 bytes.
    #[must_use]
    pub(crate) const fn name(&self) -> &SharedText<NAME_WORDS> {
        &self.name
    }

    /// The cell of `nr`: taken now if it has none yet.
    fn cell(&self, nr: u32) -> &Cell {
        let row = row_of(nr);
        let key = (row as u32).wrapping_add(1);
        let (before, from) = self.cells.split_at_checked(row % CELLS).unwrap_or_default();
        let is_it = |cell: &&Cell| match cell.key.load(Relaxed) {
            0 => match cell.key.compare_exchange(0, key, Relaxed, Relaxed) {
                Ok(_) => true,
                Err(taken) => taken == key,
            },
            taken => taken == key,
        };
        from.iter().chain(before).find(is_it).unwrap_or(&self.rest)
    }
}

/// The entries of a run.
#[derive(Clone, Copy)]
pub(crate) struct Ledger {
    entries: &'static [Entry],
    started: &'static AtomicU32,
}

impl Ledger {
    /// The ledger in `entries`, of which `started` have been handed out; as many more as there was no room for.
    #[must_use]
    pub(crate) const fn new(entries: &'static [Entry], started: &'static AtomicU32) -> Self {
        Self { entries, started }
    }

    /// Begins an entry for `process`, named as that of its parent; returns its index, or `None` if all are in use.
    #[must_use]
    pub(crate) fn begin(&self, process: u32, parent: Option<&Entry>) -> Option<u32> {
        let index = self.started.fetch_add(1, Relaxed);
        let entry = self.get(index)?;
        if let Some(parent) = parent {
            entry.name.copy(&parent.name);
        }
        entry.process.store(process, Relaxed);
        Some(index)
    }

    /// An entry by its index.
    #[must_use]
    pub(crate) fn get(&self, index: u32) -> Option<&'static Entry> {
        self.entries.get(index as usize)
    }

    /// The index of the latest entry of `process`, since ids are used again, looked for among the last `among`.
    #[must_use]
    pub(crate) fn find(&self, process: u32, among: usize) -> Option<u32> {
        let entries = self.entries();
        let back = entries.iter().rev().take(among).position(|entry| entry.process() == process)?;
        u32::try_from(entries.len().checked_sub(back)?.checked_sub(1)?).ok()
    }

    /// The entries that have been handed out, in order.
    #[must_use]
    pub(crate) fn entries(&self) -> &'static [Entry] {
        let started = self.started.load(Relaxed) as usize;
        self.entries.get(..started).unwrap_or(self.entries)
    }

    /// How many processes found none.
    #[must_use]
    pub(crate) fn left_out(&self) -> usize {
        (self.started.load(Relaxed) as usize).saturating_sub(self.entries.len())
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::collections::BTreeMap;
    use std::string::ToString;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn ledger(len: usize) -> Ledger {
        let entries: Vec<Entry> = (0..len).map(|_| Entry::default()).collect();
        Ledger::new(entries.leak(), Box::leak(Box::default()))
    }

    proptest! {
        #[test]
        fn an_entry_counts_as_a_table_does(
            calls in prop::collection::vec((prop_oneof![0..600_u32, (0..20_u32).prop_map(sysno::of_i386)], any::<bool>()), 0..300)
        ) {
            let entry = Entry::default();
            let mut expected: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
            for &(nr, fails) in &calls {
                entry.add_call(nr);
                let row = expected.entry(if sysno::i386(nr).is_some() { nr } else { nr.min(NUMBERS) }).or_default();
                row.0 += 1;
                if fails {
                    entry.add_error(nr);
                    row.1 += 1;
                }
            }
            let counts = Counts::default();
            entry.add_to(&counts);
            let found: u64 = numbers().map(|nr| counts.row(nr).0).sum();
            prop_assert_eq!(found + entry.rest().0, calls.len() as u64);
            if expected.len() <= CELLS {
                prop_assert_eq!(entry.rest(), (0, 0));
            }
            for (nr, row) in expected {
                prop_assert!(counts.row(nr) == row || counts.row(nr) == (0, 0) && entry.rest().0 >= row.0);
            }
        }
    }

    #[test]
    fn entries_are_handed_out_once_and_then_no_more() {
        let ledger = ledger(2);
        let begin = |process, parent| ledger.begin(process, parent).and_then(|index| ledger.get(index));
        let first = begin(10, None).unwrap();
        first.name().set(b"sh");
        let second = begin(11, Some(first)).unwrap();
        assert_eq!((second.name().to_string(), second.process()), ("sh".to_string(), 11));
        assert!(begin(12, None).is_none());
        assert_eq!((ledger.entries().len(), ledger.left_out()), (2, 1));
        assert_eq!((ledger.find(12, 9), ledger.find(10, 9), ledger.find(10, 1)), (None, Some(0), None));
    }

    #[test]
    fn a_number_that_is_used_again_is_the_latest() {
        let ledger = ledger(3);
        let add_call = |index: Option<u32>| ledger.get(index.unwrap()).unwrap().add_call(0);
        for _ in 0..2 {
            add_call(ledger.begin(7, None));
        }
        add_call(ledger.find(7, 9));
        let calls = ledger.entries().iter().map(|entry| entry.cell(0).calls.load(Relaxed));
        assert_eq!(calls.collect::<Vec<_>>(), [1, 2]);
    }
}
