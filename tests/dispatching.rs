//! Programs that use Syscall User Dispatch themselves: what reaches their handlers is what does natively, and the tools
//! hear of the calls that are made.

mod harness;

use harness::run::{End, Mode, Run};
use harness::scratch::Scratch;
use harness::{guest, need_program};
use std::fs;

#[test]
fn ranges_selectors_frames_and_deaths() {
    guest::check("dispatching.c");
}

#[test]
fn a_dispatched_call_is_none_to_tools_as_to_strace() {
    let Some(strace) = need_program("strace") else { return };
    guest::check("dispatching_counted.c");
    for program in guest::build("dispatching_counted.c") {
        let run = Run::new([&program]);
        let is_call = |line: &&str| line.contains("getppid(");
        assert_eq!(run.go(Mode::Summary).counts()["getppid"], 3);
        assert_eq!(run.go(Mode::Trace).report.lines().filter(is_call).count(), 3);

        let scratch = Scratch::new("dispatched");
        let log = scratch.path("log");
        let watched = run.wrapped([strace.as_os_str(), "-o".as_ref(), log.as_os_str()]).go(Mode::Native);
        watched.expect_end(End::Status(0));
        let log = fs::read_to_string(log).expect("strace writes its log");
        assert_eq!(log.lines().filter(is_call).count(), 3, "{log}");
    }
}
