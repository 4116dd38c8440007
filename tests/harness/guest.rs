//! Guests: small programs of one behaviour each, whose head comment says how they are built and run.
//!
//! A directive is a comment line `//@ key: value` (or `#@ …`):
//! - `build: CC FLAGS … -o $OUT` – a command, run in `tests/guests`; several lines are several variants.
//! - `run: WORDS` – the command, default `$OUT`; `$SRC` is the guest's own path, `$DIR` a fresh directory.
//! - `status: N` or `signal: N` – how it ends, default status 0.
//! - `modes: plain summary trace report exhaustive` – default `plain summary`.
//! - `seconds: N` – the deadline, default 60.
//!
//! A guest prints `ok` last. What else it prints must not depend on the run: native and loaded are compared. A line
//! `N marker calls` says how many `getpriority(106, …)` it makes, which the summary must have counted.

use super::run::{End, Mode, Outcome, Run};
use super::scratch::{self, Scratch};
use super::{PATH, find_program, is_stand_in, root, skip};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The directory of the guests' sources.
pub(crate) fn dir() -> PathBuf {
    root().join("tests/guests")
}

/// What a guest's head comment says.
struct Directives {
    builds: Vec<String>,
    run: String,
    end: End,
    modes: Vec<Mode>,
    timeout: Duration,
}

/// Builds the guest in every variant; runs each natively and in each mode; all must agree and end with `ok`.
pub(crate) fn check(source: &str) {
    let directives = read_directives(source);
    for program in variants(source, &directives) {
        check_variant(source, &directives, &program);
    }
}

/// The guest's executables, one a `build:` line that this machine has the compiler for.
pub(crate) fn build(source: &str) -> Vec<PathBuf> {
    variants(source, &read_directives(source))
}

fn variants(source: &str, directives: &Directives) -> Vec<PathBuf> {
    if directives.builds.is_empty() {
        return vec![dir().join(source)];
    }
    directives.builds.iter().filter_map(|command| compile(source, command)).collect()
}

fn check_variant(source: &str, directives: &Directives, program: &Path) {
    let run_in = |mode| run_variant(source, directives, program, mode);
    let interpreter = directives.run.split_whitespace().next().unwrap_or_default();
    if !interpreter.starts_with('$') && find_program(interpreter).is_none() {
        return skip(&format!("{source} needs {interpreter}"));
    }
    let native = run_in(Mode::Native);
    native.expect_end(directives.end);
    native.expect_ok();
    for &mode in &directives.modes {
        let loaded = run_in(mode);
        native.expect_same(&loaded);
        if mode == Mode::Summary {
            let counts = loaded.counts();
            if let Some(said) = markers_said(&native).filter(|_| !is_stand_in()) {
                assert_eq!(counts.get("getpriority").copied(), Some(said), "marker calls\n{loaded}");
            }
        }
    }
}

/// How many marker calls, `getpriority(106, …)`, the guest says that it makes. No other code makes them.
fn markers_said(outcome: &Outcome) -> Option<u64> {
    let text = outcome.text();
    text.lines().find_map(|line| line.strip_suffix(" marker calls"))?.parse().ok()
}

fn run_variant(source: &str, directives: &Directives, program: &Path, mode: Mode) -> Outcome {
    let scratch = Scratch::new("guest");
    let words = directives.run.split_whitespace().map(|word| {
        let word = word.replace("$OUT", &program.to_string_lossy());
        let word = word.replace("$SRC", &dir().join(source).to_string_lossy());
        word.replace("$DIR", &scratch.dir().to_string_lossy())
    });
    Run::new(words).cwd(scratch.dir()).timeout(directives.timeout).go(mode)
}

/// Runs the guest once in `mode`, in each variant.
pub(crate) fn run(source: &str, mode: Mode) -> Vec<Outcome> {
    let directives = read_directives(source);
    let variants = variants(source, &directives);
    variants.iter().map(|program| run_variant(source, &directives, program, mode)).collect()
}

