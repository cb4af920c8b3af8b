//! What the configuration promises: defaults that work, every fault at once, nothing read that is not listed.

use std::path::PathBuf;

use weir_process::config::Sources;

use super::*;
use crate::sensors::{Kind, Mode};

fn read_with(pairs: &[(&str, &str)], file: Option<&str>) -> Result<Config, String> {
    let sources = Sources {
        environment: pairs.iter().copied().collect(),
        file: file.map(|text| (PathBuf::from("agent.toml"), text.into())),
        ..Sources::default()
    };
    let reader = Reader::new(&TABLE, &sources);
    Config::read(reader, &sources.environment).map_err(|faults| faults.to_string())
}

fn read(pairs: &[(&str, &str)]) -> Result<Config, String> {
    read_with(pairs, None)
}

#[test]
fn the_table_has_no_mistakes() {
    assert_eq!(TABLE.mistakes(), Vec::<String>::new());
}

#[test]
fn nothing_has_to_be_set() {
    let config = read(&[]).unwrap();
    assert_eq!(config.sink_url.as_str(), "http://127.0.0.1:4317/");
    assert_eq!(config.sensors.len(), 1);
    assert_eq!(config.sensors[0].kind, Kind::Host);
    assert_eq!(config.sensors[0].device, config.name);
    assert_eq!(config.sensors[0].interval, Duration::from_secs(1));
    assert_eq!(config.loss_bound(), Duration::from_secs(3));
}

#[test]
fn every_key_is_read() {
    let sources = Sources::default();
    let mut reader = Reader::new(&TABLE, &sources);
    let profile = Profile::read(&mut reader);
    Logging::read(&mut reader, &sources.environment);
    let name = name(&mut reader);
    let interval = reader.duration("sample.interval");
    sensors::read(&mut reader, &name, interval);
    let batch = batch(&mut reader, profile);
    spool_config(&mut reader, profile);
    queue_limit(&mut reader, &batch);
    budget(&mut reader);
    let url = super::transport::sink_url(&mut reader, Purpose::Deliver);
    let place = (&url, Path::new("data"));
    sender(&mut reader, place, &name, Duration::from_secs(20));
    assert_eq!(
        reader.unread(),
        ["status.listen", "queue.overflow", "shutdown.grace"],
        "these are read in Config::read"
    );
}

#[test]
fn the_edge_profile_changes_defaults_and_yields_to_the_operator() {
    let edge = read(&[("WEIR_AGENT_PROFILE", "edge")]).unwrap();
    assert_eq!(edge.loss_bound(), Duration::from_secs(20));
    assert_eq!(edge.effective.get("batch.max_age").unwrap().value, "10s");
    let mixed = read(&[
        ("WEIR_AGENT_PROFILE", "edge"),
        ("WEIR_AGENT_BATCH_MAX_AGE", "1s"),
    ])
    .unwrap();
    assert_eq!(mixed.loss_bound(), Duration::from_secs(11));
    assert_eq!(mixed.effective.get("batch.max_age").unwrap().value, "1s");
}

/// Red when the longest bound leaves out the commits, or lengthens them for the wire.
#[test]
fn a_budget_lengthens_what_can_be_lost_to_its_ceiling() {
    let longest = |pairs: &[(&str, &str)]| {
        let config = read(pairs).unwrap();
        assert_eq!(config.loss_bound(), Duration::from_secs(3));
        config.longest_loss_bound()
    };
    let flash = ("WEIR_AGENT_BUDGET_FLASH_BYTES_PER_DAY", "50MB");
    let wire = ("WEIR_AGENT_BUDGET_WIRE_BYTES_PER_DAY", "50MB");
    let ceiling = ("WEIR_AGENT_BUDGET_MAX_INTERVAL", "20s");
    assert_eq!(longest(&[ceiling]), Duration::from_secs(3));
    assert_eq!(longest(&[flash]), Duration::from_secs(120));
    assert_eq!(longest(&[flash, ceiling]), Duration::from_secs(40));
    assert_eq!(longest(&[wire, ceiling]), Duration::from_secs(21));
}

#[test]
fn all_faults_come_in_one_report() {
    let faults = read(&[
        ("WEIR_AGENT_SINK_URL", "https://sink:4317/path"),
        ("WEIR_AGENT_SAMPLE_INTERVAL", "fast"),
        ("WEIR_AGENT_SENSORS", "host,hosts"),
        ("WEIR_AGENT_BATCH_MAX_READINGS", "0"),
        ("WEIR_AGENT_RETRY_MIN_DELAY", "20s"),
        ("WEIR_AGENT_NAEM", "x"),
        ("WEIR_AGENT_DATA_DIR", "\"quoted\""),
    ])
    .unwrap_err();
    for name in [
        "WEIR_AGENT_SINK_URL: has a path, and a sink has none",
        "WEIR_AGENT_SINK_URL: has a path",
        "WEIR_AGENT_SAMPLE_INTERVAL:",
        "WEIR_AGENT_SENSORS: hosts is not a sensor",
        "WEIR_AGENT_BATCH_MAX_READINGS:",
        "WEIR_AGENT_RETRY_MIN_DELAY: is longer than retry.max_delay",
        "WEIR_AGENT_NAEM: is not a setting of weir-agent: did you mean WEIR_AGENT_NAME?",
        "WEIR_AGENT_DATA_DIR: is wrapped in",
    ] {
        assert!(faults.contains(name), "{name} is missing in:\n{faults}");
    }
}

