//! What the loader weighs: its file, and the memory that it adds to a program.
//!
//! Programs report on themselves from `/proc/self`. The peak (VmHWM) includes what the loader has needed only to get
//! the program started; what stays is Rss, and what of it nobody shares is Private (both from smaps_rollup).

mod measure;

use measure::Pairs;
use std::ffi::OsStr;

/// The most bytes that the file should have.
const FILE_TARGET: u64 = 600_000;
/// The most KiB that should be added to a program's memory.
const MEMORY_TARGET: f64 = 2048.0;
const RUNS: usize = 20;

const PYTHON: &str = "for name in ('status', 'smaps_rollup'): print(open('/proc/self/' + name).read())";
const PROGRAMS: [(&str, &[&str]); 2] = [
    ("cat", &["/bin/cat", "/proc/self/status", "/proc/self/smaps_rollup"]),
    ("python3", &["/usr/bin/python3", "-c", PYTHON]),
];
const FIGURES: [(&str, &[&str]); 3] =
    [("peak", &["VmHWM:"]), ("stays", &["Rss:"]), ("private", &["Private_Clean:", "Private_Dirty:"])];

fn main() {
    let len = std::fs::metadata(measure::LOADER).expect("the loader is built").len();
    println!("\nbytes of the loader's file: {len} (target <= {FILE_TARGET})");
    measure::heading("KiB of memory");
    for (name, program) in PROGRAMS {
        let program: Vec<&OsStr> = program.iter().map(OsStr::new).collect();
        let mut results: [Pairs; FIGURES.len()] = Default::default();
        for _ in 0..RUNS {
            let native = report(None, &program);
            let loaded = report(Some(&[]), &program);
            for ((_, keys), pairs) in FIGURES.iter().zip(&mut results) {
                pairs.push(kib(&native, keys), kib(&loaded, keys));
            }
        }
        for ((figure, _), pairs) in FIGURES.iter().zip(&results) {
            measure::row(&format!("{name}: {figure}"), pairs, Some(MEMORY_TARGET));
        }
    }
}

fn report(options: Option<&[&str]>, program: &[&OsStr]) -> String {
    let output =
        measure::command(&measure::words(options, program)).output().expect("the program can be started");
    assert!(output.status.success(), "{program:?}: {}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The sum of the lines `key N kB`.
fn kib(report: &str, keys: &[&str]) -> f64 {
    let value = |line: &str| line.split_whitespace().nth(1)?.parse::<f64>().ok();
    let wanted = |line: &&str| keys.iter().any(|key| line.starts_with(key));
    report.lines().filter(wanted).filter_map(value).sum()
}
