//! What a program execs runs under the loader too: the same image as natively, errors that come back, and counts of
//! the whole tree.

mod harness;

use harness::run::{End, Mode, Run};
use harness::scratch::Scratch;
use harness::summary::{self, Counts};
use harness::{find_program, guest, is_stand_in, loader, need_program};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn execs_that_fail() {
    guest::check("exec_errors.c");
}

#[test]
fn execs_of_every_kind() {
    guest::check("exec_image.c");
}

#[test]
fn execs_by_the_thousand() {
    guest::check("exec_many.c");
}

/// The counts that `strace -f -c` and the loader have of the same command.
fn check_counts(words: &[&str]) {
    for tool in ["strace", "setarch", words[0]] {
        if need_program(tool).is_none() {
            return;
        }
    }
    let scratch = Scratch::new("exec");
    let table = scratch.path("strace");
    let table_name = table.to_string_lossy().into_owned();
    let fixed_layout = ["setarch", "x86_64", "-R"];
    let run = Run::new(words).cwd(scratch.dir());
    let native = run
        .clone()
        .wrapped(fixed_layout.into_iter().chain(["strace", "-f", "-c", "-o", &table_name]))
        .go(Mode::Native);
    native.expect_end(End::Status(0));
    let mut expected = summary::of_strace(&fs::read_to_string(&table).unwrap_or_default())
        .unwrap_or_else(|reason| panic!("bad strace table: {reason}\n{native}"));
    let loaded = run.wrapped(fixed_layout).go(Mode::Summary);
    native.expect_same(&loaded);
    let mut counted = loaded.counts();
    // strace counts the exec that starts the program, and nothing that does not return.
    *expected.entry("execve".to_owned()).or_default() -= 1;
    for counts in [&mut expected, &mut counted] {
        counts.retain(|name, count| !["exit", "exit_group"].contains(&name.as_str()) && *count > 0);
    }
    let differences = summary::differences(&expected, &counted);
    assert!(differences.is_empty(), "strace and loader count differently: {differences:?}\n{loaded}");
}

#[test]
fn counts_of_a_tree_are_those_of_strace() {
    check_counts(&["bash", "-c", "for i in 1 2 3 4 5 6 7 8; do /bin/true; done"]);
    check_counts(&["dash", "-c", "/bin/true; /bin/echo a b >/dev/null; exec /bin/true"]);
    check_counts(&["env", "nice", "env", "true"]);
}

/// Runs it natively and loaded; streams and status agree.
fn check(words: &[&str]) {
    if need_program(words[0]).is_none() {
        return;
    }
    let run = Run::new(words).stdin(b"one two three four\n").timeout(Duration::from_secs(120));
    let native = run.go(Mode::Native);
    for mode in [Mode::Plain, Mode::Summary] {
        native.expect_same(&run.go(mode));
    }
}

#[test]
fn programs_that_run_others() {
    check(&["find", "/etc/apt", "-maxdepth", "1", "-exec", "/bin/echo", "found", "{}", ";"]);
    check(&["sh", "-c", "xargs -P 4 -n 1 sh -c 'exit 0' && xargs echo"]);
    check(&["busybox", "sh", "-c", "busybox echo a | busybox cat; /bin/echo b; exec busybox false"]);
    check(&["env", "-i", "/bin/sh", "-c", "/usr/bin/env"]);
    check(&["sh", "-c", "cd /; bin/echo relative; cd /usr; exec bin/env -i bin/env A=1"]);
    check(&["perl", "-e", "system('sh', '-c', 'kill -TERM $$'); print $?, `echo y`; exec 'false'"]);
}

#[test]
fn python_starts_processes() {
    let script = "import subprocess, multiprocessing as m, os\n\
                  def double(x): return x * 2\n\
                  if __name__ == '__main__':\n\
                  \x20   print(subprocess.run(['sh', '-c', 'exit 3']).returncode)\n\
                  \x20   print(subprocess.run('echo $0', shell=True, capture_output=True).stdout)\n\
                  \x20   for bad in ['/nonexistent', '/etc/passwd', '/etc']:\n\
                  \x20       try: subprocess.run([bad])\n\
                  \x20       except OSError as error: print(error)\n\
                  \x20   m.set_start_method('spawn')\n\
                  \x20   with m.Pool(2) as pool: print(pool.map(double, range(9)))\n";
    let scratch = Scratch::new("exec");
    let script = scratch.file("pool.py", script.as_bytes(), 0o644);
    check(&["/usr/bin/python3", &script.to_string_lossy()]);
}

