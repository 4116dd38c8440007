//! `--report`: what it says of programs of all kinds, held against what objdump, the files and the programs themselves say.

mod harness;

use harness::run::{End, Mode, Outcome, Run};
use harness::scratch::Scratch;
use harness::{guest, is_stand_in, loader, need_program, summary};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// Debian's own, whose libraries are the system's.
const PYTHON: &str = "/usr/bin/python3";

/// Runs `words` under the loader with these options. `None` where only the real loader has reports, or there is no program.
fn run(options: &[&str], words: &[&str]) -> Option<Outcome> {
    if is_stand_in() || need_program(words[0]).is_none() {
        return None;
    }
    let loader = loader().to_string_lossy().into_owned();
    let all = std::iter::once(loader.as_str()).chain(options.iter().copied()).chain(words.iter().copied());
    Some(Run::new(all).go(Mode::Native))
}

/// What the report says of one module.
#[derive(Debug)]
struct Module {
    line: String,
    hits: Vec<String>,
}

impl Module {
    /// The number in front of `what`, 0 if there is none.
    fn count(&self, what: &str) -> u64 {
        let parts = self.line.split([',', ':', '(', ')']).map(str::trim);
        parts
            .filter_map(|part| part.split_once(' '))
            .find(|(_, name)| *name == what || *name == format!("{what}s"))
            .map_or(0, |(number, _)| number.parse().expect("a number"))
    }
}

/// One process's report as text.
#[derive(Debug)]
struct Report {
    process: u32,
    program: String,
    modules: Vec<Module>,
    text: String,
}

impl Report {
    /// The module whose name ends so. Fails if there is none.
    fn module(&self, end: &str) -> &Module {
        let is_it =
            |module: &&Module| module.line.split(" 0x").next().is_some_and(|name| name.ends_with(end));
        self.modules.iter().find(is_it).unwrap_or_else(|| panic!("no module {end}\n{}", self.text))
    }
}

/// The reports in `text`, in order.
fn reports(text: &str) -> Vec<Report> {
    let mut found: Vec<Report> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("report of process ") {
            let (process, program) = title.split_once(": ").expect("a number and a program");
            let process = process.parse().expect("a number");
            let (modules, text) = (Vec::new(), String::new());
            found.push(Report { process, program: program.to_owned(), modules, text });
        }
        let Some(report) = found.last_mut() else { continue };
        if !line.starts_with(' ') && !line.starts_with("report of") {
            continue;
        }
        report.text += &format!("{line}\n");
        if line.starts_with("    ") {
            let module = report.modules.last_mut().expect("hits stand below their module");
            module.hits.push(line.trim().to_owned());
        } else if line.contains(" site") {
            report.modules.push(Module { line: line.trim().to_owned(), hits: Vec::new() });
        }
    }
    found
}

/// The only report of a run.
fn report_of(outcome: &Outcome) -> Report {
    let mut all = reports(&outcome.errors());
    assert_eq!(all.len(), 1, "one process, one report\n{outcome}");
    all.remove(0)
}

/// System call instructions that objdump finds in a file.
fn disassembled(path: &Path) -> u64 {
    let answer = Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(path).output();
    let answer = answer.expect("objdump runs").stdout;
    let text = String::from_utf8_lossy(&answer);
    text.lines().filter(|line| line.trim_end().ends_with("\tsyscall")).count() as u64
}

#[test]
fn of_cat_every_call_in_its_libraries_is_accounted_for() {
    let Some(outcome) = run(&["--report"], &["cat", "/etc/hostname"]) else { return };
    outcome.expect_end(End::Status(0));
    let report = report_of(&outcome);
    assert_eq!(report.program, "/usr/bin/cat");
    assert!(report.text.contains("\n  intercept: auto\n  net: not needed\n"), "{}", report.text);
    assert_eq!(report.module("/cat").count("site"), 0);
    assert!(report.module("[vdso]").count("site") > 0, "{}", report.text);
    if need_program("objdump").is_none() {
        return;
    }
    for name in ["/libc.so.6", "/ld-linux-x86-64.so.2"] {
        let module = report.module(name);
        let path = module.line.split(' ').next().expect("lines start with the path");
        let accounted = module.count("site") + module.count("restorer");
        assert_eq!(accounted, disassembled(Path::new(path)), "{}", module.line);
        let tactics =
            ["by short jump", "by eviction", "by pun", "by trap"].map(|tactic| module.count(tactic));
        assert_eq!(tactics.iter().sum::<u64>(), module.count("site"), "{}", module.line);
        assert_eq!(module.count("refused") + module.count("unproved and plausible"), 0, "{}", module.line);
    }
}

