//! Rooms and the imports between them: the table, and the graph of files that the sources really make.
//!
//! A room is a folder or file right below `src/`, or a folder below `src/runtime/`. A room imports only rooms that stand above it
//! in [`ROOMS`], and only those that its row names. Within a room no files import each other in a circle, but for a file and
//! its assembly (`x.rs` and `x_asm.rs`).

use crate::{Source, report, sources};
use std::collections::{BTreeMap, BTreeSet};

/// Rooms in rank order, pure ones first, each with what it may import.
pub(crate) const ROOMS: &[(&str, &[&str])] = &[
    ("abi", &[]),
    ("addr", &[]),
    ("elf", &["abi", "addr"]),
    ("exec", &["abi", "addr"]),
    ("x86", &["addr"]),
    ("find", &["addr", "elf", "x86"]),
    ("plan", &["addr", "elf", "x86", "find"]),
    ("hook", &["abi", "addr"]),
    ("tools", &["abi", "hook"]),
    ("options", &[]),
    ("report", &["abi", "addr", "find", "plan", "hook", "options"]),
    ("sys", &["abi", "addr"]),
    ("heap", &["abi", "addr", "sys"]),
    ("load", &["abi", "addr", "elf", "sys"]),
    ("runtime/memory", &["abi", "addr", "plan", "sys"]),
    ("runtime/gate", &["abi", "addr", "x86", "find", "plan", "hook", "sys", "runtime/memory"]),
    ("runtime/tasks", &["sys", "runtime/gate"]),
    (
        "runtime/session",
        &["abi", "addr", "hook", "options", "report", "sys", "runtime/gate", "runtime/tasks"],
    ),
    (
        "runtime/signal",
        &["abi", "addr", "x86", "sys", "runtime/memory", "runtime/gate", "runtime/tasks", "runtime/session"],
    ),
    (
        "runtime/code",
        &[
            "abi",
            "addr",
            "elf",
            "x86",
            "find",
            "plan",
            "report",
            "sys",
            "heap",
            "runtime/memory",
            "runtime/gate",
            "runtime/tasks",
            "runtime/session",
            "runtime/signal",
        ],
    ),
    (
        "runtime/backstop",
        &[
            "abi",
            "addr",
            "x86",
            "find",
            "plan",
            "hook",
            "options",
            "report",
            "sys",
            "runtime/memory",
            "runtime/gate",
            "runtime/tasks",
            "runtime/session",
            "runtime/signal",
            "runtime/code",
        ],
    ),
    (
        "runtime/calls",
        &[
            "abi",
            "addr",
            "elf",
            "exec",
            "x86",
            "find",
            "plan",
            "hook",
            "options",
            "sys",
            "load",
            "runtime/memory",
            "runtime/gate",
            "runtime/tasks",
            "runtime/session",
            "runtime/signal",
            "runtime/code",
            "runtime/backstop",
        ],
    ),
    (
        "runtime",
        &[
            "abi",
            "addr",
            "x86",
            "plan",
            "hook",
            "options",
            "report",
            "sys",
            "load",
            "runtime/memory",
            "runtime/gate",
            "runtime/tasks",
            "runtime/session",
            "runtime/signal",
            "runtime/code",
            "runtime/backstop",
            "runtime/calls",
        ],
    ),
    ("start", &["sys"]),
    (
        "launch",
        &[
            "abi",
            "addr",
            "elf",
            "exec",
            "x86",
            "find",
            "options",
            "sys",
            "load",
            "runtime/memory",
            "runtime/code",
            "runtime/backstop",
        ],
    ),
    (
        "cli",
        &["abi", "elf", "hook", "tools", "options", "sys", "load", "runtime/session", "runtime", "launch"],
    ),
];

/// The last pure room; those after it are the shell.
pub(crate) const LAST_PURE: &str = "report";

/// The most lines that a room may have; tables (`// tidy: table`) do not count.
const ROOM_LINES_MAX: usize = 3500;

/// Where a room stands in the table.
pub(crate) fn rank(room: &str) -> Option<usize> {
    ROOMS.iter().position(|(name, _)| *name == room)
}

/// A path of modules below the crate.
type ModulePath = Vec<String>;

/// From the path of each file to those of the files that its code names, tests left out.
struct Graph {
    arrows: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn of(sources: Vec<Source>) -> Self {
        let roots = ["lib.rs", "main.rs"];
        let is_test = |path: &str| path.ends_with("/tests.rs");
        let files: BTreeMap<ModulePath, Source> = sources
            .into_iter()
            .filter(|source| !roots.contains(&source.path.as_str()) && !is_test(&source.path))
            .map(|source| (module_path(&source.path), source))
            .collect();
        let mut arrows = BTreeMap::new();
        for (path, source) in &files {
            let named = names_in(&code_of(source), path, &files);
            let targets =
                named.iter().filter_map(|name| holder(name, &files)).filter(|to| *to != source.path);
            arrows.insert(source.path.clone(), targets.map(String::from).collect());
        }
        Self { arrows }
    }

