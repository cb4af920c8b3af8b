//! What is written where: which place wins, and names that nobody knows.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::super::*;
use super::{faults, file_reader, reader};

#[test]
fn flag_wins_over_environment_over_file_over_default() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.toml");
    fs::write(
        &path,
        "data_dir = \"f\"\n[sample]\ninterval = \"3s\"\n[batch]\nmax_readings = 3\n[send]\nrate = 3\n",
    )
    .unwrap();
    let mut reader = reader(
        &[
            "--sample-interval",
            "5s",
            "run",
            "--config",
            path.to_str().unwrap(),
        ],
        &[
            ("WEIR_TEST_SAMPLE_INTERVAL", "4s"),
            ("WEIR_TEST_BATCH_MAX_READINGS", "4"),
            ("WEIR_TEST_DATA_DIR", ""),
        ],
    );
    assert_eq!(reader.duration("sample.interval"), Duration::from_secs(5));
    assert_eq!(reader.count("batch.max_readings"), 4);
    assert_eq!(reader.rate("send.rate"), 3.0);
    assert_eq!(reader.bytes("batch.max_bytes"), 256 << 10);
    // Set but empty is not set.
    assert_eq!(reader.path("data_dir"), PathBuf::from("f"));
    let effective = reader.finish().unwrap();
    let source = |name: &str| effective.get(name).unwrap().source.clone();
    assert_eq!(source("sample.interval"), Source::Flag);
    assert_eq!(source("batch.max_readings"), Source::Environment);
    assert_eq!(source("send.rate"), Source::File(path));
    assert_eq!(source("batch.max_bytes"), Source::Default);
}

#[test]
fn flags_work_before_and_after_the_subcommand() {
    for args in [["--send-rate", "9", "run"], ["run", "--send-rate", "9"]] {
        assert_eq!(reader(&args, &[]).rate("send.rate"), 9.0);
    }
}

#[test]
fn the_callers_own_faults_name_what_the_operator_wrote() {
    let mut reader = file_reader(
        "[batch]\nmax_readings = 5\n[[sensor]]\nkind = \"x\"\n",
        &[("WEIR_TEST_SEND_RATE", "1")],
    );
    let sensors = reader.section("sensor").and_then(|value| value.as_array());
    assert_eq!(sensors.map(Vec::len), Some(1));
    reader.fault("batch.max_readings", "too small");
    reader.fault("send.rate", "too slow");
    reader.fault("sensor[0].kind", "no such kind");
    let expected = "\
test.toml: batch.max_readings: too small
WEIR_TEST_SEND_RATE: too slow
test.toml: sensor[0].kind: no such kind";
    assert_eq!(faults(reader), expected);
}

#[test]
fn unknown_entries_of_the_file_are_faults_with_a_suggestion() {
    let text = faults(file_reader(
        "sink_ur = \"http://a\"\nbatch = 5\n[sample]\ninterval = [1]\n[send]\nrat = 1\n[other]\nx = 1\n[[sensors]]\n",
        &[],
    ));
    for expected in [
        "test.toml: sink_ur: is not a setting of weir-test: did you mean sink_url?",
        "test.toml: sample.interval: is an array: write a single value",
        "test.toml: send.rat: is not a setting of weir-test: did you mean send.rate?",
        "test.toml: other: is not a setting of weir-test: `weir-test config` lists them all",
        "test.toml: sensors: is not a setting of weir-test: did you mean sensor?",
        "test.toml: batch: is not a setting of weir-test",
    ] {
        assert!(text.contains(expected), "{expected}\nin\n{text}");
    }
    assert_eq!(text.lines().count(), 6, "{text}");
}

