//! Microseconds to make memory executable and writable again, as programs that generate code do hundreds of times a second:
//! without anything that looks like a system call, and with code that makes some, which is patched and given back.

mod measure;

use measure::{Guest, Pairs};

const LAUNCHES: usize = 4;
const ROUNDS: usize = 25;
const KINDS: [&str; 2] = ["data", "code"];
const KIB: [u32; 3] = [4, 64, 512];

fn main() {
    let guest = measure::build("flip");
    measure::pin();
    let mut results: [[Pairs; KIB.len()]; KINDS.len()] = Default::default();
    for _ in 0..LAUNCHES {
        let mut native = Guest::start(None, &[guest.as_os_str()]);
        let mut loaded = Guest::start(Some(&[]), &[guest.as_os_str()]);
        for _ in 0..ROUNDS {
            for (kind, by_size) in KINDS.iter().zip(&mut results) {
                for (kib, pairs) in KIB.iter().zip(by_size) {
                    let what = format!("{kib} {kind}\n");
                    pairs.push(native.round(&what) / 1e3, loaded.round(&what) / 1e3);
                }
            }
        }
    }
    measure::heading("us per pair of mprotect calls, to read-execute and back to read-write");
    for (kind, by_size) in KINDS.iter().zip(&results) {
        for (kib, pairs) in KIB.iter().zip(by_size) {
            let target = (*kind == "data").then_some(if *kib == 4 { 2.0 } else { 25.0 });
            measure::row(&format!("{kib} KiB of {kind}"), pairs, target);
        }
    }
}
