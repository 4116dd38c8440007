//! Programs that people use, each natively, then passed through, then with every call counted: what they print, how
//! they end and what they leave on disk must be the same.
//!
//! Compilers are also run by their inner program, not only by their driver, so that a failure names the one at fault.

mod harness;

use harness::run::{End, Mode, Outcome, Run};
use harness::scratch::Scratch;
use harness::{find_program, need_program};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Commands run one after the other in a fresh directory, and the files there that must come out the same.
struct Scenario<'a> {
    files: &'a [(&'a str, &'a str)],
    steps: &'a [&'a [&'a str]],
    results: &'a [&'a str],
}

const EMPTY: Scenario<'static> = Scenario { files: &[], steps: &[], results: &[] };

impl Scenario<'_> {
    /// Runs it in each mode and compares.
    fn check(&self) {
        for step in self.steps {
            if need_program(step[0]).is_none() {
                return;
            }
        }
        let (native, native_files) = self.play(Mode::Native);
        for mode in [Mode::Plain, Mode::Summary] {
            let (loaded, files) = self.play(mode);
            for (native, loaded) in native.iter().zip(&loaded) {
                native.expect_same(loaded);
                // Nobody has last words after SIGKILL.
                if mode == Mode::Summary && loaded.end != End::Signal(9) {
                    let total: u64 = loaded.counts().values().sum();
                    assert!(total >= 10, "a program makes more calls than that\n{loaded}");
                }
            }
            for ((name, native), loaded) in self.results.iter().zip(&native_files).zip(&files) {
                assert!(native == loaded, "{name} differs after {:?} in {mode:?}", self.steps);
            }
        }
    }

    fn play(&self, mode: Mode) -> (Vec<Outcome>, Vec<Vec<u8>>) {
        let scratch = Scratch::new("program");
        for (name, content) in self.files {
            scratch.file(name, content.as_bytes(), 0o644);
        }
        let outcomes = self.steps.iter().map(|step| self.step(step, scratch.dir(), mode)).collect();
        let read =
            |name: &&str| fs::read(scratch.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let files = self.results.iter().map(read).collect();
        (outcomes, files)
    }

    fn step(&self, words: &[&str], dir: &Path, mode: Mode) -> Outcome {
        let program = find_program(words[0]).expect("was looked for before");
        let words = std::iter::once(program.to_string_lossy().into_owned())
            .chain(words[1..].iter().map(|&word| word.to_owned()));
        Run::new(words)
            .cwd(dir)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "a")
            .env("GIT_AUTHOR_EMAIL", "a@example.org")
            .env("GIT_AUTHOR_DATE", "2001-02-03T04:05:06Z")
            .env("GIT_COMMITTER_NAME", "c")
            .env("GIT_COMMITTER_EMAIL", "c@example.org")
            .env("GIT_COMMITTER_DATE", "2001-02-03T04:05:06Z")
            .env("PYTHONHASHSEED", "0")
            .timeout(Duration::from_secs(120))
            .go(mode)
    }
}

/// One command, no files.
fn check(words: &[&str]) {
    Scenario { steps: &[words], ..EMPTY }.check();
}

#[test]
fn ls_of_a_large_directory() {
    check(&["ls", "-la", "/usr/bin"]);
}

#[test]
fn bash_with_a_pipe_and_a_status() {
    check(&["bash", "-c", "echo a | tr a b; exit 3"]);
    check(&[
        "bash",
        "-c",
        "for n in 1 2 3; do (exit $n); echo $?; done; x=$(echo sub); echo $x; wait; kill -TERM $$",
    ]);
}

#[test]
fn dash_with_pipes() {
    check(&["dash", "-c", "seq 1000 | sort -r | head -3; echo $((6*7))"]);
}

#[test]
fn python_with_its_libraries() {
    check(&[
        "/usr/bin/python3",
        "-c",
        "import json, re, zlib, sqlite3; print(json.dumps({'a': zlib.crc32(b'x')}))",
    ]);
    check(&["/usr/bin/python3", "-c", "import sys; sys.exit(5)"]);
}

#[test]
fn python_with_openssl() {
    let script = "import ssl, hashlib; print(ssl.OPENSSL_VERSION); print(hashlib.sha256(b'x').hexdigest())";
    check(&["/usr/bin/python3", "-c", script]);
}

#[test]
fn python_with_subprocesses() {
    let script = "import subprocess, multiprocessing as m\n\
                  print(subprocess.check_output(['/bin/echo', 'x']))\n\
                  with m.Pool(3) as pool: print(pool.map(abs, range(-20, 0)))";
    check(&["/usr/bin/python3", "-c", script]);
}

#[test]
fn perl_with_a_fork() {
    let script = r#"$| = 1; my $p = fork // die; if (!$p) { exit 4 } waitpid $p, 0; print $? >> 8, "\n"; print `echo y`"#;
    check(&["perl", "-e", script]);
}

