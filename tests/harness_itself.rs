//! The harness itself: what it must notice, it notices.

mod harness;

use harness::run::{End, Mode, Run};
use harness::summary;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

fn shell(script: &str) -> Run {
    Run::new(["/bin/sh", "-c", script])
}

/// Whether comparing two runs fails.
fn differ(left: &str, right: &str) -> bool {
    let (left, right) = (shell(left).go(Mode::Native), shell(right).go(Mode::Native));
    catch_unwind(AssertUnwindSafe(|| left.expect_same(&right))).is_err()
}

#[test]
fn statuses_and_signals_are_told_apart() {
    shell("exit 3").go(Mode::Native).expect_end(End::Status(3));
    shell("kill -SEGV $$").go(Mode::Native).expect_end(End::Signal(11));
    shell("exit 139").go(Mode::Native).expect_end(End::Status(139));
}

#[test]
fn any_difference_between_two_runs_is_noticed() {
    assert!(!differ("echo a", "echo a"));
    assert!(differ("echo a", "echo b"));
    assert!(differ("echo a", "printf a"));
    assert!(differ("echo a >&2", "echo b >&2"));
    assert!(differ("exit 1", "exit 2"));
    assert!(differ("exit 9", "kill -KILL $$"));
}

#[test]
fn a_missing_sentinel_is_noticed() {
    let said = |script| catch_unwind(AssertUnwindSafe(|| shell(script).go(Mode::Native).expect_ok())).is_ok();
    assert!(said("echo x; echo ok"));
    assert!(!said("echo ok; echo x"));
    assert!(!said("true"));
}

/// The whole group dies at the deadline, and a process that outlives its parent holds nothing up.
#[test]
fn deadlines_are_kept() {
    let start = Instant::now();
    let group =
        shell("sleep 1000 & echo $!; sleep 1000").timeout(Duration::from_millis(300)).go(Mode::Native);
    assert_eq!(group.end, End::TimedOut);
    let left = shell(&format!("kill -0 {} 2>/dev/null && grep -v ' Z ' /proc/{0}/stat", group.text().trim()));
    assert!(left.go(Mode::Native).stdout.is_empty(), "a process outlived its group");
    let parent = shell("sleep 3 & exit 0").go(Mode::Native);
    assert_eq!(parent.end, End::Status(0));
    assert!(start.elapsed() < Duration::from_secs(3), "took {:?}", start.elapsed());
}

#[test]
fn tables_of_both_shapes_are_read() {
    let loader = " calls errors syscall\n 2 1 open\n 3 read\n 5 1 total\n";
    let strace = "% time seconds usecs/call calls errors syscall\n------ ---\n 60.0 0.1 1 2 1 open\n 40.0 0.1 1 3 read\n\
                  ------ ---\n100.00 0.2 1 5 1 total\n";
    assert_eq!(summary::of_loader(loader), summary::of_strace(strace));
    assert_eq!(summary::of_loader(loader).map(|counts| counts["read"]), Ok(3));
    assert!(summary::of_loader(" 2 open\n").is_err(), "a table without its end");
    assert!(summary::of_loader(" 2 open\n 3 total\n").is_err(), "a sum that is wrong");
    assert!(summary::of_loader("").is_err());
    let (left, right) = (summary::of_loader(" 2 a\n 2 total\n"), summary::of_loader(" 1 b\n 1 total\n"));
    assert_eq!(summary::differences(&left.unwrap(), &right.unwrap()), ["a: 2 0", "b: 0 1"]);
}
