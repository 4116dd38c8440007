//! Tools that look at a program from outside see it under the loader as they see it natively: debuggers, tracers and
//! profilers over the loader, and under it.

mod harness;

use harness::run::{End, Mode, Outcome, Run};
use harness::scratch::Scratch;
use harness::{guest, is_stand_in, loader, need_program, refused};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What gdb says while it obeys the commands, with `words` as the program and its arguments.
fn debug(commands: &[&str], words: &[&str], mode: Mode) -> Outcome {
    // A site that nothing better fits raises SIGILL. Commands go on where a breakpoint's place is not loaded yet.
    let set_up = ["set breakpoint pending on", "set auto-load safe-path /", "handle SIGILL nostop noprint"];
    let options = ["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off"];
    let commands = set_up.iter().chain(commands).flat_map(|&command| ["-ex", command]);
    let words: Vec<&str> =
        options.into_iter().chain(commands).chain(["--args"]).chain(words.iter().copied()).collect();
    Run::new(words).timeout(Duration::from_secs(120)).go(mode)
}

/// A breakpoint in the program, and one in its C library on a function that makes a call.
const TO_THE_CALL: [&str; 6] = ["break sum", "run", "bt", "break getppid", "continue", "bt"];
/// Single steps through a patched site and its stub.
const THROUGH_THE_STUB: [&str; 7] = ["stepi", "stepi", "bt", "stepi", "stepi", "stepi", "bt"];
/// Out of the function, and to the end of the program.
const TO_THE_END: [&str; 3] = ["finish", "next", "continue"];

/// Fails unless the session went from `sum` over `getppid` to the end of the program, and each stack reaches `main`.
fn expect_session(outcome: &Outcome, commands: &[&str]) {
    let text = outcome.text();
    assert!(text.contains(", sum (left=40, right=2) at ") && text.contains("getppid ()"), "{outcome}");
    let mains = text.lines().filter(|line| line.starts_with('#') && line.contains("main () at ")).count();
    let asked = commands.iter().filter(|command| **command == "bt").count();
    assert_eq!(mains, asked, "a stack does not reach main\n{outcome}");
    assert!(text.contains("42 1\nok\n") && text.contains(" exited normally]"), "{outcome}");
}

#[test]
fn gdb_debugs_a_loaded_program() {
    if need_program("gdb").is_none() {
        return;
    }
    let commands = [&TO_THE_CALL[..], &THROUGH_THE_STUB, &TO_THE_END].concat();
    let loader = loader();
    for program in guest::build("stepped.c") {
        let words = [&*loader.to_string_lossy(), &*program.to_string_lossy()];
        expect_session(&debug(&commands, &words, Mode::Native), &commands);
    }
}

/// What a loaded debugger traces runs natively, since it expects what the kernel does.
#[test]
fn a_loaded_gdb_debugs_a_program() {
    if need_program("gdb").is_none() {
        return;
    }
    let commands = [&TO_THE_CALL[..], &TO_THE_END].concat();
    for program in guest::build("stepped.c") {
        let words = [&*program.to_string_lossy()];
        expect_session(&debug(&commands, &words, Mode::Native), &commands);
        let loaded = debug(&commands, &words, Mode::Summary);
        expect_session(&loaded, &commands);
        if !is_stand_in() {
            assert!(loaded.report.contains(" traced by a program of the tree\n"), "{loaded}");
        }
    }
}

/// The names of the calls in a log of `strace -o`, from the last one called `first` on.
fn calls_since(log: &Path, first: &str) -> Vec<String> {
    let text = fs::read_to_string(log).expect("strace writes its log");
    let names = text.lines().filter_map(|line| line.split_once('(').map(|(name, _)| name));
    let names: Vec<String> = names.filter(|name| !name.contains(' ')).map(str::to_owned).collect();
    let start =
        names.iter().rposition(|name| name == first).unwrap_or_else(|| panic!("no {first} in\n{text}"));
    names[start..].to_vec()
}

/// Over the loader, strace sees its start, then what it sees natively: each call once, from whatever address.
#[test]
fn strace_sees_the_same_calls_once_the_program_has_started() {
    if need_program("strace").is_none() || is_stand_in() {
        return;
    }
    let scratch = Scratch::new("strace");
    let log = scratch.path("log");
    let log_name = log.to_string_lossy().into_owned();
    // A call that each of them makes once its C library is ready.
    for words in [["cat", "/etc/passwd"], ["busybox", "uname"], ["ls", "/"], ["sha256sum", "/etc/passwd"]] {
        if need_program(words[0]).is_none() {
            continue;
        }
        let first = if words[0] == "busybox" { "uname" } else { "getrandom" };
        let run = Run::new(words).wrapped(["setarch", "x86_64", "-R", "strace", "-o", &log_name]);
        let native = run.go(Mode::Native);
        let expected = calls_since(&log, first);
        let loaded = run.go(Mode::Plain);
        native.expect_same(&loaded);
        assert_eq!(calls_since(&log, first), expected, "{loaded}");
    }
}

#[test]
fn a_loaded_strace_sees_what_a_native_one_sees() {
    if need_program("strace").is_none() {
        return;
    }
    let scratch = Scratch::new("strace");
    let log = scratch.path("log");
    let words = ["strace", "-f", "-c", "-U", "name,calls", "-S", "name", "-o", &*log.to_string_lossy()];
    let run = Run::new(words.into_iter().chain(["setarch", "x86_64", "-R", "sh", "-c", "/bin/true; ls /"]));
    let native = run.go(Mode::Native);
    let expected = fs::read_to_string(&log).expect("strace writes its table");
    let loaded = run.go(Mode::Summary);
    native.expect_same(&loaded);
    assert_eq!(fs::read_to_string(&log).expect("strace writes its table"), expected, "{loaded}");
}

/// Code that is named by its file and symbol in samples of a loaded program.
#[test]
fn perf_names_the_code_of_a_loaded_program() {
    if need_program("perf").is_none() {
        return;
    }
    let scratch = Scratch::new("perf");
    let data = scratch.path("data").to_string_lossy().into_owned();
    let record = ["perf", "record", "-q", "-e", "cpu-clock:u", "-o", &data];
    for program in guest::build("hot.c") {
        let run = Run::new([&program]).wrapped(record);
        let native = run.go(Mode::Native);
        if native.end != End::Status(0) {
            return refused("the kernel does not let perf sample");
        }
        run.go(Mode::Plain).expect_end(End::Status(0));
        let samples = Run::new(["perf", "script", "-i", &data, "-F", "comm,ip,sym,dso"]).go(Mode::Native);
        let text = samples.text();
        let name = program.file_name().expect("has one").to_string_lossy().into_owned();
        let of = |symbol: &str| text.lines().filter(|line| line.contains(&format!(" {symbol} ("))).count();
        assert!(of("spin_in_program") > 10 && text.contains(&name), "{samples}");
        assert!(of("qsort") + of("qsort_r") + of("msort_with_tmp.part.0") + of("__qsort_r") > 0, "{samples}");
    }
}
