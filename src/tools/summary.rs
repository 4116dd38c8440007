//! Counts calls and errors by number and prints them as a table when the process ends.
//!
//! The counts lie wherever the shell puts them: in memory shared with forked children, one table serves the
//! whole family. Calls are counted at entry, since some never come back, and errors at exit.

use core::cmp::Reverse;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::abi::call::{Call, Outcome};
use crate::abi::sysno;
use crate::hook::interest::{Interest, NUMBERS};
use crate::hook::render::Name;
use crate::hook::tool::{Guest, Tool, Verdict};

const ROWS: usize = NUMBERS as usize + 1;

/// How often each call was made, and how often it failed; the last row is all unknown numbers together.
///
/// All bytes zero is a valid value: nothing counted yet.
#[repr(C)]
pub struct Counts {
    calls: [AtomicU64; ROWS],
    errors: [AtomicU64; ROWS],
}

impl Default for Counts {
    fn default() -> Self {
        Self { calls: [const { AtomicU64::new(0) }; ROWS], errors: [const { AtomicU64::new(0) }; ROWS] }
    }
}

impl Counts {
    /// Adds what [`Summary`] has carried along. A row that is cut off or damaged is left out.
    pub fn add(&self, carried: &[u8]) {
        for row in carried.split_inclusive(|&byte| byte == b';') {
            let row = row.strip_suffix(b";").and_then(|row| core::str::from_utf8(row).ok());
            let mut numbers = row.unwrap_or_default().split(':').map(str::parse::<u64>);
            let (Some(Ok(nr)), Some(Ok(calls)), Some(Ok(errors))) =
                (numbers.next(), numbers.next(), numbers.next())
            else {
                continue;
            };
            for (column, more) in [(&self.calls, calls), (&self.errors, errors)] {
                if let Some(count) = usize::try_from(nr).ok().and_then(|nr| column.get(nr)) {
                    count.fetch_add(more, Relaxed);
                }
            }
        }
    }

    /// Writes a row for each number that was called: `NR:CALLS:ERRORS;`.
    fn carry(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        for row in 0..=NUMBERS {
            let (calls, errors) = (count(&self.calls, row), count(&self.errors, row));
            if calls != 0 {
                write!(out, "{row}:{calls}:{errors};")?;
            }
        }
        Ok(())
    }
}

/// The tool that counts.
pub struct Summary {
    counts: &'static Counts,
}

impl Summary {
    /// A summary that counts in `counts`.
    #[must_use]
    pub const fn new(counts: &'static Counts) -> Self {
        Self { counts }
    }

    fn print(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{:>10} {:>10} syscall", "calls", "errors")?;
        let (mut total_calls, mut total_errors) = (0_u64, 0_u64);
        let mut printed = Interest::NONE;
        while let Some(row) = self.largest_outside(&printed) {
            printed = printed.with(row);
            let (calls, errors) = (count(&self.counts.calls, row), count(&self.counts.errors, row));
            total_calls = total_calls.saturating_add(calls);
            total_errors = total_errors.saturating_add(errors);
            match row {
                NUMBERS => print_row(out, calls, errors, &"unknown")?,
                _ => print_row(out, calls, errors, &Name(row))?,
            }
        }
        print_row(out, total_calls, total_errors, &"total")
    }

    /// The row with the most calls among those not in `printed`; of equals, the first by name.
    ///
    /// Searched anew for each line: sorting would need a copy that stands still while other threads count.
    fn largest_outside(&self, printed: &Interest) -> Option<u32> {
        (0..=NUMBERS)
            .filter(|&row| !printed.contains(row) && count(&self.counts.calls, row) > 0)
            .min_by_key(|&row| (Reverse(count(&self.counts.calls, row)), sysno::name(row)))
    }
}

impl Tool for Summary {
    fn interest(&self) -> Interest {
        Interest::ALL
    }

    fn enter(&self, call: &mut Call, _: &dyn Guest) -> Verdict {
        increment(&self.counts.calls, call.nr);
        Verdict::PassAndTell
    }

    fn exit(&self, call: &Call, outcome: &mut Outcome, _: &dyn Guest) {
        if outcome.errno().is_some() {
            increment(&self.counts.errors, call.nr);
        }
    }

    fn carry(&self, out: &mut dyn fmt::Write) {
        // What does not fit is lost.
        let _ = self.counts.carry(out);
    }

    fn finish(&self, out: &mut dyn fmt::Write) {
        // Nobody is left to hear of an error of the output.
        let _ = self.print(out);
    }
}

fn increment(column: &[AtomicU64; ROWS], nr: u32) {
    if let Some(count) = column.get(nr.min(NUMBERS) as usize) {
        count.fetch_add(1, Relaxed);
    }
}

fn count(column: &[AtomicU64; ROWS], row: u32) -> u64 {
    column.get(row as usize).map_or(0, |count| count.load(Relaxed))
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
            assert_eq!(tool.enter(&mut call, &guest), Verdict::PassAndTell);
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
    fn a_call_that_does_not_return_is_counted() {
        let tool = Summary::new(Box::leak(Box::default()));
        let guest = FakeGuest::new(0, &[]);
        tool.enter(&mut Call { nr: sysno::EXIT_GROUP, args: [0; 6] }, &guest);
        assert!(table(&tool).contains(" 1            exit_group\n"));
    }

    #[test]
    fn counts_go_on_where_they_were_carried_from() {
        let tool = Summary::new(Box::leak(Box::default()));
        make(&tool, sysno::READ, 2, Outcome(1));
        make(&tool, sysno::OPENAT, 3, Outcome::failure(Errno::ENOENT));
        make(&tool, u32::MAX, 1, Outcome(0));
        let mut carried = String::new();
        tool.carry(&mut carried);
        let counts: &Counts = Box::leak(Box::default());
        counts.add(carried.as_bytes());
        assert_eq!(table(&Summary::new(counts)), table(&tool));
    }

    #[test]
    fn a_row_that_was_cut_off_is_left_out() {
        let counts: &Counts = Box::leak(Box::default());
        counts.add(b"0:5:1;x;9999:1:1;:;1:7:1");
        assert_eq!(count(&counts.calls, sysno::READ), 5);
        assert_eq!(count(&counts.calls, sysno::WRITE), 0);
    }

    #[test]
    fn an_empty_table_is_a_heading_and_a_total() {
        let tool = Summary::new(Box::leak(Box::default()));
        assert_eq!(table(&tool).lines().count(), 2);
    }
}
