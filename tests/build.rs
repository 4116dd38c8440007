//! A C project of some size, built by make, gcc and what those start: the same files, and every process in the report.

mod harness;

use harness::run::{End, Mode, Outcome, Run};
use harness::scratch::Scratch;
use harness::summary::{self, Counts};
use harness::{is_stand_in, loader, need_program};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Sources besides the one with `main`.
const UNITS: usize = 30;
/// Programs that the build starts, and how often: make for each unit, for `main`, for the archive and for the program;
/// what gcc starts for each of its runs.
const STARTED: [(&str, usize); 7] = [
    ("make", 2),
    ("gcc", UNITS + 2),
    ("cc1", UNITS + 1),
    ("as", UNITS + 1),
    ("collect2", 1),
    ("ld", 1),
    ("ar", 1),
];

/// Writes a makefile in two levels, a header that all include, headers of their own, and an archive's sources.
fn write_project(scratch: &Scratch) {
    let mut common = String::from("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n");
    let mut main = String::from("#include \"all.h\"\nint main(void) {\n    long sum = 0;\n");
    let mut objects = String::new();
    for unit in 0..UNITS {
        let _ = writeln!(common, "#include \"unit{unit}.h\"");
        let _ = writeln!(main, "    sum += unit{unit}({unit});");
        let _ = write!(objects, " unit{unit}.o");
        let header = format!(
            "#ifndef UNIT{unit}\n#define UNIT{unit}\nstruct state{unit} {{ long value[{unit} + 1]; }};\nlong unit{unit}(long);\n#endif\n"
        );
        let before = unit.saturating_sub(1);
        let source = format!(
            "#include \"all.h\"\nstatic struct state{unit} state;\nlong unit{unit}(long value) {{\n    \
             char text[64];\n    snprintf(text, sizeof text, \"%ld\", value * {unit});\n    \
             state.value[{unit}] += (long)strlen(text);\n    \
             return state.value[{unit}] + (value > 0 ? unit{before}(value - 1) : 0);\n}}\n"
        );
        scratch.file(&format!("unit{unit}.h"), header.as_bytes(), 0o644);
        scratch.file(&format!("unit{unit}.c"), source.as_bytes(), 0o644);
    }
    main.push_str("    printf(\"%ld\\n\", sum);\n    return 0;\n}\n");
    let outer = "all:\n\t$(MAKE) -s program\n";
    let rules = format!(
        "include outer.mk\nCFLAGS = -O2 -g0\nprogram: main.o libunits.a\n\tgcc -o $@ main.o -L. -lunits\n\
         libunits.a:{objects}\n\tar rcD $@ $^\n%.o: %.c all.h\n\tgcc $(CFLAGS) -c $< -o $@\n"
    );
    for (name, content) in
        [("all.h", common), ("main.c", main), ("outer.mk", outer.to_owned()), ("Makefile", rules)]
    {
        scratch.file(name, content.as_bytes(), 0o644);
    }
}

/// What the build leaves: every file that it makes.
fn results(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("is there").map(|entry| entry.expect("is readable").path());
    let made = entries.filter(|path| path.extension().is_none_or(|kind| kind == "o" || kind == "a"));
    let made = made.filter(|path| path.file_name().is_some_and(|name| name != "Makefile"));
    made.map(|path| {
        let name = path.file_name().expect("has one").to_string_lossy().into_owned();
        (name, fs::read(&path).expect("is readable"))
    })
    .collect()
}

fn build(mode: Mode) -> (Outcome, BTreeMap<String, Vec<u8>>) {
    let scratch = Scratch::new("build");
    write_project(&scratch);
    let run = Run::new(["make", "-s", "-j2", "all"]).cwd(scratch.dir()).timeout(Duration::from_secs(300));
    let outcome = run.go(mode);
    outcome.expect_end(End::Status(0));
    let made = results(scratch.dir());
    assert_eq!(made.len(), UNITS + 3, "{outcome}");
    (outcome, made)
}

fn has_tools() -> bool {
    ["make", "gcc", "ar"].iter().all(|tool| need_program(tool).is_some())
}

#[test]
fn make_builds_the_same_files() {
    if !has_tools() {
        return;
    }
    let (native, expected) = build(Mode::Native);
    for mode in [Mode::Plain, Mode::Summary] {
        let (loaded, made) = build(mode);
        native.expect_same(&loaded);
        for (name, bytes) in &expected {
            assert!(made.get(name) == Some(bytes), "{name} differs in {mode:?}");
        }
        if mode == Mode::Summary && !is_stand_in() {
            assert!(loaded.report.ends_with(" total\n"), "nothing runs natively\n{loaded}");
        }
    }
}

/// The tables of `--summary=pid` by program.
fn by_program(text: &str) -> BTreeMap<&str, Vec<Counts>> {
    let mut found: BTreeMap<&str, Vec<Counts>> = BTreeMap::new();
    for table in text.split("process ").skip(1) {
        let (title, rows) = table.split_once('\n').expect("a title has a line");
        let program = title.split_once(": ").expect("a title names the program").1;
        let counts = summary::of_loader(rows).unwrap_or_else(|reason| panic!("{reason}\n{text}"));
        found.entry(program).or_default().push(counts);
    }
    found
}

#[test]
fn every_process_of_a_build_has_its_table() {
    if !has_tools() || is_stand_in() {
        return;
    }
    let scratch = Scratch::new("build");
    write_project(&scratch);
    let report = scratch.path("report.txt");
    let status = Command::new(loader())
        .args(["--summary=pid", "-o"])
        .arg(&report)
        .args(["make", "-s", "-j2", "all"])
        .current_dir(scratch.dir())
        .env("PATH", harness::PATH)
        .status()
        .expect("the loader can be run");
    assert!(status.success());
    let text = fs::read_to_string(&report).expect("the report is there");
    let tables = by_program(&text);
    for (program, times) in STARTED {
        let found = tables.get(program).map_or(0, Vec::len);
        assert_eq!(found, times, "{program} in\n{text}");
    }
    for counts in &tables["cc1"] {
        // Each reads its source, the common header and thirty others, and those of the C library.
        assert!(
            counts["openat"] > UNITS as u64 && counts["write"] >= 1 && counts["exit_group"] == 1,
            "{counts:?}"
        );
    }
}
