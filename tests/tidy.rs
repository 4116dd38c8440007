//! The rules of this project's sources that a machine can check, as plain text searches over `src/`.
//!
//! Each failure names the places and says how to mend them. Tables and counts stand here so that changing one is a
//! decision that shows in the diff.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/rooms.rs"]
mod rooms;

/// Each dependency and the one folder or file that may name it.
const DOORS: &[(&str, &str)] =
    &[("goblin", "elf/"), ("iced_x86", "x86/"), ("linux_raw_sys", "abi/"), ("spin", "sys/lock.rs")];

/// Marks a file that is a table, which may be long.
const TABLE_MARK: &str = "// tidy: table";
/// The most lines of a file below `src`, and of one elsewhere.
const FILE_LINES_MAX: [usize; 2] = [500, 600];
const FUNCTION_LINES_MAX: usize = 80;

/// Every `static` of the sources: its file, its name, and what a fork does to it. One that changes is private to the
/// file that owns it, or, where assembly reads it, to the room.
const STATICS: &[(&str, &str, Fork)] = &[
    ("abi/errno.rs", "JOINED_MESSAGES", Fork::Constant),
    ("abi/errno.rs", "JOINED_NAMES", Fork::Constant),
    ("abi/errno.rs", "MESSAGES", Fork::Constant),
    ("abi/errno.rs", "NAMES", Fork::Constant),
    ("abi/errno.rs", "NUMBERS", Fork::Constant),
    ("abi/packed.rs", "JOINED", Fork::Constant),
    ("abi/signal.rs", "JOINED_NAMES", Fork::Constant),
    ("abi/signal.rs", "NAMES", Fork::Constant),
    ("abi/sysno.rs", "JOINED_NAMES", Fork::Constant),
    ("abi/sysno.rs", "NAMES", Fork::Constant),
    ("abi/sysno.rs", "NUMBERS", Fork::Constant),
    ("abi/sysno.rs", "SIGNATURES", Fork::Constant),
    ("heap.rs", "ARENA", Fork::Reset("heap::abandon_patch, if a thread that is not here was patching")),
    ("load/jump_asm.rs", "ENTRY", Fork::Keeps),
    ("options/mod.rs", "FLAGS", Fork::Constant),
    ("runtime/backstop/guest_sud.rs", "USERS", Fork::Reset("guest_sud::forget_all")),
    ("runtime/backstop/sud.rs", "BACKSTOP", Fork::Reset("sud::begin_child")),
    ("runtime/calls/exit_filter.rs", "OWN_INODE", Fork::Keeps),
    ("runtime/calls/io_uring.rs", "RINGS", Fork::Keeps),
    ("runtime/calls/mappings.rs", "HIGHEST_BREAK", Fork::Keeps),
    ("runtime/calls/patching.rs", "READING_EXECUTES", Fork::Keeps),
    ("runtime/calls/table.rs", "ROWS", Fork::Constant),
    ("runtime/calls/table.rs", "ROW_OF", Fork::Constant),
    ("runtime/code/notes.rs", "NOTED", Fork::Keeps),
    ("runtime/code/patched.rs", "PATCHED", Fork::Keeps),
    ("runtime/code/patcher.rs", "PATCHER", Fork::Reset("patcher::break_lock")),
    ("runtime/code/reach.rs", "STACK_TOP", Fork::Keeps),
    ("runtime/code/reach.rs", "__ehdr_start", Fork::Constant),
    ("runtime/code/reach.rs", "_end", Fork::Constant),
    ("runtime/code/traps.rs", "TRAPS", Fork::Keeps),
    ("runtime/gate/altstacks.rs", "ALTSTACKS", Fork::Keeps),
    ("runtime/gate/pool.rs", "POOL", Fork::Reset("pool::keep_busy, pool::forget_owners")),
    ("runtime/gate/claim.rs", "VFORKS", Fork::Keeps),
    ("runtime/gate/dedications.rs", "DEDICATIONS", Fork::Keeps),
    ("runtime/gate/gate_asm.rs", "__gate_handlers", Fork::Constant),
    ("runtime/gate/gate_asm.rs", "__gate_slots", Fork::Constant),
    ("runtime/gate/gate_asm.rs", "__gate_stubs", Fork::Constant),
    ("runtime/gate/generation.rs", "GENERATION", Fork::Reset("generation::start")),
    ("runtime/gate/pages.rs", "PAGES", Fork::Reset("pages::break_lock")),
    ("runtime/gate/policy.rs", "POLICY", Fork::Keeps),
    ("runtime/gate/record.rs", "RECORDS", Fork::Reset("slots::release_all_but")),
    ("runtime/gate/unsaved.rs", "__start_loader_unsaved", Fork::Constant),
    ("runtime/gate/unsaved.rs", "__stop_loader_unsaved", Fork::Constant),
    ("runtime/memory/file_pages.rs", "FILE_PAGES", Fork::Keeps),
    ("runtime/session/last_words.rs", "LAST_WORDS", Fork::Reset("last_words::unfinish")),
    ("runtime/session/mod.rs", "SESSION", Fork::Keeps),
    ("runtime/session/output.rs", "WAY", Fork::Keeps),
    ("runtime/session/tree.rs", "ALONE", Fork::Keeps),
    ("runtime/signal/fatal.rs", "HEEDS_SIGNALS", Fork::Keeps),
    ("runtime/signal/handlers.rs", "HANDLED", Fork::Keeps),
    ("runtime/signal/reserved.rs", "RESERVED", Fork::Reset("reserved::break_locks")),
    ("runtime/signal/reserved_mask.rs", "MASKS", Fork::Keeps),
    ("runtime/tasks/mod.rs", "TASKS", Fork::Reset("tasks::begin_process")),
    ("start/entry_asm.rs", "HEAP", Fork::Constant),
    ("start/start_asm.rs", "STACK", Fork::Keeps),
    ("sys/seccomp.rs", "INSTALLED", Fork::Keeps),
    ("x86/common.rs", "ONE_BYTE", Fork::Constant),
    ("x86/common.rs", "OPERAND_LEN", Fork::Constant),
    ("x86/common.rs", "TWO_BYTES", Fork::Constant),
    ("x86/decode.rs", "HAS_TABLES", Fork::Keeps),
];