#[test]
fn a_file_that_is_not_toml_names_the_line_and_other_faults_stay() {
    let text = faults(file_reader("a = 1\n[batch\n", &[("WEIR_TEST_QQQ", "1")]));
    assert!(text.starts_with("test.toml line 2: "), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn a_named_file_that_is_missing_is_a_fault_of_the_name() {
    let text = faults(reader(&[], &[("WEIR_TEST_CONFIG", "/nowhere/test.toml")]));
    assert_eq!(
        text,
        "WEIR_TEST_CONFIG: cannot read /nowhere/test.toml: entity not found"
    );
    let text = faults(reader(&["--config", "/nowhere/test.toml"], &[]));
    assert!(text.starts_with("--config: cannot read"), "{text}");
}

#[test]
fn no_environment_means_none_of_it() {
    let mut reader = reader(
        &["--no-environment", "run"],
        &[
            ("WEIR_TEST_SEND_RATE", "9"),
            ("WEIR_TEST_QQQ", "1"),
            ("WEIR_TEST_CONFIG", "/nowhere"),
        ],
    );
    assert_eq!(reader.rate("send.rate"), 2.5);
    assert_eq!(faults(reader), "");
}

#[test]
fn a_secret_comes_from_its_file_and_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    fs::write(&path, "hunter2\r\n").unwrap();
    let path = path.to_str().unwrap();
    let mut reader = reader(&[], &[("WEIR_TEST_TOKEN_FILE", path)]);
    assert_eq!(reader.text("token"), "hunter2");
    let effective = reader.effective();
    assert_eq!(effective.get("token").unwrap().value, "***");
    assert!(!format!("{effective:?}").contains("hunter2"));
    assert_eq!(faults(reader), "");
}

#[test]
fn a_secret_given_twice_or_from_a_missing_file_is_a_fault() {
    let text = faults(reader(
        &[],
        &[
            ("WEIR_TEST_TOKEN", "a"),
            ("WEIR_TEST_TOKEN_FILE", "/nowhere"),
        ],
    ));
    assert_eq!(
        text,
        "WEIR_TEST_TOKEN_FILE: is set together with WEIR_TEST_TOKEN: keep one of them"
    );
    let text = faults(reader(&[], &[("WEIR_TEST_TOKEN_FILE", "/nowhere")]));
    assert!(
        text.starts_with("WEIR_TEST_TOKEN_FILE: cannot read /nowhere"),
        "{text}"
    );
    // Only a secret has the twin.
    let mut reader = reader(&[], &[("WEIR_TEST_DATA_DIR_FILE", "/nowhere")]);
    assert_eq!(reader.path("data_dir"), PathBuf::from("data"));
    let text = faults(reader);
    assert!(
        text.starts_with("WEIR_TEST_DATA_DIR_FILE: is not a setting"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn an_unknown_variable_is_a_fault_with_a_suggestion() {
    let text = faults(reader(&[], &[("WEIR_TEST_SAMPLE_INTERVALL", "1s")]));
    assert_eq!(
        text,
        "WEIR_TEST_SAMPLE_INTERVALL: is not a setting of weir-test: did you mean WEIR_TEST_SAMPLE_INTERVAL?"
    );
    let text = faults(reader(&[], &[("WEIR_TEST_QQQ", "1")]));
    assert!(text.contains("`weir-test config` lists them all"), "{text}");
    // Another program's variables, and those of no program, are not this one's business.
    assert_eq!(
        faults(reader(&[], &[("WEIR_OTHER_X", "1"), ("PATH", "/bin")])),
        ""
    );
}

#[test]
fn variables_that_announce_a_service_are_no_fault() {
    let links = [
        ("WEIR_TEST_SERVICE_HOST", "10.0.0.1"),
        ("WEIR_TEST_SERVICE_PORT", "4317"),
        ("WEIR_TEST_SERVICE_PORT_GRPC", "4317"),
        ("WEIR_TEST_PORT", "tcp://10.0.0.1:4317"),
        ("WEIR_TEST_PORT_4317_TCP", "tcp://10.0.0.1:4317"),
        ("WEIR_TEST_PORT_4317_TCP_PROTO", "tcp"),
        ("WEIR_TEST_PORT_4317_TCP_ADDR", "10.0.0.1"),
        ("WEIR_TEST_HTTP_SERVICE_HOST", "10.0.0.2"),
    ];
    assert_eq!(faults(reader(&[], &links)), "");
    assert_ne!(faults(reader(&[], &[("WEIR_TEST_PORT", "4317")])), "");
}
