//! What holds a secret does not derive `Debug` over plain text: a type that hides it stands in its place.

use super::sources;

/// Fields that are named like a secret and are none: file and field.
const NO_SECRETS: &[(&str, &str)] = &[("sink/src/catalog/credentials.rs", "public_key")];

/// What a field that holds a secret is called, alone or behind an underscore.
const NAMES: &[&str] = &[
    "token",
    "secret",
    "password",
    "bearer",
    "authorization",
    "credential",
    "key",
    "pem",
    "pkcs8",
];

/// Types in which it would be readable.
const PLAIN: &[&str] = &[
    "String",
    "str",
    "Vec<u8>",
    "u8;",
    "[u8]",
    "Bytes",
    "HeaderMap",
    "MetadataMap",
];

/// Fields of this text that a derived `Debug` would show.
fn readable(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut derived = false;
    let mut inside = false;
    for line in text.lines() {
        let line = line.trim();
        if let Some(list) = line.strip_prefix("#[derive(") {
            derived = list.split([',', ')']).any(|name| name.trim() == "Debug");
        } else if line.contains("struct ") || line.contains("enum ") {
            inside = derived;
            derived = false;
        } else if line == "}" && inside {
            inside = false;
        }
        if inside {
            let fields = line.split(", ").filter_map(|field| field.split_once(": "));
            found.extend(
                fields
                    .filter(|(name, kind)| shows(name, kind))
                    .map(|(name, _)| last(name)),
            );
        }
    }
    found
}

/// The field's own name, without what stands before it.
fn last(name: &str) -> String {
    name.rsplit([' ', '{', '('])
        .next()
        .unwrap_or(name)
        .to_owned()
}

fn shows(name: &str, kind: &str) -> bool {
    let name = last(name);
    let named = NAMES
        .iter()
        .any(|secret| name == *secret || name.ends_with(&format!("_{secret}")));
    let headers = kind.contains("HeaderMap") || kind.contains("MetadataMap");
    let plain = PLAIN.iter().any(|plain| kind.contains(plain));
    !name.starts_with("//") && (headers || named && plain)
}

/// Mutation: `derive(Debug)` for the catalog's `Token`, or for a `Call` with its headers.
#[test]
fn no_derived_debug_shows_a_field_that_is_named_like_a_secret() {
    let mut found = Vec::new();
    for member in ["process", "agent", "sink"] {
        for (path, text) in sources(member) {
            let path = path.strip_prefix(super::root()).expect("below the root");
            let path = path.display().to_string();
            for field in readable(&text) {
                if !NO_SECRETS.contains(&(path.as_str(), field.as_str())) {
                    found.push(format!(
                        "{path}: {field}: make it a Secret, or write Debug by hand"
                    ));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_readable_secret_is_seen_and_a_hidden_one_is_not() {
    let derived = "#[derive(Clone, Debug)]\npub struct A {\n    pub sink_token: Option<String>,\n    n: u8,\n}\n";
    assert_eq!(readable(derived), ["sink_token"]);
    assert_eq!(readable(&derived.replace("Debug", "PartialEq")), [""; 0]);
    assert_eq!(readable(&derived.replace("String", "Secret")), [""; 0]);
    let row = "#[derive(Debug)]\nenum B {\n    Made { id: u8, secret: &'a str },\n}\n";
    assert_eq!(readable(row), ["secret"]);
}