/// What a fork does to a static, in the child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fork {
    /// It never changes, or is a mark of the linker's.
    Constant,
    /// What it says holds in the copy of the memory too.
    Keeps,
    /// The function that makes it the child's own; `begin_process` in `runtime/calls/split.rs` calls it.
    Reset(&'static str),
}

/// What must not grow unseen, by folder: transmutes, casts to pointers, `#[allow`. Folders not listed: none.
const COUNTS: &[(&str, [usize; 3])] =
    &[("abi", [0, 0, 1]), ("load", [0, 1, 0]), ("runtime", [0, 8, 0]), ("sys", [0, 2, 0])];
const COUNTED: [&str; 3] = ["`transmute`", "`as *` casts", "`#[allow` attributes"];

/// What a call-zone file must deny: everything that could panic on a thread of the program.
const CALL_ZONE_DENIES: [&str; 4] =
    ["clippy::indexing_slicing", "clippy::unwrap_used", "clippy::expect_used", "clippy::panic"];

/// One source file.
struct Source {
    /// Its path below `src/`.
    path: String,
    text: String,
}

impl Source {
    /// The module that it belongs to: a folder's or a file's name; empty for `lib.rs` and `main.rs`.
    fn module(&self) -> &str {
        match self.path.split_once('/') {
            Some((folder, _)) => folder,
            None => self
                .path
                .strip_suffix(".rs")
                .filter(|name| !["lib", "main"].contains(name))
                .unwrap_or_default(),
        }
    }

    fn is_shell(&self) -> bool {
        !self.module().is_empty() && rooms::rank(&rooms::room_of(&self.path)) > rooms::rank(rooms::LAST_PURE)
    }

    /// Whether it is a table, which may be long.
    fn is_table(&self) -> bool {
        self.text.contains(TABLE_MARK)
    }

