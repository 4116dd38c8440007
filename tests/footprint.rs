//! What the loader takes and does beside the program: descriptors, memory, privileges, files and system calls of its own.
//!
//! What runs natively under a restriction runs loaded under it too; what a program's own filter forbids is not done.

mod harness;

use harness::run::{End, Mode, Run};
use harness::scratch::Scratch;
use harness::{find_program, guest, loader, need_program, skip};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn descriptors_however_few() {
    guest::check("few_descriptors.c");
}

/// With more descriptors inherited than the standard streams, as for socket activation.
#[test]
fn nothing_registered_and_nothing_open() {
    guest::check("kernel_state.c");
    for program in guest::build("kernel_state.c") {
        let open = ["/bin/sh", "-c", "exec \"$@\" 3</dev/null 4<>/dev/zero 9>/dev/null", "sh"];
        let run = Run::new([program]).wrapped(open);
        let native = run.go(Mode::Native);
        assert!(native.text().contains("fd 9 /dev/null"), "{native}");
        for mode in [Mode::Plain, Mode::Summary, Mode::Trace] {
            native.expect_same(&run.go(mode));
        }
    }
}

/// The one extra: a site that nothing but a trap fits is served by a signal handler, which ends with this. Two of a static
/// glibc's thread functions are such.
const TRAPS_ADD: &str = "rt_sigreturn";

/// Threads come and go, so only how often each call is made can be compared.
#[test]
fn threads_make_no_calls_but_their_own() {
    for program in guest::build("steady.c") {
        let run = Run::new([&program]);
        let Some(native) = Watched::run(&run, Mode::Native) else { return };
        let native = native.counts();
        assert!(native.len() > 20, "{native:?}");
        assert_eq!(native["clone3"], 20, "glibc makes threads by it");
        for mode in [Mode::Plain, Mode::Summary] {
            let Some(loaded) = Watched::run(&run, mode) else { return };
            let mut loaded = loaded.counts();
            let returns = loaded.insert(TRAPS_ADD.to_owned(), native[TRAPS_ADD]).unwrap_or(0);
            assert!((native[TRAPS_ADD]..=3 * native[TRAPS_ADD]).contains(&returns), "{returns} {TRAPS_ADD}");
            assert_eq!(native, loaded, "{mode:?} of {}", program.display());
        }
    }
}

/// Call by call, process by process. When bash hears of the end of a child is chance, so of its calls only the number
/// counts.
#[test]
fn interpreters_make_no_calls_but_their_own() {
    for (words, is_ordered) in
        [(["/bin/bash", "steady.sh"], false), (["/usr/bin/python3", "steady.py"], true)]
    {
        if need_program(words[0]).is_none() {
            continue;
        }
        let run = Run::new([words[0].into(), guest::dir().join(words[1])]);
        let Some(native) = Watched::run(&run, Mode::Native) else { return };
        let native = if is_ordered { native } else { native.sorted() };
        assert_eq!(native.0.len(), 11, "ten children");
        assert!(native.0[0].len() > 150, "{native:?}");
        for mode in [Mode::Plain, Mode::Summary] {
            let Some(loaded) = Watched::run(&run, mode) else { return };
            let loaded = if is_ordered { loaded } else { loaded.sorted() };
            assert_eq!(native.0.len(), loaded.0.len(), "{words:?}, {mode:?}");
            for (number, (native, loaded)) in native.0.iter().zip(&loaded.0).enumerate() {
                let at = native.iter().zip(loaded).position(|(native, loaded)| native != loaded);
                let around = |calls: &Vec<String>| {
                    calls.iter().skip(at.unwrap_or(0)).take(8).cloned().collect::<Vec<_>>()
                };
                assert!(
                    native == loaded,
                    "{words:?}, {mode:?}, process {number}: {:?}, not {:?}",
                    around(loaded),
                    around(native)
                );
            }
        }
    }
}

/// The calls that the kernel saw between two attempts to enter a directory, one named `begin` and one named `end`: of
/// each process or thread, in the order of their first.
#[derive(Debug)]
struct Watched(Vec<Vec<String>>);

impl Watched {
    /// None if there is no strace.
    fn run(run: &Run, mode: Mode) -> Option<Self> {
        let strace = need_program("strace")?;
        let scratch = Scratch::new("strace");
        let log = scratch.path("log");
        let wrapper = [strace.as_os_str(), "-f".as_ref(), "-o".as_ref(), log.as_os_str()];
        let ended = run.clone().wrapped(wrapper).go(mode);
        ended.expect_end(End::Status(0));
        ended.expect_ok();
        Some(Self::of(&fs::read_to_string(&log).expect("strace writes its log")))
    }

