//! The program never sees the loader where it looks at itself: its own file by every name, and what the kernel says
//! about the process.

mod harness;

use harness::guest;
use harness::run::{Mode, Run};

#[test]
fn own_file_by_every_name() {
    guest::check("own_file.c");
}

#[test]
fn own_file_that_is_not_there_any_more() {
    guest::check("own_file_moved.c");
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
