//! A debugger sees through the gate: a thread that is blocked in a system call shows its whole stack.

mod harness;

use harness::{guest, loader, need_program};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// The guest's functions, innermost first, as a backtrace of it names them.
const FRAMES: &[&str] = &["read", "innermost", "middle", "main"];
/// Those of the guest that blocks in a handler.
const HANDLER_FRAMES: &[&str] =
    &["read", "on_signal", "signal handler called", "innermost", "middle", "main"];

/// Starts the guest under the loader and waits until it says that it is about to block.
fn blocked_guest(program: &std::path::Path, options: &[&str]) -> Child {
    let mut child = Command::new(loader())
        .args(options)
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the loader starts");
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().expect("is piped"));
    output.read_line(&mut line).expect("the guest prints a line");
    assert_eq!(line, "blocking\n");
    wait_until_blocked(child.id());
    child
}

/// Waits until the process sleeps in the kernel.
fn wait_until_blocked(pid: u32) {
    for _ in 0..500 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the guest lives");
        if stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S')) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the guest does not block");
}

/// Where the loader's file is mapped in the process.
fn loader_base(pid: u32) -> String {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the guest lives");
    let name = loader().to_string_lossy().into_owned();
    let line = maps.lines().find(|line| line.ends_with(&name)).expect("the loader is mapped");
    format!("0x{}", line.split('-').next().unwrap_or_default())
}

fn check(guest: &str, names: &[&str], options: &[&str]) {
    if need_program("gdb").is_none() {
        return;
    }
    for program in guest::build(guest) {
        let mut child = blocked_guest(&program, options);
        let pid = child.id();
        let symbols = format!("add-symbol-file {} -o {}", loader().to_string_lossy(), loader_base(pid));
        let file = format!("file {}", program.to_string_lossy());
        let output = Command::new("gdb")
            .args(["-nx", "-batch", "-p", &pid.to_string(), "-ex", &file, "-ex", &symbols, "-ex", "bt"])
            .env_remove("DEBUGINFOD_URLS")
            .output()
            .expect("gdb starts");
        child.kill().expect("the guest lives");
        child.wait().expect("the guest ends");
        let text = String::from_utf8_lossy(&output.stdout);
        let frames: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
        let mut rest = frames.iter();
        for name in names {
            assert!(rest.any(|line| line.contains(name)), "{options:?}: no frame of {name} in\n{text}");
        }
        assert!(
            !frames.iter().skip(1).any(|line| line.contains("??")),
            "{options:?}: a lost frame in\n{text}"
        );
    }
}

#[test]
fn a_backtrace_goes_through_a_stub() {
    check("blocked.c", FRAMES, &[]);
}

#[test]
fn a_backtrace_goes_through_a_record_slot() {
    check("blocked.c", FRAMES, &["-c", "-o", "/dev/null"]);
}

#[test]
fn a_backtrace_goes_through_a_handlers_frame() {
    check("blocked_in_handler.c", HANDLER_FRAMES, &[]);
    check("blocked_in_handler.c", HANDLER_FRAMES, &["-c", "-o", "/dev/null"]);
}
