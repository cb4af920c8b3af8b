//! What we depend on: licences from a closed list, nothing unmaintained that we know of, one
//! version of the crates whose types cross our borders. Reads `cargo metadata` offline.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Licences we accept; a crate passes when one branch of its expression is made of these alone.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

/// Crates that must not come in, and why.
const BANNED: &[(&str, &str)] = &[
    ("backoff", "unmaintained, RUSTSEC-2025-0012: use backon"),
    ("instant", "unmaintained, RUSTSEC-2024-0384"),
    (
        "openssl-sys",
        "rustls is the one TLS; images are built without OpenSSL",
    ),
    (
        "tikv-jemalloc-sys",
        "breaks on 16 KiB pages of a Raspberry Pi 5",
    ),
    (
        "memmap2",
        "a mapped file that shrinks or cannot be read ends the program; pages differ in size",
    ),
];

/// Crates whose types cross our borders: a second version would not fit the first.
const ONE_VERSION: &[&str] = &[
    "arrow-array",
    "arrow-schema",
    "datafusion-common",
    "hyper",
    "object_store",
    "parquet",
    "prost",
    "rustls",
    "tokio",
    "tonic",
];

/// Packages that are really built here: reachable over normal, build and dev edges on Linux.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // An empty pipe: cargo lets rustc read its standard input for a program, and what stands in for /dev/null in a
        // sandbox is not always empty.
        .stdin(Stdio::piped())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let resolved: BTreeSet<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .filter_map(|node| node["id"].as_str())
        .collect();
    metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .filter(|package| resolved.contains(package["id"].as_str().expect("id")))
        .cloned()
        .collect()
}

/// Whether an SPDX expression can be met from the list. Understands OR, AND, parentheses and
/// the old slash for OR.
fn licence_accepted(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    accepted_or(expression.trim())
}

/// Splits at a word that stands outside parentheses.
fn split_outside<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let (mut depth, mut start, mut parts) = (0_i32, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 && text[at..].starts_with(word) {
            parts.push(&text[start..at]);
            start = at + word.len();
        }
    }
    parts.push(&text[start..]);
    parts
}

fn accepted_or(text: &str) -> bool {
    split_outside(text, " OR ")
        .into_iter()
        .any(|part| accepted_and(part.trim()))
}

fn accepted_and(text: &str) -> bool {
    split_outside(text, " AND ").into_iter().all(|part| {
        let part = part.trim();
        match part
            .strip_prefix('(')
            .and_then(|inner| inner.strip_suffix(')'))
        {
            Some(inner) => accepted_or(inner),
            None => LICENCES.contains(&part),
        }
    })
}

#[test]
fn licences_are_from_the_list() {
    let offences: Vec<String> = packages()
        .iter()
        .filter_map(|package| {
            let licence = package["license"].as_str().unwrap_or("none");
            (!licence_accepted(licence)).then(|| format!("{}: {licence}", package["name"]))
        })
        .collect();
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn licence_expressions_are_understood() {
    assert!(licence_accepted("MIT OR GPL-3.0"));
    assert!(licence_accepted("MIT/Apache-2.0"));
    assert!(licence_accepted("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!licence_accepted("MIT AND GPL-3.0"));
    assert!(!licence_accepted("GPL-3.0"));
    assert!(!licence_accepted("none"));
}

#[test]
fn banned_crates_stay_out() {
    let names: BTreeSet<String> = packages()
        .iter()
        .filter_map(|package| Some(package["name"].as_str()?.to_owned()))
        .collect();
    let offences: Vec<String> = BANNED
        .iter()
        .filter(|(name, _)| names.contains(*name))
        .map(|(name, why)| format!("{name}: {why}"))
        .collect();
    assert!(offences.is_empty(), "{}", offences.join("\n"));
    assert!(
        names.contains("backon"),
        "the list of packages looks empty or wrong"
    );
}

#[test]
fn border_crates_have_one_version() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        let (Some(name), Some(version)) = (package["name"].as_str(), package["version"].as_str())
        else {
            continue;
        };
        versions
            .entry(name.to_owned())
            .or_default()
            .insert(version.to_owned());
    }
    let offences: Vec<String> = ONE_VERSION
        .iter()
        .filter_map(|name| {
            let found = versions.get(*name)?;
            (found.len() > 1).then(|| format!("{name}: {found:?}"))
        })
        .collect();
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}
