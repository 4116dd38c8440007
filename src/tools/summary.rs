//! Counts calls and errors by number and prints them as a table when the process that was started ends: one for the
//! whole tree of processes, or one for each.
//!
//! The counts lie wherever the shell puts them: in memory shared with forked and exec'd children, every process counts
//! where it is read in the end. Calls are counted at entry, since some never come back, and errors at exit.

use core::cmp::Reverse;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::ledger::{self, Counts, Entry, Ledger, Rows};
use crate::abi::call::{Call, Outcome};
use crate::abi::sysno;
use crate::hook::interest::{Interest, NUMBERS};
use crate::hook::render::Name;
use crate::hook::tool::{Guest, Newcomer, Tool, Verdict};

/// How far back a process is looked for that has begun just now.
const RECENT: usize = 256;
/// The index of the entry that a process has for which there was no room.
const LEFT_OUT: u32 = u32::MAX;

/// The tool that counts.
pub(crate) struct Summary {
    /// Of the whole tree, or of the processes that found no entry.
    counts: &'static Counts,
    ledger: Option<Ledger>,
    /// The index of the entry of the process that this memory belongs to.
    own: AtomicU32,
}

impl Summary {
    /// A summary of all processes together, counted in `counts`.
    #[must_use]
    pub(crate) const fn new(counts: &'static Counts) -> Self {
        Self { counts, ledger: None, own: AtomicU32::new(LEFT_OUT) }
    }

    /// A summary by process, counted in `ledger`, and in `counts` once that is full.
    #[must_use]
    pub(crate) const fn by_process(counts: &'static Counts, ledger: Ledger) -> Self {
        Self { ledger: Some(ledger), ..Self::new(counts) }
    }

    /// The entry in which the calling process counts; `None` where it has none of its own.
    fn entry(&self, guest: &dyn Guest) -> Option<&'static Entry> {
        let ledger = self.ledger?;
        let own = self.own.load(Relaxed);
        if own == LEFT_OUT {
            return None;
        }
        let process = guest.process_id();
        let is_it = |entry: &&Entry| entry.process() == process;
        let vfork_child = || ledger.find(process, RECENT).and_then(|index| ledger.get(index));
        ledger.get(own).filter(is_it).or_else(vfork_child)
    }

    /// Gives the process an entry: that which it had before an exec, or a new one.
    fn begin(&self, newcomer: Newcomer<'_>, ledger: Ledger, guest: &dyn Guest) {
        let process = guest.process_id();
        let parent = ledger.get(self.own.load(Relaxed));
        let known = match newcomer {
            Newcomer::Program(_) => ledger.find(process, usize::MAX),
            _ => None,
        };
        let index = known.or_else(|| ledger.begin(process, parent));
        if let Newcomer::Program(name) = newcomer
            && let Some(entry) = index.and_then(|index| ledger.get(index))
        {
            entry.name().set(name);
        }
        if newcomer != Newcomer::VforkChild {
            self.own.store(index.unwrap_or(LEFT_OUT), Relaxed);
        }
    }

    fn print(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let Some(ledger) = self.ledger else { return print_table(out, self.counts, (0, 0)) };
        for entry in ledger.entries() {
            let counts = Counts::default();
            entry.add_to(&counts);
            writeln!(out, "process {}: {}", entry.process(), entry.name())?;
            print_table(out, &counts, entry.rest())?;
        }
        match ledger.left_out() {
            0 => Ok(()),
            more => {
                writeln!(out, "{more} more processes, together")?;
                print_table(out, self.counts, (0, 0))
            }
        }
    }
}