    /// The lines of code with their numbers from 1: what follows `//` is cut off.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()))
    }

    /// The `//!` lines that open the file.
    fn header(&self) -> String {
        self.text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .fold(String::new(), |text, line| text + line + "\n")
    }

    /// The zone that the header of a shell file names.
    fn zone(&self) -> Option<String> {
        let header = self.header();
        let (_, rest) = header.split_once("Zone: ")?;
        Some(rest.chars().take_while(|letter| letter.is_ascii_lowercase()).collect())
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder` of the package, in order; none if there is no such folder.
fn sources_below(folder: &str) -> Vec<Source> {
    let base = root().join(folder);
    let mut folders = vec![base.clone()];
    let mut paths: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("entries are readable").path();
            if path.is_dir() { folders.push(path) } else { paths.push(path) }
        }
    }
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "rs"));
    paths.sort();
    let read = |path: PathBuf| Source {
        path: path.strip_prefix(&base).expect("was found below").to_string_lossy().into_owned(),
        text: fs::read_to_string(&path).expect("sources are UTF-8"),
    };
    paths.into_iter().map(read).collect()
}

fn sources() -> Vec<Source> {
    sources_below("src")
}

/// Fails with every place, and the way to mend them.
fn report(found: &[String], remedy: &str) {
    let mut list = String::new();
    for place in found {
        let _ = writeln!(list, "  {place}");
    }
    assert!(found.is_empty(), "{remedy}\n{list}");
}

/// The words of a line that are made of letters, digits and `_`.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).filter(|word| !word.is_empty())
}

#[test]
fn pure_modules_forbid_unsafe_code() {
    let library = fs::read_to_string(root().join("src/lib.rs")).expect("the library has a root");
    let lines: Vec<&str> = library.lines().collect();
    let mut found = Vec::new();
    for (module, _) in &rooms::ROOMS[..=rooms::rank(rooms::LAST_PURE).expect("is in the table")] {
        let Some(at) = lines.iter().position(|line| line.ends_with(&format!("mod {module};"))) else {
            continue;
        };
        let attributes =
            lines[..at].iter().rev().take_while(|line| line.starts_with('#') || line.starts_with("///"));
        if !attributes.into_iter().any(|line| line.starts_with("#[forbid(unsafe_code)]")) {
            found.push(format!("src/lib.rs:{}: mod {module}", at + 1));
        }
    }
    report(&found, "Put #[forbid(unsafe_code)] on each pure module in src/lib.rs.");
}

#[test]
fn assembly_stands_in_files_named_for_it() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.path.ends_with("_asm.rs")) {
        for (number, line) in source.code() {
            if ["asm!", "naked_asm!", "global_asm!"].iter().any(|name| line.contains(name)) {
                found.push(format!("src/{}:{number}", source.path));
            }
        }
    }
    report(&found, "Move assembly to a file called *_asm.rs.");
}

#[test]
fn each_dependency_is_named_behind_its_door() {
    let mut found = Vec::new();
    for source in sources() {
        for (number, line) in source.code() {
            for (name, _) in DOORS.iter().filter(|(_, door)| !source.path.starts_with(door)) {
                if words(line).any(|word| word == *name) && line.contains(&format!("{name}::")) {
                    found.push(format!("src/{}:{number}: {name}", source.path));
                }
            }
        }
    }
    report(
        &found,
        "Name a dependency only behind its door (DOORS in tests/tidy.rs), wrap what you need there.",
    );
}

#[test]
fn every_file_opens_with_a_header() {
    let without = |source: &Source| source.header().is_empty();
    let found: Vec<String> = sources()
        .into_iter()
        .filter(|source| source.path != "main.rs" && without(source))
        .map(|source| format!("src/{}", source.path))
        .collect();
    report(&found, "Open the file with //! lines: what it is, why so, what holds in it.");
}

#[test]
fn shell_files_name_their_zone() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.is_shell()) {
        match source.zone().as_deref() {
            Some("load" | "call" | "bare") => {}
            other => found.push(format!("src/{}: {other:?}", source.path)),
        }
    }
    report(&found, "Say `Zone: load`, `Zone: call` or `Zone: bare` in the header of each shell file.");
}

#[test]
fn files_are_short() {
    let mut found = Vec::new();
    for folder in ["src", "tests", "bench", "linker"] {
        for source in sources_below(folder) {
            let lines = source.text.lines().count();
            let [of_source, of_other] = FILE_LINES_MAX;
            let limit = if folder == "src" { of_source } else { of_other };
            if lines > limit && !source.is_table() {
                found.push(format!("{folder}/{}: {lines} lines", source.path));
            }
        }
    }
    report(
        &found,
        "Split files above 500 lines, 600 outside of src, by what they do; only tables (`// tidy: table`) may be longer.",
    );
}

