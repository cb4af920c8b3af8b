//! Settings from the operator's side: one table for all tests, and what follows from the table alone.

use std::path::PathBuf;

use clap::{ArgMatches, Command};

use super::*;
use crate::env::Environment;

mod hostile;
mod sources;
mod values;

static TABLE: Table = Table {
    prefix: "WEIR_TEST",
    groups: &[
        Group {
            title: "Sink",
            keys: &[
                Key::new("sink_url", Kind::Url, "", "where batches are sent"),
                Key::new("token", Kind::Text, "", "what proves who this is").secret(),
                Key::new("pin", Kind::Count, "0", "a secret number").secret(),
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
        file: Some((PathBuf::from("test.toml"), text.into())),
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
fn help_shows_the_variable_and_the_default_of_every_key() {
    let mut command = Command::new("weir-test").args(TABLE.args());
    let help = command.render_long_help().to_string();
    for key in TABLE.keys() {
        assert!(help.contains(&format!("--{}", key.flag())), "{help}");
        assert!(help.contains(&TABLE.variable(key)), "{help}");
    }
    assert!(help.contains("[default: 256KiB]"), "{help}");
}
#[test]
fn keys_without_a_reader_are_found_out() {
    let mut reader = reader(&[], &[]);
    reader.rate("send.rate");
    assert!(!reader.unread().contains(&"send.rate"));
    assert_eq!(reader.unread().len(), TABLE.keys().count() - 1);
    assert!(!reader.is_set("send.rate"));
}
