//! Files of TLS that cannot be used: `validate` opens what `run` would, and each is named under its setting, with the
//! remedy, all in one report.

use std::process::Output;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use weir_tests::programs;
use weir_tests::world::run_once;

use crate::tls::{certs, signed, text};

const DAY: Duration = Duration::from_secs(86_400);

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Each fault is one line: what is set, which file, and words of why.
fn assert_named(report: &str, faults: &[(&str, &str, &str)]) {
    for (variable, file, words) in faults {
        let named = report.lines().any(|line| {
            let told = [file, words].into_iter().all(|part| line.contains(*part));
            line.starts_with(&format!("{variable}: ")) && told
        });
        assert!(named, "no {variable}, {file}, {words} in\n{report}");
    }
}

struct Files {
    place: tempfile::TempDir,
}

impl Files {
    /// Two set-ups that have nothing to do with each other, and what is none.
    fn new() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        for name in ["ours", "theirs"] {
            certs(&["init", "--name", "localhost"], &place.path().join(name));
        }
        std::fs::write(place.path().join("words"), "not PEM at all").expect("written");
        std::fs::write(place.path().join("nothing"), "").expect("written");
        Self { place }
    }

    fn at(&self, name: &str) -> String {
        text(&self.place.path().join(name))
    }
}

/// `run` and `validate` say the same and end the same. Mutations: `validate` reads settings alone; the CA's key is not
/// opened; behind the first file that cannot be used no other is.
#[test]
fn a_sink_names_every_file_that_it_cannot_serve_with() {
    let files = Files::new();
    let both = |settings: &[(&str, &str)], faults: &[(&str, &str, &str)]| {
        let mut settings = settings.to_vec();
        settings.push(("WEIR_SINK_DATA_DIR", "/nowhere/at/all"));
        for command in ["validate", "run"] {
            let ended = run_once(&programs::sink(), &[command], &settings);
            let report = stderr(&ended);
            assert_eq!(ended.status.code(), Some(64), "{command}: {report}");
            assert_named(&report, faults);
            assert_eq!(report.lines().count(), faults.len(), "{report}");
        }
    };
    let (cert, key) = (files.at("ours/server.crt"), files.at("ours/server.key"));
    let (ca, ca_key) = (files.at("ours/ca.crt"), files.at("ours/ca.key"));
    let (away, words, nothing) = (files.at("away"), files.at("words"), files.at("nothing"));
    both(
        &[
            ("WEIR_SINK_TLS_CERT", &away),
            ("WEIR_SINK_TLS_KEY", &words),
            ("WEIR_SINK_TLS_CA", &nothing),
            ("WEIR_SINK_QUERY_MAX_ROWS", "many"),
        ],
        &[
            ("WEIR_SINK_TLS_CERT", &away, "no such file: check the path"),
            ("WEIR_SINK_TLS_KEY", &words, "it is not PEM: write"),
            ("WEIR_SINK_TLS_CA", &nothing, "it is empty: write PEM"),
            ("WEIR_SINK_QUERY_MAX_ROWS", "", "many"),
        ],
    );
    let (other, directory) = (files.at("theirs/server.key"), files.at("ours"));
    both(
        &[
            ("WEIR_SINK_TLS_CERT", &cert),
            ("WEIR_SINK_TLS_KEY", &other),
            ("WEIR_SINK_TLS_CA", &directory),
        ],
        &[
            ("WEIR_SINK_TLS_KEY", &other, "it is not the key of"),
            ("WEIR_SINK_TLS_CA", &directory, "check what it is"),
        ],
    );
    let other = files.at("theirs/ca.key");
    let served = [("WEIR_SINK_TLS_CERT", &*cert), ("WEIR_SINK_TLS_KEY", &key)];
    let with = |ca_key| {
        let enrols = [("WEIR_SINK_TLS_CA", &*ca), ("WEIR_SINK_TLS_CA_KEY", ca_key)];
        [served, enrols].concat()
    };
    both(
        &with(&other),
        &[("WEIR_SINK_TLS_CA_KEY", &other, "it is not the key of")],
    );
    let right = run_once(&programs::sink(), &["validate"], &with(&ca_key));
    assert!(
        right.status.success() && right.stderr.is_empty(),
        "{right:?}"
    );
}

/// It would be served: whoever stands at the sink's machine must be able to ask it. Mutation: nothing is said of times.
#[test]
fn a_certificate_whose_time_is_over_is_named_and_no_fault() {
    let files = Files::new();
    let [_, cert, key] = signed(files.place.path(), "localhost", SystemTime::now() - DAY);
    let settings = [("WEIR_SINK_TLS_CERT", &*cert), ("WEIR_SINK_TLS_KEY", &key)];
    let ended = run_once(&programs::sink(), &["validate"], &settings);
    assert!(ended.status.success(), "{ended:?}");
    assert_named(
        &stderr(&ended),
        &[("WEIR_SINK_TLS_CERT", &cert, "it expired on 20")],
    );
}

/// The agent's `run` keeps readings and opens the files again for each connection; `validate` and `doctor` say how they are,
/// also where no sink is. Mutations: `validate` reads settings alone; `doctor` looks at files once it is connected.
#[test]
fn an_agent_names_every_file_that_it_cannot_connect_with() {
    let files = Files::new();
    let url = ("WEIR_AGENT_SINK_URL", "https://localhost:1");
    let (cert, away) = (files.at("ours/server.crt"), files.at("away"));
    let (other, words) = (files.at("theirs/server.key"), files.at("words"));
    let settings = [
        url,
        ("WEIR_AGENT_TLS_CA", &*words),
        ("WEIR_AGENT_TLS_CERT", &cert),
        ("WEIR_AGENT_TLS_KEY", &other),
    ];
    let agent = |arguments: &[&str], settings: &[(&str, &str)]| {
        run_once(&programs::agent(), arguments, settings)
    };
    let ended = agent(&["validate"], &settings);
    assert_eq!(ended.status.code(), Some(64), "{ended:?}");
    let faults = [
        ("WEIR_AGENT_TLS_CA", &*words, "it is not PEM: write"),
        ("WEIR_AGENT_TLS_KEY", &other, "it is not the key of"),
    ];
    assert_named(&stderr(&ended), &faults);

    let ended = agent(&["doctor", "--json"], &settings);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let report: Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    for (check, words) in [
        ("transport", "it is not PEM"),
        ("identity", "not the key of"),
    ] {
        let lines = report["lines"].as_array().expect("lines");
        let line = lines.iter().find(|line| line["check"] == check);
        let line = line.unwrap_or_else(|| panic!("no {check} in {report:#}"));
        assert_eq!(line["verdict"], "fail", "{line}");
        let found = line["found"].as_str();
        assert!(found.is_some_and(|found| found.contains(words)), "{line}");
    }

    let [ca, old, key] = signed(files.place.path(), "localhost", SystemTime::now() - DAY);
    let mut settings = settings;
    for (place, file) in [(1, &ca), (2, &old), (3, &key)] {
        settings[place].1 = file;
    }
    let ended = agent(&["validate"], &settings);
    assert_eq!(ended.status.code(), Some(64), "{ended:?}");
    assert_named(
        &stderr(&ended),
        &[("WEIR_AGENT_TLS_CERT", &old, "it expired on 20")],
    );
    settings[2].1 = &away;
    let ended = agent(&["validate"], &settings);
    assert_eq!(ended.status.code(), Some(64), "{ended:?}");
    assert_named(
        &stderr(&ended),
        &[("WEIR_AGENT_TLS_CERT", &away, "no such file")],
    );
}
