//! What every benchmark stands on: one CPU, pairs of measurements, and a table that shows targets and judges nothing.
//!
//! The machine may be shared and its clock may wander, so nothing is measured once, and nothing on its own: native and
//! loaded alternate, each loaded measurement is compared with the native one right before it, and of these differences
//! the median is shown. Beside it stands the difference of the two minima, what the machine can do when left alone.
#![allow(dead_code, reason = "each benchmark uses its own part")]

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The loader to be measured.
pub(crate) const LOADER: &str = env!("CARGO_BIN_EXE_loader");

/// The words of a command, native or under the loader with these options.
pub(crate) fn words(options: Option<&[&str]>, program: &[&OsStr]) -> Vec<OsString> {
    let loader = options.map(|options| [&[LOADER], options].concat()).unwrap_or_default();
    loader.iter().map(OsString::from).chain(program.iter().map(OsString::from)).collect()
}

/// The command of these words.
pub(crate) fn command(words: &[OsString]) -> Command {
    let (program, arguments) = words.split_first().expect("a command has a first word");
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Builds `bench/guests/NAME.c` as its `//@ build:` line says.
pub(crate) fn build(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/guests");
    let source =
        std::fs::read_to_string(dir.join(name).with_extension("c")).expect("the guest's source is readable");
    let recipe = source
        .lines()
        .find_map(|line| line.strip_prefix("//@ build: "))
        .expect("a guest says how it is built");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let status = Command::new("/bin/sh").args(["-c", recipe]).env("OUT", &out).current_dir(dir).status();
    assert!(status.is_ok_and(|status| status.success()), "can't build: {recipe}");
    out
}

/// Binds this process, and what it starts from now on, to the last CPU that it may use.
pub(crate) fn pin() {
    unsafe extern "C" {
        fn sched_getaffinity(pid: i32, len: usize, mask: *mut u64) -> i32;
        fn sched_setaffinity(pid: i32, len: usize, mask: *const u64) -> i32;
    }
    let mut mask = [0_u64; 16];
    // SAFETY: libc's functions with libc's types; both touch only `mask`, which is as long as they are told.
    let pinned = unsafe {
        let known = sched_getaffinity(0, size_of_val(&mask), mask.as_mut_ptr()) >= 0;
        let last = mask.iter().rposition(|&word| word != 0);
        for (index, word) in mask.iter_mut().enumerate() {
            *word = if Some(index) == last { 1 << word.ilog2() } else { 0 };
        }
        known && sched_setaffinity(0, size_of_val(&mask), mask.as_ptr()) == 0
    };
    if !pinned {
        println!("not bound to one CPU: expect noise");
    }
}

/// Native and loaded measurements of the same thing, taken in turns.
#[derive(Default)]
pub(crate) struct Pairs {
    pairs: Vec<(f64, f64)>,
}

impl Pairs {
    /// Adds one of each.
    pub(crate) fn push(&mut self, native: f64, loaded: f64) {
        self.pairs.push((native, loaded));
    }

    /// The medians of native and loaded.
    pub(crate) fn medians(&self) -> (f64, f64) {
        (median(self.pairs.iter().map(|pair| pair.0)), median(self.pairs.iter().map(|pair| pair.1)))
    }

    /// The median of the differences.
    pub(crate) fn added(&self) -> f64 {
        median(self.pairs.iter().map(|(native, loaded)| loaded - native))
    }

    /// The difference of the minima.
    pub(crate) fn added_at_best(&self) -> f64 {
        let least = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min);
        least(&mut self.pairs.iter().map(|pair| pair.1)) - least(&mut self.pairs.iter().map(|pair| pair.0))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints the heading of a table of [`row`]s.
pub(crate) fn heading(title: &str) {
    println!(
        "\n{title}\n{:34} {:>9} {:>9} {:>9} {:>9} {:>7} {:>9}",
        "", "native", "loaded", "added", "at best", "ratio", "target"
    );
}

/// Prints one line of a table; `target` is the most that should be added.
pub(crate) fn row(what: &str, pairs: &Pairs, target: Option<f64>) {
    let (native, loaded) = pairs.medians();
    let target = target.map_or(String::new(), |target| format!("<= {target}"));
    println!(
        "{what:34} {native:>9.2} {loaded:>9.2} {:>+9.2} {:>+9.2} {:>7.2} {target:>9}",
        pairs.added(),
        pairs.added_at_best(),
        loaded / native
    );
}

/// A running guest that waits for its next round.
pub(crate) struct Guest {
    child: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Guest {
    /// Starts it, native or under the loader with these options.
    pub(crate) fn start(options: Option<&[&str]>, program: &[&OsStr]) -> Self {
        let mut command = command(&words(options, program));
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the guest can be started");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { ask: child.stdin.take(), child, answers }
    }

    /// The figure that one round of `what` gives.
    pub(crate) fn round(&mut self, what: &str) -> f64 {
        let ask = self.ask.as_mut().expect("it is piped");
        ask.write_all(what.as_bytes()).expect("the guest reads");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the guest answers");
        line.trim().parse().expect("the guest answers with a number")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.ask = None; // the end of its input ends it
        let _ = self.child.wait();
    }
}