#[test]
fn each_process_of_a_shell_has_one_and_the_first_ends_them() {
    let script = "/bin/true; (exit 3); /bin/echo x > /dev/null; exit 4";
    let Some(outcome) = run(&["--report"], &["bash", "--norc", "-c", script]) else { return };
    outcome.expect_end(End::Status(4));
    let all = reports(&outcome.errors());
    let programs: Vec<&str> = all.iter().map(|report| report.program.as_str()).collect();
    assert_eq!(programs, ["/usr/bin/true", "/usr/bin/bash", "/usr/bin/echo", "/usr/bin/bash"]);
    let processes: BTreeSet<u32> = all.iter().map(|report| report.process).collect();
    assert_eq!(processes.len(), 4, "{outcome}");
}

#[test]
fn python_with_ssl_has_nothing_in_it_that_reads_as_a_call() {
    let Some(outcome) = run(&["--report"], &[PYTHON, "-I", "-c", "import ssl"]) else { return };
    outcome.expect_end(End::Status(0));
    let report = report_of(&outcome);
    let crypto = report.module("/libcrypto.so.3");
    assert_eq!(crypto.count("site"), 0, "{}", crypto.line);
    assert!(crypto.count("unproved") > 0, "{}", crypto.line);
    assert_eq!(crypto.hits.len() as u64, crypto.count("unproved"), "{crypto:?}");
    assert!(crypto.hits.iter().all(|hit| hit.contains(" unproved, reads as data: ")), "{crypto:?}");
    // Each stands where the file has the two bytes of a call.
    let path = crypto.line.split(' ').next().expect("lines start with the path");
    let file = fs::read(path).expect("the library can be read");
    for hit in &crypto.hits {
        let offset = hit.strip_prefix("+0x").and_then(|hit| hit.split(' ').next());
        let offset = usize::from_str_radix(offset.expect("an offset"), 16).expect("hexadecimal");
        // syscall or int 0x80
        assert!([[0x0f, 0x05], [0xcd, 0x80]].contains(&[file[offset], file[offset + 1]]), "{hit}");
    }
    assert!(!report.text.contains("plausible"), "{}", report.text);
}

#[test]
fn what_is_unloaded_stays_listed() {
    let script = "import ctypes, _ctypes; z = ctypes.CDLL('libgmp.so.10'); _ctypes.dlclose(z._handle)";
    let Some(outcome) = run(&["--report"], &[PYTHON, "-I", "-S", "-c", script]) else { return };
    outcome.expect_end(End::Status(0));
    let report = report_of(&outcome);
    let is_gone =
        |module: &&Module| module.line.contains("/libgmp.so") && module.line.contains(", unmapped: ");
    assert!(report.modules.iter().any(|module| is_gone(&module)), "{}", report.text);
    assert!(!report.module("/libc.so.6").line.contains("unmapped"), "{}", report.text);
}

#[test]
fn a_go_program_is_one_module_without_a_gap() {
    if is_stand_in() || need_program("objdump").is_none() {
        return;
    }
    for program in guest::build("goroutines.go") {
        let path = program.to_string_lossy().into_owned();
        let Some(outcome) = run(&["--report"], &[&path]) else { return };
        outcome.expect_end(End::Status(0));
        let report = report_of(&outcome);
        let name = program.file_name().expect("a guest has a name").to_string_lossy().into_owned();
        let module = report.module(&name);
        assert_eq!(
            module.count("site") + module.count("restorer"),
            disassembled(&program),
            "{}",
            module.line
        );
        assert_eq!(module.count("refused") + module.count("unproved and plausible"), 0, "{}", module.line);
    }
}

