//! `weir-agent doctor`: what it says when all is well, and of each thing that is not; what its archive holds.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use weir_tests::programs;
use weir_tests::world::{Agent, Sink, run_once};

use crate::stored::{counting, wait_own};

fn doctor(settings: &[(&str, &str)], arguments: &[&str]) -> Output {
    let arguments = [&["doctor"], arguments].concat();
    run_once(&programs::agent(), &arguments, settings)
}

/// Verdict and words of each line of one check.
fn lines<'a>(report: &'a Value, check: &str) -> Vec<(&'a str, &'a str)> {
    let all = report["lines"].as_array().expect("lines");
    let of_check = all.iter().filter(|line| line["check"] == check);
    let words = |line: &'a Value| {
        (
            line["verdict"].as_str().unwrap(),
            line["found"].as_str().unwrap(),
        )
    };
    of_check.map(words).collect()
}

fn examined(settings: &[(&str, &str)]) -> (i32, Value) {
    let output = doctor(settings, &["--json"]);
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code().expect("it ends by itself"), report)
}

/// Every failed line says what to do.
fn assert_remedies(report: &Value) {
    for line in report["lines"].as_array().expect("lines") {
        let wrong = line["verdict"] == "fail" || line["verdict"] == "warn";
        assert!(
            !wrong || !line["remedy"].as_str().unwrap().is_empty(),
            "{line}"
        );
    }
}

/// Red when any check fails on what works, or when it leaves a stream at the sink or a file behind.
#[tokio::test]
async fn all_is_well_beside_an_agent_that_delivers() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[]).await;
    let agent = Agent::start(place.path(), "well", &sink.url(), &counting(&[])).await;
    wait_own(&agent, "acked", 10).await;
    let files = || fs::read_dir(agent.data()).unwrap().count();
    let before = files();

    let (url, data) = (sink.url(), agent.data());
    let status = agent.status.to_string();
    let settings = [
        ("WEIR_AGENT_SINK_URL", url.as_str()),
        ("WEIR_AGENT_DATA_DIR", data.to_str().unwrap()),
        ("WEIR_AGENT_STATUS_LISTEN", &status),
        ("WEIR_AGENT_SPOOL_MAX_BYTES", "16MiB"),
    ];
    let (code, report) = examined(&settings);
    for check in [
        "config",
        "sensors",
        "data",
        "space",
        "spool",
        "letters",
        "clock",
        "name",
        "connect",
        "transport",
        "protocol",
        "agent",
    ] {
        let verdicts: Vec<&str> = lines(&report, check).iter().map(|line| line.0).collect();
        assert_eq!(verdicts, ["ok"], "{check}: {report:#}");
    }
    assert_eq!(code, 0);
    assert!(
        lines(&report, "clock")[0].1.ends_with("as the sink's"),
        "{report:#}"
    );
    assert_eq!(files(), before);
    assert_eq!(sink.ledger().await.len(), 1, "the doctor opened a stream");
}

/// Red when a wrong port, a sink that is away or a name that is none is told as anything else.
#[tokio::test]
async fn each_fault_on_the_way_is_named() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[]).await;
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    for (url, check, words) in [
        (format!("http://{nobody}"), "connect", "127.0.0.1:1: "),
        (format!("http://{}", sink.http), "protocol", "speak"),
        (
            "http://sink.invalid:4317".to_owned(),
            "name",
            "sink.invalid",
        ),
    ] {
        let (code, report) = examined(&[
            ("WEIR_AGENT_SINK_URL", &url),
            ("WEIR_AGENT_ALLOW_PLAINTEXT", "true"),
        ]);
        let line = lines(&report, check)[0];
        assert_eq!((code, line.0), (1, "fail"), "{report:#}");
        assert!(line.1.contains(words), "{url}: {}", line.1);
        assert_remedies(&report);
    }
}