/// A table of `counts`, and of the `rest`: calls and errors of kinds that are not told apart.
fn print_table(out: &mut dyn fmt::Write, counts: &Counts, rest: (u64, u64)) -> fmt::Result {
    writeln!(out, "{:>10} {:>10} syscall", "calls", "errors")?;
    let (mut total_calls, mut total_errors) = rest;
    let mut printed = Rows::default();
    while let Some(row) = largest_outside(counts, &printed) {
        printed.insert(row);
        let (calls, errors) = counts.row(row);
        total_calls = total_calls.saturating_add(calls);
        total_errors = total_errors.saturating_add(errors);
        match row {
            NUMBERS => print_row(out, calls, errors, &"unknown")?,
            _ => print_row(out, calls, errors, &Name(row))?,
        }
    }
    if rest != (0, 0) {
        print_row(out, rest.0, rest.1, &"others")?;
    }
    print_row(out, total_calls, total_errors, &"total")
}

/// The row with the most calls among those not in `printed`; of equals, the first by name.
///
/// Searched anew for each line: sorting would need a copy that stands still while other threads count.
fn largest_outside(counts: &Counts, printed: &Rows) -> Option<u32> {
    ledger::numbers()
        .filter(|&row| !printed.contains(row) && counts.row(row).0 > 0)
        .min_by_key(|&row| (Reverse(counts.row(row).0), sysno::name(row)))
}

impl Tool for Summary {
    fn interest(&self) -> Interest {
        Interest::ALL
    }

    fn started(&self, newcomer: Newcomer<'_>, guest: &dyn Guest) {
        if let Some(ledger) = self.ledger
            && newcomer != Newcomer::Thread
        {
            self.begin(newcomer, ledger, guest);
        }
    }

    fn enter(&self, call: &mut Call, guest: &dyn Guest) -> Verdict {
        match self.entry(guest) {
            Some(entry) => entry.add_call(call.nr),
            None => self.counts.add_call(call.nr),
        }
        Verdict::PassThenExit
    }

    fn exit(&self, call: &Call, outcome: &mut Outcome, guest: &dyn Guest) {
        if outcome.errno().is_some() {
            match self.entry(guest) {
                Some(entry) => entry.add_error(call.nr),
                None => self.counts.add_error(call.nr),
            }
        }
    }

    fn finish(&self, out: &mut dyn fmt::Write) {
        // Nobody is left to hear of an error of the output.
        let _ = self.print(out);
    }
}

