//! Settings from the operator's side: what is written where, and what is said about it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Command};

use super::*;
use crate::env::Environment;

static TABLE: Table = Table {
    prefix: "WEIR_TEST",
    groups: &[
        Group {
            title: "Sink",
            keys: &[
                Key::new("sink_url", Kind::Url, "", "where batches are sent"),
                Key::new("token", Kind::Text, "", "what proves who this is").secret(),
            ],
        },
        Group {
            title: "Sampling",
            keys: &[
                Key::new(
                    "sample.interval",
                    Kind::Duration,
                    "1s",
                    "time between readings",
                ),
                Key::new(
                    "batch.max_readings",
                    Kind::Count,
                    "1000",
                    "readings in a batch",
                ),
                Key::new("batch.max_bytes", Kind::Bytes, "256KiB", "bytes in a batch"),
                Key::new("send.rate", Kind::Rate, "2.5", "requests per second"),
                Key::new("send.on", Kind::Bool, "true", "whether to send"),
                Key::new(
                    "spool.overflow",
                    Kind::Choice(&["block", "drop_oldest"]),
                    "block",
                    "what gives way when the spool is full",
                ),
                Key::new(
                    "status.listen",
                    Kind::Address,
                    "127.0.0.1:4319",
                    "status page",
                ),
                Key::new("data_dir", Kind::Path, "data", "where the spool lies"),
            ],
        },
    ],
    sections: &["sensor"],
};

fn matches(args: &[&str]) -> ArgMatches {
    Command::new("weir-test")
        .no_binary_name(true)
        .args(TABLE.args())
        .subcommand(Command::new("run"))
        .try_get_matches_from(args)
        .unwrap()
}

fn reader(args: &[&str], environment: &[(&str, &str)]) -> Reader {
    let environment: Environment = environment.iter().copied().collect();
    Reader::from_args(&TABLE, &matches(args), &environment)
}

/// A reader over a settings file of this text.
fn file_reader(text: &str, environment: &[(&str, &str)]) -> Reader {
    let sources = Sources {
        environment: environment.iter().copied().collect(),
        file: Some((PathBuf::from("test.toml"), text.to_owned())),
        ..Sources::default()
    };
    Reader::new(&TABLE, &sources)
}

fn faults(reader: Reader) -> String {
    reader
        .finish()
        .err()
        .map(|faults| faults.to_string())
        .unwrap_or_default()
}