    /// The files that can be reached from each other, in groups of two or more.
    fn circles(&self) -> Vec<BTreeSet<String>> {
        let reached = |from: &str| {
            let mut seen = BTreeSet::new();
            let mut open = vec![from.to_owned()];
            while let Some(file) = open.pop() {
                for next in self.arrows.get(&file).into_iter().flatten() {
                    if seen.insert(next.clone()) {
                        open.push(next.clone());
                    }
                }
            }
            seen
        };
        let all: BTreeMap<&String, BTreeSet<String>> =
            self.arrows.keys().map(|file| (file, reached(file))).collect();
        let circle_of = |file: &String| -> BTreeSet<String> {
            let there = all.get(file).into_iter().flatten();
            there.filter(|other| all.get(other).is_some_and(|back| back.contains(file))).cloned().collect()
        };
        let circles: BTreeSet<BTreeSet<String>> =
            self.arrows.keys().map(circle_of).filter(|circle| circle.len() > 1).collect();
        circles.into_iter().collect()
    }

    /// For each room the rooms that its files name.
    fn rooms(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, targets) in &self.arrows {
            let room = room_of(from);
            let others = targets.iter().map(|to| room_of(to)).filter(|other| *other != room);
            rooms.entry(room.clone()).or_default().extend(others);
        }
        rooms
    }
}

/// The room of a file, by its path below `src/`.
pub(crate) fn room_of(path: &str) -> String {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    match stem.split('/').collect::<Vec<_>>()[..] {
        ["runtime", room, _, ..] => format!("runtime/{room}"),
        [room, ..] => room.to_owned(),
        [] => String::new(),
    }
}

fn module_path(path: &str) -> ModulePath {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    stem.strip_suffix("/mod").unwrap_or(stem).split('/').map(String::from).collect()
}

/// The code of a file on one line: without comments, and without its tests, which stand at its end.
fn code_of(source: &Source) -> String {
    let code = source.code().map(|(_, line)| line);
    code.take_while(|line| !line.starts_with("#[cfg(test)]")).collect::<Vec<_>>().join(" ")
}

/// The file that holds what `name` names: that of the longest module path it begins with.
fn holder<'f>(name: &ModulePath, files: &'f BTreeMap<ModulePath, Source>) -> Option<&'f str> {
    (1..=name.len()).rev().find_map(|len| files.get(&name[..len])).map(|source| source.path.as_str())
}

/// All full paths that the code of the module at `own` names, by `use`, by an imported module, or from the crate on.
fn names_in(code: &str, own: &ModulePath, files: &BTreeMap<ModulePath, Source>) -> BTreeSet<ModulePath> {
    let mut named = BTreeSet::new();
    let mut modules: BTreeMap<String, ModulePath> = BTreeMap::new();
    for (at, _) in code.match_indices("use ") {
        let tree = code[at + 4..].split(';').next().unwrap_or_default();
        for (path, alias) in leaves(tree) {
            let Some(path) = absolute(&path, own) else { continue };
            if files.contains_key(&path) {
                modules.insert(alias, path.clone());
            }
            named.insert(path);
        }
    }
    for path in files.keys().filter(|path| path.len() == own.len() + 1 && path.starts_with(own)) {
        modules.entry(path[own.len()].clone()).or_insert_with(|| path.clone());
    }
    for chain in chains(code).into_iter().filter(|chain| chain.iter().all(|name| !name.is_empty())) {
        match chain.split_first() {
            Some((first, rest)) if first == "crate" => {
                named.insert(rest.to_vec());
            }
            Some((first, rest)) => {
                if let Some(module) = modules.get(first) {
                    named.insert([module.clone(), rest.to_vec()].concat());
                }
            }
            None => {}
        }
    }
    // An imported module alone is not named until something of it is.
    named.retain(|name| holder(name, files).is_some());
    named
}

/// The paths in a `use` tree, each with the name that it has from then on.
fn leaves(tree: &str) -> Vec<(ModulePath, String)> {
    let tree = tree.trim();
    let Some((front, rest)) = tree.split_once('{') else {
        let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
        let path: ModulePath = path.split("::").map(|part| part.trim().to_owned()).collect();
        let last = path.last().cloned().unwrap_or_default();
        return vec![(path, if alias.is_empty() { last } else { alias.trim().to_owned() })];
    };
    let front: ModulePath =
        front.split("::").map(str::trim).filter(|part| !part.is_empty()).map(String::from).collect();
    let inner = rest.trim().strip_suffix('}').unwrap_or(rest);
    let mut found = Vec::new();
    for part in split_at_commas(inner) {
        for (path, alias) in leaves(part) {
            let is_self = path == ["self"];
            let whole = if is_self { front.clone() } else { [front.clone(), path].concat() };
            let alias =
                if is_self && alias == "self" { front.last().cloned().unwrap_or_default() } else { alias };
            found.push((whole, alias));
        }
    }
    found
}