/// Mutation: a URL beyond this machine that is taken without the word.
#[test]
fn plaintext_beyond_this_machine_needs_a_word_and_tls_files_need_tls() {
    let url = "WEIR_AGENT_SINK_URL";
    let refused = read(&[(url, "http://sink:4317")]).unwrap_err();
    assert!(
        refused.contains("WEIR_AGENT_ALLOW_PLAINTEXT=true"),
        "{refused}"
    );
    for fine in [
        &[
            (url, "http://sink:4317"),
            ("WEIR_AGENT_ALLOW_PLAINTEXT", "true"),
        ][..],
        &[(url, "http://[::1]:4317")],
        &[(url, "http://localhost:4317")],
        &[(url, "https://sink:4317"), ("WEIR_AGENT_TLS_CA", "ca.crt")],
    ] {
        assert!(read(fine).is_ok(), "{fine:?}");
    }
    for key in ["CERT", "KEY"] {
        let key = format!("WEIR_AGENT_TLS_{key}");
        let half = read(&[(url, "https://sink:4317"), (&key, "file")]).unwrap_err();
        assert!(half.contains(&key) && half.contains("set tls."), "{half}");
    }
    let useless = read(&[("WEIR_AGENT_TLS_CA", "ca.crt")]).unwrap_err();
    assert!(useless.contains("of no use with http://"), "{useless}");
}

#[test]
fn a_sink_url_of_another_scheme_is_refused_by_name() {
    let faults = read(&[("WEIR_AGENT_SINK_URL", "nats://sink:4222")]).unwrap_err();
    assert!(
        faults.contains("nats is not a way to reach a sink"),
        "{faults}"
    );
}

#[test]
fn tables_of_the_file_describe_several_sensors() {
    let file = r#"
        [[sensor]]
        type = "host"
        interval = "5s"

        [[sensor]]
        name = "boiler"
        type = "simulated"
        metrics = 3
        mode = "mixed"
    "#;
    let config = read_with(
        &[
            ("WEIR_AGENT_NAME", "edge-1"),
            ("WEIR_AGENT_SIMULATED_SEED", "9"),
        ],
        Some(file),
    )
    .unwrap();
    let [host, boiler] = config.sensors.as_slice() else {
        panic!("two sensors")
    };
    assert_eq!(
        (host.name.as_str(), host.device.as_str()),
        ("host", "edge-1")
    );
    assert_eq!(host.interval, Duration::from_secs(5));
    assert_eq!(
        (boiler.name.as_str(), boiler.device.as_str()),
        ("boiler", "boiler")
    );
    let Kind::Simulated(settings) = &boiler.kind else {
        panic!("simulated")
    };
    assert_eq!(
        (settings.metrics, settings.mode, settings.seed),
        (3, Mode::Mixed, 9)
    );
}

#[test]
fn faults_of_a_sensor_table_name_the_entry() {
    let file = r#"
        [[sensor]]
        type = "hots"
        [[sensor]]
        type = "simulated"
        interval = "soon"
        metric = 3
        [[sensor]]
        type = "simulated"
        metrics = 0
    "#;
    let faults = read_with(&[], Some(file)).unwrap_err();
    for text in [
        "agent.toml: sensor[0].type: hots is not a sensor",
        "agent.toml: sensor[1].interval: cannot read \"soon\"",
        "agent.toml: sensor[1].metric: is not an entry of a sensor",
        "agent.toml: sensor[2].metrics: is out of range",
        "agent.toml: sensor[2]: there are two sensors named simulated",
    ] {
        assert!(faults.contains(text), "{text} is missing in:\n{faults}");
    }
}

#[test]
fn the_example_file_lists_every_variable() {
    let example = include_str!("../../../.env.example");
    let table = TABLE.env_example();
    assert!(
        example.contains(&table),
        "write the agent's part of .env.example anew:\n{table}"
    );
}