#[test]
fn the_table_has_no_mistakes_and_a_bad_one_is_found_out() {
    assert_eq!(TABLE.mistakes(), Vec::<String>::new());
    static BAD: Table = Table {
        prefix: "WEIR_BAD",
        groups: &[Group {
            title: "All",
            keys: &[
                Key::new("a.b", Kind::Duration, "5 parsecs", "one"),
                Key::new("a_b", Kind::Text, "", "two"),
                Key::new("sensor.x", Kind::Text, "", "three."),
                Key::new("config", Kind::Path, "", "four"),
            ],
        }],
        sections: &["sensor"],
    };
    assert_eq!(BAD.mistakes().len(), 5, "{:#?}", BAD.mistakes());
}

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
fn reports_all_faults_at_once_each_with_its_remedy() {
    let mut reader = reader(
        &["--batch-max-readings", "many"],
        &[
            ("WEIR_TEST_SINK_URL", "localhost:4317"),
            ("WEIR_TEST_SAMPLE_INTERVAL", "5 parsecs"),
            ("WEIR_TEST_BATCH_MAX_BYTES", "4 bits"),
            ("WEIR_TEST_SEND_RATE", "-1"),
            ("WEIR_TEST_SEND_ON", "maybe"),
            ("WEIR_TEST_SPOOL_OVERFLOW", "explode"),
            ("WEIR_TEST_STATUS_LISTEN", "4319"),
        ],
    );
    reader.url("sink_url");
    reader.duration("sample.interval");
    reader.count("batch.max_readings");
    reader.bytes("batch.max_bytes");
    reader.rate("send.rate");
    reader.bool("send.on");
    reader.choice("spool.overflow");
    reader.address("status.listen");
    let expected = "\
WEIR_TEST_SINK_URL: cannot read \"localhost:4317\" as a URL: write it with its scheme, as in http://127.0.0.1:4317
WEIR_TEST_SAMPLE_INTERVAL: cannot read \"5 parsecs\" as a duration: write a number and a unit, as in 250ms, 5s or 1m
--batch-max-readings: cannot read \"many\" as a count: write a whole number, as in 1000
WEIR_TEST_BATCH_MAX_BYTES: cannot read \"4 bits\" as a size: write bytes or a number and a unit, as in 65536, 64KiB or 4MiB
WEIR_TEST_SEND_RATE: cannot read \"-1\" as a number: write a number that is not negative, as in 0.5 or 20
WEIR_TEST_SEND_ON: cannot read \"maybe\" as yes or no: write true or false
WEIR_TEST_SPOOL_OVERFLOW: \"explode\" is not a choice: write block or drop_oldest
WEIR_TEST_STATUS_LISTEN: cannot read \"4319\" as an address: write an IP address and a port, as in 127.0.0.1:4317, 0.0.0.0:4317 or [::]:4317";
    assert_eq!(faults(reader), expected);
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

#[test]
fn quotes_and_carriage_returns_are_named_and_reported_once() {
    let mut reader = reader(
        &[],
        &[
            ("WEIR_TEST_SAMPLE_INTERVAL", "\"5s\""),
            ("WEIR_TEST_DATA_DIR", "'/var/lib'"),
            ("WEIR_TEST_SEND_RATE", "2\r"),
        ],
    );
    assert_eq!(reader.duration("sample.interval"), Duration::from_secs(5));
    assert_eq!(reader.rate("send.rate"), 2.0);
    let text = faults(reader);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(
        text.contains("WEIR_TEST_SAMPLE_INTERVAL: is wrapped in \" quotes"),
        "{text}"
    );
    assert!(
        text.contains("WEIR_TEST_DATA_DIR: is wrapped in ' quotes"),
        "{text}"
    );
    assert!(
        text.contains("WEIR_TEST_SEND_RATE: ends in a carriage return"),
        "{text}"
    );
}

#[test]
fn required_settings_that_are_missing_say_what_they_are_for() {
    let mut reader = reader(&[], &[("WEIR_TEST_STATUS_LISTEN", "off")]);
    reader.url("sink_url");
    assert_eq!(reader.optional_url("sink_url"), None);
    assert_eq!(reader.optional_address("status.listen"), None);
    assert_eq!(
        faults(reader),
        "WEIR_TEST_SINK_URL: is not set: where batches are sent"
    );
}

#[test]
fn bounds_are_checked_and_shown() {
    let mut reader = reader(
        &["--sample-interval", "1ms", "--batch-max-readings", "0"],
        &[],
    );
    let (low, high) = (Duration::from_millis(10), Duration::from_secs(3600));
    reader.duration_within("sample.interval", low..=high);
    reader.count_within("batch.max_readings", 1..=10);
    reader.bytes_within("batch.max_bytes", 1..=1024);
    let expected = "\
--sample-interval: 1ms is out of range: write 10ms to 1h
--batch-max-readings: 0 is out of range: write 1 to 10
WEIR_TEST_BATCH_MAX_BYTES: 262144 bytes is out of range: write 1 bytes to 1024 bytes";
    assert_eq!(faults(reader), expected);
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
    assert_ne!(faults(reader(&[], &[("WEIR_TEST_DATA_DIR_FILE", "x")])), "");
}

#[test]
fn a_url_is_shown_without_its_password() {
    let url = "http://user:pa@ss@sink:4317/x";
    let mut reader = reader(&[], &[("WEIR_TEST_SINK_URL", url)]);
    reader.url("sink_url");
    let effective = reader.finish().unwrap();
    assert_eq!(
        effective.get("sink_url").unwrap().value,
        "http://***@sink:4317/x"
    );
}

#[test]
fn the_example_lists_every_variable_and_reads_back_as_the_defaults() {
    let example = TABLE.env_example();
    let assignments: Vec<(&str, &str)> = example
        .lines()
        .filter_map(|line| line.strip_prefix("#WEIR_TEST_"))
        .filter_map(|line| line.split_once('='))
        .collect();
    assert_eq!(assignments.len(), TABLE.keys().count() + 1);
    for key in TABLE.keys() {
        let line = format!("#{}={}", TABLE.variable(key), key.default);
        assert!(example.lines().any(|other| other == line), "{line}");
    }
    let uncommented: Vec<(String, &str)> = assignments
        .iter()
        .map(|(name, value)| (format!("WEIR_TEST_{name}"), *value))
        .collect();
    let pairs: Vec<(&str, &str)> = uncommented.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    assert_eq!(faults(reader(&[], &pairs)), "");
}

#[test]
fn keys_without_a_reader_are_found_out() {
    let mut reader = reader(&[], &[]);
    reader.rate("send.rate");
    assert!(!reader.unread().contains(&"send.rate"));
    assert_eq!(reader.unread().len(), TABLE.keys().count() - 1);
    assert!(!reader.is_set("send.rate"));
}

#[test]
fn help_shows_the_variable_and_the_default_of_every_key() {
    let mut command = Command::new("weir-test").args(TABLE.args());
    let help = command.render_long_help().to_string();
    for key in TABLE.keys() {
        assert!(help.contains(&format!("--{}", key.flag())), "{help}");
        assert!(help.contains(&TABLE.variable(key)), "{help}");
    }
    assert!(help.contains("[default: 256KiB]"), "{help}");
}