#[test]
fn a_trap_a_call_that_nothing_leads_to_and_data_are_told_apart() {
    if is_stand_in() {
        return;
    }
    for program in guest::build("report_kinds.S") {
        let Some(outcome) = run(&["--report"], &[&program.to_string_lossy()]) else { return };
        outcome.expect_end(End::Status(0));
        outcome.expect_ok();
        let report = report_of(&outcome);
        let module = &report.modules[0];
        let counts = ["site", "unproved and plausible", "unproved"].map(|what| module.count(what));
        assert_eq!(counts, [3, 1, 1], "{}", module.line);
        assert!(module.count("by trap") >= 1, "{}", module.line);
        let file = fs::read(&program).expect("the guest can be read");
        let behind = |mark: &[u8]| {
            file.windows(mark.len()).position(|window| window == mark).expect("a mark") + mark.len()
        };
        let hits = [
            format!("+{:#x} unproved, reads as code: ", behind(b"mark of the call") + 3),
            format!("+{:#x} unproved, reads as data: ", behind(b"mark of the data") + 2),
        ];
        assert!(
            module.hits.iter().zip(&hits).all(|(hit, start)| hit.starts_with(start)),
            "{module:?} {hits:?}"
        );
        assert_eq!(module.hits.len(), 2, "{module:?}");
    }
}

/// Fails unless both forms say the same of a program with a fixed layout, but for its id.
fn check_forms(words: &[&str]) {
    if is_stand_in() {
        return;
    }
    for tool in [PYTHON, "setarch", words[0]] {
        if need_program(tool).is_none() {
            return;
        }
    }
    let loader = loader().to_string_lossy().into_owned();
    let run = |option: &str| {
        let fixed = ["setarch", "x86_64", "-R", &loader, option];
        Run::new(fixed.into_iter().chain(words.iter().copied())).go(Mode::Native)
    };
    let (text, json) = (run("--report"), run("--report=json"));
    assert!(text.end == json.end && text.stdout == json.stdout, "{text}\n{json}");
    let script = guest::dir().join("report_as_text.py").to_string_lossy().into_owned();
    let read = Run::new([PYTHON, "-I", &script]).stdin(&json.stderr).go(Mode::Native);
    read.expect_end(End::Status(0));
    let without_ids = |text: &str| -> Vec<String> {
        let id = |line: &str| match line.strip_prefix("report of process ") {
            Some(rest) => rest.trim_start_matches(|letter: char| letter.is_ascii_digit()).to_owned(),
            None => line.to_owned(),
        };
        text.lines().map(id).collect()
    };
    assert_eq!(without_ids(&text.errors()), without_ids(&read.text()), "{text}\n{json}");
}

#[test]
fn text_and_json_say_the_same() {
    check_forms(&["cat", "/etc/hostname"]);
    check_forms(&[PYTHON, "-I", "-c", "import ssl"]);
    check_forms(&["bash", "--norc", "-c", "/bin/true; (exit 3); exit 4"]);
    for program in guest::build("report_kinds.S") {
        check_forms(&[&program.to_string_lossy()]);
    }
}

#[test]
fn the_net_is_told_with_what_it_has_caught() {
    let off = run(&["--report", "--intercept=fast"], &["true"]);
    let Some(outcome) = off else { return };
    assert!(report_of(&outcome).text.contains("\n  intercept: fast\n  net: off\n"), "{outcome}");
    for program in guest::build("report_caught.S") {
        let name = program.to_string_lossy().into_owned();
        let Some(outcome) = run(&["--report", "--intercept=exhaustive"], &[&name]) else { return };
        outcome.expect_ok();
        let line = "\n  net: armed since the start: it was asked for, 2 calls";
        assert!(report_of(&outcome).text.contains(line), "{outcome}");
    }
}

#[test]
fn a_name_with_a_newline_and_a_quote_breaks_neither_form() {
    if is_stand_in() {
        return;
    }
    let scratch = Scratch::new("names");
    for program in guest::build("report_kinds.S") {
        let copy = scratch.path("a \"b\"\\\n\u{e9}");
        fs::copy(&program, &copy).expect("can be copied");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("is ours");
        let name = copy.to_string_lossy().into_owned();
        check_forms(&[&name]);
        let Some(outcome) = run(&["--report=json"], &[&name]) else { return };
        assert_eq!(outcome.errors().lines().count(), 1, "{outcome}");
        let script = "import json, sys\n\
            report = json.load(sys.stdin)\n\
            assert report['program'] == report['modules'][0]['name'] == sys.argv[1], report";
        let read = Run::new([PYTHON, "-I", "-c", script, &name]).stdin(&outcome.stderr).go(Mode::Native);
        read.expect_end(End::Status(0));
    }
}

