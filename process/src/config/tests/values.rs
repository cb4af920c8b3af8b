//! What is said about values, and what is shown of them.

use std::path::PathBuf;
use std::time::Duration;

use super::super::{Reader, Sources};
use super::{TABLE, faults, matches, reader};
use crate::env::Environment;

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
    // The defaults stand in, so that checks of settings against each other still mean something.
    assert_eq!(reader.duration("sample.interval"), Duration::from_secs(1));
    assert_eq!(reader.count("batch.max_readings"), 1000);
    assert_eq!(reader.bytes("batch.max_bytes"), 256 << 10);
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
fn a_fault_of_a_secret_does_not_show_it() {
    let mut reader = reader(&[], &[("WEIR_TEST_PIN", "hunter2")]);
    reader.count_within("pin", 0..=9);
    let text = faults(reader);
    assert!(text.starts_with("WEIR_TEST_PIN: cannot be read"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

/// Flags, environment and settings file.
type Way<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);

/// Wherever a secret was set, in whatever form what was read is shown. Red with a derived `Debug` of the settings file's
/// contents, and with values kept as `String`.
#[test]
fn no_debug_output_shows_a_secret() {
    const MARKER: &str = "hunter2marker";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, MARKER).unwrap();
    let path = path.to_str().unwrap();
    let toml = format!("token = \"{MARKER}\"\n[sensor]\npassword = \"{MARKER}\"");
    let ways: [Way; 6] = [
        (&["--token", MARKER], &[], ""),
        (&[], &[("WEIR_TEST_TOKEN", MARKER)], ""),
        (&[], &[("WEIR_TEST_TOKEN_FILE", path)], ""),
        (&[], &[("UNRELATED", MARKER)], ""),
        (&[], &[], &toml),
        (
            &[],
            &[("WEIR_TEST_PIN", MARKER)],
            &format!("token = {MARKER}"),
        ),
    ];
    for (args, environment, text) in ways {
        let environment: Environment = environment.iter().copied().collect();
        let mut sources = Sources::gather(&TABLE, &matches(args), &environment);
        sources.file = Some((PathBuf::from("test.toml"), text.into()));
        let mut reader = Reader::new(&TABLE, &sources);
        let token = reader.secret("token");
        reader.count("pin");
        let shown = [
            format!("{environment:?} {sources:?} {reader:?} {token:?}"),
            format!("{environment:#?} {sources:#?} {reader:#?} {token:#?}"),
            format!("{:?} {:#?}", reader.effective(), reader.effective()),
            format!("{:?}", reader.effective().table().render()),
            match reader.finish() {
                Ok(effective) => format!("{effective:?}"),
                Err(faults) => format!("{faults} {faults:?}"),
            },
        ];
        for shown in shown {
            assert!(!shown.contains(MARKER), "{shown}");
        }
    }
}
