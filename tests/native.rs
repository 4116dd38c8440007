//! Each guest natively, then under the loader in each of its modes: streams and the way it ends must agree.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};

/// One test a guest.
macro_rules! guests {
    ($($name:ident: $source:literal,)*) => {
        $(#[test]
        fn $name() {
            harness::guest::check($source);
        })*
    };
}

guests! {
    hello_of_every_kind: "hello.c",
    state_at_the_first_instruction: "state.c",
    registers_across_calls: "registers.c",
    red_zone: "red_zone.c",
    stack_untouched: "stack_untouched.c",
    numbers: "numbers.c",
    site_that_is_a_branch_target: "site_branch_target.c",
    site_beside_a_site: "site_adjacent.c",
    site_at_a_page_end: "site_page_end.c",
    site_entered_at_every_boundary: "site_boundaries.c",
    site_with_prefixes: "site_prefixed.c",
    data_in_text: "data_in_text.c",
    clone_with_its_own_stack: "clone_raw.c",
    clone3_of_every_size: "clone3.c",
    fork_nested_and_threaded: "fork.c",
    vfork_on_the_parents_stack: "vfork.c",
    musl_threads_that_unmap_themselves: "musl_detached.c",
    thread_that_unmaps_its_stack: "unmap_stack.c",
    threads_joined_and_detached: "threads.c",
    main_thread_that_exits_first: "main_exits_first.c",
    auxv_everywhere_the_same: "auxv.c",
    arguments_and_identity: "arguments.c",
    descriptors_left_open: "descriptors.c",
    brk_past_the_data: "brk.c",
    executable_stack: "exec_stack.c",
    bss_at_page_edges: "bss_edges.c",
    go_with_goroutines: "goroutines.go",
    python_with_threads_and_sockets: "threads_sockets.py",
    node_with_its_event_loop: "event_loop.js",
}

/// Where nothing but a trap fits, the kernel puts a signal frame on the program's stack.
#[test]
fn stack_untouched_without_padding() {
    harness::guest::check("stack_untouched_bare.c");
}

/// A guest that no test names would rot unseen.
#[test]
fn every_guest_is_named_by_a_test() {
    let read_dir =
        |dir: &Path| fs::read_dir(dir).expect("is there").map(|entry| entry.expect("is readable").path());
    let tests = harness::root().join("tests");
    let tests: String = read_dir(&tests).filter_map(|path| fs::read_to_string(path).ok()).collect();
    let part_of_others = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "h" || kind == "S");
    let guests = read_dir(&harness::guest::dir()).filter(|path| !part_of_others(path));
    let names = guests.filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
    let unnamed: Vec<String> = names.filter(|name| !tests.contains(&format!("\"{name}\""))).collect();
    assert!(unnamed.is_empty(), "no test runs {unnamed:?}: add them to the list in tests/native.rs");
}
