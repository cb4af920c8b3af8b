//! The structure of the workspace: who may import whom, how large a file may grow, what a file
//! must begin with. Prints files over 400 lines (tests left out) and fails over 600.

#[path = "house/reliability.rs"]
mod reliability;
#[path = "house/secrets.rs"]
mod secrets;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every member and the members it may import. A name points only at what stands below it.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("fault", &[]),
    ("proto", &[]),
    ("journal", &["fault"]),
    ("process", &[]),
    ("query", &[]),
    ("agent", &["fault", "proto", "journal", "process"]),
    ("sink", &["fault", "proto", "journal", "process", "query"]),
    (
        "tests",
        &["fault", "proto", "journal", "process", "agent", "sink"],
    ),
    ("bench", &["proto", "journal", "process", "query", "sink"]),
];

const LINES_TO_MENTION: usize = 400;
const LINES_TO_REFUSE: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ stands in the workspace")
        .to_path_buf()
}

fn collect(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("readable directory") {
        let path = entry.expect("readable entry").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, extension, found);
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

/// The Rust files of a member with their text.
fn sources(member: &str) -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    collect(&root().join(member), "rs", &mut paths);
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("utf-8 source");
            (path, text)
        })
        .collect()
}

fn manifest(member: &str) -> toml::Table {
    let text = fs::read_to_string(root().join(member).join("Cargo.toml")).expect("manifest");
    text.parse().expect("valid manifest")
}

/// Names in every dependency table of a manifest.
fn dependencies(manifest: &toml::Table) -> Vec<String> {
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .filter_map(|table| manifest.get(*table)?.as_table())
        .flat_map(|table| table.keys().cloned())
        .collect()
}

/// Offences against the direction of imports, as text.
fn import_offences(
    member: &str,
    manifest: &toml::Table,
    files: &[(PathBuf, String)],
) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let Some(allowed) = allowed.get(member) else {
        return vec![format!(
            "{member} is not in the table of who may import whom"
        )];
    };
    let mut offences = Vec::new();
    for name in dependencies(manifest) {
        if let Some(other) = name.strip_prefix("weir-")
            && !allowed.contains(&other)
        {
            offences.push(format!("{member}/Cargo.toml depends on weir-{other}"));
        }
    }
    for (path, text) in files {
        for (other, _) in MAY_IMPORT {
            let named = text.contains(&format!("weir_{other}::"));
            if named && *other != member && !allowed.contains(other) {
                offences.push(format!("{} names weir_{other}", path.display()));
            }
        }
    }
    offences
}

/// Lines of a file without a `mod tests { ... }` that stands in it.
fn lines_without_tests(text: &str) -> usize {
    let mut lines = 0;
    let mut previous = "";
    for line in text.lines() {
        if previous.trim() == "#[cfg(test)]" && line.starts_with("mod tests {") {
            break;
        }
        lines += 1;
        previous = line;
    }
    lines
}

fn is_test_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs")
        || path.components().any(|part| part.as_os_str() == "tests")
}

#[test]
fn members_are_those_of_the_table() {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("workspace manifest");
    let workspace: toml::Table = text.parse().expect("valid manifest");
    let members: Vec<&str> = workspace["workspace"]["members"]
        .as_array()
        .expect("members")
        .iter()
        .filter_map(toml::Value::as_str)
        .collect();
    for member in &members {
        assert!(
            MAY_IMPORT.iter().any(|(name, _)| name == member),
            "{member} has no row in MAY_IMPORT"
        );
    }
    assert_eq!(members.len(), MAY_IMPORT.len());
}

#[test]
fn imports_point_down_only() {
    let offences: Vec<String> = MAY_IMPORT
        .iter()
        .flat_map(|(member, _)| import_offences(member, &manifest(member), &sources(member)))
        .collect();
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn upward_import_is_seen() {
    let manifest: toml::Table = "[dependencies]\nweir-sink.workspace = true"
        .parse()
        .expect("valid");
    let file = (
        PathBuf::from("journal/src/lib.rs"),
        format!("use {}::fold;", "weir_sink"),
    );
    assert_eq!(import_offences("journal", &manifest, &[file]).len(), 2);
}

#[test]
fn only_query_names_datafusion() {
    let mut offences = Vec::new();
    for (member, _) in MAY_IMPORT.iter().filter(|(name, _)| *name != "query") {
        if dependencies(&manifest(member))
            .iter()
            .any(|name| name.starts_with("datafusion"))
        {
            offences.push(format!("{member}/Cargo.toml"));
        }
        for (path, text) in sources(member) {
            if text.contains(&format!("{}::", "datafusion")) {
                offences.push(path.display().to_string());
            }
        }
    }
    assert!(
        offences.is_empty(),
        "named outside query/: {}",
        offences.join(", ")
    );
}

#[test]
fn files_stay_readable() {
    let mut too_long = Vec::new();
    for (member, _) in MAY_IMPORT {
        for (path, text) in sources(member) {
            if is_test_file(&path) {
                continue;
            }
            let lines = lines_without_tests(&text);
            if lines > LINES_TO_MENTION {
                println!("{lines} lines, a name is missing: {}", path.display());
            }
            if lines > LINES_TO_REFUSE {
                too_long.push(format!("{} ({lines} lines)", path.display()));
            }
        }
    }
    assert!(
        too_long.is_empty(),
        "split by name: {}",
        too_long.join(", ")
    );
}

#[test]
fn files_say_what_they_are_for() {
    let mut silent = Vec::new();
    for (member, _) in MAY_IMPORT {
        for (path, text) in sources(member) {
            if path.file_name().is_some_and(|name| name == "mod.rs") {
                silent.push(format!("{}: x.rs beside x/, never mod.rs", path.display()));
            }
            if !text.starts_with("//!") {
                silent.push(format!("{}: begins without //!", path.display()));
            }
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

/// Files that may lift the lint against `unsafe`, each with its reason beside it.
const UNSAFE: &[&str] = &["process/src/memory.rs", "proto/tests/support/counting.rs"];

/// Mutation: any other file lifts it.
#[test]
fn unsafe_stands_in_listed_files_only() {
    let lint = concat!("unsafe", "_code");
    let mut found = Vec::new();
    for (member, _) in MAY_IMPORT {
        let lifting = sources(member)
            .into_iter()
            .filter(|(_, text)| text.contains(lint));
        found.extend(lifting.map(|(path, _)| {
            let path = path.strip_prefix(root()).expect("below the root");
            path.display().to_string()
        }));
    }
    found.sort();
    assert_eq!(found, UNSAFE);
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("manifest");
    assert!(
        manifest.contains(&format!("{lint} = \"deny\"")),
        "the lint is off"
    );
}
