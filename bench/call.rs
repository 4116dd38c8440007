//! Nanoseconds that the loader adds to one system call: passed through, hooked, hooked on the way back too, and the same
//! with the kernel's net armed below (Syscall User Dispatch), which costs each call something natively too.
//!
//! Processes of the same guest, one native and one for each mode, wait on one CPU. They take turns at rounds of a
//! third of a millisecond, so that whatever disturbs the machine disturbs them all alike. Addresses are random and
//! matter (branch predictor, caches), so all are started anew a few times.

mod measure;

use measure::{Guest, Pairs};

const LAUNCHES: usize = 12;
const ROUNDS: usize = 60;

/// What a guest is asked to call, by its letter.
const SITES: [(&str, &str); 2] = [("l", "libc"), ("o", "program")];

struct Mode {
    name: &'static str,
    /// The loader's; `None` without it.
    options: Option<&'static [&'static str]>,
    /// The guest's: `armed` has it arm the net itself, around all memory.
    argument: &'static str,
    /// The most nanoseconds that it should add.
    target: Option<f64>,
}

const fn loaded(name: &'static str, options: &'static [&'static str], target: Option<f64>) -> Mode {
    Mode { name, options: Some(options), argument: "", target }
}

const MODES: [Mode; 6] = [
    loaded("passed through", &["--intercept=fast"], Some(5.0)),
    loaded("empty hook", &["--intercept=fast", "--empty"], Some(40.0)),
    loaded("counted, with its error (-c)", &["--intercept=fast", "-c", "-o", "/dev/null"], None),
    Mode { name: "native, armed", options: None, argument: "armed", target: None },
    loaded("passed through, armed", &["--intercept=exhaustive"], None),
    loaded("empty hook, armed", &["--intercept=exhaustive", "--empty"], None),
];

fn main() {
    let guest = measure::build("call");
    measure::pin();
    let mut results: [[Pairs; MODES.len()]; SITES.len()] = Default::default();
    for _ in 0..LAUNCHES {
        let mut native = Guest::start(None, &[guest.as_os_str()]);
        let mut others =
            MODES.map(|mode| Guest::start(mode.options, &[guest.as_os_str(), mode.argument.as_ref()]));
        for _ in 0..ROUNDS {
            for ((letter, _), by_mode) in SITES.iter().zip(&mut results) {
                for (guest, pairs) in others.iter_mut().zip(by_mode) {
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
