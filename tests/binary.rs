//! The executable itself: freestanding, position independent, one system call instruction in the gate, small.
//!
//! Checked for the build that the other tests run and for the release build, which is the one that is given out.

mod harness;

use harness::run::{End, Mode, Run};
use harness::{is_stand_in, loader, need_program, root, scratch, skip};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The ceiling of the release binary, bytes.
const RELEASE_SIZE_MAX: u64 = 864 * 1024;

/// The output of a binutils program, or nothing if that was a skip.
fn inspect(words: &[&str], binary: &Path) -> Option<String> {
    need_program(words[0])?;
    let outcome = Run::new(words.iter().map(PathBuf::from).chain([binary.to_owned()])).go(Mode::Native);
    outcome.expect_end(End::Status(0));
    Some(outcome.text())
}

/// The release build; Cargo does nothing when it is there and up to date.
fn release() -> PathBuf {
    let target = scratch::base().parent().expect("the target directory holds the tests' own");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--bin", "loader", "--target-dir"])
        .arg(target)
        .current_dir(root())
        .output()
        .expect("Cargo runs this test, so it is there");
    assert!(built.status.success(), "no release build:\n{}", String::from_utf8_lossy(&built.stderr));
    target.join("release/loader")
}

fn check_headers(binary: &Path) {
    let Some(text) = inspect(&["readelf", "-h", "-l", "-d", "-W"], binary) else { return };
    assert!(text.contains("DYN (Position-Independent Executable file)"), "not position independent\n{text}");
    for (unwanted, reason) in [
        ("INTERP", "it would need a dynamic loader"),
        ("(NEEDED)", "it would need a library"),
        (" TLS ", "thread-local storage belongs to the program"),
        (" RWE ", "no page is writable and executable"),
        ("(TEXTREL)", "text is not relocated"),
    ] {
        assert!(!text.contains(unwanted), "{unwanted}: {reason}\n{text}");
    }
    let stack = text.lines().find(|line| line.trim_start().starts_with("GNU_STACK"));
    assert!(stack.is_some_and(|line| line.contains(" RW ")), "the stack is not executable\n{text}");
}

fn check_relocations(binary: &Path) {
    let Some(text) = inspect(&["readelf", "-r", "-W"], binary) else { return };
    let other = text.lines().find(|line| line.contains("R_X86_64_") && !line.contains("R_X86_64_RELATIVE"));
    assert!(other.is_none(), "the start code applies relative relocations only: {other:?}");
}

fn check_symbols(binary: &Path) {
    let Some(text) = inspect(&["readelf", "--dyn-syms", "-s", "-W"], binary) else { return };
    // Number, value, size, type, bind, visibility, section, name: the unnamed symbol 0 is always undefined.
    let undefined =
        |line: &&str| line.split_whitespace().nth(6) == Some("UND") && line.split_whitespace().count() > 7;
    let found: Vec<&str> = text.lines().filter(undefined).collect();
    assert!(found.is_empty(), "undefined symbols: {found:?}");
}

/// Instructions by section, as `objdump -d` shows them.
fn check_instructions(binary: &Path) {
    let Some(text) = inspect(&["objdump", "-d", "--no-show-raw-insn", "-M", "intel"], binary) else { return };
    let mut section = "";
    let mut calls = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("Disassembly of section ") {
            section = name.trim_end_matches(':');
        }
        let Some((_, instruction)) = line.split_once(":\t") else { continue };
        assert!(!instruction.contains("fs:"), "%fs belongs to the program: {line}");
        let is_call =
            |word: &str| matches!(word, "syscall" | "sysenter") || instruction.starts_with("int    0x80");
        if instruction.split_whitespace().any(is_call) {
            calls.push((section, line));
        }
    }
    assert!(matches!(calls[..], [(".gate", _)]), "exactly one system call instruction, in .gate: {calls:?}");
}

fn check(binary: &Path) {
    check_headers(binary);
    check_relocations(binary);
    check_symbols(binary);
    check_instructions(binary);
}

#[test]
fn tested_binary_is_freestanding() {
    if is_stand_in() {
        return skip("the stand-in is no freestanding binary");
    }
    check(&loader());
}

#[test]
fn release_binary_is_freestanding_and_small() {
    if is_stand_in() {
        return skip("the stand-in is no freestanding binary");
    }
    let binary = release();
    check(&binary);
    let size = fs::metadata(&binary).expect("was just built").len();
    assert!(size <= RELEASE_SIZE_MAX, "the release binary has {size} bytes, more than {RELEASE_SIZE_MAX}");
}
