//! `int 0x80` from 64-bit code: the calls of the i386 table are what they are natively, and tools see that they are made.

mod harness;

use harness::guest;
use harness::run::{Mode, Run};
use harness::skip;

/// Whether the kernel has that table; the bare guest says nothing if not.
fn is_supported() -> bool {
    let programs = guest::build("int80_bare.S");
    let has_it = programs.iter().all(|program| Run::new([program]).go(Mode::Native).text() == "ok\n");
    if !has_it {
        skip("the kernel makes no calls of the i386 table");
    }
    has_it
}

#[test]
fn results_errors_registers_and_signals() {
    if !is_supported() {
        return;
    }
    guest::check("int80.c");
    for program in guest::build("int80.c") {
        // Those of code that the guest writes itself; the others are as many as the timer lets them be.
        assert_eq!(Run::new([&program]).go(Mode::Summary).counts()["i386:64"], 100);
    }
}

#[test]
fn each_call_is_counted_and_traced_under_the_number_of_its_table() {
    if !is_supported() {
        return;
    }
    guest::check("int80_bare.S");
    for program in guest::build("int80_bare.S") {
        let run = Run::new([&program]);
        let counts = run.go(Mode::Summary).counts();
        assert_eq!((counts.len(), counts["i386:4"], counts["i386:1"]), (2, 1, 1));
        let trace = run.go(Mode::Trace).report;
        let calls: Vec<_> =
            trace.lines().filter_map(|line| line.split_once(' ')?.1.split_once('(')).collect();
        assert_eq!(calls.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["i386:4", "i386:1"], "{trace}");
        assert!(calls[0].1.starts_with("0x1, ") && calls[0].1.ends_with(") = ?"), "{trace}");
    }
}