#[test]
fn node_starts_processes() {
    let script = "const c = require('child_process');\
                  console.log(c.execFileSync('/bin/echo', ['x']).toString(), c.spawnSync('/none').error.code);\
                  console.log(c.execSync('echo y; echo z | cat').toString(), c.spawnSync('false').status);";
    check(&["node", "-e", script]);
    let forked = "const c = require('child_process');\
                  if (process.send) process.on('message', (n) => { process.send(n * 2); process.disconnect(); });\
                  else {\
                      const child = c.fork(__filename);\
                      child.on('message', (n) => console.log('doubled', n)).on('exit', (s) => console.log('exit', s));\
                      child.send(21);\
                      c.exec('echo $0; exit 4', (error, out) => console.log(error.code, out));\
                      c.spawn('cat', { stdio: ['pipe', 'inherit', 'inherit'] }).stdin.end('piped\\n'); }";
    let scratch = Scratch::new("exec");
    let forked = scratch.file("forked.js", forked.as_bytes(), 0o644);
    // Which of them is first is a matter of luck.
    check(&["sh", "-c", "node \"$1\" | sort", "sh", &forked.to_string_lossy()]);
}

#[test]
fn go_tests_start_processes() {
    guest::check("spawn_test.go");
}

#[test]
fn a_daemon_serves_after_its_starter_has_ended() {
    guest::check("daemon.c");
}

/// A terminal in a server's window: the keys that one client sends, another finds on the screen.
#[test]
fn tmux_runs_a_shell_in_a_window() {
    let script = "t() { tmux -u -L loader -f /dev/null \"$@\"; }; export TMUX_TMPDIR=.\n\
                  t new-session -d -x 60 -y 12 'PS1=; exec sh' || exit\n\
                  t send-keys 'echo answer $((40 + 2)); stty size; test -t 0 && echo terminal' Enter\n\
                  for i in $(seq 200); do t capture-pane -p | grep -q ^terminal && break; sleep 0.05; done\n\
                  t capture-pane -p | grep -oE 'answer 42|^12 60|^terminal'; t list-sessions -F '#{session_windows}'\n\
                  t kill-server; echo $?";
    if need_program("tmux").is_none() {
        return;
    }
    let run = |mode| {
        let scratch = Scratch::new("tmux");
        Run::new(["sh", "-c", script]).cwd(scratch.dir()).timeout(Duration::from_secs(120)).go(mode)
    };
    let native = run(Mode::Native);
    assert_eq!(native.text(), "answer 42\n12 60\nterminal\n1\n0\n", "{native}");
    for mode in [Mode::Plain, Mode::Summary] {
        native.expect_same(&run(mode));
    }
}

#[test]
fn java_starts_processes() {
    let source = "public class Start { public static void main(String[] a) throws Exception {\
                  System.out.println(new ProcessBuilder(\"sh\", \"-c\", \"exit 5\").start().waitFor());\
                  try { new ProcessBuilder(\"/none\").start(); }\
                  catch (java.io.IOException e) { System.out.println(e.getMessage()); } } }";
    let scratch = Scratch::new("exec");
    let source = scratch.file("Start.java", source.as_bytes(), 0o644);
    if need_program("javac").is_some() {
        check(&["java", &source.to_string_lossy()]);
    }
}

#[test]
fn go_starts_processes() {
    guest::check("exec_go.go");
}

