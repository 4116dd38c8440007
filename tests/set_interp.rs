//! Programs whose interpreter is the loader: started by anyone, with a plain exec, they print what the originals print.
//!
//! Original and changed program have the same path in turn, so even those that print it must agree.

mod harness;

use harness::run::{End, Mode, Outcome, Run};
use harness::scratch::Scratch;
use harness::summary::{self, Counts};
use harness::{guest, is_stand_in, loader, need_program, skip};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `loader set-interp` with these words; what it prints on standard error if it fails.
fn set_interp<W: AsRef<std::ffi::OsStr>>(words: impl IntoIterator<Item = W>) -> Result<String, String> {
    let output =
        Command::new(loader()).arg("set-interp").args(words).output().expect("the loader can be run");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A copy of a program, as it is or changed, always at the same path.
struct Copy {
    original: PathBuf,
    path: PathBuf,
}

impl Copy {
    fn of(program: &str, scratch: &Scratch) -> Option<Self> {
        let original = need_program(program)?.canonicalize().expect("was found");
        (!is_stand_in()).then(|| Self::of_file(&original, scratch))
    }

    fn of_file(original: &Path, scratch: &Scratch) -> Self {
        let name = original.file_name().expect("a program has a name");
        let copy = Self { original: original.to_owned(), path: scratch.path(&name.to_string_lossy()) };
        copy.restore();
        copy
    }

    /// It is the original again.
    fn restore(&self) {
        // By another process: a file that this one has open for writing can't be run while another test forks.
        let status =
            Command::new("cp").arg("--remove-destination").arg(&self.original).arg(&self.path).status();
        assert!(status.is_ok_and(|status| status.success()), "{} can't be copied", self.original.display());
    }

    /// Its interpreter is the loader now.
    fn set(&self, options: &[&str]) {
        let words = options.iter().map(|option| (*option).to_owned());
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let words = words.chain([path(&self.original), "-o".to_owned(), path(&self.path)]);
        set_interp(words).unwrap_or_else(|error| panic!("{}: {error}", self.original.display()));
    }

    /// Whether it has no interpreter that could be replaced.
    fn is_static(&self) -> bool {
        let tried = set_interp([self.word(), "-o".to_owned(), self.word() + ".tried"]);
        tried.is_err_and(|error| error.contains("static"))
    }

    fn word(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Runs the original and the changed program in the same way.
    fn compare(&self, run: impl Fn(&str) -> Run) -> Outcome {
        let go = || run(&self.word()).cwd(Scratch::new("set-interp").dir()).go(Mode::Native);
        let native = go();
        self.set(&[]);
        let changed = go();
        self.restore();
        native.expect_same(&changed);
        native
    }
}

const PROGRAMS: [(&str, &[&str]); 4] = [
    (
        "bash",
        &[
            "-c",
            "echo $BASH_VERSION $0 $#; ls / | wc -l; (exit 3); echo $?; readlink /proc/$$/exe; exit 5",
            "a",
            "b",
        ],
    ),
    (
        "python3",
        &[
            "-c",
            "import sys, os, threading, ssl; print(sys.executable, sys.argv, os.readlink('/proc/self/exe')); t = threading.Thread(target=print, args=('thread',)); t.start(); t.join(); sys.exit(3)",
        ],
    ),
    ("git", &["--version"]),
    (
        "node",
        &[
            "-e",
            "console.log(process.execPath, require('child_process').execSync('echo x').toString()); process.exit(4)",
        ],
    ),
];

#[test]
fn programs_started_by_execve_print_the_same() {
    for (name, args) in PROGRAMS {
        let scratch = Scratch::new("set-interp");
        let Some(copy) = Copy::of(name, &scratch) else { continue };
        let native = copy.compare(|path| Run::new([path].into_iter().chain(args.iter().copied())));
        assert!(!native.stdout.is_empty(), "{native}");
    }
}

#[test]
fn programs_started_by_a_shell_print_the_same() {
    for (name, _) in PROGRAMS {
        let scratch = Scratch::new("set-interp");
        let Some(copy) = Copy::of(name, &scratch) else { continue };
        copy.compare(|path| {
            Run::new(["sh", "-c", &format!("{path} --version; echo $?; exec {path} --help")])
        });
    }
}

#[test]
fn programs_started_by_a_script_s_first_line_print_the_same() {
    for (name, script) in [
        ("bash", "echo $0 $@; cat /proc/$$/comm; exit 7"),
        (
            "python3",
            "import sys; print(sys.argv, sys.executable, open('/proc/self/comm').read()); sys.exit(7)",
        ),
        ("node", "console.log(process.argv); process.exit(7)"),
    ] {
        let scratch = Scratch::new("set-interp");
        let Some(copy) = Copy::of(name, &scratch) else { continue };
        let native = copy.compare(|path| {
            let script = scratch.file("script", format!("#!{path}\n{script}\n").as_bytes(), 0o755);
            Run::new([script.to_string_lossy().as_ref(), "one", "two"])
        });
        native.expect_end(End::Status(7));
    }
}

#[test]
fn what_guests_see_of_themselves_is_the_kernel_s_own() {
    if is_stand_in() {
        return;
    }
    for (source, args) in [
        ("arguments.c", &["--help", "-c", "", "--", "--trace", "a=b", "\u{e9}"][..]),
        ("auxv.c", &[]),
        ("brk.c", &[]),
        ("bss_edges.c", &[]),
        ("clone3.c", &[]),
        ("descriptors.c", &[]),
        ("exec_image.c", &[]),
        ("fork.c", &[]),
        ("process_state.c", &["one", "two"]),
        ("registers.c", &[]),
        ("threads.c", &[]),
        ("vfork.c", &[]),
    ] {
        let mut changed = 0;
        for program in guest::build(source) {
            let scratch = Scratch::new("set-interp");
            let copy = Copy::of_file(&program, &scratch);
            if !copy.is_static() {
                changed += 1;
                copy.compare(|path| Run::new([path].into_iter().chain(args.iter().copied()))).expect_ok();
            }
        }
        assert!(changed > 0, "{source} has no dynamic variant");
    }
}

fn counts(text: &str) -> Counts {
    summary::of_loader(text).unwrap_or_else(|reason| panic!("{reason} in\n{text}"))
}

#[test]
fn a_recorded_summary_counts_what_the_loader_s_own_counts() {
    for (name, args) in [
        ("bash", &["-c", "/bin/true; cd /; ls >/dev/null"][..]),
        ("python3", &["-c", "print(1)"]),
        ("git", &["--exec-path"]),
    ] {
        let scratch = Scratch::new("set-interp");
        let Some(copy) = Copy::of(name, &scratch) else { continue };
        let run = Run::new([copy.word().as_str()].into_iter().chain(args.iter().copied()));
        // The same layout each time: how often malloc asks for more depends on it.
        let run = run.cwd(scratch.dir()).wrapped(["setarch", "x86_64", "-R"]);
        let expected = run.go(Mode::Summary).counts();
        let report = scratch.path("report");
        copy.set(&["--summary", &format!("--output={}", report.display())]);
        let outcome = run.go(Mode::Native);
        let found = counts(&fs::read_to_string(report).unwrap_or_default());
        let differences = summary::differences(&expected, &found);
        assert!(differences.is_empty(), "{differences:?}\n{outcome}");
    }
}

#[test]
fn a_musl_program_gets_its_own_dynamic_loader() {
    if is_stand_in() || need_program("musl-gcc").is_none() || need_program("patchelf").is_none() {
        return;
    }
    let scratch = Scratch::new("set-interp");
    let source = scratch.file(
        "m.c",
        b"#include <stdio.h>\n#include <pthread.h>\nstatic void *f(void *x) { return x; }\n\
          int main(int c, char **v) { pthread_t t; pthread_create(&t, 0, f, 0); pthread_join(t, 0);\n\
          printf(\"%s %d\\n\", v[0], c); return 3; }\n",
        0o644,
    );
    let built = scratch.path("built/m");
    fs::create_dir(scratch.path("built")).expect("can be made");
    let status = Command::new("musl-gcc").arg(&source).arg("-o").arg(&built).status().expect("starts");
    assert!(status.success());
    let copy = Copy::of_file(&built, &scratch);
    copy.compare(|path| Run::new([path, "x"])).expect_end(End::Status(3));
    let native = Run::new([copy.word()]).go(Mode::Native);
    patch_interpreter(&copy.path);
    native.expect_same(&Run::new([copy.word()]).go(Mode::Native));
}

/// Sets the loader as `patchelf` does, without a record.
fn patch_interpreter(path: &Path) {
    let status =
        Command::new("patchelf").arg("--set-interpreter").arg(loader()).arg(path).status().expect("starts");
    assert!(status.success());
}

#[test]
fn a_file_that_patchelf_made_runs_with_the_options_of_the_environment() {
    if need_program("patchelf").is_none() {
        return;
    }
    let scratch = Scratch::new("set-interp");
    let Some(copy) = Copy::of("ls", &scratch) else { return };
    let run = Run::new([copy.word().as_str(), "/"]);
    let native = run.go(Mode::Native);
    patch_interpreter(&copy.path);
    native.expect_same(&run.go(Mode::Native));
    let counted = run.env("LOADER_OPTIONS", " -c ").go(Mode::Native);
    assert!(counts(&counted.errors()).contains_key("getdents64"), "{counted}");
}

#[test]
fn restored_programs_are_the_same_bytes() {
    for name in ["bash", "python3", "git", "node", "ls", "gcc"] {
        let scratch = Scratch::new("set-interp");
        let Some(copy) = Copy::of(name, &scratch) else { continue };
        let original = fs::read(&copy.path).expect("was copied");
        copy.set(&["--summary", "--output=/some where/x"]);
        let changed = fs::read(&copy.path).expect("was written");
        assert!(changed != original, "{name}");
        let shown = set_interp(["--print", &copy.word()]).expect("can be printed");
        let expected = format!(
            "loader: {}\ninterpreter: /lib64/ld-linux-x86-64.so.2\noptions: --summary --output=/some where/x\n",
            loader().display()
        );
        assert_eq!(shown, expected, "{name}");
        set_interp(["--restore", &copy.word(), "-o", &copy.word()]).expect("can be restored in place");
        assert!(fs::read(&copy.path).expect("was written") == original, "{name} has not come back");
        let mode = fs::metadata(&copy.path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{name}");
    }
}

#[test]
fn tools_read_and_rewrite_changed_programs() {
    let tools = ["readelf", "strip", "objcopy", "patchelf", "ldd", "gdb"];
    if is_stand_in() || tools.iter().any(|tool| need_program(tool).is_none()) {
        return;
    }
    let scratch = Scratch::new("set-interp");
    for program in guest::build("hello.c") {
        let copy = Copy::of_file(&program, &scratch);
        let path = copy.word();
        if copy.is_static() {
            continue;
        }
        let native = Run::new([&path]).go(Mode::Native);
        let libraries = Run::new(["ldd", &path]).go(Mode::Native).text();
        copy.set(&["--summary"]);
        let loader = loader().to_string_lossy().into_owned();
        let headers = Run::new(["readelf", "--wide", "--all", &path]).go(Mode::Native);
        assert!(headers.text().contains(&format!("[Requesting program interpreter: {loader}]")), "{headers}");
        assert!(headers.stderr.is_empty(), "{headers}");
        let shown = Run::new(["patchelf", "--print-interpreter", &path]).go(Mode::Native);
        assert_eq!(shown.text(), format!("{loader}\n"), "{shown}");
        let named =
            Run::new(["ldd", &path]).env("LOADER_OPTIONS", "--output=/dev/null").go(Mode::Native).text();
        let names = |text: &str| {
            text.lines()
                .map(|line| line.split(" (").next().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        if !libraries.is_empty() {
            assert_eq!(names(&libraries), names(&named));
        }
        for rewrite in [&["strip"][..], &["strip", "-g"], &["objcopy"]] {
            copy.set(&["--summary"]);
            let status = Command::new(rewrite[0]).args(&rewrite[1..]).arg(&path).status().expect("starts");
            assert!(status.success(), "{rewrite:?}");
            let outcome = Run::new([&path]).go(Mode::Native);
            assert_eq!(
                (outcome.end, &outcome.stdout),
                (native.end, &native.stdout),
                "{rewrite:?}\n{outcome}"
            );
            assert!(counts(&outcome.errors()).contains_key("exit_group"), "{rewrite:?}\n{outcome}");
            let refused = set_interp(["--restore", &path, "-o", &path]).expect_err("it can't be had back");
            assert!(refused.ends_with("was changed by another tool since the loader was set\n"), "{refused}");
        }
        copy.set(&[]);
        let gdb = Run::new([
            "gdb",
            "-nx",
            "-batch",
            "-ex",
            "break main",
            "-ex",
            "handle SIGILL nostop noprint pass",
            "-ex",
            "run",
            "-ex",
            "bt",
            &path,
        ])
        .go(Mode::Native);
        assert!(gdb.text().contains("#0  ") && gdb.text().contains(" main ("), "{gdb}");
        copy.restore();
    }
}

#[test]
fn what_can_t_be_set_is_refused_with_one_line() {
    let scratch = Scratch::new("set-interp");
    let out = scratch.path("out").to_string_lossy().into_owned();
    let Some(copy) = Copy::of("true", &scratch) else { return };
    let (bytes, path) = (fs::read(&copy.path).expect("was copied"), copy.word());
    let mut foreign = bytes.clone();
    foreign[18] = 183; // EM_AARCH64
    let foreign = scratch.file("foreign", &foreign, 0o755).to_string_lossy().into_owned();
    let set_id = scratch.file("set-id", &bytes, 0o4755).to_string_lossy().into_owned();
    let script = scratch.file("script", b"#!/bin/sh\n", 0o755).to_string_lossy().into_owned();
    copy.set(&[]);
    let own = loader().to_string_lossy().into_owned();
    for (words, message) in [
        (&[&foreign, "-o", &out][..], "a program for another machine"),
        (&[&set_id, "-o", &out], "gives its caller rights"),
        (&[&script, "-o", &out], "Exec format error"),
        (&[&own, "-o", &out], "has no interpreter"),
        (&[&path, "-o", &out], "runs under a loader already"),
        (&["--restore", &foreign, "-o", &out], ""),
        (&["--print", "/bin/true"], "has no record of a loader"),
        (&["--loader=relative", "/bin/true", "-o", &out], "must be absolute"),
        (&["/nonexistent", "-o", &out], "No such file or directory"),
        (&["/bin/true", "-o", "/nonexistent/x"], "No such file or directory"),
        (&["/bin/true"], "no file to write to: -o FILE"),
        (&["--frob", "/bin/true", "-o", &out], "unknown option: --frob"),
    ] {
        let error = set_interp(words).expect_err("is refused");
        assert!(error.starts_with("loader: ") && error.lines().count() == 1, "{words:?}: {error}");
        assert!(error.contains(message), "{words:?}: {error}");
        assert!(!Path::new(&out).exists(), "{words:?}");
    }
}

#[test]
fn a_set_id_program_takes_no_options_from_the_environment() {
    let scratch = Scratch::new("set-interp");
    let Some(copy) = Copy::of("true", &scratch) else { return };
    copy.set(&[]);
    if std::os::unix::fs::chown(&copy.path, Some(65534), Some(65534)).is_err() {
        return skip("only root can give a file away");
    }
    let run = Run::new([copy.word()]).env("LOADER_OPTIONS", "-c");
    let counted = run.go(Mode::Native);
    assert!(counts(&counted.errors()).contains_key("mmap"), "{counted}");
    fs::set_permissions(&copy.path, fs::Permissions::from_mode(0o4755)).expect("its owner may");
    let outcome = run.go(Mode::Native);
    assert_eq!((outcome.end, outcome.errors().as_str()), (End::Status(0), ""), "{outcome}");
}

#[test]
fn a_program_that_may_be_run_and_not_read_runs_all_the_same() {
    let scratch = Scratch::new("set-interp");
    let Some(copy) = Copy::of("bash", &scratch) else { return };
    let forbid_reading =
        || fs::set_permissions(&copy.path, fs::Permissions::from_mode(0o111)).expect("is ours");
    forbid_reading();
    let mut run = Run::new([&copy.word(), "-c", "echo $0; /bin/echo x; readlink /proc/self/exe; exit 3"]);
    if fs::read(&copy.path).is_ok() {
        run = run.wrapped(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]); // root may read all
    }
    let native = run.go(Mode::Native);
    native.expect_end(End::Status(3));
    copy.set(&[]);
    forbid_reading();
    native.expect_same(&run.go(Mode::Native));
    let counted = run.env("LOADER_OPTIONS", "-c").go(Mode::Native);
    let counts = counts(&counted.errors());
    assert!(counts.contains_key("readlink") && counts.contains_key("execve"), "{counted}");
}

#[test]
fn bad_options_in_the_environment_are_said() {
    let scratch = Scratch::new("set-interp");
    let Some(copy) = Copy::of("true", &scratch) else { return };
    copy.set(&["-c"]);
    for (value, message) in [
        ("--frob", "unknown option: --frob"),
        ("-c ls", "unexpected word: ls"),
        ("--help", "unexpected word: --help or --version"),
        ("-o", "option needs a value: -o"),
        ("--follow=root=1", "unexpected word: --follow"),
    ] {
        let outcome = Run::new([copy.word()]).env("LOADER_OPTIONS", value).go(Mode::Native);
        outcome.expect_end(End::Status(2));
        assert_eq!(outcome.errors(), format!("loader: LOADER_OPTIONS: {message}\n"), "{outcome}");
    }
}

#[test]
fn one_table_counts_changed_and_unchanged_programs_of_a_tree() {
    let scratch = Scratch::new("set-interp");
    let (Some(shell), Some(ls)) = (Copy::of("dash", &scratch), Copy::of("ls", &scratch)) else { return };
    let script = format!("{} / >/dev/null; /bin/ls / >/dev/null; exec {} /", ls.word(), ls.word());
    let run = Run::new([&shell.word(), "-c", &script]).wrapped(["setarch", "x86_64", "-R"]);
    let expected = run.go(Mode::Summary);
    for (shell_options, ls_options) in
        [(None, &[][..]), (None, &["-c"]), (Some(&["-c"][..]), &[]), (Some(&["-c"]), &["-c"])]
    {
        ls.set(ls_options);
        let outcome = match shell_options {
            None => run.go(Mode::Summary),
            Some(options) => {
                shell.set(options);
                run.go(Mode::Native)
            }
        };
        assert_eq!(outcome.stdout, expected.stdout, "{outcome}");
        let text = if shell_options.is_some() { outcome.errors() } else { outcome.report.clone() };
        assert_eq!(text.matches("total").count(), 1, "{outcome}");
        let differences = summary::differences(&expected.counts(), &counts(&text));
        assert!(differences.is_empty(), "{shell_options:?} {ls_options:?}: {differences:?}\n{outcome}");
        shell.restore();
        ls.restore();
    }
}

#[test]
fn a_recorded_tool_speaks_for_its_program_where_nobody_else_counts() {
    let scratch = Scratch::new("set-interp");
    let Some(ls) = Copy::of("ls", &scratch) else { return };
    let report = scratch.path("report").to_string_lossy().into_owned();
    ls.set(&["-c", &format!("--output={report}")]);
    let outcome = Run::new(["sh", "-c", &format!("{} /; /bin/true", ls.word())]).go(Mode::Plain);
    outcome.expect_end(End::Status(0));
    let counted = counts(&fs::read_to_string(report).unwrap_or_default());
    assert!(counted.contains_key("getdents64") && !counted.contains_key("wait4"), "{counted:?}\n{outcome}");
}

/// Runs a program that was linked to have the loader as its interpreter.
fn check_linked(program: &Path, expected: &str) {
    let run = Run::new([program]);
    let outcome = run.go(Mode::Native);
    outcome.expect_end(End::Status(3));
    assert_eq!(outcome.text(), expected, "{outcome}");
    let counted = run.clone().env("LOADER_OPTIONS", "-c").go(Mode::Native);
    assert!(counts(&counted.errors()).contains_key("write"), "{counted}");
    let loaded = run.go(Mode::Summary);
    outcome.expect_same(&loaded);
    assert!(loaded.counts().contains_key("write"), "{loaded}");
}

#[test]
fn a_static_program_that_names_the_loader_needs_no_other() {
    if is_stand_in() || need_program("gcc").is_none() {
        return;
    }
    let scratch = Scratch::new("set-interp");
    let source = format!(
        "#include <stdio.h>\n#include <sys/auxv.h>\n\
         const char interp[] __attribute__((section(\".interp\"), used)) = \"{}\";\n\
         int main(void) {{ printf(\"%lu\\n\", getauxval(AT_BASE)); return 3; }}\n",
        loader().display()
    );
    let source = scratch.file("s.c", source.as_bytes(), 0o644);
    let program = scratch.path("s");
    let status = Command::new("gcc").arg("-static-pie").arg(&source).arg("-o").arg(&program).status();
    assert!(status.is_ok_and(|status| status.success()));
    check_linked(&program, "0\n");
}

/// Go's programs leave their relocations to the interpreter, though they need no library.
#[test]
fn a_program_that_leaves_its_relocations_to_the_loader_gets_them() {
    let Some(go) = need_program("go").filter(|_| !is_stand_in()) else { return };
    let scratch = Scratch::new("set-interp");
    let source = b"package main\nimport (\"fmt\"; \"os\")\nfunc main() { fmt.Println(\"go\", len(os.Args)); os.Exit(3) }\n";
    let source = scratch.file("g.go", source, 0o644);
    let program = scratch.path("g");
    let status = Command::new(go)
        .args(["build", "-buildmode=pie", "-ldflags"])
        .arg(format!("-I {}", loader().display()))
        .arg("-o")
        .args([&program, &source])
        .envs([("CGO_ENABLED", "0"), ("GO111MODULE", "off")])
        .env("GOCACHE", harness::scratch::base().join("go/cache"))
        .status();
    assert!(status.is_ok_and(|status| status.success()));
    check_linked(&program, "go 1\n");
}