#[test]
fn a_file_takes_the_reports_and_the_table_stays_its_end() {
    if is_stand_in() {
        return;
    }
    let scratch = Scratch::new("report");
    let file = scratch.path("words");
    let name = file.to_string_lossy().into_owned();
    // The last child outlives the process that was started; cat waits for both.
    let inner = "/bin/true; (sleep 0.3) & exit 0";
    let outer = format!("\"$0\" --report -c -o \"$1\" bash --norc -c '{inner}' | cat");
    let run = Run::new(["sh".as_ref(), "-c".as_ref(), outer.as_ref(), loader().as_os_str(), name.as_ref()]);
    let outcome = run.go(Mode::Native);
    outcome.expect_end(End::Status(0));
    assert!(outcome.stderr.is_empty(), "{outcome}");
    let text = fs::read_to_string(&file).expect("the loader writes it");
    let programs: Vec<String> = reports(&text).into_iter().map(|report| report.program).collect();
    // Bash may exec the last command of a subshell, or wait for it.
    let (known, late) = programs.split_at(2);
    assert_eq!(known, ["/usr/bin/true", "/usr/bin/bash"], "{text}");
    assert!(late.iter().any(|program| program == "/usr/bin/sleep"), "{text}");
    let (_, table) = text.split_once("     calls     errors syscall\n").expect("a table");
    assert!(!table.contains("report of") && !table.contains("errors syscall"), "{text}");
    let counts = summary::of_loader(table).expect("a whole table");
    assert!(counts["execve"] >= 2 && counts["clock_nanosleep"] == 1, "{text}");
}

#[test]
fn processes_that_end_at_the_same_time_write_one_after_the_other() {
    if is_stand_in() || need_program(PYTHON).is_none() {
        return;
    }
    // To a pipe, which takes a page at once: these are longer.
    let inner = format!(
        "for n in 1 2 3 4 5 6; do {PYTHON} -I -c 'import ssl, ctypes, sqlite3, decimal' & done; wait; exit 0"
    );
    let outer = "\"$0\" --report=json bash --norc -c \"$1\" 2>&1 | cat";
    let script = "import json, sys\n\
        reports = [json.loads(line) for line in sys.stdin]\n\
        print(len({report['process'] for report in reports}), min(len(report['modules']) for report in reports))";
    let loader = loader().to_string_lossy().into_owned();
    let outcome = Run::new(["sh", "-c", outer, &loader, &inner]).go(Mode::Native);
    outcome.expect_end(End::Status(0));
    assert!(outcome.stdout.len() > 6 * 4096, "{outcome}");
    let read = Run::new([PYTHON, "-I", "-c", script]).stdin(&outcome.stdout).go(Mode::Native);
    assert_eq!(read.text(), "7 5\n", "{read}\n{outcome}");
}

#[test]
fn a_signal_that_ends_a_process_is_heard_of() {
    let script = "sleep 60 & sleep 0.3; kill $!; wait $!; kill -TERM $$";
    let Some(outcome) = run(&["--report"], &["bash", "--norc", "-c", script]) else { return };
    outcome.expect_end(End::Signal(15));
    let programs: Vec<String> = reports(&outcome.errors()).into_iter().map(|report| report.program).collect();
    assert_eq!(programs, ["/usr/bin/sleep", "/usr/bin/sleep", "/usr/bin/bash"], "{outcome}");
}

#[test]
fn a_program_that_closes_its_stderr_is_reported_on() {
    let Some(outcome) = run(&["--report"], &["bash", "--norc", "-c", "exec 2>&-; exit 3"]) else { return };
    outcome.expect_end(End::Status(3));
    assert_eq!(report_of(&outcome).program, "/usr/bin/bash");
}

