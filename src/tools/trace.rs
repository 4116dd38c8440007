//! Prints each call as one line: the thread, where there is more than one, the call, and what came of it.
//!
//! A line is printed when the call is over, so that it shows what the call filled in, and in one piece. A call that
//! may not come back is printed before it is made, with `?`; should an `execve` fail, a second line says so.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::abi::call::{Call, Outcome};
use crate::abi::sysno::{self, Returns};
use crate::hook::interest::Interest;
use crate::hook::line::Line;
use crate::hook::render::{self, Name};
use crate::hook::tool::{Guest, Newcomer, Tool, Verdict};

/// The calls that make a thread or process, and return its id.
const SPLITS: Interest = Interest::of(&[sysno::FORK, sysno::VFORK, sysno::CLONE, sysno::CLONE3]);

/// What a line says of its thread, in the forms of `strace -f`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Label {
    /// `[pid ID] `, as soon as there has been more than one: for people.
    WhenMany,
    /// `ID `, on each line: for a file.
    Always,
}

/// The tool that prints.
pub(crate) struct Trace {
    label: Label,
    /// 1 once the run has had more than one thread or process; all processes share it.
    many: &'static AtomicU32,
}

impl Trace {
    /// A trace whose lines are labelled in this way; `many` is memory that all processes share, zero at first.
    #[must_use]
    pub(crate) const fn new(label: Label, many: &'static AtomicU32) -> Self {
        Self { label, many }
    }

    /// Emits the label and what `build` writes. A line takes whatever is written to it, so there is no error to report.
    fn emit(&self, guest: &dyn Guest, build: impl FnOnce(&mut Line) -> fmt::Result) {
        let mut line = Line::new();
        let labelled = match self.label {
            Label::Always => write!(line, "{} ", guest.thread_id()),
            Label::WhenMany if self.many.load(Relaxed) != 0 => {
                write!(line, "[pid {:>5}] ", guest.thread_id())
            }
            Label::WhenMany => Ok(()),
        };
        if labelled.and_then(|()| build(&mut line)).is_ok() {
            guest.emit(line.bytes());
        }
    }
}

impl Tool for Trace {
    fn interest(&self) -> Interest {
        Interest::ALL
    }

    fn started(&self, newcomer: Newcomer<'_>, _: &dyn Guest) {
        if !matches!(newcomer, Newcomer::Program(_)) {
            self.many.store(1, Relaxed);
        }
    }

    fn enter(&self, call: &mut Call, guest: &dyn Guest) -> Verdict {
        match sysno::signature(call.nr).returns() {
            Returns::Number | Returns::Address => Verdict::PassThenExit,
            Returns::Failure => {
                self.emit(guest, |line| departure(line, call, guest));
                Verdict::PassThenExit
            }
            Returns::Never => {
                self.emit(guest, |line| departure(line, call, guest));
                Verdict::Pass
            }
        }
    }

    fn exit(&self, call: &Call, outcome: &mut Outcome, guest: &dyn Guest) {
        if SPLITS.contains(call.nr) && outcome.errno().is_none() {
            // The newcomer may not have come to say so itself.
            self.many.store(1, Relaxed);
        }
        match sysno::signature(call.nr).returns() {
            Returns::Number | Returns::Address => {
                self.emit(guest, |line| completion(line, call, *outcome, guest));
            }
            Returns::Failure | Returns::Never => self.emit(guest, |line| comeback(line, call, *outcome)),
        }
    }

    fn finish(&self, _: &mut dyn fmt::Write) {}
}

/// A call that is over.
fn completion(line: &mut Line, call: &Call, outcome: Outcome, guest: &dyn Guest) -> fmt::Result {
    render::call(line, call, Some(outcome), guest)?;
    line.begin_end();
    line.write_str(") = ")?;
    render::outcome(line, call.nr, outcome)?;
    line.write_str("\n")
}

/// A call that may not come back.
fn departure(line: &mut Line, call: &Call, guest: &dyn Guest) -> fmt::Result {
    render::call(line, call, None, guest)?;
    line.begin_end();
    line.write_str(") = ?\n")
}

