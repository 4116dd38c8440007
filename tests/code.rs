//! Code that appears, changes and goes while the program runs.

mod harness;

use harness::run::{Mode, Run};
use harness::{guest, is_stand_in};
use std::collections::BTreeMap;

/// The last argument of each marker call in a trace, and how often it was made.
fn markers(trace: &str) -> BTreeMap<u32, usize> {
    let mut found = BTreeMap::new();
    for line in trace.lines() {
        let arguments = line.split_once("getpriority(106, ").and_then(|(_, rest)| rest.split_once(')'));
        if let Some(number) = arguments.and_then(|(number, _)| number.parse().ok()) {
            *found.entry(number).or_default() += 1;
        }
    }
    found
}

#[test]
fn every_way_to_make_code_executable_is_seen_once() {
    guest::check("executable_ways.c");
    if is_stand_in() {
        return;
    }
    for program in guest::build("executable_ways.c") {
        let scratch = harness::scratch::Scratch::new("ways");
        let traced = Run::new([&program]).cwd(scratch.dir()).go(Mode::Trace);
        traced.expect_ok();
        let printed: u32 = traced.text().lines().next().and_then(|line| line.parse().ok()).expect("a number");
        let found = markers(&traced.report);
        let often: Vec<_> = found.iter().filter(|(_, times)| **times != 1).collect();
        assert!(often.is_empty(), "not once: {often:?}\n{traced}");
        // Code that the guest replaces before it runs, and nothing else.
        let never: Vec<u32> = (1..=printed).filter(|number| !found.contains_key(number)).collect();
        assert_eq!(never.len(), 2, "never: {never:?}\n{traced}");
    }
}

#[test]
fn code_that_comes_and_goes_leaves_nothing_behind() {
    guest::check("code_churn.c");
}

#[test]
fn code_that_threads_execute_is_patched_under_their_eyes() {
    guest::check("code_live.c");
    if is_stand_in() {
        return;
    }
    for program in guest::build("code_live.c") {
        let traced = Run::new([&program]).go(Mode::Trace);
        traced.expect_ok();
        let text = traced.text();
        let mut calls = text.split_whitespace().map_while(|word| word.parse::<usize>().ok());
        let found = markers(&traced.report);
        // Of the first, those of the time before could not be seen: memory was writable and executable.
        assert_eq!(found.get(&1).copied(), calls.next(), "{}", traced.command);
        assert_eq!(found.get(&2).copied(), calls.next(), "{}", traced.command);
    }
}

#[test]
fn what_mapping_calls_answer_and_leave_behind_is_native() {
    guest::check("mapping_errors.c");
}
