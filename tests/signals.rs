//! Signals: what handlers see, when they run and what they leave behind is what it is without the loader. Each guest runs
//! natively, then under the loader in each of its modes.

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
    timers_that_interrupt_calls_of_every_kind: "signal_storm.c",
    queued_signals_arrive_once_and_in_order: "signal_queue.c",
    blocked_calls_interrupted_in_every_way: "signal_restart.c",
    every_register_in_a_handlers_frame: "signal_frames.c",
    threads_that_are_cancelled: "signal_cancel.c",
    faults_and_their_handlers: "signal_faults.c",
    a_backtrace_in_a_handler_reaches_main: "signal_backtrace.c",
    exceptions_out_of_handlers: "signal_exceptions.cc",
    dispositions_over_fork_and_exec: "signal_inherited.c",
    go_preempted_and_profiled: "signal_profile.go",
    java_with_null_pointers_and_interrupts: "SignalThreads.java",
    node_with_workers_and_a_profiler: "signal_workers.js",
    python_with_a_timer_and_tracebacks: "signal_timers.py",
    bash_with_traps: "signal_traps.sh",
    handlers_that_never_return: "signal_jumps.c",
    handlers_in_handlers_and_on_small_stacks: "signal_nested.c",
}

/// The modes in which the program runs under the loader.
const LOADED: [Mode; 3] = [Mode::Plain, Mode::Summary, Mode::Trace];

#[test]
fn a_signal_before_each_instruction_of_a_call() {
    for (stepper, program) in pairs("stepper.c", "signal_stepped.c") {
        for mode in [Mode::Native].into_iter().chain(LOADED) {
            let run = Run::new([&program]).wrapped([&stepper]).go(mode);
            run.expect_end(End::Status(0));
            run.expect_ok();
        }
    }
}

/// Each executable of the one guest with each of the other.
fn pairs(one: &str, other: &str) -> Vec<(std::path::PathBuf, std::path::PathBuf)> {
    let others = guest::build(other);
    let pair = |one: std::path::PathBuf| others.iter().map(move |other| (one.clone(), other.clone()));
    guest::build(one).into_iter().flat_map(pair).collect()
}

/// Each of these calls is made five times by the guest: interrupted for good or ended, it is over once; made again, it is
/// told as such once more.
#[test]
fn an_interrupted_call_is_told_once_and_one_made_again_twice() {
    for program in guest::build("signal_restart.c") {
        let run = Run::new([&program]).go(Mode::Trace);
        run.expect_end(End::Status(0));
        let lines = |name: &str| {
            let start = format!(" {name}(");
            let lines = run.report.lines().filter(|line| line.contains(&start));
            let (again, over): (Vec<_>, Vec<_>) = lines.partition(|line| line.contains("ERESTART"));
            (over.len(), again.len())
        };
        for name in ["ppoll", "pselect6", "epoll_pwait", "pause", "rt_sigsuspend"] {
            assert_eq!(lines(name), (5, 0), "{name}\n{run}");
        }
        assert_eq!(lines("accept"), (5, 1), "{run}");
    }
}
