//! One command, natively or under the loader, with a deadline; and how two runs of it compare.

use super::scratch::Scratch;
use super::{PATH, loader, more_options, summary};
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How a command is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// By the kernel.
    Native,
    /// `loader PROG`: every call passes through.
    Plain,
    /// `loader -c -o FILE PROG`: every call is hooked and counted.
    Summary,
    /// `loader --trace -o FILE PROG`: every call is hooked and written down.
    Trace,
    /// `loader --report -o FILE PROG`: every call passes through, and what was patched is written down.
    Report,
    /// The same with `--intercept=exhaustive`: the kernel tells of every call that is made from elsewhere.
    Exhaustive,
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// It exited with this status.
    Status(i32),
    /// This signal ended it.
    Signal(i32),
    /// It was killed, with its whole process group, at the deadline.
    TimedOut,
}

impl End {
    /// Whether it exited with status 0.
    pub(crate) fn is_success(self) -> bool {
        self == Self::Status(0)
    }
}

/// A command to be run any number of times, each time the same way.
#[derive(Clone)]
pub(crate) struct Run {
    words: Vec<OsString>,
    cwd: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
    wrapper: Vec<OsString>,
    options: Vec<OsString>,
    timeout: Duration,
}

/// What a run left behind.
pub(crate) struct Outcome {
    /// The command line, for messages.
    pub(crate) command: String,
    /// How it ended.
    pub(crate) end: End,
    /// All of standard output.
    pub(crate) stdout: Vec<u8>,
    /// All of standard error.
    pub(crate) stderr: Vec<u8>,
    /// What the loader wrote to its `-o` file; empty in the modes without one.
    pub(crate) report: String,
}

impl Run {
    /// A command of these words. Its environment is fixed and small, its standard input empty.
    pub(crate) fn new<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Self {
        let words = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        let env = [("PATH", PATH), ("LC_ALL", "C"), ("TZ", "UTC"), ("HOME", "/nonexistent")];
        let env = env.map(|(name, value)| (name.into(), value.into())).to_vec();
        Self {
            words,
            cwd: None,
            env,
            stdin: Vec::new(),
            wrapper: Vec::new(),
            options: Vec::new(),
            timeout: Duration::from_secs(60),
        }
    }

    /// In this directory.
    pub(crate) fn cwd(mut self, dir: &Path) -> Self {
        self.cwd = Some(dir.to_owned());
        self
    }

    /// With this variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// With this on standard input.
    pub(crate) fn stdin(mut self, input: &[u8]) -> Self {
        self.stdin = input.to_vec();
        self
    }

    /// By these words: `setarch -R`, `strace …`; they stand before the loader.
    pub(crate) fn wrapped<W: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.wrapper = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// With these options of the loader, besides those of the mode.
    pub(crate) fn options<W: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.options = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// For at most this long, in place of a minute.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs it.
    pub(crate) fn go(&self, mode: Mode) -> Outcome {
        let scratch = Scratch::new("run");
        let report = scratch.path("report");
        let tools: &[&str] = match mode {
            Mode::Native | Mode::Plain => &[],
            Mode::Summary => &["-c"],
            Mode::Trace => &["--trace"],
            Mode::Report => &["--report"],
            Mode::Exhaustive => &["--intercept=exhaustive", "--report"],
        };
        let mut words = self.wrapper.clone();
        if mode != Mode::Native {
            words.push(loader().into_os_string());
            words.extend(more_options());
            words.extend(self.options.iter().cloned());
        }
        if !tools.is_empty() {
            words.extend(tools.iter().chain(&["-o"]).map(OsString::from));
            words.extend([report.into_os_string(), "--".into()]);
        }
        words.extend(self.words.iter().cloned());
        let end = self.spawn(&words, &scratch);
        let read = |name| fs::read(scratch.path(name)).unwrap_or_default();
        Outcome {
            command: words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "),
            end,
            stdout: read("stdout"),
            stderr: read("stderr"),
            report: String::from_utf8_lossy(&read("report")).into_owned(),
        }
    }

