//! Programs that restrict their own calls: the loader makes none that they would be punished for, and what their handlers
//! see is what they see natively.

mod harness;

use harness::run::{Mode, Run};
use harness::scratch::Scratch;
use harness::{guest, need_program};
use std::fs;

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

#[test]
fn a_filter_without_the_end_of_signal_handlers() {
    guest::check("seccomp_no_return.c");
}

#[test]
fn a_filter_without_the_signal_mask_and_handlers_on_an_alternate_stack() {
    guest::check("seccomp_altstack.c");
}

/// Where the tools speak at signals, the loader handles them, and ends the process itself.
#[test]
fn signals_are_deadly_behind_every_filter() {
    guest::check("seccomp_ends.c");
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

/// What the loader needs to start a program, besides what the program itself needs; no more than `@system-service` of
/// systemd.exec(5) grants.
const START_NEEDS: [&str; 25] = [
    "close",
    "execve",
    "exit_group",
    "faccessat2",
    "fstat",
    "fstatfs",
    "getpid",
    "getrandom",
    "gettid",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "openat",
    "personality",
    "prctl",
    "process_vm_readv",
    "process_vm_writev",
    "pwrite64",
    "read",
    "readlink",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "stat",
];
/// And to count its calls into a file.
const SUMMARY_NEEDS: [&str; 6] = ["flock", "ftruncate", "shmat", "shmctl", "shmget", "write"];

#[test]
fn a_filter_that_was_there_before() {
    let Some(strace) = need_program("strace") else { return };
    let Some(wrapper) = guest::build("filtered_exec.c").pop() else { return };
    for program in guest::build("hello.c") {
        let scratch = Scratch::new("filtered");
        let log = scratch.path("log");
        let watch = [strace.as_os_str(), "-o".as_ref(), log.as_os_str()];
        Run::new([&program]).wrapped(watch).go(Mode::Native).expect_ok();
        let log = fs::read_to_string(log).expect("strace writes its log");
        let own = log.lines().filter_map(|line| Some(line.split_once('(')?.0));
        for (mode, needed) in
            [(Mode::Native, &[][..]), (Mode::Plain, &START_NEEDS), (Mode::Summary, &START_NEEDS)]
        {
            let more = if mode == Mode::Summary { &SUMMARY_NEEDS[..] } else { &[] };
            let numbers = own
                .clone()
                .chain(["execve"])
                .chain(needed.iter().copied())
                .chain(more.iter().copied())
                .map(number);
            let words =
                [wrapper.to_string_lossy().into_owned()].into_iter().chain(numbers).chain(["--".to_owned()]);
            Run::new([&program]).wrapped(words).go(mode).expect_ok();
        }
    }
}

fn number(name: &str) -> String {
    let known = (0..600).find(|&number| loader::abi::sysno::name(number) == Some(name));
    known.unwrap_or_else(|| panic!("no call is named {name}")).to_string()
}
