//! Code that appears, changes and goes while the program runs.

mod harness;

use harness::run::{Mode, Run};
use harness::{guest, is_stand_in};
use std::collections::BTreeMap;
use std::path::Path;

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

/// How often each way was seen, of as many as the guest says that there are.
fn ways_seen(program: &Path, intercept: &str) -> Vec<usize> {
    let scratch = harness::scratch::Scratch::new("ways");
    let traced = Run::new([program]).options([intercept]).cwd(scratch.dir()).go(Mode::Trace);
    traced.expect_ok();
    let said = traced.text().lines().next().and_then(|line| line.parse().ok()).expect("a number");
    let found = markers(&traced.report);
    (1..=said).map(|number| found.get(&number).copied().unwrap_or(0)).collect()
}

#[test]
fn every_way_to_make_code_executable_is_seen_once() {
    guest::check("executable_ways.c");
    if is_stand_in() {
        return;
    }
    for program in guest::build("executable_ways.c") {
        let seen = ways_seen(&program, "--intercept=auto");
        // Code that the guest replaces before it runs, and nothing else.
        assert_eq!(seen.iter().filter(|&&times| times == 0).count(), 2, "{seen:?}");
        assert!(seen.iter().all(|&times| times <= 1), "{seen:?}");
    }
}

/// Without the kernel's help these are not to be seen, but what can be must not be seen twice.
#[test]
fn no_way_to_come_by_code_unwatched_is_seen_twice() {
    guest::check("unwatched_ways.c");
    if is_stand_in() {
        return;
    }
    for program in guest::build("unwatched_ways.c") {
        let seen = ways_seen(&program, "--intercept=auto");
        assert!(seen.len() >= 20 && seen.iter().all(|&times| times <= 1), "{seen:?}");
    }
}

#[test]
fn every_way_to_come_by_code_is_seen_once_by_the_net() {
    for source in ["executable_ways.c", "unwatched_ways.c"] {
        for program in guest::build(source) {
            let seen = ways_seen(&program, "--intercept=exhaustive");
            let never = if source == "executable_ways.c" { 2 } else { 0 };
            assert_eq!(seen.iter().filter(|&&times| times == 0).count(), never, "{source}: {seen:?}");
            assert!(seen.iter().all(|&times| times <= 1), "{source}: {seen:?}");
        }
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

#[test]
fn a_function_with_more_calls_than_there_are_stubs_makes_them_all() {
    guest::check("many_sites.c");
}