/// Functions with the lines they take. Formatted code closes a function with a brace at the indent of its first line.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let is_start = words(code).take(6).any(|word| word == "fn")
            && code.contains("fn ")
            && !code.starts_with("//")
            && !code.starts_with('"')
            && code.contains('(');
        if !is_start {
            continue;
        }
        let indent = &line[..line.len() - code.len()];
        let rest = lines[start..].iter();
        let has_body =
            rest.clone().find(|line| line.ends_with(['{', ';', '}'])).is_some_and(|line| line.ends_with('{'));
        let end = format!("{indent}}}");
        if let Some(length) = rest.clone().position(|line| **line == end).filter(|_| has_body) {
            found.push((start + 1, length + 1));
        }
    }
    found
}

#[test]
fn functions_are_short() {
    let mut found = Vec::new();
    for folder in ["src", "tests", "bench", "linker"] {
        for source in sources_below(folder) {
            for (number, length) in functions(&source.text) {
                if length > FUNCTION_LINES_MAX {
                    found.push(format!("{folder}/{}:{number}: {length} lines", source.path));
                }
            }
        }
    }
    report(&found, "Split functions above 80 lines: decide in pure code, act in the shell.");
}

#[test]
fn every_unsafe_block_is_argued() {
    let mut found = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, line) in source.code() {
            if !line.contains("unsafe {") && !line.contains("unsafe impl") {
                continue;
            }
            let above = &lines[..number - 1];
            let near = above.iter().rev().take(3).any(|line| line.contains("// SAFETY:"));
            let comment = above.iter().rev().take_while(|line| line.trim_start().starts_with("//"));
            if !near && !comment.into_iter().any(|line| line.contains("SAFETY:")) {
                found.push(format!("src/{}:{number}", source.path));
            }
        }
    }
    report(&found, "Write `// SAFETY:` and the fact that makes it sound right above each unsafe block.");
}

/// The attributes of `mod name;` in the file that declares it, all on the lines right above.
fn attributes_of_mod(declaring: &Source, name: &str) -> String {
    let lines: Vec<&str> = declaring.text.lines().collect();
    let Some(at) = lines.iter().position(|line| line.trim().ends_with(&format!("mod {name};"))) else {
        return String::new();
    };
    let above =
        lines[..at].iter().rev().take_while(|line| !line.trim().is_empty() && !line.trim().ends_with(';'));
    above.fold(String::new(), |text, line| text + line)
}

/// Everything denied for a file: by itself and on the `mod` line of it and of its folder.
fn denied(source: &Source, all: &[Source]) -> String {
    let stem = source.path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs")).unwrap_or_default();
    let folder = source.path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    let declaring = |path: &str| all.iter().find(|other| other.path == path);
    let mut text: String = source.text.lines().take_while(|line| !line.starts_with("use ")).collect();
    if let Some(library) = declaring("lib.rs") {
        text += &attributes_of_mod(library, folder);
    }
    if let Some(parent) = declaring(&format!("{folder}/mod.rs")) {
        text += &attributes_of_mod(parent, stem);
    }
    text
}

#[test]
fn call_zone_files_neither_allocate_nor_panic() {
    let all = sources();
    let mut found = Vec::new();
    for source in all.iter().filter(|source| source.is_shell() && source.zone().as_deref() == Some("call")) {
        let until_tests = source.code().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
        for (number, _) in until_tests.filter(|(_, line)| line.contains("alloc::")) {
            found.push(format!("src/{}:{number}: allocates", source.path));
        }
        let denied = denied(source, &all);
        for lint in CALL_ZONE_DENIES.iter().filter(|lint| !denied.contains(*lint)) {
            found.push(format!("src/{}: does not deny {lint}", source.path));
        }
    }
    report(
        &found,
        "Call-zone code does not allocate, and its `mod` line denies every lint of CALL_ZONE_DENIES.",
    );
}

/// The static that a line of code defines.
fn static_in(line: &str) -> Option<&str> {
    let code = line.trim_start();
    let item = code
        .strip_prefix("pub")
        .map_or(code, |rest| rest.trim_start_matches(|letter| letter != ' ').trim_start());
    let name = item.strip_prefix("static ")?;
    words(name.strip_prefix("mut ").unwrap_or(name)).next()
}

