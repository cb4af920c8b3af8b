//! docs/operations.md speaks of what is there: its log lines are the programs' own, its links lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::tools::root;

fn operations() -> String {
    fs::read_to_string(root().join("docs/operations.md")).expect("docs/operations.md")
}

/// Every source of the programs in one text, with texts that span lines as the compiler joins them.
fn sources() -> String {
    fn gather(directory: &Path, into: &mut String) {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                gather(&path, into);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                into.push_str(&fs::read_to_string(&path).expect("a source"));
            }
        }
    }
    let mut all = String::new();
    for member in ["agent", "journal", "process", "sink", "query"] {
        gather(&root().join(member).join("src"), &mut all);
    }
    let lines: Vec<&str> = all.lines().map(str::trim).collect();
    lines.join("\n").replace("\\\n", "")
}

/// The cells of the tables below a heading, without the head of each.
fn cells<'a>(text: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, below) = text.split_once(heading).expect("the heading");
    let section = below.split("\n## ").next().unwrap_or(below);
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split(" | ").collect())
        .collect()
}

/// Red when a log line is reworded and the table keeps the old words.
#[test]
fn log_lines_are_the_programs() {
    let (text, sources) = (operations(), sources());
    let rows = cells(&text, "\n## Log lines\n");
    assert!(rows.len() > 10, "{rows:?}");
    for row in rows {
        let line = row[0].split('`').nth(1).expect("a line in backticks");
        assert!(sources.contains(line), "no program writes `{line}`");
    }
}

/// Red when a heading is renamed and a link still has the old name.
#[test]
fn links_within_lead_somewhere() {
    let text = operations();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchors: BTreeSet<String> = headings
        .map(|heading| heading.trim_start_matches('#').trim().to_lowercase())
        .map(|heading| heading.replace(' ', "-"))
        .collect();
    let links: Vec<&str> = text.split("](#").skip(1).collect();
    assert!(links.len() > 5);
    for link in links {
        let anchor = link.split(')').next().expect("a link ends");
        assert!(anchors.contains(anchor), "no heading #{anchor}");
    }
}
