//! Address layouts and resource limits that leave little room: what runs natively within them runs loaded too.

mod harness;

use harness::run::{End, Mode, Run};
use harness::{guest, need_program};

/// Runs every kind of program natively and loaded, both started by `wrapper`.
fn check(wrapper: &[&str]) {
    if need_program(wrapper[0]).is_none() {
        return;
    }
    for program in guest::build("hello.c").into_iter().chain(["/bin/true".into(), "/bin/bash".into()]) {
        let words = [program.as_os_str(), "-c".as_ref(), "ulimit -a".as_ref()];
        let run = Run::new(words).wrapped(wrapper);
        let native = run.go(Mode::Native);
        native.expect_end(End::Status(0));
        native.expect_same(&run.go(Mode::Plain));
    }
}

#[test]
fn without_address_randomisation() {
    check(&["setarch", "x86_64", "-R"]);
}

#[test]
fn with_every_readable_page_executable() {
    check(&["setarch", "x86_64", "-X"]);
}

/// The kernel then lays mappings out from the bottom up.
#[test]
fn with_a_stack_without_limit() {
    check(&["prlimit", "--stack=unlimited"]);
    check(&["setarch", "x86_64", "-R", "-L"]);
}

#[test]
fn with_a_small_stack() {
    check(&["prlimit", "--stack=262144"]);
}

/// The dynamic loader itself needs one more than the three.
#[test]
fn with_few_descriptors() {
    check(&["prlimit", "--nofile=4"]);
}

#[test]
fn with_little_address_space() {
    check(&["prlimit", "--as=67108864"]);
}

#[test]
fn with_little_data_and_locked_memory() {
    check(&["prlimit", "--data=33554432"]);
    check(&["prlimit", "--memlock=0"]);
}
