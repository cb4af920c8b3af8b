//! Documents name tests: each of them exists. docs/reliability.md names mutations, too: none is missing.

use std::fs;

use weir_fault::Mutant;

use super::{MAY_IMPORT, collect, root, sources};

/// `file::test` in backticks; the file by the end of its path.
fn named_tests(text: &str) -> Vec<(String, String)> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|quoted| quoted.split_once("::"))
        .map(|(file, test)| {
            (
                format!("/{}.rs", file.trim_end_matches(".rs")),
                format!("fn {test}("),
            )
        })
        .collect()
}

/// Those that no file has.
fn missing(named: &[(String, String)]) -> Vec<&(String, String)> {
    let files: Vec<_> = MAY_IMPORT
        .iter()
        .flat_map(|(member, _)| sources(member))
        .collect();
    let exists = |(file, test): &&(String, String)| {
        files.iter().any(|(path, text)| {
            path.to_string_lossy().ends_with(file.as_str()) && text.contains(test.as_str())
        })
    };
    named.iter().filter(|named| !exists(named)).collect()
}

#[test]
fn every_promise_names_tests_that_exist() {
    let text = fs::read_to_string(root().join("docs/reliability.md")).expect("docs/reliability.md");
    let named = named_tests(&text);
    assert!(named.len() > 40, "{named:?}");
    assert!(missing(&named).is_empty(), "{:?}", missing(&named));
}

/// Those whose file is named as one: `file.rs::test`.
fn named_by_file(text: &str) -> Vec<(String, String)> {
    let quoted = text.split('`').skip(1).step_by(2);
    let by_file = quoted.filter(|quoted| quoted.contains(".rs::"));
    by_file
        .flat_map(|quoted| named_tests(&format!("`{quoted}`")))
        .collect()
}

/// Mutation: a test that is renamed and not in the documents.
#[test]
fn every_document_names_tests_that_exist() {
    let mut documents = vec![root().join("README.md")];
    collect(&root().join("docs"), "md", &mut documents);
    let mut found = 0;
    for document in documents {
        let text = fs::read_to_string(&document).expect("a document");
        let named = named_by_file(&text);
        found += named.len();
        let missing = missing(&named);
        assert!(missing.is_empty(), "{}: {missing:?}", document.display());
    }
    assert!(found > 30, "{found}");
}

#[test]
fn a_test_that_does_not_exist_is_seen() {
    let named = named_tests(
        "by `house/reliability.rs::a_test_that_does_not_exist_is_seen` and `reliability::made_up`",
    );
    assert_eq!(missing(&named), [&named[1]]);
}

#[test]
fn every_mutation_stands_there() {
    let text = fs::read_to_string(root().join("docs/reliability.md")).expect("docs/reliability.md");
    for mutant in Mutant::ALL {
        let name = mutant.name();
        assert!(
            text.contains(&format!("| `{name}` |")),
            "{name} is not described"
        );
    }
}
