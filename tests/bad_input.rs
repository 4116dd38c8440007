//! What can't be run is refused in one line with a shell's exit status; what the kernel runs, runs.
//!
//! The kernel is the reference for every spoiled file: where it refuses, so must the loader; where it runs the file,
//! the loader must come to the same end. Never may a bad file end the loader by a signal that natively did not come.

mod harness;

use harness::guest;
use harness::run::{End, Mode, Outcome, Run, native_refusal};
use harness::scratch::Scratch;
use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A shell's status for what is not there, and for what is there but can't be run.
const NOT_FOUND: i32 = 127;
const NOT_RUNNABLE: i32 = 126;
const BAD_USAGE: i32 = 2;

fn load<W: AsRef<std::ffi::OsStr>>(words: impl IntoIterator<Item = W>) -> Outcome {
    Run::new(words).go(Mode::Plain)
}

/// One line on standard error that names the loader and the thing it is about, nothing on standard output.
fn expect_refusal(outcome: &Outcome, status: i32, about: &str) {
    outcome.expect_end(End::Status(status));
    let errors = outcome.errors();
    let is_one_line = errors.ends_with('\n') && errors.lines().count() == 1;
    assert!(
        is_one_line && errors.starts_with("loader: ") && errors.contains(about),
        "not one line about {about}\n{outcome}"
    );
    assert!(outcome.stdout.is_empty(), "something on standard output\n{outcome}");
}

/// Compares the loader with the kernel for a file that may or may not be runnable.
fn expect_as_native(path: &Path, about: &str) {
    let outcome = load([path]);
    match native_refusal(path) {
        Some(error) => {
            let status = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE };
            assert!(outcome.end == End::Status(status), "{about}: natively {error}\n{outcome}");
            expect_refusal(&outcome, status, &path.to_string_lossy());
        }
        // A file that the kernel gives up on past the point of no return dies natively; we can still refuse it.
        None => {
            let native = Run::new([path]).go(Mode::Native);
            if matches!(native.end, End::Signal(_)) && outcome.end == End::Status(NOT_RUNNABLE) {
                return expect_refusal(&outcome, NOT_RUNNABLE, &path.to_string_lossy());
            }
            assert!(
                native.end == outcome.end && native.stdout == outcome.stdout,
                "{about}\n{native}\n{outcome}"
            );
        }
    }
}

#[test]
fn bad_usage_is_one_line_and_status_2() {
    expect_refusal(&load(["--no-such-option", "true"]), BAD_USAGE, "--no-such-option");
    expect_refusal(&load(["-c", "-o"]), BAD_USAGE, "-o");
    expect_refusal(&load(["--"]), BAD_USAGE, "");
    expect_refusal(&load(["-c"]), BAD_USAGE, "");
    expect_refusal(&load([""; 0]), BAD_USAGE, "");
    expect_refusal(&load(["-Z", "true"]), BAD_USAGE, "-Z");
}

#[test]
fn help_and_version_go_to_standard_output() {
    for option in ["--help", "--version"] {
        let outcome = load([option]);
        outcome.expect_end(End::Status(0));
        assert!(outcome.text().contains("loader") && outcome.stderr.is_empty(), "{outcome}");
    }
    let version = load(["--version"]).text();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}

#[test]
fn options_end_at_the_program_or_at_two_dashes() {
    for words in [&["echo", "-c", "--help"][..], &["--", "echo", "-c", "--help"]] {
        let outcome = load(words);
        outcome.expect_end(End::Status(0));
        assert_eq!(outcome.text(), "-c --help\n", "{outcome}");
    }
}

#[test]
fn what_is_no_program_is_refused() {
    let scratch = Scratch::new("refused");
    expect_refusal(&load([scratch.path("missing")]), NOT_FOUND, "missing");
    expect_refusal(&load(["no-such-program-anywhere"]), NOT_FOUND, "no-such-program-anywhere");
    expect_refusal(&load([scratch.dir()]), NOT_RUNNABLE, &scratch.dir().to_string_lossy());
    for (name, content, mode) in [
        ("no-rights", &b"#!/bin/sh\n"[..], 0o644),
        ("empty", b"", 0o755),
        ("text", b"not a program\n", 0o755),
        ("magic-only", b"\x7fELF", 0o755),
        ("dos", b"MZ\x90\0", 0o755),
        ("zeros", &[0; 4096], 0o755),
        ("script-without-interpreter", b"#!\n", 0o755),
    ] {
        let path = scratch.file(name, content, mode);
        assert!(native_refusal(&path).is_some(), "{name} is refused natively");
        expect_refusal(&load([&path]), NOT_RUNNABLE, &path.to_string_lossy());
    }
    let file = scratch.file("file", b"", 0o755);
    expect_as_native(&file.join("below"), "a file taken for a directory");
    expect_as_native(&scratch.path(&"n".repeat(300)), "a name that is too long");
    let circle = scratch.path("circle");
    std::os::unix::fs::symlink(&circle, &circle).expect("the scratch directory is writable");
    expect_as_native(&circle, "a link to itself");
}