#[test]
fn every_static_is_listed_with_what_a_fork_does_to_it() {
    let mut found = Vec::new();
    let sources = sources();
    let statics: Vec<(&str, &str)> = sources
        .iter()
        .flat_map(|source| {
            source.code().filter_map(|(_, line)| Some((source.path.as_str(), static_in(line)?)))
        })
        .collect();
    for (path, name) in &statics {
        if !STATICS.iter().any(|(file, listed, _)| (file, listed) == (path, name)) {
            found.push(format!("src/{path}: {name} is not listed"));
        }
    }
    for (path, name, fork) in STATICS {
        if !statics.contains(&(*path, *name)) {
            found.push(format!("src/{path}: {name} is listed and not there"));
        }
        if let Fork::Reset(by) = fork {
            let function =
                by.split([',', ' ']).next().and_then(|by| by.rsplit("::").next()).unwrap_or_default();
            if !sources.iter().any(|source| source.text.contains(&format!("fn {function}("))) {
                found.push(format!("src/{path}: {name} is reset by {function}, which is nowhere"));
            }
        }
    }
    report(
        &found,
        "List each static in STATICS of tests/tidy.rs with what a fork does to it: one for each owner.",
    );
}

/// How often each of [`COUNTED`] stands in a line of code.
fn count_in(line: &str) -> [usize; 3] {
    [
        words(line).filter(|word| *word == "transmute").count(),
        line.matches(" as *").count(),
        line.matches("#[allow").count() + line.matches("#![allow").count(),
    ]
}

#[test]
fn counts_change_on_purpose_only() {
    let mut counts: Vec<(String, [usize; 3])> =
        COUNTS.iter().map(|(name, _)| ((*name).to_owned(), [0; 3])).collect();
    for source in sources() {
        let folder = source.module().to_owned();
        let at = counts.iter().position(|(name, _)| *name == folder).unwrap_or(counts.len());
        if at == counts.len() {
            counts.push((folder, [0; 3]));
        }
        for (_, line) in source.code() {
            for (count, more) in counts[at].1.iter_mut().zip(count_in(line)) {
                *count += more;
            }
        }
    }
    let mut found = Vec::new();
    for (folder, counts) in &counts {
        let listed = COUNTS.iter().find(|(name, _)| name == folder).map_or([0; 3], |(_, counts)| *counts);
        if *counts != listed {
            found.push(format!("(\"{folder}\", {counts:?}), not {listed:?}: {}", COUNTED.join(", ")));
        }
    }
    report(&found, "If meant, write these lines into COUNTS of tests/tidy.rs; if not, do without.");
}

/// A search that finds nothing because it looks for the wrong thing would pass for ever.
#[test]
fn the_searches_find_what_they_look_for() {
    assert!(sources().len() > 5, "the sources are found");
    let text = "impl X {\n    pub(crate) fn a(\n        b: u8,\n    ) -> u8 {\n        b\n    }\n\n    fn c();\n}\nfn d() {}\n";
    assert_eq!(functions(text), [(2, 5)]);
    assert_eq!(count_in("let x = *(y as *const u8);"), [0, 1, 0]);
    assert_eq!(count_in("const X: &'static str = transmute(y); #[allow(dead_code)]"), [1, 0, 1]);
    assert_eq!(static_in("    pub(super) static X: u8 = 0;"), Some("X"));
    assert_eq!(static_in("static mut Y: u8 = 0;"), Some("Y"));
    assert_eq!(static_in("const X: &'static str = \"\";"), None);
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let shell = source("runtime/trap.rs", "//! Traps.\n//!\n//! Zone: call. More.\nuse x;\n");
    assert_eq!((shell.module(), shell.is_shell(), shell.zone().as_deref()), ("runtime", true, Some("call")));
    let parent = source(
        "runtime/mod.rs",
        "//! R.\nmod a;\n#[deny(clippy::panic)]\n#[deny(clippy::unwrap_used)]\nmod trap;\n",
    );
    let denied = denied(&shell, &[parent]);
    assert!(denied.contains("clippy::panic") && denied.contains("clippy::unwrap_used"), "{denied}");
}
