//! Programs that write code while they run, and libraries full of tables: what they compute is the same in every mode, and
//! nothing in them is reason enough to watch them by the kernel.

mod harness;

use harness::run::Mode;
use harness::{guest, is_stand_in};

/// Checks the guest, and that of its text and its libraries nothing is left that might be a call.
fn check(source: &str) {
    guest::check(source);
    if is_stand_in() {
        return;
    }
    for outcome in guest::run(source, Mode::Report) {
        outcome.expect_ok();
        let report = &outcome.report;
        assert!(report.starts_with("report of process ") && report.contains("/libc.so.6 0x"), "{outcome}");
        let is_left = |line: &&str| line.contains(" plausible") || line.contains(" refused: ");
        assert_eq!(report.lines().filter(is_left).collect::<Vec<_>>(), [""; 0], "{outcome}");
        assert!(report.contains("\n  net: not needed\n"), "{outcome}");
        assert!(report.contains("\n  shared and executable: 0 mappings\n"), "{outcome}");
    }
    for outcome in guest::run(source, Mode::Exhaustive) {
        outcome.expect_ok();
        let armed = "\n  net: armed since the start: it was asked for, ";
        assert!(outcome.report.contains(armed), "{outcome}");
    }
}

#[test]
fn node_with_a_worker() {
    check("jit_node.js");
}

#[test]
fn java_with_its_second_compiler() {
    check("JitLoop.java");
}

#[test]
fn luajit_with_calls_of_c() {
    check("jit_lua.lua");
}

#[test]
fn python_with_a_tls_connection() {
    check("tls_handshake.py");
}
