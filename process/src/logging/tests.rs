//! Which lines are written, and how they look.

use std::process::Command;

use super::*;
use crate::config::{Group, Sources, Table};

static TABLE: Table = Table {
    prefix: "WEIR_TEST",
    groups: &[Group {
        title: "Logging",
        keys: &KEYS,
    }],
    sections: &[],
};

fn read(pairs: &[(&str, &str)]) -> (Logging, String) {
    let sources = Sources {
        environment: pairs.iter().copied().collect(),
        ..Sources::default()
    };
    let mut reader = Reader::new(&TABLE, &sources);
    let logging = Logging::read(&mut reader, &sources.environment);
    let faults = reader.finish().err().map(|faults| faults.to_string());
    (logging, faults.unwrap_or_default())
}

#[test]
fn the_table_of_keys_has_no_mistakes() {
    assert_eq!(TABLE.mistakes(), Vec::<String>::new());
}

#[test]
fn defaults_to_text_at_info_with_colour() {
    let (logging, faults) = read(&[]);
    assert_eq!(faults, "");
    assert_eq!(logging.format, Format::Text);
    assert_eq!(logging.filter, "info");
    assert!(logging.color);
}

#[test]
fn rust_log_wins_and_no_color_is_honoured() {
    let (logging, faults) = read(&[
        ("WEIR_TEST_LOG_LEVEL", "warn"),
        ("RUST_LOG", "debug,hyper=warn"),
        ("NO_COLOR", "1"),
        ("WEIR_TEST_LOG_FORMAT", "json"),
    ]);
    assert_eq!(faults, "");
    assert_eq!(logging.filter, "debug,hyper=warn");
    assert!(!logging.color);
    assert_eq!(logging.format, Format::Json);
}

#[test]
fn a_misspelt_level_is_a_fault_and_not_a_part_name() {
    let (_, faults) = read(&[("WEIR_TEST_LOG_LEVEL", "inof")]);
    assert!(
        faults.starts_with("WEIR_TEST_LOG_LEVEL: cannot read \"inof\" as a log level"),
        "{faults}"
    );
    let (_, faults) = read(&[("RUST_LOG", "loud")]);
    assert!(faults.starts_with("RUST_LOG: cannot read"), "{faults}");
}

#[test]
fn a_throttle_passes_one_line_per_interval_and_counts_the_rest() {
    let throttle = Throttle::new(Duration::from_secs(10));
    let second = 1_000_000_000;
    assert_eq!(throttle.permit(0), Some(0));
    assert_eq!(throttle.permit(second), None);
    assert_eq!(throttle.permit(9 * second), None);
    assert_eq!(throttle.permit(10 * second), Some(2));
    assert_eq!(throttle.permit(11 * second), None);
    assert_eq!(throttle.permit(20 * second), Some(1));
}

/// Not a test of its own: logging is set up once per process, so that the next test needs one of its own.
#[test]
#[ignore = "run as a child process by lines_are_whole_and_cannot_steer_a_terminal"]
fn child_that_logs() {
    let (mut logging, _) = read(&[("WEIR_TEST_LOG_LEVEL", "warn")]);
    if std::env::var_os("AS_JSON").is_some() {
        logging.format = Format::Json;
    }
    init(&logging).unwrap();
    assert!(matches!(init(&logging), Err(LoggingError::Twice)));
    tracing::info!("not this one");
    tracing::warn!(device = "\u{1b}[31mpump", readings = 5, "queue full");
}

fn logged(json: bool) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "logging::tests::child_that_logs", "--ignored"]);
    command.arg("--nocapture");
    if json {
        command.env("AS_JSON", "1");
    }
    let output = command.output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn lines_are_whole_and_cannot_steer_a_terminal() {
    let json = logged(true);
    assert_eq!(json.len(), 1, "{json:?}");
    let event: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
    assert_eq!(event["level"], "WARN");
    assert_eq!(event["message"], "queue full");
    assert_eq!(event["readings"], 5);
    assert_eq!(event["device"], "\u{1b}[31mpump");
    let text = logged(false);
    assert_eq!(text.len(), 1, "{text:?}");
    assert!(text[0].contains("queue full"), "{text:?}");
    assert!(!text[0].contains('\u{1b}'), "{text:?}");
}
