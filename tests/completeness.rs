//! Every system call passes the gate: counts agree with strace's, and no call is made from anywhere else.
//!
//! strace looks from outside and misses nothing, so natively it is the reference for `loader -c`; over the loader,
//! with `-i`, it tells from which address each call was made.

mod harness;

use harness::run::{End, Mode, Outcome, Run};
use harness::scratch::Scratch;
use harness::summary::{self, Counts};
use harness::{guest, is_stand_in, loader, need_program};
use std::fs;
use std::path::Path;

/// Address randomisation changes how often `brk` and `mmap` are called, so both sides run without it.
const FIXED_LAYOUT: [&str; 3] = ["setarch", "x86_64", "-R"];

/// Compares the counts of `loader -c` with those of `strace -c` for one single-threaded program.
fn check(words: &[&str]) {
    for tool in ["strace", "setarch", words[0]] {
        if need_program(tool).is_none() {
            return;
        }
    }
    let scratch = Scratch::new("completeness");
    let table = scratch.path("strace");
    let table_name = table.to_string_lossy().into_owned();
    let strace = FIXED_LAYOUT.into_iter().chain(["strace", "-c", "-o", &table_name]);
    let run = Run::new(words).cwd(scratch.dir()).env("PYTHONHASHSEED", "0");
    let native = run.clone().wrapped(strace).go(Mode::Native);
    native.expect_end(End::Status(0));
    let mut expected = summary::of_strace(&fs::read_to_string(&table).unwrap_or_default())
        .unwrap_or_else(|reason| panic!("bad strace table: {reason}\n{native}"));
    forget_what_strace_counts_otherwise(&mut expected, 1);

    let loaded = run.wrapped(FIXED_LAYOUT).go(Mode::Summary);
    let mut counted = loaded.counts();
    forget_what_strace_counts_otherwise(&mut counted, 0);
    native.expect_same(&loaded);
    let differences = summary::differences(&expected, &counted);
    assert!(differences.is_empty(), "strace and loader count differently: {differences:?}\n{loaded}");
}

/// strace counts the `execve` that starts the program, which the loader stands in for; and neither the way out nor
/// what does not return is counted by strace, for it counts at the return.
fn forget_what_strace_counts_otherwise(counts: &mut Counts, starts: u64) {
    for name in ["exit", "exit_group"] {
        counts.remove(name);
    }
    // strace -c has no row for numbers that name no call.
    counts.retain(|name, _| name != "unknown" && !name.starts_with("syscall_"));
    if let Some(count) = counts.get_mut("execve") {
        *count -= starts;
    }
    counts.retain(|name, count| *count > 0 && !name.starts_with("syscall_0x"));
}

#[test]
fn counts_of_small_programs() {
    check(&["true"]);
    check(&["echo", "text"]);
    check(&["cat", "/etc/passwd", "/etc/hostname"]);
    check(&["ls", "-l", "/etc"]);
    check(&["ls", "/"]);
    check(&["sort", "/etc/passwd"]);
    check(&["grep", "-r", "main", "/etc/apt"]);
    check(&["sha256sum", "/etc/passwd"]);
}

#[test]
fn counts_of_each_kind_of_program() {
    for program in guest::build("hello.c") {
        check(&[&program.to_string_lossy()]);
    }
}

#[test]
fn counts_of_interpreters() {
    check(&["/usr/bin/python3", "-I", "-c", "pass"]);
    check(&["/usr/bin/python3", "-I", "-S", "-c", "import json; print(json.dumps([1]))"]);
    check(&["perl", "-e", "print 1"]);
    check(&["bash", "-c", "echo $((1 + 1))"]);
    check(&["dash", "-c", "cd /; pwd"]);
    check(&["busybox", "ls", "/"]);
}

#[test]
fn counts_of_guests_that_call_often() {
    for source in
        ["red_zone.c", "registers.c", "site_boundaries.c", "site_prefixed.c", "numbers.c", "early_calls.c"]
    {
        for program in guest::build(source) {
            check(&[&program.to_string_lossy()]);
        }
    }
}

/// A mapping of the program, or of one of its libraries, or the kernel's own: no call may come from there.
struct Foreign {
    start: u64,
    end: u64,
    name: String,
}

impl Foreign {
    /// The kernel reports the address after the two bytes of the instruction.
    fn holds_call_ending_at(&self, address: u64) -> bool {
        self.start < address && address <= self.end
    }
}

/// The program prints its own mappings, so they are those of the very run that strace watches.
fn foreign_mappings(outcome: &Outcome) -> Vec<Foreign> {
    let ours = loader().canonicalize().expect("the loader exists");
    let mapping = |line: &str| {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let name = fields.nth(4)?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        let mapping = Foreign { start: address(start)?, end: address(end)?, name: name.to_owned() };
        let is_foreign = ours != Path::new(name) && (name.starts_with('/') || name == "[vdso]");
        is_foreign.then_some(mapping)
    };
    outcome.text().lines().filter_map(mapping).collect()
}

/// Runs a program that prints `/proc/self/maps` under `strace -f -i` over the loader.
fn check_addresses(words: &[&str]) {
    for tool in ["strace", words[0]] {
        if need_program(tool).is_none() {
            return;
        }
    }
    let scratch = Scratch::new("addresses");
    let log = scratch.path("strace");
    let log_name = log.to_string_lossy().into_owned();
    let loaded = Run::new(words).wrapped(["strace", "-f", "-i", "-o", &log_name]).go(Mode::Plain);
    loaded.expect_end(End::Status(0));
    let foreign = foreign_mappings(&loaded);
    assert!(foreign.len() > 2, "the program shows its mappings\n{loaded}");
    let log = fs::read_to_string(&log).expect("strace writes its log");
    let mut calls = 0;
    let mut strays = Vec::new();
    for line in log.lines().filter(|line| !line.contains(" execve(")) {
        let Some(address) = call_address(line) else { continue };
        calls += 1;
        if let Some(mapping) = foreign.iter().find(|mapping| mapping.holds_call_ending_at(address)) {
            strays.push(format!("{}: {line}", mapping.name));
        }
    }
    assert!(calls > 10, "strace saw calls\n{log}");
    // A stand-in lets the program call from where it likes: there the test must find that.
    assert!(
        strays.is_empty() != is_stand_in(),
        "{} of {calls} calls bypass the gate:\n{}",
        strays.len(),
        strays.join("\n")
    );
}

/// The address in `PID [00007f0123456789] name(…`. Lines about signals and exits have none.
fn call_address(line: &str) -> Option<u64> {
    let (address, call) = line.split_once('[')?.1.split_once(']')?;
    call.contains('(').then(|| u64::from_str_radix(address, 16).ok()).flatten()
}

#[test]
fn no_call_comes_from_the_program_or_its_libraries() {
    check_addresses(&["cat", "/proc/self/maps"]);
    check_addresses(&["busybox", "cat", "/proc/self/maps"]);
    let script = "import os, time, threading, subprocess, ssl, ctypes\n\
                  threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(4)]\n\
                  [t.start() for t in threads]; [t.join() for t in threads]\n\
                  pid = os.fork()\n\
                  if pid == 0: os._exit(0)\n\
                  os.waitpid(pid, 0); time.time(); print(open('/proc/self/maps').read())";
    check_addresses(&["/usr/bin/python3", "-I", "-c", script]);
}
