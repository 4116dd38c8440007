//! The program never sees the loader where it looks at itself: its own file by every name, and what the kernel says
//! about the process.

mod harness;

use harness::guest;

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
