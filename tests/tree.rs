//! The report of a run is whole: every process of the tree is in it, however it ended, under its own name if asked.

mod harness;

use harness::run::{End, Mode, Run};
use harness::scratch::Scratch;
use harness::summary::{self, Counts};
use harness::{guest, is_stand_in, loader, need_program, refused};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

/// `loader OPTIONS -o FILE WORDS`: what it wrote to FILE, and how the program ended.
fn report_of<S: AsRef<std::ffi::OsStr>>(
    options: &[&str],
    words: impl IntoIterator<Item = S>,
) -> (String, Output) {
    let scratch = Scratch::new("tree");
    let report = scratch.path("report");
    let mut command = Command::new(loader());
    command.args(options).arg("-o").arg(&report).args(words);
    let output = command.env("PATH", harness::PATH).output().expect("the loader can be run");
    (fs::read_to_string(&report).unwrap_or_default(), output)
}

/// The tables of `--summary=pid`: the line above each, and its rows.
fn tables(text: &str) -> Vec<(String, Counts)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((title, table)) = rest.split_once('\n') {
        let end = table.find(" total\n").expect("a table ends in its total") + " total\n".len();
        let rows = summary::of_loader(&table[..end]).unwrap_or_else(|reason| panic!("{reason}\n{text}"));
        found.push((title.to_owned(), rows));
        rest = &table[end..];
    }
    found
}

/// The tables' counts as one.
fn sum(tables: &[(String, Counts)]) -> Counts {
    let mut all = Counts::new();
    for (name, count) in tables.iter().flat_map(|(_, counts)| counts) {
        *all.entry(name.clone()).or_default() += count;
    }
    all
}

fn names(tables: &[(String, Counts)]) -> Vec<&str> {
    tables.iter().map(|(title, _)| title.rsplit(": ").next().unwrap_or_default()).collect()
}

#[test]
fn nothing_is_lost_when_many_end_at_once() {
    guest::check("children_end_together.c");
    if is_stand_in() {
        return;
    }
    for program in guest::build("children_end_together.c") {
        let (text, _) = report_of(&["-c"], [&program]);
        let counts = summary::of_loader(&text).unwrap_or_default();
        assert_eq!((counts["getppid"], counts["exit_group"]), (5000, 35), "{text}");
        let (text, _) = report_of(&["--summary=pid"], [&program]);
        let tables = tables(&text);
        assert_eq!(tables.len(), 101, "{text}");
        let whole = tables[1..].iter().all(|(_, counts)| counts["getppid"] == 50 && counts["read"] == 1);
        assert!(whole, "{text}");
    }
}

#[test]
fn each_process_is_named_by_its_program() {
    if is_stand_in() {
        return;
    }
    let script = "/bin/true; (exit 3); exec /bin/cat /dev/null";
    let (text, _) = report_of(&["--summary=pid"], ["bash", "-c", script]);
    let tables = tables(&text);
    assert_eq!(names(&tables), ["cat", "true", "bash"], "{text}");
    assert!(tables[0].1.contains_key("fadvise64") && tables[0].1["execve"] == 1, "{text}");
    // The total of the tables is that of the tree.
    let (whole, _) = report_of(&["-c"], ["bash", "-c", script]);
    let mut expected = summary::of_loader(&whole).unwrap_or_default();
    let mut found = sum(&tables);
    // Addresses decide how often the break moves.
    for counts in [&mut expected, &mut found] {
        counts.retain(|name, _| !["brk", "mmap", "munmap"].contains(&name.as_str()));
    }
    assert_eq!(summary::differences(&expected, &found), [""; 0], "{text}\n{whole}");
}

#[test]
fn a_child_of_vfork_has_its_own_table() {
    if is_stand_in() {
        return;
    }
    let (text, _) =
        report_of(&["--summary=pid"], ["dash", "-c", "/bin/true; /bin/true; /bin/nonexistent; :"]);
    let tables = tables(&text);
    assert!(tables.len() == 4 && names(&tables)[..3] == ["dash", "true", "true"], "{text}");
    assert!(tables[1].1["execve"] == 1 && !tables[0].1.contains_key("execve"), "{text}");
}

