//! Milliseconds from starting a program to its end, for programs that do nothing else.
//!
//! Java's class is compiled first, if there is a compiler. Measured around `posix_spawn` and `wait`, so the kernel's own work on a new process is in both figures.

mod measure;

use measure::Pairs;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

struct Program {
    words: &'static [&'static str],
    runs: usize,
    /// The most milliseconds that should be added.
    target: Option<f64>,
}

const PROGRAMS: [Program; 5] = [
    Program { words: &["/bin/true"], runs: 400, target: Some(3.0) },
    Program { words: &["/usr/bin/python3", "-c", "pass"], runs: 100, target: None },
    Program { words: &["/usr/bin/node", "-e", "0"], runs: 20, target: None },
    Program { words: &["/usr/bin/java", "-version"], runs: 20, target: None },
    Program { words: &["/usr/bin/java", "-cp", CLASSES, "Hello"], runs: 20, target: None },
];
/// Where classes lie.
const CLASSES: &str = env!("CARGO_TARGET_TMPDIR");

fn main() {
    compile_class();
    measure::pin();
    measure::heading("ms from start to end");
    for program in &PROGRAMS {
        let name = program.words.join(" ").replace(&format!("-cp {CLASSES} "), "");
        let needs_class = program.words.contains(&CLASSES);
        let has_class = Path::new(CLASSES).join("Hello.class").exists();
        let is_there = program.words.first().is_some_and(|file| Path::new(file).exists());
        if !is_there || needs_class && !has_class {
            println!("{name:34} not installed");
            continue;
        }
        let as_os: Vec<&OsStr> = program.words.iter().map(OsStr::new).collect();
        let (native, loaded) = (measure::words(None, &as_os), measure::words(Some(&[]), &as_os));
        let mut pairs = Pairs::default();
        for _ in 0..program.runs {
            pairs.push(milliseconds(&native), milliseconds(&loaded));
        }
        measure::row(&name, &pairs, program.target);
    }
}

fn compile_class() {
    const SOURCE: &str =
        r#"class Hello { public static void main(String[] words) { System.out.println("hello"); } }"#;
    let source = Path::new(CLASSES).join("Hello.java");
    std::fs::write(&source, SOURCE).expect("the directory is writable");
    let _ = std::process::Command::new("javac").args(["-d", CLASSES]).arg(&source).status();
}

fn milliseconds(words: &[OsString]) -> f64 {
    let mut command = measure::command(words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status().expect("the program can be started");
    let elapsed = start.elapsed();
    assert!(status.success(), "{words:?}: {status}");
    elapsed.as_secs_f64() * 1e3
}
