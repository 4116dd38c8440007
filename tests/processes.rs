//! Threads and processes in number and in every form: each guest natively, then under the loader in each of its modes.
//!
//! Most guests take a number: how many times as long as here to go on.

mod harness;

use harness::run::{End, Mode, Run};
use harness::{guest, skip};
use std::time::Duration;

/// One test a guest.
macro_rules! guests {
    ($($name:ident: $source:literal,)*) => {
        $(#[test]
        fn $name() {
            guest::check($source);
        })*
    };
}

guests! {
    clone_in_every_form: "clone_forms.c",
    children_of_clone_with_every_register: "clone_registers.c",
    children_that_go_deep_in_their_parents_memory: "vfork_deep.c",
    processes_in_this_memory_are_no_threads_of_it: "relatives_end.c",
    the_end_of_two_hundred_threads: "exit_among_many.c",
    threads_whose_stack_goes_away: "stack_freed.c",
    processes_that_are_stopped_wherever_they_are: "stopped_and_continued.c",
    vfork_children_that_are_killed: "vfork_killed.c",
    spawned_by_the_hundred: "spawn_many.c",
    fork_while_others_load_code: "fork_loading.c",
    fork_and_vfork_in_a_signal_handler: "fork_in_handler.c",
    threads_that_come_and_go: "thread_churn.c",
    threads_that_unmap_themselves: "detached_churn.c",
    more_blocked_threads_than_slots: "threads_blocked.c",
    threads_that_all_end_the_process: "exit_together.c",
}

/// How the guest ends where the kernel refuses.
const NOT_ALLOWED: i32 = 77;

#[test]
fn pid_namespaces_in_which_ids_repeat() {
    for program in guest::build("pid_namespaces.c") {
        for words in [&[program.as_os_str()][..], &[program.as_os_str(), "nobody".as_ref()]] {
            let native = Run::new(words).go(Mode::Native);
            if native.end == End::Status(NOT_ALLOWED) {
                skip("no new pid namespaces are allowed here");
                continue;
            }
            native.expect_end(End::Status(0));
            for mode in [Mode::Plain, Mode::Summary] {
                native.expect_same(&Run::new(words).go(mode));
            }
        }
    }
}

/// Whoever ends the process last would cut off the words of whoever was first.
#[test]
fn the_summary_is_whole_when_all_threads_end_the_process() {
    for program in guest::build("exit_together.c") {
        for _ in 0..25 {
            let run = Run::new([&program]).go(Mode::Summary);
            run.expect_end(End::Status(3));
            assert!(run.counts().get("exit_group").is_some_and(|&count| count >= 1), "{run}");
        }
    }
}

/// Processes in the same memory that end must not pass for its last thread, or what comes later is not counted.
#[test]
fn the_summary_waits_for_the_last_thread() {
    for program in guest::build("relatives_end.c") {
        let run = Run::new([&program]).go(Mode::Summary);
        run.expect_end(End::Status(0));
        assert_eq!(run.counts().get("getpgid"), Some(&1000), "{run}");
    }
}

/// A call for whose return no slot is left is made and counted all the same.
#[test]
fn the_summary_has_every_call_of_five_thousand_blocked_threads() {
    for program in guest::build("threads_blocked.c") {
        let run = Run::new([&program]).timeout(Duration::from_secs(240)).go(Mode::Summary);
        run.expect_end(End::Status(0));
        assert!(run.counts().get("read").is_some_and(|&count| count >= 5000), "{run}");
        assert!(run.counts().get("exit").is_some_and(|&count| count >= 5000), "{run}");
    }
}
