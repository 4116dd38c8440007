//! A machine with a kernel, the loader and a program, and nothing else: the loader as its first process.
//!
//! Debian's kernel boots under QEMU without acceleration, so the machine that runs the tests need not offer any. It is
//! older than most that the tests themselves run on. The same archive boots natively and loaded; the consoles must agree.

mod harness;

use harness::run::{End, Mode, Run};
use harness::scratch::Scratch;
use harness::summary::{self, Counts};
use harness::{find_program, guest, is_stand_in, loader, need_program, root, skip};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Whether there is all that a boot takes; says what is missing.
fn can_boot() -> bool {
    let has_kernel = [root().join("target/kernel/boot"), PathBuf::from("/boot")]
        .iter()
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flat_map(|entries| entries.filter_map(Result::ok))
        .any(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"));
    if !has_kernel {
        skip("there is no kernel image in /boot or target/kernel/boot");
    }
    has_kernel
        && !is_stand_in()
        && ["qemu-system-x86_64", "cpio", "gzip"].iter().all(|name| need_program(name).is_some())
}

/// An archive of these files.
struct Archive {
    scratch: Scratch,
}

impl Archive {
    fn of(files: &[(&Path, &str)]) -> Self {
        let archive = Self { scratch: Scratch::new("initramfs") };
        let items = files.iter().map(|(file, path)| format!("{}={path}", file.display()));
        let status = Command::new(root().join("tests/initramfs/build.sh"))
            .arg(archive.path())
            .arg(loader())
            .args(items)
            .status();
        assert!(status.is_ok_and(|status| status.success()), "the archive can't be built");
        archive
    }

    fn path(&self) -> PathBuf {
        self.scratch.path("archive")
    }

    /// What the serial console shows until the machine is off.
    fn boot(&self, cpu: &str, parameters: &str, words: &[&str]) -> String {
        let script = root().join("tests/initramfs/boot.sh").to_string_lossy().into_owned();
        let archive = self.path().to_string_lossy().into_owned();
        let outcome =
            Run::new([script.as_str(), &archive, parameters].into_iter().chain(words.iter().copied()))
                .env("CPU", cpu)
                .timeout(Duration::from_secs(180))
                .go(Mode::Native);
        outcome.expect_end(End::Status(0));
        // The last line is the kernel's: when it turned the machine off.
        let lines = outcome.text().replace('\r', "");
        lines
            .lines()
            .filter(|line| !line.starts_with("[ "))
            .fold(String::new(), |text, line| text + line + "\n")
    }
}

/// The table at the end of a console, and what stands before it.
fn split(console: &str) -> (&str, Counts) {
    let at = console.find("     calls ").unwrap_or_else(|| panic!("no summary in\n{console}"));
    let (before, table) = console.split_at(at);
    (before, summary::of_loader(table).unwrap_or_else(|reason| panic!("{reason} in\n{console}")))
}

#[test]
fn the_first_process_of_a_bare_machine() {
    if !can_boot() {
        return;
    }
    for init in guest::build("init.c") {
        let archive = Archive::of(&[(&init, "init")]);
        let native = archive.boot("max", "", &["/init"]);
        assert!(native.ends_with("ok\n"), "{native}");
        assert_eq!(archive.boot("qemu64", "", &["/loader", "/init"]), native);
        let console = archive.boot("max", "", &["/loader", "-c", "/init"]);
        let (before, counts) = split(&console);
        assert_eq!(before, native);
        assert_eq!((counts["reboot"], counts["mount"]), (1, 1), "{console}");
        assert!(counts["execve"] == 3 && counts["wait4"] > 60, "{console}");
    }
}

const SCRIPT: &[u8] = b"/bin/busybox mknod /dev/null c 1 3; echo start; ls /; (exit 3); echo $?\n\
    sh -c 'kill -TERM $$'; echo $?\n\
    (sh -c '/bin/busybox sleep 0.1; echo orphan' &); sleep 1\n\
    /bin/hello; /bin/dynamic; echo $?; /bin/script; echo a | cat | tr a b\n\
    exec /bin/busybox poweroff -f\n";

#[test]
fn a_shell_as_first_process() {
    let Some(busybox) = find_program("busybox").filter(|_| can_boot()) else { return };
    let scratch = Scratch::new("initramfs");
    // A shell without links to its own commands.
    let commands = "for c in ls sleep sh cat tr; do eval \"$c() { /bin/busybox $c \\\"\\$@\\\"; }\"; done\n";
    let script = scratch.file("script", &[commands.as_bytes(), SCRIPT].concat(), 0o644);
    let hello = guest::build("hello.c");
    let is_static = |program: &&PathBuf| set_interp(program, &scratch.path("x")).is_none();
    let (fixed, dynamic): (Vec<_>, Vec<_>) = hello.iter().partition(|program| is_static(program));
    let changed = set_interp(dynamic[0], &scratch.path("dynamic")).expect("is dynamic");
    let line = scratch.file("line", b"#!/bin/dynamic\n", 0o755);
    let libraries = ["/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"].map(Path::new);
    let archive = Archive::of(&[
        (&busybox, "bin/busybox"),
        (fixed[0], "bin/hello"),
        (&changed, "bin/dynamic"),
        (&script, "script"),
        (&line, "bin/script"),
        (libraries[0], "lib64/ld-linux-x86-64.so.2"),
        (libraries[1], "lib/x86_64-linux-gnu/libc.so.6"),
    ]);
    let native = archive.boot("max", "", &["/bin/busybox", "sh", "/script"]);
    assert!(native.starts_with("start\n") && native.ends_with("orphan\nok\nok\n0\nok\nb\n"), "{native}");
    // Without random addresses the vDSO lies in a hole of the loader's image.
    assert_eq!(archive.boot("qemu64", "norandmaps", &["/bin/busybox", "sh", "/script"]), native);
    let console = archive.boot("qemu64", "", &["/loader", "-c", "/bin/busybox", "sh", "/script"]);
    let (before, counts) = split(&console);
    assert_eq!(before, native);
    assert!(counts["reboot"] == 1 && counts["execve"] >= 8, "{console}");
}

/// The program with `/loader` as its interpreter, at `out`; nothing if it is static.
fn set_interp(program: &Path, out: &Path) -> Option<PathBuf> {
    let output = Command::new(loader())
        .args(["set-interp", "--loader=/loader"])
        .arg(program)
        .arg("-o")
        .arg(out)
        .output();
    output.is_ok_and(|output| output.status.success()).then(|| out.to_owned())
}