/// A field of a little-endian structure in a file.
fn put(bytes: &mut [u8], at: usize, value: u64, size: usize) {
    bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
}

fn get(bytes: &[u8], at: usize, size: usize) -> u64 {
    let mut word = [0; 8];
    word[..size].copy_from_slice(&bytes[at..at + size]);
    u64::from_le_bytes(word)
}

/// Offsets of fields in `Elf64_Ehdr` and `Elf64_Phdr` (elf.h).
const E_TYPE: usize = 16;
const E_MACHINE: usize = 18;
const E_ENTRY: usize = 24;
const E_PHOFF: usize = 32;
const E_PHENTSIZE: usize = 54;
const E_PHNUM: usize = 56;
const EHDR_SIZE: usize = 64;
const PHDR_SIZE: usize = 56;
const P_TYPE: usize = 0;
const P_OFFSET: usize = 8;
const P_VADDR: usize = 16;
const P_FILESZ: usize = 32;
const P_MEMSZ: usize = 40;
const P_ALIGN: usize = 48;
const PT_LOAD: u64 = 1;
const PT_INTERP: u64 = 3;

/// Where the program headers of this type start in the file.
fn headers(bytes: &[u8], kind: u64) -> Vec<usize> {
    let count = usize::try_from(get(bytes, E_PHNUM, 2)).expect("16 bits");
    let starts = (0..count).map(|number| EHDR_SIZE + PHDR_SIZE * number);
    starts.filter(|&start| get(bytes, start + P_TYPE, 4) == kind).collect()
}

fn is_dynamic(program: &Path) -> bool {
    !headers(&fs::read(program).expect("was built"), PT_INTERP).is_empty()
}

/// The dynamic and the static program that are spoiled here.
fn programs() -> Vec<PathBuf> {
    let built = guest::build("hello.c");
    let dynamic = built.iter().find(|path| is_dynamic(path)).cloned();
    let fixed = built.iter().find(|path| !is_dynamic(path)).cloned();
    dynamic.into_iter().chain(fixed).collect()
}

/// Runs copies of each program, each with one thing spoiled.
fn check_spoiled(name: &str, spoil: &dyn Fn(&mut Vec<u8>)) {
    for program in programs() {
        let mut bytes = fs::read(&program).expect("was built");
        spoil(&mut bytes);
        let scratch = Scratch::new("spoiled");
        expect_as_native(&scratch.file("spoiled", &bytes, 0o755), name);
    }
}

#[test]
fn header_fields_out_of_range() {
    let fields: [(&str, usize, usize, &[u64]); 6] = [
        ("e_type", E_TYPE, 2, &[0, 1, 4, 0xffff]),
        ("e_machine", E_MACHINE, 2, &[0, 3, 40, 183, 243]),
        ("e_phentsize", E_PHENTSIZE, 2, &[0, 32, 55, 57, 0xffff]),
        ("e_phnum", E_PHNUM, 2, &[0, 0x500, 0xffff]),
        ("e_phoff", E_PHOFF, 8, &[0, 1, 1 << 20, 1 << 40, i64::MAX as u64, 1 << 63, u64::MAX]),
        ("e_entry", E_ENTRY, 8, &[0, 1, 1 << 40, 1 << 63, u64::MAX]),
    ];
    for (name, at, size, values) in fields {
        for &value in values {
            check_spoiled(&format!("{name} = {value:#x}"), &|bytes| put(bytes, at, value, size));
        }
    }
    check_spoiled("the magic's last byte", &|bytes| bytes[3] = b'G');
}

#[test]
fn segments_out_of_range() {
    let fields: [(&str, usize, &[u64]); 5] = [
        ("p_offset", P_OFFSET, &[1, 1 << 20, 1 << 40, u64::MAX - 4095, u64::MAX]),
        ("p_vaddr", P_VADDR, &[1, 1 << 46, 1 << 47, 1 << 63, u64::MAX - 4095, u64::MAX]),
        ("p_filesz", P_FILESZ, &[0, 1 << 20, 1 << 40, u64::MAX]),
        ("p_memsz", P_MEMSZ, &[0, 1 << 40, 1 << 47, 1 << 63, u64::MAX]),
        ("p_align", P_ALIGN, &[0, 1, 3, 1 << 30, 1 << 63, u64::MAX]),
    ];
    for (name, at, values) in fields {
        for &value in values {
            for last in [false, true] {
                check_spoiled(&format!("{name} = {value:#x}, last {last}"), &|bytes| {
                    let loads = headers(bytes, PT_LOAD);
                    let header = if last { loads[loads.len() - 1] } else { loads[0] };
                    put(bytes, header + at, value, 8);
                });
            }
        }
    }
}

#[test]
fn segments_missing_overlapping_unsorted() {
    check_spoiled("no segment", &|bytes| {
        for header in headers(bytes, PT_LOAD) {
            put(bytes, header + P_TYPE, 0, 4);
        }
    });
    check_spoiled("two segments at one place", &|bytes| {
        let loads = headers(bytes, PT_LOAD);
        let address = get(bytes, loads[0] + P_VADDR, 8);
        put(bytes, loads[1] + P_VADDR, address, 8);
    });
    check_spoiled("segments in the wrong order", &|bytes| {
        let loads = headers(bytes, PT_LOAD);
        let (first, second) = (loads[0], loads[1]);
        let (low, high) = bytes.split_at_mut(second);
        low[first..first + PHDR_SIZE].swap_with_slice(&mut high[..PHDR_SIZE]);
    });
}

