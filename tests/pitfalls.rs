//! Where interposers have gone wrong: what they miss, what they take for code, what they leave behind, and what they tear.
//!
//! The names are those of K23 (Middleware '25). P2a, code that comes late, is in `code.rs`. Most guests say how many marker
//! calls they make: the summary must have counted as many, not one more.

mod harness;

use harness::run::{Mode, Run};
use harness::scratch::Scratch;
use harness::{guest, is_stand_in, need_program};
use std::path::Path;
use std::time::Duration;

/// P1a.
#[test]
fn an_exec_without_environment_does_not_shake_the_loader_off() {
    guest::check("empty_environment.c");
}

/// P1b.
#[test]
fn dispatch_that_the_program_switches_off_was_its_own() {
    guest::check("dispatch_off.c");
}

/// P2b: see also `completeness.rs`, which compares whole runs from the first instruction on with what strace saw.
#[test]
fn calls_before_main_and_in_the_vdso_are_counted() {
    guest::check("early_calls.c");
}

/// P3a: `native.rs` and `pages.rs` look at other data.
#[test]
fn the_text_of_a_java_machine_is_left_as_it_is() {
    if need_program("javac").is_some() {
        guest::check("PagesLibjvm.java");
    }
}

/// P3b.
#[test]
fn data_that_is_jumped_into_stays_data() {
    guest::check("data_executed.c");
}

/// P3b, where the kernel tells of calls from elsewhere.
#[test]
fn data_that_is_jumped_into_is_counted_each_time() {
    for program in guest::build("data_executed.c") {
        let counted = Run::new([program]).options(["--intercept=exhaustive"]).go(Mode::Summary);
        counted.expect_ok();
        assert!(is_stand_in() || counted.counts()["getpriority"] == 20_000, "{counted}");
    }
}

/// P4a.
#[test]
fn calls_of_null_and_of_what_is_near_it_fault() {
    guest::check("null_calls.c");
}

/// P4b, in kB: nothing is reserved for what might be.
#[test]
fn little_address_space_is_taken() {
    let Some(cat) = need_program("cat") else { return };
    let field = |mode, name: &str| -> i64 {
        let status = Run::new([cat.as_path(), Path::new("/proc/self/status")]).go(mode).text();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number =
            line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in\n{status}"))
    };
    for (name, most) in [("VmPeak:", 32 << 10), ("VmPTE:", 128), ("VmRSS:", 8 << 10)] {
        let native = field(Mode::Native, name);
        for mode in [Mode::Plain, Mode::Summary] {
            let loaded = field(mode, name);
            assert!(loaded - native <= most, "{name} {native} kB natively, {loaded} kB in {mode:?}");
        }
    }
}

/// P5: `code.rs` has the same guest's calls counted one by one.
#[test]
fn nobody_meets_a_torn_site() {
    for program in guest::build("code_live.c") {
        hammer(&Run::new([program.as_os_str(), "2000".as_ref()]));
    }
}

/// P5, where processors can't be asked to look again.
#[test]
fn nobody_meets_a_torn_site_without_membarrier() {
    let filter = guest::build("without.c").remove(0);
    for program in guest::build("code_live.c") {
        for lacking in ["membarrier", "may membarrier"] {
            hammer(&Run::new([&program]).wrapped([filter.as_os_str(), lacking.as_ref()]));
        }
    }
}

/// Compares a native run with two loaded ones.
fn hammer(run: &Run) {
    let run = run.clone().timeout(Duration::from_secs(400));
    let native = run.go(Mode::Native);
    native.expect_ok();
    for mode in [Mode::Plain, Mode::Summary] {
        native.expect_same(&run.go(mode));
    }
}

/// P5. What can be written is left alone, so that only the kernel tells of calls from there.
#[test]
fn patched_code_has_the_rights_that_it_was_given() {
    guest::check("rights.c");
    if is_stand_in() {
        return;
    }
    for program in guest::build("rights.c") {
        let scratch = Scratch::new("rights");
        let run = Run::new([program]).cwd(scratch.dir());
        let seen = |intercept| {
            let outcome = run.clone().options([intercept]).go(Mode::Summary);
            (outcome.counts()["getpriority"], outcome.text())
        };
        let (all, text) = seen("--intercept=exhaustive");
        let said: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert_eq!([said[1], said[1] - said[0]], [all, seen("--intercept=auto").0], "{text}");
    }
}

#[test]
fn code_comes_and_goes_where_no_mapping_is_left() {
    guest::check("map_budget.c");
}