fn print_row(out: &mut dyn fmt::Write, calls: u64, errors: u64, name: &dyn fmt::Display) -> fmt::Result {
    let errors: &dyn fmt::Display = if errors == 0 { &"" } else { &errors };
    writeln!(out, "{calls:>10} {errors:>10} {name}")
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::string::String;

    use super::*;
    use crate::abi::errno::Errno;
    use crate::hook::fake::FakeGuest;

    fn make(tool: &Summary, nr: u32, times: usize, outcome: Outcome) {
        let guest = FakeGuest::new(0, &[]);
        for _ in 0..times {
            let mut call = Call { nr, args: [0; 6] };
            assert_eq!(tool.enter(&mut call, &guest), Verdict::PassThenExit);
            tool.exit(&call, &mut { outcome }, &guest);
        }
    }

    fn table(tool: &Summary) -> String {
        let mut text = String::new();
        tool.finish(&mut text);
        text
    }

    #[test]
    fn the_most_frequent_come_first_and_equals_by_name() {
        let tool = Summary::new(Box::leak(Box::default()));
        make(&tool, sysno::WRITE, 2, Outcome(1));
        make(&tool, sysno::READ, 2, Outcome(1));
        make(&tool, sysno::OPENAT, 12, Outcome::failure(Errno::ENOENT));
        make(&tool, sysno::OPENAT, 3, Outcome(3));
        let expected = "     calls     errors syscall\n        \
            15         12 openat\n         2            read\n         2            write\n        \
            19         12 total\n";
        assert_eq!(table(&tool), expected);
    }

    #[test]
    fn numbers_without_a_name_are_told_apart_only_below_512() {
        let tool = Summary::new(Box::leak(Box::default()));
        make(&tool, 500, 3, Outcome::failure(Errno::ENOSYS));
        make(&tool, 0x4000_0000, 1, Outcome::failure(Errno::ENOSYS));
        make(&tool, u32::MAX, 1, Outcome(0));
        let text = table(&tool);
        let rows: std::vec::Vec<_> =
            text.lines().map(|line| line.split_whitespace().last().unwrap()).collect();
        assert_eq!(rows, ["syscall", "syscall_0x1f4", "unknown", "total"]);
        assert!(text.ends_with(" 5          4 total\n"), "{text}");
    }

    #[test]
    fn calls_of_the_other_table_have_rows_of_their_own() {
        let tool = Summary::new(Box::leak(Box::default()));
        make(&tool, 20, 1, Outcome(1));
        tool.enter(&mut Call { nr: sysno::of_i386(20), args: [0; 6] }, &FakeGuest::new(0, &[]));
        let text = table(&tool);
        assert!(
            text.contains(" 1            i386:20\n") && text.contains(" 1            writev\n"),
            "{text}"
        );
    }

    #[test]
    fn a_call_that_does_not_return_is_counted() {
        let tool = Summary::new(Box::leak(Box::default()));
        let guest = FakeGuest::new(0, &[]);
        tool.enter(&mut Call { nr: sysno::EXIT_GROUP, args: [0; 6] }, &guest);
        assert!(table(&tool).contains(" 1            exit_group\n"));
    }

    /// A summary by process with room for two.
    fn by_process() -> Summary {
        let entries: std::vec::Vec<Entry> = (0..2).map(|_| Entry::default()).collect();
        Summary::by_process(Box::leak(Box::default()), Ledger::new(entries.leak(), Box::leak(Box::default())))
    }

    fn call(tool: &Summary, nr: u32, process: u32) {
        let guest = FakeGuest::new(0, &[]).of_process(process);
        tool.enter(&mut Call { nr, args: [0; 6] }, &guest);
    }

    fn start(tool: &Summary, newcomer: Newcomer<'_>, process: u32) {
        tool.started(newcomer, &FakeGuest::new(0, &[]).of_process(process));
    }

    #[test]
    fn each_process_has_its_table_and_the_name_of_its_program() {
        let tool = by_process();
        start(&tool, Newcomer::Program(b"sh"), 7);
        call(&tool, sysno::READ, 7);
        start(&tool, Newcomer::Process, 8);
        call(&tool, sysno::WRITE, 8);
        start(&tool, Newcomer::Program(b"ls"), 8);
        call(&tool, sysno::WRITE, 8);
        let expected = "process 7: sh\n     calls     errors syscall\n         1            read\n         \
            1            total\nprocess 8: ls\n     calls     errors syscall\n         2            write\n         \
            2            total\n";
        assert_eq!(table(&tool), expected);
    }

    #[test]
    fn a_lodger_counts_for_itself() {
        let tool = by_process();
        start(&tool, Newcomer::Program(b"sh"), 7);
        start(&tool, Newcomer::VforkChild, 8);
        call(&tool, sysno::READ, 8);
        call(&tool, sysno::WRITE, 7);
        let text = table(&tool);
        let (parent, child) = text.split_once("process 8: sh").unwrap();
        assert!(parent.contains("write") && !parent.contains("read"), "{text}");
        assert!(child.contains("read") && !child.contains("write"), "{text}");
    }

    #[test]
    fn processes_beyond_the_last_entry_are_counted_together() {
        let tool = by_process();
        start(&tool, Newcomer::Program(b"sh"), 7);
        for process in 8..11 {
            start(&tool, Newcomer::Process, process);
            call(&tool, sysno::READ, process);
        }
        let text = table(&tool);
        let (_, together) = text.split_once("2 more processes, together\n").unwrap();
        assert!(together.contains(" 2            read\n"), "{text}");
        assert_eq!(text.matches("process ").count(), 2, "{text}");
    }

    #[test]
    fn an_empty_table_is_a_heading_and_a_total() {
        let tool = Summary::new(Box::leak(Box::default()));
        assert_eq!(table(&tool).lines().count(), 2);
    }
}
