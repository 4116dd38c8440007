//! Nanoseconds that the loader adds to one system call: passed through, hooked, hooked on the way back too.
//!
//! Four processes of the same guest, one native and one for each mode, wait on one CPU. They take turns at rounds of a
//! third of a millisecond, so that whatever disturbs the machine disturbs them all alike. Addresses are random and
//! matter (branch predictor, caches), so the four are started anew a few times.

mod measure;

use measure::Pairs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

const LAUNCHES: usize = 12;
const ROUNDS: usize = 60;

/// What a guest is asked to call, by its letter.
const SITES: [(&str, &str); 2] = [("l", "libc"), ("o", "program")];

struct Mode {
    name: &'static str,
    options: &'static [&'static str],
    /// The most nanoseconds that it should add.
    target: Option<f64>,
}

const MODES: [Mode; 3] = [
    Mode { name: "passed through", options: &[], target: Some(5.0) },
    Mode { name: "empty hook", options: &["--empty"], target: Some(40.0) },
    Mode { name: "counted, with its error (-c)", options: &["-c", "-o", "/dev/null"], target: None },
];

fn main() {
    let guest = measure::build("call");
    measure::pin();
    let mut results: [[Pairs; MODES.len()]; SITES.len()] = Default::default();
    for _ in 0..LAUNCHES {
        let mut native = Guest::start(None, &guest);
        let mut loaded = MODES.map(|mode| Guest::start(Some(mode.options), &guest));
        for _ in 0..ROUNDS {
            for ((letter, _), by_mode) in SITES.iter().zip(&mut results) {
                for (guest, pairs) in loaded.iter_mut().zip(by_mode) {
                    let before = native.round(letter);
                    pairs.push(before, guest.round(letter));
                }
            }
        }
    }
    measure::heading(&format!("ns per getppid, {} rounds of 2000 calls each", LAUNCHES * ROUNDS));
    for ((_, site), by_mode) in SITES.iter().zip(&results) {
        for (mode, pairs) in MODES.iter().zip(by_mode) {
            measure::row(&format!("{site}: {}", mode.name), pairs, mode.target);
        }
    }
}

/// A running guest that waits for its next round.
struct Guest {
    child: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Guest {
    fn start(options: Option<&[&str]>, guest: &Path) -> Self {
        let words = measure::words(options, &[guest.as_os_str()]);
        let mut command = measure::command(&words);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the guest can be started");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { ask: child.stdin.take(), child, answers }
    }

    /// Nanoseconds per call in one round.
    fn round(&mut self, letter: &str) -> f64 {
        let ask = self.ask.as_mut().expect("it is piped");
        ask.write_all(letter.as_bytes()).expect("the guest reads");
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