#[test]
fn what_is_not_seen_is_counted() {
    let script = "import mmap\n\
        mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)\n\
        with open('/proc/self/exe', 'rb') as f: mmap.mmap(f.fileno(), 4096, prot=5)";
    let Some(outcome) = run(&["--report", "--no-io-uring"], &[PYTHON, "-I", "-c", script]) else { return };
    outcome.expect_end(End::Status(0));
    let text = report_of(&outcome).text;
    assert!(text.contains("\n  writable and executable at once: 1 request\n"), "{text}");
    assert!(text.contains("\n  shared and executable: 1 mapping\n"), "{text}");
    assert!(text.contains("\n  io_uring: refused\n"), "{text}");
}

#[test]
fn what_ran_natively_is_named_in_the_first_processs_report() {
    let words = ["sh", "-c", "/bin/true; /bin/true; :"];
    let Some(outcome) = run(&["--report=json", "--no-follow"], &words) else { return };
    let natives =
        r#""natives":[{"reason":"not followed, as asked","programs":2,"first":["/bin/true","/bin/true"]}]}"#;
    let text = outcome.errors();
    assert!(text.lines().count() == 1 && text.trim_end().ends_with(natives), "{outcome}");
}

#[test]
fn what_a_full_ledger_does_not_list_it_counts() {
    let scratch = Scratch::new("full");
    let texts = 600;
    // Three bytes that are an instruction's, a table's or a call's: 1365 of them on a page.
    let page: Vec<u8> = [0x0f, 0x05, 0x06].into_iter().cycle().take(4096).collect();
    let file = scratch.file("code", &page.repeat(texts), 0o644).to_string_lossy().into_owned();
    let script = "import mmap, sys\n\
        f = open(sys.argv[1], 'rb')\n\
        for page in range(int(sys.argv[2])): mmap.mmap(f.fileno(), 4096, flags=mmap.MAP_PRIVATE, prot=5, offset=page << 12)";
    let words = [PYTHON, "-I", "-c", script, &file, &texts.to_string()];
    let Some(outcome) = run(&["--report"], &words) else { return };
    outcome.expect_end(End::Status(0));
    let report = report_of(&outcome);
    let pages: Vec<&Module> =
        report.modules.iter().filter(|module| module.line.contains("/code 0x")).collect();
    let hits = page.windows(2).filter(|pair| pair == &[0x0f, 0x05]).count() as u64;
    for module in &pages {
        assert_eq!(
            module.count("unproved") + module.count("unproved and plausible"),
            hits,
            "{}",
            module.line
        );
        let listed = module.hits.iter().filter(|hit| hit.starts_with('+')).count() as u64;
        assert!(
            listed <= 16 && module.hits.last() == Some(&format!("and {} more", hits - listed)),
            "{module:?}"
        );
    }
    let left_out = format!("  {} more texts of which nothing is known\n", texts - pages.len());
    assert!(pages.len() > 400 && report.text.contains(&left_out), "{}", report.text);
}

/// What one module has no room for is its own loss: the libraries that are mapped after it are patched all the same.
#[test]
fn a_program_with_more_calls_than_stubs_takes_none_from_its_libraries() {
    let programs = guest::build("many_sites.c");
    let [fits, exceeds] = &programs[..] else { panic!("two variants: {programs:?}") };
    let sites_in = |report: &Report, end: &str| report.module(end).count("site");
    let name = |program: &Path| program.file_name().expect("is a file").to_string_lossy().into_owned();
    let [fitting, exceeding] = [fits, exceeds].map(|program| {
        let outcome = run(&["--report"], &[&program.to_string_lossy()]).expect("the loader reports");
        assert_eq!(outcome.end, End::Status(0), "{outcome}");
        report_of(&outcome)
    });
    assert_eq!(sites_in(&fitting, &name(fits)), 20_000, "{}", fitting.text);
    let served = sites_in(&exceeding, &name(exceeds));
    assert!((40_000..70_000).contains(&served), "{served}\n{}", exceeding.text);
    for library in ["libc.so.6", "ld-linux-x86-64.so.2", "[vdso]"] {
        assert_eq!(sites_in(&exceeding, library), sites_in(&fitting, library), "{library}");
        assert_ne!(sites_in(&exceeding, library), 0, "{library}");
    }
}
