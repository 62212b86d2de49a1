//! The habits that no compiler checks: which room may name which, how wide a line is, where unsafe
//! code lives, that what is generated is up to date, and that nothing is left half done.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms of `src/` name which others: all arrows there are. None points upwards: a row names
/// only rows above it.
const ARROWS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("config", &[]),
    ("resp", &[]),
    ("store", &[]),
    ("logging", &["config"]),
    ("metrics", &["clock"]),
    ("keyspace", &["store"]),
    ("near", &["store"]),
    ("origin", &["clock", "config"]),
    (
        "policy",
        &["clock", "config", "keyspace", "origin", "store"],
    ),
    ("upstream", &["clock", "resp"]),
    (
        "instance",
        &[
            "clock", "config", "metrics", "near", "policy", "resp", "store", "upstream",
        ],
    ),
    (
        "command",
        &[
            "clock", "config", "instance", "keyspace", "logging", "metrics", "policy", "resp",
            "store",
        ],
    ),
    (
        "front",
        &[
            "clock", "command", "config", "instance", "near", "policy", "resp", "store", "upstream",
        ],
    ),
    (
        "events",
        &[
            "clock", "config", "instance", "keyspace", "policy", "upstream",
        ],
    ),
    (
        "server",
        &[
            "clock", "command", "config", "events", "front", "instance", "keyspace", "metrics",
            "policy", "resp", "upstream",
        ],
    ),
];

/// Columns of a line.
const COLUMNS_MAX: usize = 100;
/// Lines of a file: more than anybody keeps in mind is two subjects.
const LINES_MAX: usize = 700;
/// Generated from Redis's own documentation, a command a line.
const GENERATED: &str = "src/command/docs_data.rs";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A source file, by its path from the project's root.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Its lines and their numbers, without those that are only a comment.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines
            .map(|(index, line)| (index + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Those of its lines that are not tests.
    fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_tests = self.path.contains("/tests/") || self.path.ends_with("/tests.rs");
        self.code()
            .take_while(move |(_, line)| !is_tests && *line != "#[cfg(test)]")
    }

    /// The room of `src/` it belongs to: the first part of its path there.
    fn room(&self) -> Option<&str> {
        let within = self.path.strip_prefix("src/")?;
        let room = within.split('/').next().unwrap_or(within);
        let room = room.strip_suffix(".rs").unwrap_or(room);
        (room != "lib" && room != "main").then_some(room)
    }
}

/// All Rust files under these directories, sorted by path.
fn sources(directories: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    for directory in directories {
        collect(&root().join(directory), &mut paths);
    }
    paths.sort();
    let read = |path: PathBuf| Source {
        text: fs::read_to_string(&path).expect("a text file"),
        path: path
            .strip_prefix(root())
            .expect("it is under the root")
            .display()
            .to_string(),
    };
    paths.into_iter().map(read).collect()
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// Everything wrong at once, so that it can be put right at once.
#[track_caller]
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// The paths behind each `crate::` of a line, of up to two names: `resp::decode`. Those of a group
/// (`crate::{clock, resp::Reply}`) are taken apart; a nested group shows as an unknown room.
fn named_rooms(line: &str) -> impl Iterator<Item = String> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let behind = line.split("crate::").skip(1);
    let paths = behind.flat_map(|rest| match rest.strip_prefix('{') {
        Some(group) => group.split(',').map(str::trim).collect(),
        None => vec![rest],
    });
    paths.map(move |path| {
        let path = &path[..path.find(|c| !is_path(c)).unwrap_or(path.len())];
        let names: Vec<_> = path.split("::").take(2).collect();
        names.join("::")
    })
}

#[test]
fn rooms_name_only_those_below_them() {
    let is_constant = |name: &str| name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for source in sources(&["src"]) {
        let Some(room) = source.room() else { continue };
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!(
                "{}: the room {room} has no row in ARROWS",
                source.path
            ));
            continue;
        };
        for (number, line) in source.shipped() {
            for named in named_rooms(line) {
                let top = named.split("::").next().unwrap_or(&named);
                // What lib.rs says of the whole: versions.
                if top == room || !top.is_empty() && is_constant(top) {
                    continue;
                }
                match allowed.iter().find(|arrow| **arrow == top) {
                    Some(arrow) => drop(used.insert((room.to_owned(), *arrow))),
                    None => wrong.push(format!("{}:{number}: {room} → {named}", source.path)),
                }
            }
        }
    }
    for (room, allowed) in ARROWS {
        for arrow in *allowed {
            if !used.contains(&((*room).to_owned(), *arrow)) {
                wrong.push(format!(
                    "nobody goes from {room} to {arrow} any more: remove it"
                ));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn no_arrow_points_upwards() {
    let mut wrong = Vec::new();
    for (at, (room, allowed)) in ARROWS.iter().enumerate() {
        for arrow in *allowed {
            if !ARROWS[..at].iter().any(|(above, _)| above == arrow) {
                wrong.push(format!("{room} → {arrow}, which stands below it"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn no_line_is_wider_than_a_hundred_columns() {
    let mut wrong = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        if source.path == GENERATED {
            continue;
        }
        for (index, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                wrong.push(format!("{}:{}: {columns} columns", source.path, index + 1));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn no_file_is_longer_than_seven_hundred_lines() {
    let sources = sources(&["src", "tests", "benches"]);
    let lines = |source: &Source| source.text.lines().count();
    let wrong: Vec<_> = sources
        .iter()
        .filter(|source| source.path != GENERATED && lines(source) > LINES_MAX)
        .map(|source| format!("{}: {} lines", source.path, lines(source)))
        .collect();
    assert_none(&wrong);
}

#[test]
fn unsafe_code_lives_in_the_store_alone() {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut wrong = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        let is_ours = source.path == "tests/tidy.rs";
        if source.path.starts_with("src/store/") || is_ours {
            continue;
        }
        for (number, line) in source.code() {
            let code = line.split("//").next().unwrap_or(line);
            if code.split(|c| !is_name(c)).any(|word| word == "unsafe") {
                wrong.push(format!("{}:{number}: unsafe", source.path));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn nothing_is_left_half_done() {
    // Put together here, so that this file may name them.
    let signs = [
        ["#[", "ignore"].concat(),
        ["todo", "!("].concat(),
        ["unimplemented", "!("].concat(),
        ["dbg", "!("].concat(),
        ["//! ", "stub"].concat(),
    ];
    let mut wrong = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        for (index, line) in source.text.lines().enumerate() {
            for sign in signs.iter().filter(|sign| line.contains(*sign)) {
                wrong.push(format!("{}:{}: {sign}", source.path, index + 1));
            }
        }
    }
    assert_none(&wrong);
}

/// Compares a generated page with its file, or writes it if `UPDATE_DOCS` is set.
#[track_caller]
fn assert_is_written(name: &str, page: &str) {
    let path = root().join("docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page).expect("docs/ can be written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/{name} is not what the code says; write it: UPDATE_DOCS=1 cargo test --test tidy"
    );
}

#[test]
fn the_settings_are_written_down() {
    assert_is_written("CONFIG.md", &corral::config::markdown());
}

#[test]
fn the_commands_are_written_down() {
    assert_is_written("COMMANDS.md", &corral::command::docs::markdown());
}
