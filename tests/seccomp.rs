//! Programs that restrict their own calls: the loader makes none that they would be punished for, and what their handlers
//! see is what they see natively.

mod harness;

use harness::guest;
use harness::run::{Mode, Run};

/// The last words go to a descriptor that was kept: nothing can be opened any more.
#[test]
fn strict_mode() {
    guest::check("seccomp_strict.c");
}

#[test]
fn a_filter_that_kills_at_every_other_call() {
    guest::check("seccomp_filter.c");
}

/// Not even the summary can be written then.
#[test]
fn a_filter_that_leaves_two_calls() {
    guest::check("seccomp_errno.c");
    for program in guest::build("seccomp_errno.c") {
        let run = Run::new([&program]);
        run.go(Mode::Native).expect_same(&run.go(Mode::Summary));
    }
}

#[test]
fn a_broker_behind_a_signal_and_a_filter_that_knows_an_address() {
    guest::check("seccomp_trap.c");
}

#[test]
fn errors_logs_supervisors_and_all_threads_at_once() {
    guest::check("seccomp_actions.c");
}

/// The child's calls are counted by its parent, which writes the table.
#[test]
fn a_part_of_a_server_behind_limits_and_a_filter() {
    guest::check("seccomp_limits.c");
    for program in guest::build("seccomp_limits.c") {
        let run = Run::new([&program]);
        let counted = run.go(Mode::Summary);
        run.go(Mode::Native).expect_same(&counted);
        assert!(counted.counts()["openat"] >= 50, "{counted}");
    }
}
