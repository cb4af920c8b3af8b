//! Any text in any source: values or faults, never a panic, and a secret is never shown.
//!
//! Seen red with: `values::bytes` multiplying unchecked (a size beyond 2^64 panics).

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Reader, faults, file_reader, reader};

#[path = "../../../../proto/tests/support/cases.rs"]
mod cases;

/// Asks for everything, as a program does.
fn read_all(mut reader: Reader) -> String {
    reader.optional_url("sink_url");
    reader.text("token");
    reader.count_within("pin", 0..=9);
    reader.duration("sample.interval");
    reader.count("batch.max_readings");
    reader.bytes_within("batch.max_bytes", 1..=1 << 30);
    reader.rate("send.rate");
    reader.bool("send.on");
    reader.choice("spool.overflow");
    reader.optional_address("status.listen");
    reader.path("data_dir");
    let _shown = format!("{:?}", reader.effective());
    faults(reader)
}

const NAMES: [&str; 11] = [
    "SINK_URL",
    "TOKEN",
    "PIN",
    "SAMPLE_INTERVAL",
    "BATCH_MAX_READINGS",
    "BATCH_MAX_BYTES",
    "SEND_RATE",
    "SEND_ON",
    "SPOOL_OVERFLOW",
    "STATUS_LISTEN",
    "DATA_DIR",
];

/// Text that is nearly a value, and text that is anything.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[0-9]{0,25}(\\.[0-9]{0,20})? ?(ms|s|m|h|days|y|KiB|TiB|MB|e9|_|-)?",
        2 => "(http|file|://|@|:|/|\\[|\\]|%|[a-z0-9.]){0,12}",
        1 => "[+-]?(inf|nan|[0-9]{1,400})",
        1 => any::<String>(),
    ]
}

/// Lines that are nearly a settings file.
fn toml() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("sink_url"),
        Just("batch"),
        Just("batch.max_bytes"),
        Just("sensor"),
        Just("send"),
        Just("on"),
        Just("[batch]"),
        Just("[[sensor]]"),
        Just("\"\\u0000\""),
        Just("ünïcode"),
    ];
    let right = prop_oneof![
        value().prop_map(|value| format!("{value:?}")),
        value(),
        Just("{ max_bytes = 1 }".to_owned()),
        Just("[[[[[[[[1]]]]]]]]".to_owned()),
        Just("1979-05-27".to_owned()),
    ];
    let line = (name, prop_oneof![Just(" = "), Just(""), Just("\n")], right)
        .prop_map(|(name, between, right)| format!("{name}{between}{right}\n"));
    prop_oneof![4 => vec(line, 0..6).prop_map(|lines| lines.concat()), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(cases::cases(500))]

    #[test]
    fn any_values_give_values_or_faults(value in value()) {
        let pairs: Vec<(String, String)> = NAMES
            .iter()
            .map(|name| (format!("WEIR_TEST_{name}"), value.clone()))
            .collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let said = read_all(reader(&[], &pairs));
        for line in said.lines() {
            prop_assert!(line.contains("WEIR_TEST_"), "a fault names its variable: {said}");
        }
    }

    #[test]
    fn any_settings_file_gives_values_or_faults(text in toml()) {
        let said = read_all(file_reader(&text, &[]));
        prop_assert!(said.len() < 20_000 + 4 * text.len(), "{} bytes of faults", said.len());
    }

    #[test]
    fn a_secret_is_in_no_fault(secret in "[a-z]{24}") {
        let said = read_all(reader(&[], &[("WEIR_TEST_PIN", &secret), ("WEIR_TEST_TOKEN", &secret)]));
        prop_assert!(!said.is_empty() && !said.contains(&secret), "{said}");
    }
}

#[test]
fn a_file_nested_a_thousand_deep_is_a_fault() {
    let deep = format!("a = {}1{}", "[".repeat(20_000), "]".repeat(20_000));
    assert_ne!(read_all(file_reader(&deep, &[])), "");
    let tables = format!("[{}a]\nx = 1\n", "a.".repeat(5_000));
    assert_ne!(read_all(file_reader(&tables, &[])), "");
}