    /// Lines are `PID NAME(…`, `PID <... NAME resumed>…`, or about signals and ends.
    fn of(log: &str) -> Self {
        let lines: Vec<&str> = log.lines().collect();
        let last = |name: &str| lines.iter().rposition(|line| line.contains(name));
        let (begin, end) =
            (last("/footprint-begin"), lines.iter().position(|line| line.contains("/footprint-end")));
        let between = &lines[begin.expect("the guest begins") + 1..end.expect("the guest ends")];
        let mut watched: Vec<(&str, Vec<String>)> = Vec::new();
        for line in between {
            let Some((pid, rest)) = line.split_once(' ') else { continue };
            let Some((name, _)) = rest.trim_start().split_once('(') else { continue };
            if name.contains(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
                || name == "futex"
            {
                continue; // futex: one more or less by who comes first
            }
            match watched.iter_mut().find(|(known, _)| *known == pid) {
                Some((_, calls)) => calls.push(name.to_owned()),
                None => watched.push((pid, vec![name.to_owned()])),
            }
        }
        Self(watched.into_iter().map(|(_, calls)| calls).collect())
    }

    fn sorted(mut self) -> Self {
        self.0.iter_mut().for_each(|calls| calls.sort_unstable());
        self
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        self.0.iter().flatten().for_each(|name| *counts.entry(name.clone()).or_insert(0) += 1);
        counts
    }
}

/// Runs `program` natively and loaded, both as `wrapper` starts them; skips if that can't be done here.
fn check_wrapped(wrapper: &[&str], program: &Path) {
    if need_program(wrapper[0]).is_none() {
        return;
    }
    if !can_start(wrapper) {
        return skip(&format!("`{}` is not permitted", wrapper.join(" ")));
    }
    let run = Run::new([program]).wrapped(wrapper);
    let native = run.go(Mode::Native);
    native.expect_end(End::Status(0));
    native.expect_same(&run.go(Mode::Plain));
}

fn can_start(wrapper: &[&str]) -> bool {
    Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg("/bin/true")
        .output()
        .is_ok_and(|run| run.status.success())
}

fn programs() -> Vec<PathBuf> {
    guest::build("threads_sockets.py")
        .into_iter()
        .filter(|path| path.extension().is_none())
        .chain(guest::build("hello.c"))
        .chain(guest::build("vfork.c"))
        .collect()
}

#[test]
fn little_address_space() {
    for program in programs() {
        check_wrapped(&["prlimit", "--as=204800000"], &program);
    }
}

/// Bytes that the kernel answers for when it never promises more than it has (vm.overcommit_memory=2): everything private
/// and writable, reserved or not (mm/util.c, `__vm_enough_memory`; MAP_NORESERVE is ignored then).
fn accountable(maps: &str) -> u64 {
    let private_and_writable = maps.lines().filter(|line| line.contains(" rw"));
    let ends = private_and_writable.filter_map(|line| line.split_whitespace().next()?.split_once('-'));
    let hex = |digits| u64::from_str_radix(digits, 16).expect("addresses are hexadecimal");
    ends.map(|(start, end)| hex(end) - hex(start)).sum()
}

#[test]
fn little_memory_where_it_is_accounted_for_strictly() {
    let run = Run::new(["/bin/cat", "/proc/self/maps"]);
    let native = accountable(&run.go(Mode::Native).text());
    assert!(native > 100 << 10, "{native} bytes");
    for mode in [Mode::Plain, Mode::Summary] {
        let own = accountable(&run.go(mode).text()) - native;
        assert!(own < 16 << 20, "{own} bytes");
    }
}

/// Like `systemd`'s MemoryDenyWriteExecute: nothing becomes executable that was not when it was mapped.
#[test]
fn write_or_execute_but_never_both() {
    for wrapper in guest::build("mdwe.c") {
        for program in programs() {
            check_wrapped(&[&wrapper.to_string_lossy()], &program);
        }
    }
}

/// Code that is loaded later is patched where memory may not become executable, where `/proc/self` belongs to somebody
/// else; only where both hold it stays as it is, and the kernel tells of its calls, if it is to.
#[test]
fn code_that_comes_late_is_patched_under_restrictions() {
    for program in guest::build("late_code.c") {
        for (words, mode, seen) in [
            (&["mdwe"][..], "--intercept=fast", 200),
            (&["dumpable"], "--intercept=fast", 200),
            (&["mdwe", "dumpable"], "--intercept=fast", 100),
            (&["mdwe", "dumpable"], "--intercept=auto", 200),
        ] {
            let words = || words.iter().map(|&word| word.to_owned());
            let (dir, copy, loader) = public_copies(&program);
            let native = Run::new([copy.to_string_lossy().into_owned()].into_iter().chain(words()));
            let native = native.wrapped(unprivileged()).go(Mode::Native);
            let [loader, copy] = [loader, copy].map(|path| path.to_string_lossy().into_owned());
            let front = [loader, mode.into(), "-c".into(), copy];
            let loaded = Run::new(front.into_iter().chain(words())).wrapped(unprivileged()).go(Mode::Native);
            let _ = fs::remove_dir_all(dir);
            native.expect_ok();
            assert_eq!(native.stdout, loaded.stdout, "{native}\n{loaded}");
            let counts = harness::summary::of_loader(&loaded.errors()).expect("a table");
            assert_eq!(counts["getppid"], seen, "{loaded}");
        }
    }
}

/// A process may have no more than vm.max_map_count.
#[test]
fn few_mappings() {
    let run = Run::new(["/bin/cat", "/proc/self/maps"]);
    let count = |mode| run.go(mode).text().lines().count();
    let native = count(Mode::Native);
    for mode in [Mode::Plain, Mode::Summary] {
        let own = count(mode) - native;
        assert!((5..40).contains(&own), "{own} mappings more than {native}");
    }
}

/// The tools' words must not end a program: by the signal of a reader that has gone, or of a limit on files.
#[test]
fn an_output_whose_writer_is_punished() {
    const READER_GONE: &str = "exec 3>&1; { sleep 0.1; \"$@\" 2>&1 >&3; echo $? >&3; } | true";
    const NO_FILES: &str = "{ ulimit -f 0; \"$@\"; echo $?; } | cat";
    if need_program("/bin/bash").is_none() {
        return;
    }
    for program in guest::build("hello.c") {
        for tool in ["-c", "--trace"] {
            for (script, option, name) in [(READER_GONE, tool, "--"), (NO_FILES, "-o", "punished.txt")] {
                let scratch = Scratch::new("punished");
                let run = |front: &[&str]| {
                    let words = ["/bin/bash", "-c", script, "bash"].into_iter().chain(front.iter().copied());
                    let words = words.map(str::to_owned).chain([program.to_string_lossy().into_owned()]);
                    Run::new(words).cwd(scratch.dir()).go(Mode::Native)
                };
                let loader = loader();
                let native = run(&[]);
                assert!(native.text().ends_with("ok\n0\n"), "{native}");
                native.expect_same(&run(&[&loader.to_string_lossy(), tool, option, name]));
            }
        }
    }
}

/// A directory that everybody may read, with a copy of `program` and of the loader.
fn public_copies(program: &Path) -> (PathBuf, PathBuf, PathBuf) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("footprint.{}.{number}", std::process::id()));
    fs::create_dir_all(&dir).expect("the temporary directory is writable");
    let (program_copy, loader_copy) = (dir.join("program"), dir.join("loader"));
    fs::copy(program, &program_copy).expect("the guest can be copied");
    fs::copy(loader(), &loader_copy).expect("the loader can be copied");
    (dir, program_copy, loader_copy)
}

