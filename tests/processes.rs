//! Threads and processes in number and in every form: each guest natively, then under the loader in each of its modes.

mod harness;

use harness::guest;
use harness::run::{End, Mode, Run};

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
    vfork_children_that_are_killed: "vfork_killed.c",
    spawned_by_the_thousand: "spawn_many.c",
    fork_while_others_load_code: "fork_loading.c",
    fork_and_vfork_in_a_signal_handler: "fork_in_handler.c",
    twenty_thousand_threads: "thread_churn.c",
    twenty_thousand_threads_that_unmap_themselves: "detached_churn.c",
    more_blocked_threads_than_slots: "threads_blocked.c",
    threads_that_all_end_the_process: "exit_together.c",
}

/// Whoever ends the process last would cut off the words of whoever was first.
#[test]
fn the_summary_is_whole_when_all_threads_end_the_process() {
    for program in guest::build("exit_together.c") {
        for _ in 0..100 {
            let run = Run::new([&program]).go(Mode::Summary);
            run.expect_end(End::Status(3));
            assert!(run.counts().get("exit_group").is_some_and(|&count| count >= 1), "{run}");
        }
    }
}