/// Fails when any one of the checks in `config/check.rs` is left out.
#[test]
fn settings_that_contradict_each_other_are_refused_under_the_key_to_change() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[
                ("WEIR_AGENT_SPOOL_MAX_BYTES", "1MiB"),
                ("WEIR_AGENT_SPOOL_SEGMENT_BYTES", "2MiB"),
            ],
            "WEIR_AGENT_SPOOL_SEGMENT_BYTES",
        ),
        (
            &[
                ("WEIR_AGENT_SPOOL_MAX_BYTES", "1MiB"),
                ("WEIR_AGENT_BATCH_MAX_BYTES", "512KiB"),
            ],
            "WEIR_AGENT_BATCH_MAX_BYTES",
        ),
        (
            &[("WEIR_AGENT_QUEUE_MAX_BYTES", "100KiB")],
            "WEIR_AGENT_QUEUE_MAX_BYTES",
        ),
        (
            &[
                ("WEIR_AGENT_REQUEST_WINDOW_BYTES", "64KiB"),
                ("WEIR_AGENT_REQUEST_MAX_BYTES", "65KiB"),
            ],
            "WEIR_AGENT_REQUEST_MAX_BYTES",
        ),
        (
            &[("WEIR_AGENT_SINK_URL", "http://localhost:4319")],
            "WEIR_AGENT_SINK_URL",
        ),
    ];
    for (settings, name) in cases {
        let report = read(settings).unwrap_err();
        assert!(report.contains(name), "{settings:?}: {report}");
    }
    for fine in [
        &[("WEIR_AGENT_SPOOL_MAX_BYTES", "1MiB")],
        &[("WEIR_AGENT_REQUEST_WINDOW_BYTES", "64KiB")],
        &[("WEIR_AGENT_SINK_URL", "https://gateway:4319")],
    ] {
        assert!(read(fine).is_ok(), "{fine:?}");
    }
}

/// What is accepted and never moves looks like a fault of the program. Mutations: no bound, each.
#[test]
fn rates_and_waits_without_reason_are_refused_with_their_values() {
    for (key, value, remedy) in [
        (
            "RATE_REQUESTS_PER_SECOND",
            "1e-300",
            "write 0, or 0.001 to 1000000",
        ),
        (
            "RATE_REQUESTS_PER_SECOND",
            "1e300",
            "write 0, or 0.001 to 1000000",
        ),
        ("DELIVERY_BACKLOG_SHARE", "0.0000001", "write 0.5 for half"),
        (
            "BATCH_MAX_AGE",
            "99999999999999d",
            "99999999999999d is too long: write at most 365d",
        ),
        ("BATCH_MAX_AGE", "25h", "write 10ms to 1day"),
        ("BATCH_MAX_AGE", "1ms", "write 10ms to 1day"),
        ("SPOOL_COMMIT_INTERVAL", "300d", "write 0s to 1day"),
        (
            "SHUTDOWN_GRACE",
            "366d",
            "366d is too long: write at most 365d",
        ),
    ] {
        let key = format!("WEIR_AGENT_{key}");
        let faults = read(&[(&key, value)]).unwrap_err();
        assert!(faults.contains(&key), "{faults}");
        assert!(faults.contains(remedy), "{value}: {faults}");
    }
    for (key, value) in [
        ("RATE_REQUESTS_PER_SECOND", "0"),
        ("RATE_REQUESTS_PER_SECOND", "0.001"),
        ("SPOOL_COMMIT_INTERVAL", "0s"),
        ("BATCH_MAX_AGE", "24h"),
    ] {
        read(&[(&format!("WEIR_AGENT_{key}"), value)]).unwrap();
    }
}

/// Every key that the table calls secret, wherever it is set. Mutations: `Secret` with a derived `Debug`; a key whose value is kept
/// as text.
#[test]
fn no_debug_output_shows_a_secret_of_the_table() {
    const MARKER: &str = "weir_hunter2marker";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, MARKER).unwrap();
    let secrets: Vec<_> = TABLE.keys().filter(|key| key.secret).collect();
    assert!(secrets.len() >= 2, "{secrets:?}");
    for key in secrets {
        let variable = TABLE.variable(key);
        let twin = format!("{variable}_FILE");
        let url = ("WEIR_AGENT_SINK_URL", "https://localhost:4317");
        let in_file = format!("{} = \"{MARKER}\"", key.name);
        for (name, value, text) in [
            (variable.as_str(), MARKER, ""),
            (twin.as_str(), path.to_str().unwrap(), ""),
            ("WEIR_AGENT_NAME", "press-7", in_file.as_str()),
        ] {
            let sources = Sources {
                environment: [url, (name, value)].into_iter().collect(),
                file: Some((PathBuf::from("agent.toml"), text.into())),
                ..Sources::default()
            };
            let reader = Reader::new(&TABLE, &sources);
            let before = format!("{sources:?} {sources:#?} {reader:?} {reader:#?}");
            let config = Config::read(reader, &sources.environment).unwrap();
            let shown = format!("{before} {config:?} {config:#?}");
            assert!(!shown.contains(MARKER), "{}: {shown}", key.name);
            let effective = config.effective.get(key.name).unwrap();
            assert_eq!(effective.value, "***");
        }
    }
}