/// Nothing uses a user or password in the sink's URL, and much would show them. Red when such a URL is taken, or the fault or
/// the archive shows it.
#[test]
fn a_password_in_the_sinks_url_is_refused_and_never_shown() {
    let place = tempfile::tempdir().expect("a directory");
    let archive = place.path().join("support.tar.gz");
    let name = archive.to_str().unwrap();
    let settings = [("WEIR_AGENT_SINK_URL", "http://admin:hunter2@127.0.0.1:1")];
    let refused = doctor(&settings, &["--bundle", name]);
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    let started = run_once(&programs::agent(), &["run"], &settings);
    assert_eq!(started.status.code(), Some(64), "{started:?}");
    let said = [
        refused.stdout,
        refused.stderr,
        started.stdout,
        started.stderr,
    ]
    .concat();
    let said = String::from_utf8_lossy(&said).into_owned() + &unpacked(name);
    assert!(said.contains("WEIR_AGENT_SINK_URL"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

/// Red when a fault of the settings hides the next one, or is said without its name.
#[test]
fn faults_of_the_settings_are_all_named() {
    let settings = [
        ("WEIR_AGENT_SPOOL_MAX_BYTES", "many"),
        ("WEIR_AGENT_SAMPLE_INTERVAL", "-1s"),
    ];
    let (code, report) = examined(&settings);
    let found: Vec<&str> = lines(&report, "config").iter().map(|line| line.1).collect();
    assert_eq!((code, found.len()), (64, 2), "{report:#}");
    for (name, _) in settings {
        assert!(
            found.iter().any(|text| text.contains(name)),
            "{name}: {found:?}"
        );
    }
}

/// Flips a byte in the middle of the first segment below `data`.
fn damage(data: &Path) {
    let stream = fs::read_dir(data.join("spool"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let stream = stream.filter(|path| path.is_dir()).min().expect("a stream");
    let files = fs::read_dir(stream)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let segment = files
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .min();
    let segment = segment.expect("a segment");
    let mut bytes = fs::read(&segment).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[used / 2] ^= 0x40;
    fs::write(&segment, bytes).unwrap();
}

/// All files of an archive, one behind the other.
fn unpacked(archive: &str) -> String {
    let unpacked = Command::new("tar").args(["-xzOf", archive]).output();
    String::from_utf8_lossy(&unpacked.expect("tar").stdout).into_owned()
}

/// Red when damage in the spool is not seen, when a path that is no directory passes, or when the archive can be read by
/// others or overwrites a file.
#[tokio::test]
async fn damage_is_seen_and_the_archive_is_its_owners() {
    let place = tempfile::tempdir().expect("a directory");
    let settings = counting(&[
        ("SIMULATED_DEVICE", "kiln-device"),
        ("BATCH_MAX_READINGS", "10"),
        ("SAMPLE_INTERVAL", "10ms"),
    ]);
    let mut agent = Agent::start(place.path(), "hurt", "http://127.0.0.1:1", &settings).await;
    wait_own(&agent, "produced", 300).await;
    agent.kill();
    damage(&agent.data());

    let data = agent.data();
    let settings = [
        ("WEIR_AGENT_SINK_URL", "http://127.0.0.1:1"),
        ("WEIR_AGENT_DATA_DIR", data.to_str().unwrap()),
        ("WEIR_AGENT_STATUS_LISTEN", "127.0.0.1:2"),
    ];
    let (code, report) = examined(&settings);
    assert_eq!(
        (code, lines(&report, "spool")[0].0),
        (1, "warn"),
        "{report:#}"
    );
    assert!(
        lines(&report, "spool")[0].1.contains("damaged"),
        "{report:#}"
    );

    let archive = place.path().join("support.tar.gz");
    let name = archive.to_str().unwrap();
    let written = doctor(&settings, &["--bundle", name]);
    assert!(archive.exists(), "{written:?}");
    let again = doctor(&settings, &["--bundle", name]);
    assert!(
        String::from_utf8_lossy(&again.stderr).contains(name),
        "{again:?}"
    );
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&archive).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let text = unpacked(name);
    assert!(
        text.contains("\"spool.max_bytes\"") && text.contains("lost_readings"),
        "{text}"
    );

    let file = archive.to_str().unwrap();
    let (code, report) = examined(&[
        ("WEIR_AGENT_SINK_URL", "http://127.0.0.1:1"),
        ("WEIR_AGENT_DATA_DIR", file),
    ]);
    assert_eq!(
        (code, lines(&report, "data")[0].0),
        (1, "fail"),
        "{report:#}"
    );
    assert_remedies(&report);
}
