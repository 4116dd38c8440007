//! The program never sees the loader where it looks at itself: its own file by every name, and what the kernel says
//! about the process.

mod harness;

use harness::run::{Mode, Run};
use harness::{guest, need_program, refused};

#[test]
fn own_file_by_every_name() {
    guest::check("own_file.c");
}

#[test]
fn own_file_that_is_not_there_any_more() {
    guest::check("own_file_moved.c");
}

#[test]
fn the_files_of_other_processes() {
    guest::check("other_file.c");
}

#[test]
fn a_title_that_others_see() {
    if need_program("ps").is_some() {
        guest::check("title.c");
    }
}

#[test]
fn state_of_the_process() {
    guest::check("process_state.c");
}

/// Nobody asks for a report, so no handler stands where the program has none, but for the one of traps.
#[test]
fn no_signal_is_caught_that_the_program_does_not_catch() {
    let run = Run::new(["/bin/grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"]);
    let masks = |mode| -> Vec<u64> {
        let text = run.go(mode).text();
        let masks =
            text.lines().filter_map(|line| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok());
        masks.map(|mask| mask & !(1 << 3)).collect()
    };
    let native = masks(Mode::Native);
    assert_eq!((native.len(), &native), (3, &masks(Mode::Plain)));
}

/// Where nothing tells it which file it is, the loader still goes by its name.
#[test]
fn without_proc_programs_run_and_are_followed() {
    let hide = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"];
    if !Run::new(["true"]).wrapped(hide).go(Mode::Native).end.is_success() {
        return refused("no right to hide /proc");
    }
    let run = Run::new(["sh", "-c", "ls /proc; /bin/echo a; (exit 3) || exec /bin/echo b"]).wrapped(hide);
    let native = run.go(Mode::Native);
    native.expect_same(&run.go(Mode::Plain));
    let loaded = run.go(Mode::Summary);
    native.expect_same(&loaded);
    assert_eq!(loaded.counts()["execve"], 3, "{loaded}");
    assert!(loaded.report.ends_with(" total\n"), "{loaded}");
}