#[test]
fn git_from_init_to_log() {
    let scenario = Scenario {
        files: &[("file", "content\n")],
        steps: &[
            &["git", "init", "-q", "-b", "main"],
            &["git", "add", "file"],
            &["git", "commit", "-q", "-m", "first"],
            &["git", "log", "--stat", "--format=fuller"],
            &["git", "fsck", "--strict"],
            &["git", "gc", "-q"],
            &["git", "status", "--short", "--branch"],
        ],
        results: &[".git/HEAD"],
    };
    scenario.check();
}

const C_SOURCE: &str =
    "#include <stdio.h>\n#include <string.h>\nint main(void) { puts(strerror(2)); return 0; }\n";

#[test]
fn gcc_by_its_driver() {
    let scenario = Scenario {
        files: &[("a.c", C_SOURCE)],
        steps: &[&["gcc", "-O2", "-c", "a.c", "-o", "a.o"], &["gcc", "a.o", "-o", "a"]],
        results: &["a.o", "a"],
    };
    scenario.check();
}

#[test]
fn gcc_by_its_inner_programs() {
    let Some(gcc) = need_program("gcc") else { return };
    let answer = Run::new([gcc.as_os_str(), "-print-prog-name=cc1".as_ref()]).go(Mode::Native);
    let cc1 = answer.text();
    let scenario = Scenario {
        files: &[("a.c", C_SOURCE)],
        steps: &[
            &[cc1.trim(), "-quiet", "-O2", "-imultiarch", "x86_64-linux-gnu", "a.c", "-o", "a.s"],
            &["as", "a.s", "-o", "a.o"],
            &["ld", "-r", "a.o", "-o", "b.o"],
            &["objdump", "-d", "b.o"],
        ],
        results: &["a.s", "a.o", "b.o"],
    };
    scenario.check();
}

#[test]
fn make_of_a_few_targets() {
    let rules = "all: a b c\na b c:\n\techo $@ > $@\n";
    let steps: &[&[&str]] = &[&["make", "-j2", "-s", "all"], &["make", "all"]];
    Scenario { files: &[("Makefile", rules)], steps, results: &["a", "b", "c"] }.check();
}

#[test]
fn tar_created_and_listed() {
    let fixed: &[&str] =
        &["tar", "--sort=name", "--mtime=2001-02-03", "--owner=0", "--group=0", "-cf", "x.tar", "a", "b"];
    let scenario = Scenario {
        files: &[("a", "one"), ("b", "two")],
        steps: &[fixed, &["tar", "-tvf", "x.tar"], &["tar", "-xf", "x.tar"], &["gzip", "-n", "x.tar"]],
        results: &["x.tar.gz", "a"],
    };
    scenario.check();
}

#[test]
fn sqlite_writes_a_database() {
    let sql = "create table t(a, b); insert into t values(1, 'x'), (2, 'y'); select sum(a), max(b) from t;";
    let scenario = Scenario {
        steps: &[&["sqlite3", "x.db", sql], &["sqlite3", "x.db", "pragma integrity_check; select * from t"]],
        results: &["x.db"],
        ..EMPTY
    };
    scenario.check();
}

#[test]
fn coreutils_of_several_kinds() {
    check(&["seq", "100000"]);
    check(&["sort", "-r", "/etc/passwd"]);
    check(&["find", "/etc/apt", "-type", "f"]);
    check(&["grep", "-c", "root", "/etc/passwd", "/nonexistent"]);
    check(&["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=20000", "status=none"]);
    check(&["env"]);
    check(&["awk", "BEGIN { for (i = 0; i < 10; i++) s += i; print s; \"echo z\" | getline; print }"]);
    check(&["timeout", "5", "true"]);
    check(&["timeout", "-s", "KILL", "0.1", "sleep", "5"]);
}

#[test]
fn busybox_which_is_static() {
    check(&["busybox", "ls", "/etc"]);
    check(&["busybox", "sh", "-c", "echo a | busybox tr a b; exit 6"]);
}

#[test]
fn node_evaluates() {
    check(&["node", "-e", "console.log([1, 2, 3].map((x) => x * 2), process.argv.length)"]);
    check(&["node", "-e", "process.exit(7)"]);
}

#[test]
fn java_tells_its_version() {
    check(&["java", "-version"]);
    check(&["java", "-Xint", "-XX:+UseSerialGC", "-version"]);
}

#[test]
fn gdb_tells_its_version() {
    check(&["gdb", "--version"]);
}

#[test]
fn openssl_computes() {
    check(&["openssl", "dgst", "-sha256", "/etc/passwd"]);
    check(&["openssl", "version"]);
}

#[test]
fn a_signal_ends_a_program_as_it_does_natively() {
    check(&["bash", "-c", "kill -SEGV $$"]);
    check(&["perl", "-e", "kill 'ABRT', $$"]);
}