fn read_directives(source: &str) -> Directives {
    let path = dir().join(source);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut found = Directives {
        builds: Vec::new(),
        run: "$OUT".to_owned(),
        end: End::Status(0),
        modes: vec![Mode::Plain, Mode::Summary],
        timeout: Duration::from_secs(60),
    };
    let lines =
        text.lines().filter_map(|line| line.strip_prefix("//@ ").or_else(|| line.strip_prefix("#@ ")));
    for line in lines {
        let (key, value) =
            line.split_once(": ").unwrap_or_else(|| panic!("{source}: not `key: value`: {line}"));
        let number = || value.parse().unwrap_or_else(|_| panic!("{source}: not a number: {line}"));
        match key {
            "build" => found.builds.push(value.to_owned()),
            "run" => value.clone_into(&mut found.run),
            "status" => found.end = End::Status(number()),
            "signal" => found.end = End::Signal(number()),
            "modes" => found.modes = value.split_whitespace().map(mode_named).collect(),
            "seconds" => found.timeout = Duration::from_secs(number().unsigned_abs().into()),
            _ => panic!("{source}: no such directive: {line}"),
        }
    }
    found
}

fn mode_named(name: &str) -> Mode {
    match name {
        "plain" => Mode::Plain,
        "summary" => Mode::Summary,
        "trace" => Mode::Trace,
        "report" => Mode::Report,
        "exhaustive" => Mode::Exhaustive,
        _ => panic!("no such mode: {name}"),
    }
}

/// Runs one `build:` line unless its result is there already. The result's name holds a hash of the command, the
/// sources it names and every header, so nothing stale is ever used; it appears by a rename, so two tests that
/// build the same guest at once do no harm.
fn compile(source: &str, command: &str) -> Option<PathBuf> {
    let compiler = command.split_whitespace().next().unwrap_or_default();
    let Some(compiler) = find_program(compiler) else {
        skip(&format!("{source} is built with {compiler}, which is not installed"));
        return None;
    };
    let stem = source.split('.').next().unwrap_or(source);
    let built = scratch::base().join("guests").join(format!("{stem}-{:016x}", fingerprint(command)));
    let program = built.join(stem);
    if program.exists() {
        return Some(program);
    }
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let fresh = built.with_extension(format!("{}.{number}", std::process::id()));
    fs::create_dir_all(&fresh).expect("the target directory is writable");
    let out = fresh.join(stem);
    let words = command.split_whitespace().skip(1).map(|word| word.replace("$OUT", &out.to_string_lossy()));
    let caches = scratch::base().join("go");
    let made = Command::new(compiler)
        .args(words)
        .current_dir(dir())
        .env_clear()
        .envs([
            ("PATH", PATH),
            ("LC_ALL", "C"),
            ("GO111MODULE", "off"),
            ("CGO_ENABLED", "0"),
            ("GOFLAGS", "-mod=mod"),
        ])
        .envs([("GOCACHE", caches.join("cache")), ("GOPATH", caches.join("path")), ("HOME", caches)])
        .output()
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    let messages = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{source} can't be built: {command}\n{messages}");
    // Another test may have been first: its result is as good.
    if fs::rename(&fresh, &built).is_err() {
        let _ = fs::remove_dir_all(&fresh);
    }
    Some(program)
}

fn fingerprint(command: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    command.hash(&mut hasher);
    let headers =
        fs::read_dir(dir()).expect("the guests are there").filter_map(Result::ok).map(|entry| entry.path());
    let mut inputs: Vec<PathBuf> =
        headers.filter(|path| path.extension().is_some_and(|kind| kind == "h")).collect();
    inputs.extend(command.split_whitespace().map(|word| dir().join(word)).filter(|path| path.is_file()));
    inputs.sort();
    for input in inputs {
        fs::read(input).unwrap_or_default().hash(&mut hasher);
    }
    hasher.finish()
}