/// The parts between commas that stand in no inner braces.
fn split_at_commas(list: &str) -> Vec<&str> {
    let mut depth = 0;
    let parts = list.split(|letter: char| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        letter == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// A path from the crate on; `None` for another crate's.
fn absolute(path: &ModulePath, own: &ModulePath) -> Option<ModulePath> {
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            Some([&own[..own.len().checked_sub(ups)?], &path[ups..]].concat())
        }
        _ => None,
    }
}

/// The chains of names that `::` joins, where they start.
fn chains(code: &str) -> Vec<ModulePath> {
    let is_of_chain = |letter: char| letter.is_alphanumeric() || "_:".contains(letter);
    let runs = code.split(|letter| !is_of_chain(letter)).filter(|run| run.contains("::"));
    runs.map(|run| run.split("::").map(String::from).collect()).collect()
}

#[test]
fn rooms_import_what_their_row_names() {
    let mut found = Vec::new();
    for (room, imports) in Graph::of(sources()).rooms() {
        let Some(at) = rank(&room) else {
            found.push(format!("src/{room}: no row"));
            continue;
        };
        let row = ROOMS[at].1;
        found.extend(
            imports
                .iter()
                .filter(|import| !row.contains(&import.as_str()))
                .map(|import| format!("src/{room} imports {import}")),
        );
        found.extend(
            row.iter()
                .filter(|import| !imports.contains(**import))
                .map(|import| format!("src/{room} does not import {import} any more")),
        );
    }
    report(
        &found,
        "A room imports just what its row of ROOMS in tests/tidy/rooms.rs names. Declare a need low and pass what meets it in from above.",
    );
}

#[test]
fn the_table_itself_goes_up() {
    for (at, (room, imports)) in ROOMS.iter().enumerate() {
        println!("{room:18} {}", imports.join(" "));
        for import in *imports {
            assert!(
                rank(import).is_some_and(|rank| rank < at),
                "{room} may not import {import}: it ranks below"
            );
        }
    }
}

#[test]
fn no_files_import_each_other_but_one_and_its_assembly() {
    let is_pair = |circle: &BTreeSet<String>| {
        let stems: Vec<&str> = circle.iter().filter_map(|file| file.strip_suffix(".rs")).collect();
        matches!(stems[..], [file, assembly] if assembly.strip_suffix("_asm") == Some(file))
    };
    let circles = Graph::of(sources()).circles();
    let found: Vec<String> = circles
        .iter()
        .filter(|circle| !is_pair(circle))
        .map(|circle| circle.iter().map(String::as_str).collect::<Vec<_>>().join(" "))
        .collect();
    report(&found, "Break the circle: move what both need into a file of its own, or pass it in.");
}

#[test]
fn rooms_are_small_enough_to_be_read() {
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for source in sources().iter().filter(|source| !source.is_table()) {
        *lines.entry(room_of(&source.path)).or_default() += source.text.lines().count();
    }
    let found: Vec<String> = lines
        .iter()
        .inspect(|(room, count)| println!("{room:18} {count}"))
        .filter(|(_, count)| **count > ROOM_LINES_MAX)
        .map(|(room, count)| format!("src/{room}: {count} lines"))
        .collect();
    report(&found, "Split the room in two that differ in what they are about.");
}

/// A search that finds nothing because it looks for the wrong thing would pass for ever.
#[test]
fn the_graph_sees_every_way_to_name_a_file() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let graph = Graph::of(vec![
        source("abi/mod.rs", "pub mod call;"),
        source("abi/call.rs", "pub struct Call;"),
        source("runtime/mod.rs", "pub mod gate;\nuse crate::abi::{call::{self, Call}, x};"),
        source("runtime/gate/mod.rs", "pub mod block;\nfn f() { block::g() }"),
        source("runtime/gate/block.rs", "use crate::runtime::gate;\nfn f() { gate::block_asm::h() }"),
        source(
            "runtime/gate/block_asm.rs",
            "fn f() { crate::runtime::gate::block::f() }\n#[cfg(test)]\nmod tests { use crate::abi; }",
        ),
    ]);
    let arrows = |file: &str| graph.arrows[file].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(arrows("runtime/mod.rs"), ["abi/call.rs", "abi/mod.rs"]);
    assert_eq!(arrows("runtime/gate/mod.rs"), ["runtime/gate/block.rs"]);
    assert_eq!(arrows("runtime/gate/block.rs"), ["runtime/gate/block_asm.rs", "runtime/gate/mod.rs"]);
    assert_eq!(arrows("runtime/gate/block_asm.rs"), ["runtime/gate/block.rs"]);
    assert_eq!(graph.circles().len(), 1);
    assert_eq!(graph.circles()[0].len(), 3);
    assert_eq!(graph.rooms()["runtime"], BTreeSet::from(["abi".to_owned()]));
}
