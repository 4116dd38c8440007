//! Kernels that lack something: the loader does without, and its programs do as they do there natively.
//!
//! A seccomp filter says what is missing. That real old kernels run it too, `initramfs.rs` shows for one.

mod harness;

use harness::run::{End, Mode, Run};
use harness::{guest, is_stand_in, need_program};
use std::time::Duration;

/// All that the filter knows.
const LACKING: [&str; 8] = [
    "process_vm",
    "getrandom",
    "execveat",
    "faccessat2",
    "shmget",
    "PR_SET_MM",
    "PR_GET_TID_ADDRESS",
    "PR_SET_VMA",
];

/// Runs the words natively and loaded where the kernel lacks what is named.
fn check(lacking: &str, words: &[&str]) {
    if need_program(words[0]).is_none() {
        return;
    }
    let filter = guest::build("without.c").remove(0);
    let filter = filter.to_string_lossy();
    let run = Run::new(words).wrapped([filter.as_ref(), lacking]).timeout(Duration::from_secs(300));
    let native = run.go(Mode::Native);
    native.expect_end(End::Status(3));
    for mode in [Mode::Plain, Mode::Summary] {
        let loaded = run.go(mode);
        native.expect_same(&loaded);
        if mode == Mode::Summary && !is_stand_in() {
            assert!(loaded.counts().contains_key("execve"), "{loaded}");
        }
    }
}

const SCRIPT: &str = "for i in 1 2 3; do /bin/echo $i; done | cat; readlink /proc/self/exe; nosuch 2>/dev/null; \
    trap 'echo trapped' ILL; kill -ILL $$; trap - ILL; exec /bin/sh -c 'echo $0; exit 3' name";

#[test]
fn a_shell_runs_where_any_one_is_missing() {
    for lacking in LACKING {
        check(lacking, &["bash", "-c", SCRIPT]);
    }
}

#[test]
fn a_shell_runs_where_all_are_missing() {
    check(&LACKING.join(","), &["bash", "-c", SCRIPT]);
}

#[test]
fn thousands_of_vforks_where_all_are_missing() {
    let script = "import subprocess, sys\n\
                  for i in range(100): assert subprocess.run(['/bin/true'], close_fds=False).returncode == 0\n\
                  print(subprocess.run(['sh', '-c', 'exit 5']).returncode); sys.exit(3)";
    check(&LACKING.join(","), &["python3", "-c", script]);
    check("PR_GET_TID_ADDRESS", &["python3", "-c", script]);
}