    /// The streams are files, not pipes: a process left behind can't keep the test waiting for their end.
    fn spawn(&self, words: &[OsString], scratch: &Scratch) -> End {
        let create = |name| File::create(scratch.path(name)).expect("the scratch directory is writable");
        let stdin = scratch.file("stdin", &self.stdin, 0o600);
        let (program, rest) = words.split_first().expect("a command has a first word");
        let mut command = Command::new(program);
        command.args(rest).env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(File::open(stdin).expect("was just written"));
        command.stdout(create("stdout")).stderr(create("stderr")).process_group(0);
        if let Some(dir) = &self.cwd {
            command.current_dir(dir);
        }
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("{} can't be started: {error}", program.display()));
        wait(&mut child, self.timeout).map_or(End::TimedOut, |status| match status.signal() {
            Some(signal) => End::Signal(signal),
            None => End::Status(status.code().expect("neither a status nor a signal")),
        })
    }
}

/// The status, or nothing if the deadline passed; then the whole process group is killed.
fn wait(child: &mut Child, timeout: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    let mut nap = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        if start.elapsed() >= timeout {
            // dash takes no `--` before the group's number.
            let group = format!("kill -KILL -{}", child.id());
            let killed = Command::new("/bin/sh").args(["-c", &group]).stderr(Stdio::null()).status();
            assert!(
                killed.is_ok_and(|status| status.success()),
                "process group {} can't be killed",
                child.id()
            );
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(20));
    }
}

impl Outcome {
    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub(crate) fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Fails, printing everything, unless it ended this way.
    pub(crate) fn expect_end(&self, end: End) {
        assert!(self.end == end, "expected {end:?}\n{self}");
    }

    /// Fails unless the last line of standard output is `ok`: the sentinel that a guest came to its end.
    pub(crate) fn expect_ok(&self) {
        assert!(self.text().lines().last() == Some("ok"), "no closing `ok`\n{self}");
    }

    /// Fails unless `other`, the same command under the loader, ended and printed the same.
    pub(crate) fn expect_same(&self, other: &Self) {
        let differs = if self.end != other.end {
            "ends differ"
        } else if self.stdout != other.stdout {
            "standard outputs differ"
        } else if self.stderr != other.stderr {
            "standard errors differ"
        } else {
            return;
        };
        panic!("{differs}\n{self}\n{other}\n{}", first_difference(&self.stdout, &other.stdout));
    }

    /// The rows of the summary. Fails unless it is one, with at least one call.
    pub(crate) fn counts(&self) -> summary::Counts {
        let counts =
            summary::of_loader(&self.report).unwrap_or_else(|reason| panic!("bad summary: {reason}\n{self}"));
        assert!(!counts.is_empty(), "no call was counted\n{self}");
        counts
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "--- {}\n--- {:?}", self.command, self.end)?;
        let report = self.report.as_bytes();
        for (title, bytes) in [("stdout", &self.stdout[..]), ("stderr", &self.stderr), ("report", report)] {
            if !bytes.is_empty() {
                writeln!(
                    out,
                    "--- {title}, {} bytes\n{}",
                    bytes.len(),
                    clip(&String::from_utf8_lossy(bytes))
                )?;
            }
        }
        Ok(())
    }
}

/// The text, its middle left out when long.
fn clip(text: &str) -> String {
    const EACH_SIDE: usize = 60;
    let lines: Vec<&str> = text.lines().collect();
    let Some(left_out) = lines.len().checked_sub(2 * EACH_SIDE).filter(|&count| count > 0) else {
        return text.to_owned();
    };
    let (head, tail) = (&lines[..EACH_SIDE], &lines[EACH_SIDE + left_out..]);
    format!("{}\n… {left_out} lines …\n{}", head.join("\n"), tail.join("\n"))
}

fn first_difference(left: &[u8], right: &[u8]) -> String {
    let mut out = String::new();
    let lines = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect::<Vec<_>>();
    let (left, right) = (lines(left), lines(right));
    for number in 0..left.len().max(right.len()) {
        let (left, right) = (left.get(number), right.get(number));
        if left != right {
            let _ = write!(out, "first differing line of stdout, {}:\n- {left:?}\n+ {right:?}", number + 1);
            break;
        }
    }
    out
}

/// Whether an unprivileged attempt to run `path` directly is refused by the kernel, and with which error.
pub(crate) fn native_refusal(path: &Path) -> Option<io::Error> {
    let mut child =
        match Command::new(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => child,
            Err(error) => return Some(error),
        };
    wait(&mut child, Duration::from_secs(20));
    None
}