/// `loader OPTIONS -o FILE sh -c SCRIPT`; the file once it holds what `is_complete` waits for.
fn report_of(options: &[&str], script: &str, is_complete: impl Fn(&str) -> bool) -> String {
    let scratch = Scratch::new("exec");
    let report = scratch.path("report");
    let status = Command::new(loader())
        .args(options)
        .arg("-o")
        .arg(&report)
        .args(["sh", "-c", script])
        .status()
        .expect("the loader can be run");
    assert!(status.success(), "{status}");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = fs::read_to_string(&report).unwrap_or_default();
        if is_complete(&text) || Instant::now() > deadline {
            return text;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn counts_of(text: &str) -> Counts {
    summary::of_loader(text).unwrap_or_default()
}

#[test]
fn a_process_that_outlives_the_first_brings_the_table_up_to_date() {
    if is_stand_in() {
        return;
    }
    let has_slept = |text: &str| counts_of(text).contains_key("clock_nanosleep");
    for _ in 0..20 {
        let text = report_of(&["-c"], "exec >/dev/null 2>&1; /bin/sleep 0.1 &", has_slept);
        assert!(has_slept(&text) && counts_of(&text).contains_key("execve"), "{text}");
    }
}

#[test]
fn no_follow_stops_at_the_first_program() {
    if is_stand_in() {
        return;
    }
    let script = "/bin/true; cat /dev/null; exec /bin/true";
    let followed = counts_of(&report_of(&["-c"], script, |_| true));
    let first = counts_of(&report_of(&["-c", "--no-follow"], script, |_| true));
    assert_eq!(followed["execve"], first["execve"]);
    assert!(followed["mmap"] > first["mmap"] * 2, "{followed:?} {first:?}");
}

#[test]
fn a_trace_goes_on_in_the_same_file() {
    if is_stand_in() {
        return;
    }
    let text = report_of(&["--trace"], "/bin/echo a >/dev/null; exec /bin/echo b >/dev/null", |_| true);
    assert_eq!(text.matches(" execve(").count(), 2, "{text}");
    assert_eq!(text.matches(" exit_group(0) = ?").count(), 2, "{text}");
    assert!(
        text.contains("write(1, \"a\\n\", 2) = 2") && text.contains("write(1, \"b\\n\", 2) = 2"),
        "{text}"
    );
}

/// Copies `cat` with these rights, of another owner; as root only, for nobody else may.
fn privileged_cat(scratch: &Scratch, mode: u32, owner: u32) -> Option<String> {
    let bytes = fs::read("/bin/cat").expect("cat is there");
    let path = scratch.file("cat", &bytes, 0o755);
    std::os::unix::fs::chown(&path, Some(owner), Some(owner)).ok()?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its owner may");
    Some(path.to_string_lossy().into_owned())
}

#[test]
fn a_program_that_gets_rights_of_its_own_runs_natively() {
    let scratch = Scratch::new("exec");
    for mode in [0o4755, 0o2755, 0o6755] {
        let Some(cat) = privileged_cat(&scratch, mode, 65534) else { return };
        let script =
            format!("{cat} /proc/self/status | grep -E '^(Uid|Gid)'; {cat} /dev/null; exec {cat} /dev/null");
        check(&["sh", "-c", &script]);
    }
}

#[test]
fn a_chroot_without_the_loader_runs_natively() {
    let Some(busybox) = find_program("busybox") else { return };
    let scratch = Scratch::new("exec");
    fs::copy(busybox, scratch.path("busybox")).expect("can be copied");
    let root = scratch.dir().to_string_lossy().into_owned();
    if Command::new("chroot").args([&root, "/busybox", "true"]).status().is_ok_and(|status| status.success())
    {
        check(&[
            "chroot",
            &root,
            "/busybox",
            "sh",
            "-c",
            "/busybox echo in; cd /; ./busybox ls; exec /busybox false",
        ]);
    }
}

#[test]
fn a_loader_in_the_loader_does_its_own_work() {
    if is_stand_in() {
        return;
    }
    let scratch = Scratch::new("exec");
    let report = scratch.path("inner");
    let inner = loader().to_string_lossy().into_owned();
    let run = Run::new([&inner, "-c", "-o", &report.to_string_lossy(), "/bin/sh", "-c", "/bin/echo x"]);
    let outcome =
        Run::new(["sh", "-c", &format!("{inner} -c -o {} /bin/echo x", report.display())]).go(Mode::Plain);
    assert_eq!(outcome.text(), "x\n", "{outcome}");
    assert!(counts_of(&fs::read_to_string(&report).unwrap_or_default()).contains_key("write"));
    assert_eq!(run.go(Mode::Plain).text(), "x\n");
}

/// Memory segments that nobody removed would pile up in the system.
#[test]
fn no_shared_memory_is_left_behind() {
    let segments = || fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default().lines().count();
    let before = segments();
    for _ in 0..20 {
        report_of(&["-c"], "/bin/true; /bin/true & kill -KILL $! 2>/dev/null; exec /bin/true", |_| true);
    }
    assert!(segments() <= before + 4, "{before} segments before, {} after", segments());
}
