//! Calls from elsewhere than the gate, which only the kernel can catch: each is seen once, and nothing else is to be noticed.

mod harness;

use harness::run::{End, Mode, Run};
use harness::{guest, is_stand_in, need_program};

const MODES: [Mode; 3] = [Mode::Plain, Mode::Summary, Mode::Trace];

/// The guest under the loader with these options, in every mode, is what it is natively; and of its calls of `name` the
/// summary counts as many as it prints in front of its `ok`.
fn check(source: &str, options: &[&str], name: &str) {
    if is_stand_in() {
        return;
    }
    for program in guest::build(source) {
        let native = Run::new([&program]).go(Mode::Native);
        native.expect_end(End::Status(0));
        native.expect_ok();
        for mode in MODES {
            let loaded = Run::new([&program]).options(options).go(mode);
            native.expect_same(&loaded);
            if mode == Mode::Summary {
                let printed = loaded.text().lines().next().and_then(|line| line.parse().ok());
                assert_eq!(loaded.counts().get(name).copied(), printed, "{loaded}");
            }
        }
    }
}

#[test]
fn whatever_is_executed_is_seen_once_by_whichever_thread_or_process() {
    check("net_ways.c", &["--intercept=exhaustive"], "getpriority");
    check("net_ways.c", &["--strict"], "getpriority");
}

#[test]
fn threads_that_run_already_are_caught_at_code_that_appears() {
    check("net_late.c", &[], "getpriority");
    check("net_late.c", &["--intercept=exhaustive"], "getpriority");
}

#[test]
fn its_signal_is_the_programs_own_all_the_same() {
    if is_stand_in() {
        return;
    }
    for program in guest::build("net_signals.c") {
        let native = Run::new([&program]).go(Mode::Native);
        native.expect_ok();
        for options in [&[][..], &["--intercept=exhaustive"], &["--intercept=fast"]] {
            for mode in MODES {
                native.expect_same(&Run::new([&program]).options(options).go(mode));
            }
        }
    }
}

#[test]
fn a_call_that_is_not_proved_is_seen_unless_that_is_not_asked_for() {
    if is_stand_in() {
        return;
    }
    for program in guest::build("net_unproved.S") {
        let counted = |mode: &str| {
            let loaded = Run::new([&program]).options([mode]).go(Mode::Summary);
            loaded.expect_ok();
            loaded.report.contains(" write\n")
        };
        let modes = ["fast", "auto", "exhaustive"].map(|mode| counted(&format!("--intercept={mode}")));
        assert_eq!(modes, [false, true, true]);
    }
}

#[test]
fn what_is_caught_is_patched_where_that_is_safe() {
    if is_stand_in() {
        return;
    }
    for program in guest::build("net_patched.c") {
        let native = Run::new([&program]).go(Mode::Native);
        assert_eq!(native.text(), "40000\nsame same\nok\n", "{native}");
        let counted = Run::new([&program]).options(["--intercept=exhaustive"]).go(Mode::Summary);
        assert_eq!(counted.text(), "40000\npatched same\nok\n", "{counted}");
        assert_eq!(counted.counts()["getpriority"], 40_000, "{counted}");
    }
}

/// The options, and what the loader says to the program that it does not start.
fn refusal(program: &std::path::Path, wrapper: &[&str], options: &[&str]) -> String {
    let refused = Run::new([program]).wrapped(wrapper).options(options).go(Mode::Plain);
    refused.expect_end(End::Status(126));
    assert!(refused.stdout.is_empty(), "{refused}");
    refused.errors()
}

#[test]
fn strictness_refuses_what_would_pass_unseen() {
    if is_stand_in() {
        return;
    }
    for program in guest::build("net_unproved.S") {
        let said = refusal(&program, &[], &["--strict", "--intercept=fast"]);
        let path = program.display();
        let expected = "loader: --strict: what may be a system call instruction is not proved";
        assert_eq!(said, format!("{expected}: {path}+0x1021\n"));
        for denier in guest::build("net_denied.c") {
            let denier = denier.to_str().expect("a path of this machine");
            let said = refusal(&program, &[denier], &["--strict"]);
            assert!(said.starts_with("loader: --strict: the kernel does not report calls"), "{said}");
            // Not strictly, the program runs without it.
            for options in [&["--intercept=auto"], &["--intercept=exhaustive"]] {
                let unarmed = Run::new([&program]).wrapped([denier]).options(options).go(Mode::Plain);
                unarmed.expect_end(End::Status(0));
                unarmed.expect_ok();
            }
        }
    }
    for program in guest::build("net_ways.c") {
        let ended = Run::new([&program]).options(["--strict", "--intercept=fast"]).go(Mode::Plain);
        ended.expect_end(End::Status(125));
        let said = ended.errors();
        assert!(said.starts_with("loader: --strict: memory is writable and executable: 0x"), "{ended}");
    }
    let native = Run::new(["bash", "-c", "ls; echo $?"]).options(["--strict", "--no-follow"]).go(Mode::Plain);
    assert_eq!(native.text(), "126\n", "{native}");
    assert!(native.errors().contains("ls would run natively: not followed, as asked"), "{native}");
}

/// Programs that write code while they run, or have none of a C library's.
#[test]
fn programs_are_what_they_are_natively() {
    const PROGRAMS: [&[&str]; 6] = [
        &[
            "bash",
            "-c",
            "for i in 1 2 3; do (echo $i | cat); done; ls / | wc -l; trap 'echo trapped' USR1; kill -USR1 $$",
        ],
        &[
            "python3",
            "-c",
            "import ssl, threading, subprocess; print(ssl.OPENSSL_VERSION, subprocess.run(['true']).returncode)",
        ],
        &["node", "-e", "let s = 0; for (let i = 0; i < 1e6; i++) s += i; console.log(s)"],
        &["perl", "-e", "print 1 + 1; if (fork) { wait; print $? } else { exit 3 }"],
        &["gcc", "--version"],
        &["git", "--version"],
    ];
    if is_stand_in() {
        return;
    }
    for words in PROGRAMS {
        if need_program(words[0]).is_some() {
            let run = Run::new(words);
            run.go(Mode::Native)
                .expect_same(&run.clone().options(["--intercept=exhaustive"]).go(Mode::Plain));
        }
    }
    let run = |words: &[&std::ffi::OsStr]| {
        let loaded = Run::new(words).options(["--intercept=exhaustive"]).go(Mode::Plain);
        loaded.expect_end(End::Status(0));
        loaded.expect_ok();
    };
    let guests = ["goroutines.go", "musl_detached.c", "signal_cancel.c"];
    guests.into_iter().flat_map(guest::build).for_each(|program| run(&[program.as_os_str()]));
    for classes in guest::build("SignalThreads.java") {
        run(&["java".as_ref(), "-cp".as_ref(), classes.as_os_str(), "SignalThreads".as_ref()]);
    }
}