/// Runs the copies by `wrapper`, whose words may name `$DIR`; `inside` is the directory as the program sees it.
fn check_copies(program: &Path, wrapper: &[&str], inside: Option<&str>) {
    let (dir, copy, loader_copy) = public_copies(program);
    let place = |path: &Path| match inside {
        Some(inside) => format!("{inside}/{}", path.file_name().unwrap_or_default().to_string_lossy()),
        None => path.to_string_lossy().into_owned(),
    };
    let wrapper: Vec<String> =
        wrapper.iter().map(|word| word.replace("$DIR", &dir.to_string_lossy())).collect();
    let words: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    if need_program(words[0]).is_some() {
        let native = Run::new([place(&copy)]).wrapped(words.iter().copied()).go(Mode::Native);
        if native.end == End::Status(0) {
            native
                .expect_same(&Run::new([place(&loader_copy), place(&copy)]).wrapped(words).go(Mode::Native));
        } else {
            skip(&format!("{words:?} is not permitted: {native}"));
        }
    }
    let _ = fs::remove_dir_all(dir);
}

/// What makes a command run without privileges, where the tests themselves have them.
fn unprivileged() -> Vec<&'static str> {
    let is_root = fs::metadata("/proc/self").expect("there is a /proc").uid() == 0;
    if is_root { vec!["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] } else { vec!["env"] }
}

#[test]
fn an_unprivileged_user() {
    let mut bounded = unprivileged();
    bounded.extend(["setpriv", "--no-new-privs", "--inh-caps=-all"]);
    for program in programs() {
        check_copies(&program, &unprivileged(), None);
        check_copies(&program, &bounded, None);
    }
}

/// As containers are made: by a user who is nobody outside, and where `/proc` is not mounted.
#[test]
fn namespaces_of_its_own() {
    for program in programs() {
        check_wrapped(&["unshare", "--user", "--map-root-user"], &program);
        let script = "umount -l /proc && exec \"$@\"";
        check_wrapped(&["unshare", "--mount", "sh", "-c", script, "sh"], &program);
        check_wrapped(&["setpriv", "--bounding-set=-all", "--inh-caps=-all"], &program);
    }
}

/// Those that open nothing to start.
fn static_programs() -> impl Iterator<Item = PathBuf> {
    guest::build("hello.c").into_iter().filter(|path| {
        let image = fs::read(path).expect("was just built");
        let half = |at: usize| u16::from_le_bytes([image[at], image[at + 1]]).into();
        // Elf64_Ehdr: e_phoff at 32, which fits into two bytes, e_phnum at 56; each header is 56 bytes, PT_INTERP 3.
        let mut headers = (0..half(56)).map(|index: usize| half(32) + index * 56);
        !headers.any(|header| image[header] == 3)
    })
}

/// The kernel starts programs without a descriptor.
#[test]
fn no_descriptor_left_from_the_start() {
    let mut count = 0;
    for program in static_programs() {
        for limit in ["--nofile=0:1024", "--nofile=3:1024"] {
            let run = Run::new([&program]).wrapped(["prlimit", limit]);
            let native = run.go(Mode::Native);
            native.expect_ok();
            for mode in [Mode::Plain, Mode::Summary, Mode::Trace] {
                let loaded = run.go(mode);
                native.expect_same(&loaded);
                assert!(mode == Mode::Plain || loaded.report.contains("exit_group"), "{loaded}");
            }
        }
        count += 1;
    }
    assert!(count > 1, "static programs can be built");
}

#[test]
fn no_proc_and_no_other_file() {
    for program in static_programs() {
        check_copies(&program, &["chroot", "$DIR"], Some(""));
    }
}

#[test]
fn an_output_that_takes_nothing() {
    for program in guest::build("hello.c") {
        let native = Run::new([&program]).go(Mode::Native);
        let by_loader = |options: &[&str]| {
            let words = [loader().to_string_lossy().into_owned()].into_iter();
            let options = options.iter().map(|&option| option.to_owned());
            let program = program.to_string_lossy().into_owned();
            Run::new(words.chain(options).chain([program])).go(Mode::Native)
        };
        native.expect_same(&by_loader(&["-c", "-o", "/dev/full", "--"]));
        native.expect_same(&by_loader(&["--trace", "-o", "/dev/full", "--"]));
        native.expect_same(&by_loader(&["-c", "-o", "/dev/null", "--"]));
    }
}

#[test]
fn streams_that_are_closed() {
    let Some(shell) = find_program("sh") else { return skip("there is no sh") };
    for program in guest::build("hello.c") {
        for closed in ["2>&-", "0<&-", "0<&- 2>&-"] {
            for options in ["", "-c", "--trace"] {
                let script = format!("\"$@\" {closed}; echo $?");
                let words = |rest: &[String]| {
                    let fixed =
                        [shell.to_string_lossy().into_owned(), "-c".into(), script.clone(), "sh".into()];
                    Run::new(fixed.into_iter().chain(rest.iter().cloned())).go(Mode::Native)
                };
                let guest = program.to_string_lossy().into_owned();
                let loaded: Vec<String> = [loader().to_string_lossy().into_owned()]
                    .into_iter()
                    .chain(Some(options.to_owned()).filter(|options| !options.is_empty()))
                    .chain(["--".to_owned(), guest.clone()])
                    .collect();
                let (native, loaded) = (words(&[guest]), words(&loaded));
                assert!(native.stdout == loaded.stdout, "{native}\n{loaded}");
            }
        }
    }
}