/// Lengths at which something ends: each byte of the file header, each program header, each segment, and around.
fn interesting_lengths(bytes: &[u8]) -> Vec<usize> {
    let around = |at: usize| -> Range<usize> { at.saturating_sub(1)..at + 2 };
    let mut lengths: Vec<usize> = (0..=EHDR_SIZE).collect();
    let count = usize::try_from(get(bytes, E_PHNUM, 2)).expect("16 bits");
    lengths.extend((0..=count).flat_map(|number| around(EHDR_SIZE + PHDR_SIZE * number)));
    for header in headers(bytes, PT_LOAD).into_iter().chain(headers(bytes, PT_INTERP)) {
        let field = |at| usize::try_from(get(bytes, header + at, 8)).expect("64 bits");
        let start = field(P_OFFSET);
        lengths.extend(around(start).chain(around(start + field(P_FILESZ))));
    }
    lengths.retain(|&length| length < bytes.len());
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

#[test]
fn files_cut_off_at_every_header() {
    for program in programs() {
        let bytes = fs::read(&program).expect("was built");
        let scratch = Scratch::new("cut");
        for length in interesting_lengths(&bytes) {
            let path = scratch.file(&format!("cut-at-{length}"), &bytes[..length], 0o755);
            expect_as_native(&path, &format!("{} cut at {length}", program.display()));
            fs::remove_file(path).expect("was just written");
        }
    }
}

/// The dynamic program, its interpreter's path put elsewhere in the file so that it can be of any length.
fn with_interpreter(path: &[u8], stored: u64) -> Vec<u8> {
    let program = guest::build("hello.c")
        .into_iter()
        .find(|path| is_dynamic(path))
        .expect("hello.c has such a variant");
    let mut bytes = fs::read(program).expect("was built");
    let header = headers(&bytes, PT_INTERP)[0];
    let at = bytes.len() as u64;
    bytes.extend_from_slice(path);
    put(&mut bytes, header + P_OFFSET, at, 8);
    put(&mut bytes, header + P_FILESZ, stored, 8);
    bytes
}

#[test]
fn interpreters_that_are_none() {
    let scratch = Scratch::new("interpreter");
    let other = |name: &str, content: &[u8], mode| {
        let mut path = scratch.file(name, content, mode).to_string_lossy().into_owned().into_bytes();
        path.push(0);
        path
    };
    let long = [vec![b'/'; 4096], vec![0]].concat();
    let cases: Vec<(&str, Vec<u8>, Option<u64>)> = vec![
        ("missing", b"/nonexistent/ld.so\0".to_vec(), None),
        ("not terminated", b"/lib64/ld-linux-x86-64.so.2".to_vec(), None),
        ("of size 0", b"\0".to_vec(), Some(0)),
        ("of size 1", b"\0".to_vec(), Some(1)),
        ("longer than any path", long, None),
        ("of no end", b"/lib64/ld-linux-x86-64.so.2\0".to_vec(), Some(u64::MAX)),
        ("past the end of the file", b"/lib64/ld-linux-x86-64.so.2\0".to_vec(), Some(200)),
        ("a directory", b"/usr\0".to_vec(), None),
        ("empty", other("empty", b"", 0o755), None),
        ("a text", other("text", b"#!/bin/sh\n", 0o755), None),
        ("not executable", other("rights", b"", 0o644), None),
        (
            "of another machine",
            other("machine", &[b"\x7fELF\x02\x01\x01".as_slice(), &[0; 200]].concat(), 0o755),
            None,
        ),
    ];
    for (name, path, stored) in cases {
        let stored = stored.unwrap_or(path.len() as u64);
        let program = scratch.file("program", &with_interpreter(&path, stored), 0o755);
        expect_as_native(&program, &format!("interpreter {name}"));
    }
}

#[test]
fn a_32_bit_program_runs_as_natively_or_is_refused() {
    if harness::need_program("as").is_none() || harness::need_program("ld").is_none() {
        return;
    }
    let scratch = Scratch::new("i386");
    let source =
        scratch.file("a.s", b".globl _start\n_start: mov $1, %eax\n mov $3, %ebx\n int $0x80\n", 0o644);
    let (object, program) = (scratch.path("a.o"), scratch.path("a"));
    for words in [
        [Path::new("as"), Path::new("--32"), &source, Path::new("-o"), &object],
        [Path::new("ld"), Path::new("-melf_i386"), &object, Path::new("-o"), &program],
    ] {
        Run::new(words).go(Mode::Native).expect_end(End::Status(0));
    }
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("was just linked");
    let outcome = load([&program]);
    let native = Run::new([&program]).go(Mode::Native);
    if outcome.end != native.end {
        expect_refusal(&outcome, NOT_RUNNABLE, &program.to_string_lossy());
    }
}