/// The trace says whose a line is as soon as there is somebody else.
#[test]
fn a_trace_tells_processes_apart_once_there_are_several() {
    if is_stand_in() {
        return;
    }
    let traced = |words: &[&str]| {
        let words = [&["--trace"], words].concat();
        let output = Command::new(loader()).args(words).output().expect("the loader can be run");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let alone = traced(&["/bin/true"]);
    assert!(alone.starts_with("brk(") && !alone.contains("[pid"), "{alone}");
    let text = traced(&["sh", "-c", "/bin/true; exec /bin/true"]);
    let (before, after) = text.split_once("[pid ").expect("the shell starts a process");
    assert!(before.starts_with("brk("), "{text}");
    assert!(after.lines().skip(1).all(|line| line.starts_with("[pid ")), "{text}");
    let (text, _) = report_of(&["--trace"], ["/bin/true"]);
    assert!(text.lines().all(|line| line.starts_with(|letter: char| letter.is_ascii_digit())), "{text}");
}

/// Alone and about to exec, a process is the only one that has the counts.
#[test]
fn counts_outlast_an_exec_by_the_only_process() {
    if is_stand_in() {
        return;
    }
    let script = "/bin/true; exec dash -c 'exec /bin/true'";
    let loaded = Run::new(["dash", "-c", script]).go(Mode::Summary);
    assert_eq!(loaded.counts()["execve"], 3, "{loaded}");
    assert_eq!(loaded.counts()["exit_group"], 2, "{loaded}");
}

/// What the report can't speak for, it names.
#[test]
fn programs_that_run_natively_are_told_with_the_reason() {
    if is_stand_in() {
        return;
    }
    let scratch = Scratch::new("tree");
    let cat = fs::read("/bin/cat").expect("cat is there");
    let unreadable = scratch.file("unreadable", &cat, 0o711);
    let set_id = scratch.file("set-id", &cat, 0o755);
    let is_root = std::os::unix::fs::chown(&set_id, Some(65534), None).is_ok();
    fs::set_permissions(&set_id, fs::Permissions::from_mode(0o4755)).expect("its owner may");
    let loader = loader();
    let line = |path: &Path| format!("           {}\n", path.display());
    let script = format!(
        "{0} /dev/null; {1} --version >/dev/null; {0} /dev/null; /nonexistent 2>/dev/null; :",
        set_id.display(),
        loader.display()
    );
    let (text, output) = report_of(&["-c"], ["sh", "-c", &script]);
    assert!(output.status.success(), "{text}");
    let (_, natives) = text.split_once(" total\n").expect("the table comes first");
    let of_loader = format!("         1 the loader itself\n{}", line(&loader));
    let expected = if is_root {
        let named = line(&set_id);
        format!("3 programs ran natively:\n         2 gets rights from its file\n{named}{named}{of_loader}")
    } else {
        format!("1 program ran natively:\n{of_loader}")
    };
    assert_eq!(natives, expected, "{text}");
    if is_root {
        // Root reads everything, as long as it has the right to.
        std::os::unix::fs::chown(&unreadable, Some(65534), None).expect("root may");
        let less = "setpriv --bounding-set=-dac_override,-dac_read_search";
        let script = format!("exec {less} sh -c '{} /dev/null; :'", unreadable.display());
        let (text, output) = report_of(&["-c"], ["sh", "-c", &script]);
        assert!(output.status.success(), "{text}");
        let expected = format!("1 program ran natively:\n         1 can't be read\n{}", line(&unreadable));
        assert!(text.ends_with(&expected), "{text}");
    }
    let (text, _) = report_of(&["-c", "--no-follow"], ["sh", "-c", "/bin/true; :"]);
    assert!(
        text.ends_with("1 program ran natively:\n         1 not followed, as asked\n           /bin/true\n"),
        "{text}"
    );
    let (text, _) = report_of(&["-c"], ["sh", "-c", "/bin/true; :"]);
    assert!(text.ends_with(" total\n"), "{text}");
}

/// The process that was started speaks for the whole run, whatever ends it but SIGKILL.
#[test]
fn a_report_is_written_when_a_signal_ends_the_program() {
    guest::check("ends_by_signal.c");
    if is_stand_in() {
        return;
    }
    let signals = [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 24, 25, 26, 27, 29, 30, 31];
    let signals: Vec<String> = signals.iter().map(ToString::to_string).collect();
    let faults = ["null", "ud2", "int3", "hlt", "divide", "abort"];
    for program in guest::build("ends_by_signal.c") {
        for how in faults.into_iter().chain(signals.iter().map(String::as_str)) {
            let run = Run::new([program.as_os_str(), how.as_ref()]);
            let (native, loaded) = (run.go(Mode::Native), run.go(Mode::Summary));
            assert!(matches!(native.end, End::Signal(_)), "{native}");
            native.expect_same(&loaded);
            assert_eq!(loaded.counts()["prctl"], 1, "{loaded}");
        }
        let killed = Run::new([program.as_os_str(), "9".as_ref()]).go(Mode::Summary);
        assert!(killed.end == End::Signal(9) && killed.report.is_empty(), "{killed}");
    }
}

/// A signal from outside, in the middle of a call that waits.
#[test]
fn a_report_is_written_when_somebody_else_ends_the_program() {
    if is_stand_in() {
        return;
    }
    let loaded = Run::new(["sleep", "60"]).wrapped(["timeout", "-s", "INT", "1"]).go(Mode::Summary);
    loaded.expect_end(End::Status(124));
    assert_eq!(loaded.counts()["clock_nanosleep"], 1, "{loaded}");
}

/// Whoever comes second waits until the report is written.
#[test]
fn a_report_is_whole_when_threads_end_the_process_together() {
    guest::check("end_at_once.c");
    if is_stand_in() {
        return;
    }
    for program in guest::build("end_at_once.c") {
        for _ in 0..50 {
            for arguments in [&[][..], &["signal"]] {
                let words = [program.to_str()].into_iter().flatten().chain(arguments.iter().copied());
                let loaded = Run::new(words).go(Mode::Summary);
                assert!(matches!(loaded.end, End::Status(0) | End::Signal(15)), "{loaded}");
                assert!(loaded.counts()["exit_group"] >= 1, "{loaded}");
                assert_eq!(loaded.report.matches(" total\n").count(), 1, "{loaded}");
            }
        }
    }
}

/// The file is out of reach by its path when the report is written.
#[test]
fn a_report_is_written_by_a_process_that_has_left_its_root_or_its_rights() {
    if is_stand_in() {
        return;
    }
    let without_rights = "exec setpriv --reuid 65534 --clear-groups sh -c 'id -u; exec id -u'";
    let elsewhere = "cp /bin/busybox . && exec chroot . /busybox sh -c '/busybox ls /; exec /busybox ls /'";
    let cases =
        [(without_rights, " setresuid(", "65534\n65534\n"), (elsewhere, " chroot(", "busybox\nbusybox\n")];
    for (script, leaving, printed) in cases {
        let scratch = Scratch::new("left");
        let run = Run::new(["sh", "-c", script]).cwd(scratch.dir());
        let native = run.go(Mode::Native);
        if native.text() != printed {
            return refused("no right to change root and user");
        }
        for mode in [Mode::Summary, Mode::Trace] {
            let loaded = run.go(mode);
            native.expect_same(&loaded);
            let is_whole = match mode {
                Mode::Trace => {
                    loaded.report.split_once(leaving).is_some_and(|(_, after)| after.contains(" execve("))
                }
                _ => loaded.counts()["execve"] >= 2,
            };
            assert!(is_whole, "{loaded}");
        }
    }
}

/// In a namespace of its own a child may have the id of the process that was started.
#[test]
fn only_the_first_process_speaks_for_the_run() {
    if is_stand_in() {
        return;
    }
    let script = "unshare -p -f sh -c '/bin/true; echo $$'; /bin/true";
    let run = Run::new(["sh", "-c", script]).wrapped(["unshare", "-p", "-f"]);
    let native = run.go(Mode::Native);
    if native.text() != "1\n" {
        return refused("no right to make a pid namespace");
    }
    let loaded = run.go(Mode::Summary);
    native.expect_same(&loaded);
    assert_eq!(loaded.report.matches(" total\n").count(), 1, "{loaded}");
    assert_eq!(loaded.counts()["execve"], 4, "{loaded}");
}

/// 32-bit code is not the loader's, and says so.
#[test]
fn a_32_bit_program_runs_natively() {
    let (Some(assembler), Some(linker)) = (need_program("as"), need_program("ld")) else { return };
    if is_stand_in() {
        return;
    }
    let scratch = Scratch::new("tree");
    let source = "_start: .globl _start\n mov $1, %eax\n mov $7, %ebx\n int $0x80\n";
    scratch.file("exit.s", source.as_bytes(), 0o644);
    let make = |program: &Path, words: &[&str]| {
        let status = Command::new(program).args(words).current_dir(scratch.dir()).status();
        assert!(status.is_ok_and(|status| status.success()), "{words:?}");
    };
    make(&assembler, &["--32", "exit.s", "-o", "exit.o"]);
    make(&linker, &["-m", "elf_i386", "exit.o", "-o", "exit"]);
    let run = Run::new(["sh", "-c", "./exit; echo $?"]).cwd(scratch.dir());
    let native = run.go(Mode::Native);
    if native.text() != "7\n" {
        return refused("the kernel has no 32-bit emulation");
    }
    native.expect_same(&run.go(Mode::Plain));
    let loaded = run.go(Mode::Summary);
    native.expect_same(&loaded);
    assert!(
        loaded.report.ends_with("1 program ran natively:\n         1 32-bit code\n           ./exit\n"),
        "{loaded}"
    );
}
