//! Scripts: the first line is read by the kernel's rules, and the interpreter gets the kernel's arguments.
//!
//! The kernel is the reference for each file: where it runs the script, streams and status agree; where it refuses,
//! so does the loader (fs/binfmt_script.c).

mod harness;

use harness::run::{End, Mode, Run, native_refusal};
use harness::scratch::Scratch;
use std::path::Path;

/// Prints each of its arguments on a line of its own, in place of the interpreter of a script.
const SHOW: &[u8] = b"#!/bin/sh\nfor word in \"$0\" \"$@\"; do printf '<%s>\\n' \"$word\"; done\n";

/// Runs the script natively and in each mode, with a few arguments.
fn check(path: &Path, about: &str) {
    let run = Run::new([path.as_os_str(), "one".as_ref(), "two words".as_ref(), "".as_ref()]);
    if let Some(error) = native_refusal(path) {
        let loaded = run.go(Mode::Plain);
        let refused = matches!(loaded.end, End::Status(126 | 127)) && loaded.errors().starts_with("loader: ");
        assert!(refused, "{about}: natively {error}\n{loaded}");
        return;
    }
    let native = run.go(Mode::Native);
    for mode in [Mode::Plain, Mode::Summary] {
        native.expect_same(&run.go(mode));
    }
}

#[test]
fn first_lines_of_every_shape() {
    let scratch = Scratch::new("scripts");
    let show = scratch.file("show", SHOW, 0o755).to_string_lossy().into_owned();
    let long = format!("{}/{}", scratch.dir().display(), "./".repeat(150));
    let cases = [
        ("plain", format!("#!{show}\n")),
        ("blank before", format!("#! \t {show}\n")),
        ("one argument", format!("#!{show} -a\n")),
        ("an argument with blanks", format!("#!{show}  -a  b c\n")),
        ("blanks at the end", format!("#!{show} -a \t \n")),
        ("no newline", format!("#!{show} -a")),
        ("a carriage return", format!("#!{show}\r\n")),
        ("a zero byte", format!("#!{show}\0 more\n")),
        ("a zero byte in the argument", format!("#!{show} a\0b\n")),
        ("a tab between", format!("#!{show}\t-a\n")),
        ("longer than the kernel reads, cut in the path", format!("#!{long}show\n")),
        ("longer than the kernel reads, cut in the argument", format!("#!{show} {}\n", "x".repeat(300))),
        ("nothing", "#!\n".to_owned()),
        ("blanks only", "#!   \t\n".to_owned()),
        ("missing interpreter", "#!/nonexistent/interpreter\n".to_owned()),
        ("a directory", "#!/usr\n".to_owned()),
        ("no mark", format!("{show}\n")),
        ("real sh", "#!/bin/sh\necho \"$0\" \"$#\"; exit 3\n".to_owned()),
        ("real sh with an option", "#!/bin/sh -e\nfalse\necho not reached\n".to_owned()),
        ("env", "#!/usr/bin/env python3\nimport sys; print(sys.argv[1:]); sys.exit(4)\n".to_owned()),
        ("python", "#!/usr/bin/python3 -I\nimport sys; print(sys.argv, sys.flags.isolated)\n".to_owned()),
    ];
    for (at, (about, text)) in cases.iter().enumerate() {
        check(&scratch.file(&format!("script-{at}"), text.as_bytes(), 0o755), about);
    }
}

#[test]
fn scripts_that_are_run_by_scripts() {
    let scratch = Scratch::new("nested");
    let mut interpreter = scratch.file("show-0", SHOW, 0o755);
    // The kernel follows five; one more is refused.
    for depth in 1..=6 {
        let text = format!("#!{} -{depth}\n", interpreter.display());
        interpreter = scratch.file(&format!("show-{depth}"), text.as_bytes(), 0o755);
        check(&interpreter, &format!("{depth} deep"));
    }
}

#[test]
fn a_script_found_by_its_relative_path() {
    let scratch = Scratch::new("relative");
    scratch.file("script", b"#!/bin/sh\necho \"$0\" \"$1\"\n", 0o755);
    let run = Run::new(["./script", "x"]).cwd(scratch.dir());
    run.go(Mode::Native).expect_same(&run.go(Mode::Plain));
}

#[test]
fn a_script_without_leave_to_execute() {
    let scratch = Scratch::new("rights");
    check(&scratch.file("script", b"#!/bin/sh\necho\n", 0o644), "not executable");
}