/// A call that came back although it was printed as one that may not.
fn comeback(line: &mut Line, call: &Call, outcome: Outcome) -> fmt::Result {
    write!(line, "<... {} resumed> = ", Name(call.nr))?;
    render::outcome(line, call.nr, outcome)?;
    line.write_str("\n")
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::string::String;

    use super::*;
    use crate::abi::errno::Errno;
    use crate::hook::fake::FakeGuest;

    const AT: u64 = 0x1000;

    /// Traces one call; `outcome` is `None` for one that does not come back.
    fn traced(nr: u32, args: [u64; 6], outcome: Option<Outcome>, memory: &[u8]) -> String {
        let guest = FakeGuest::new(AT, memory);
        let trace = Trace::new(Label::Always, Box::leak(Box::default()));
        let mut call = Call { nr, args };
        let verdict = trace.enter(&mut call, &guest);
        if let Some(mut outcome) = outcome {
            assert_eq!(verdict, Verdict::PassThenExit);
            trace.exit(&call, &mut outcome, &guest);
        }
        guest.take_emitted()
    }

    #[test]
    fn people_see_the_thread_once_there_are_several() {
        let guest = FakeGuest::new(AT, b"");
        let trace = Trace::new(Label::WhenMany, Box::leak(Box::default()));
        let call = |nr, value| trace.exit(&Call { nr, args: [0; 6] }, &mut Outcome(value), &guest);
        trace.started(Newcomer::Program(b"sh"), &guest);
        call(sysno::GETPID, 42);
        call(sysno::FORK, 43);
        call(sysno::GETPID, 42);
        let expected = "getpid() = 42\n[pid    42] fork() = 43\n[pid    42] getpid() = 42\n";
        assert_eq!(guest.take_emitted(), expected);
    }

    #[test]
    fn a_call_is_one_line() {
        let enoent = Some(Outcome::failure(Errno::ENOENT));
        let line = traced(sysno::OPENAT, [0xffff_ff9c, AT, 0, 0, 0, 0], enoent, b"/nowhere\0");
        assert_eq!(line, "42 openat(AT_FDCWD, \"/nowhere\", 0, 0) = -1 ENOENT (No such file or directory)\n");
        let line = traced(sysno::BRK, [0; 6], Some(Outcome(0x5555_0000)), b"");
        assert_eq!(line, "42 brk(NULL) = 0x55550000\n");
        assert_eq!(traced(sysno::GETPID, [0; 6], Some(Outcome(42)), b""), "42 getpid() = 42\n");
    }

    #[test]
    fn a_call_that_does_not_come_back_is_printed_before_it_is_made() {
        assert_eq!(traced(sysno::EXIT_GROUP, [3, 0, 0, 0, 0, 0], None, b""), "42 exit_group(3) = ?\n");
        assert_eq!(traced(sysno::RT_SIGRETURN, [0; 6], None, b""), "42 rt_sigreturn() = ?\n");
        let line = traced(sysno::EXECVE, [AT, 0x10, 0x20, 0, 0, 0], None, b"/bin/true\0");
        assert_eq!(line, "42 execve(\"/bin/true\", 0x10, 0x20) = ?\n");
    }

    #[test]
    fn an_execve_that_fails_says_so_in_a_second_line() {
        let failure = Some(Outcome::failure(Errno::EACCES));
        let lines = traced(sysno::EXECVE, [AT, 0x10, 0, 0, 0, 0], failure, b"/etc\0");
        let expected =
            "42 execve(\"/etc\", 0x10, NULL) = ?\n42 <... execve resumed> = -1 EACCES (Permission denied)\n";
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_line_that_is_too_long_is_marked_and_keeps_its_outcome() {
        let mut memory = [0xff; 256];
        memory[255] = 0;
        let line = traced(sysno::RENAME, [AT, AT, 0, 0, 0, 0], Some(Outcome(0)), &memory);
        assert!(line.len() < 1024, "{}", line.len());
        assert!(line.starts_with("42 rename(\"\\377\\377"), "{line}");
        assert!(line.ends_with("...) = 0\n"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }
}
