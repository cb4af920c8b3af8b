//! What an operator gets wrong: every fault in one report, named, with exit code 64.

use std::collections::BTreeSet;
use std::path::Path;

use weir_tests::programs;
use weir_tests::world::run_once;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn agent_reports_every_fault_at_once_and_ends_with_64() {
    for command in ["validate", "run"] {
        let output = run_once(
            &programs::agent(),
            &[command],
            &[
                ("WEIR_AGENT_SINK_URL", "not a url"),
                ("WEIR_AGENT_SAMPLE_INTERVAL", "5 parsecs"),
                ("WEIR_AGENT_BATCH_MAX_AGE", "\"5s\""),
                ("WEIR_AGENT_SAMPEL_INTERVAL", "1s"),
                ("WEIR_AGENT_SPOOL_OVERFLOW", "explode"),
            ],
        );
        assert_eq!(output.status.code(), Some(64), "{command}");
        let report = text(&output.stderr);
        for named in [
            "WEIR_AGENT_SINK_URL",
            "WEIR_AGENT_SAMPLE_INTERVAL",
            "WEIR_AGENT_BATCH_MAX_AGE",
            "quotes",
            "WEIR_AGENT_SAMPEL_INTERVAL",
            "WEIR_AGENT_SPOOL_OVERFLOW",
            "drop_oldest",
        ] {
            assert!(
                report.contains(named),
                "{command} does not say {named}:\n{report}"
            );
        }
    }
}

/// What was built is said by both programs, in one line or in all. Mutation: a hash of something else than Cargo.lock.
#[test]
fn both_programs_say_what_they_were_built_from() {
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    let summed = std::process::Command::new("sha256sum").arg(lock).output();
    let summed = text(&summed.expect("sha256sum").stdout);
    let sum = summed.split_whitespace().next().expect("a sum");
    for program in [programs::agent(), programs::sink()] {
        let said = |argument| text(&run_once(&program, &[argument], &[]).stdout);
        let (short, long) = (said("-V"), said("--version"));
        assert_eq!(short.lines().count(), 1, "{short}");
        assert!(long.starts_with(short.trim_end()), "{long}");
        for words in [
            "target ",
            "-linux-",
            "profile ",
            "rustc 1.",
            "rustls 0.",
            "ring 0.",
            sum,
        ] {
            assert!(long.contains(words), "{words} is missing in:\n{long}");
        }
    }
    let packages = run_once(&programs::sink(), &["version", "--packages"], &[]);
    let packages = text(&packages.stdout);
    let named = std::fs::read_to_string(lock).expect("Cargo.lock");
    assert_eq!(
        packages.lines().count(),
        named.matches("[[package]]").count()
    );
    assert!(
        packages
            .lines()
            .any(|line| line.starts_with("datafusion 5"))
    );
}

/// Mutation: a duration of nothing is taken, and the catalog is missed next.
#[test]
fn a_token_that_nobody_could_use_is_refused_with_the_reason() {
    let token = ["token", "create", "--role", "reader", "--expires"];
    let enroll = ["enroll-token", "create", "--agent-pattern", "press-*"];
    for (arguments, words) in [
        (
            [&token[..], &["0s"]].concat(),
            "--expires 0s is over before",
        ),
        (
            [&enroll[..], &["--expires", "1ms"]].concat(),
            "--expires 1ms is over before",
        ),
        (
            [&enroll[..], &["--uses", "0"]].concat(),
            "0 is not in 1..=1000000",
        ),
        (
            [&enroll[..], &["--uses", "-1"]].concat(),
            "unexpected argument '-1'",
        ),
    ] {
        let refused = run_once(&programs::sink(), &arguments, &[]);
        assert_eq!(refused.status.code(), Some(64), "{refused:?}");
        let said = text(&refused.stderr);
        assert!(said.contains(words) && refused.stdout.is_empty(), "{said}");
    }
}

/// An image sets addresses to listen on, and its commands are used to ask other sinks. Mutation: what is read to ask is
/// checked as what is read to serve.
#[test]
fn who_only_asks_is_not_asked_where_it_would_listen_or_send() {
    let listen = [
        ("WEIR_SINK_GRPC_LISTEN", "0.0.0.0:4317"),
        ("WEIR_SINK_HTTP_LISTEN", "0.0.0.0:4318"),
    ];
    let sink = |arguments: &[&str]| run_once(&programs::sink(), arguments, &listen);
    let asked = sink(&["sql", "--url", "https://127.0.0.1:1", "select 1"]);
    assert_eq!(asked.status.code(), Some(69), "{asked:?}");
    assert_eq!(sink(&["config"]).status.code(), Some(0));
    for command in ["run", "validate"] {
        let refused = sink(&[command]);
        assert_eq!(refused.status.code(), Some(64), "{refused:?}");
        let report = text(&refused.stderr);
        for named in ["WEIR_SINK_GRPC_LISTEN", "WEIR_SINK_HTTP_LISTEN"] {
            assert!(report.contains(named), "{report}");
        }
    }
    let send = [
        ("WEIR_AGENT_SINK_URL", "http://sink:4317"),
        ("WEIR_AGENT_STATUS_LISTEN", "127.0.0.1:1"),
        ("WEIR_AGENT_DATA_DIR", "/nowhere/at/all"),
    ];
    let agent = |command| run_once(&programs::agent(), &[command], &send);
    for (command, code) in [
        ("status", 69),
        ("health", 1),
        ("config", 0),
        ("run", 64),
        ("validate", 64),
        ("doctor", 64),
    ] {
        let ended = agent(command);
        assert_eq!(ended.status.code(), Some(code), "{command}: {ended:?}");
    }
}

#[test]
fn sink_reports_every_fault_at_once_and_ends_with_64() {
    let output = run_once(
        &programs::sink(),
        &["run"],
        &[
            ("WEIR_SINK_GRPC_LISTEN", "localhost"),
            ("WEIR_SINK_STORE_FLUSH_INTERVAL", "soon"),
            ("WEIR_SINK_LOG_URL", "kafka://broker"),
            ("WEIR_SINK_STORE_FLUSH_ROW", "10"),
        ],
    );
    assert_eq!(output.status.code(), Some(64));
    let report = text(&output.stderr);
    for named in [
        "WEIR_SINK_GRPC_LISTEN",
        "WEIR_SINK_STORE_FLUSH_INTERVAL",
        "WEIR_SINK_LOG_URL",
        "kafka",
        "WEIR_SINK_STORE_FLUSH_ROW",
        "did you mean WEIR_SINK_STORE_FLUSH_ROWS",
    ] {
        assert!(report.contains(named), "does not say {named}:\n{report}");
    }
}

#[test]
fn unknown_keys_of_a_file_are_faults_with_a_suggestion() {
    let place = tempfile::tempdir().expect("a directory");
    let config = place.path().join("agent.toml");
    std::fs::write(&config, "[sample]\nintervall = \"1s\"\n").expect("a config file");
    let config = config.display().to_string();
    let output = run_once(
        &programs::agent(),
        &["validate"],
        &[("WEIR_AGENT_CONFIG", &config)],
    );
    assert_eq!(output.status.code(), Some(64));
    let report = text(&output.stderr);
    assert!(report.contains("sample.intervall"), "{report}");
    assert!(
        report.contains("sample.interval?") || report.contains("did you mean"),
        "{report}"
    );
}

#[test]
fn defaults_are_valid() {
    for program in [programs::agent(), programs::sink()] {
        let output = run_once(&program, &["validate"], &[]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
}

/// What can be lost is said before the first reading is taken: as configured, by the profile for flash memory, and where a
/// budget may lengthen it. Red when the profile changes only one of the two waits, or the ceiling is left out.
#[test]
fn validate_says_what_can_be_lost() {
    let edge = ("WEIR_AGENT_PROFILE", "edge");
    let flash = ("WEIR_AGENT_BUDGET_FLASH_BYTES_PER_DAY", "200MB");
    let ceiling = ("WEIR_AGENT_BUDGET_MAX_INTERVAL", "45s");
    for (settings, bound) in [
        (vec![], "at most 3s of readings"),
        (vec![edge], "at most 20s of readings"),
        (vec![flash], "at most 2m of readings"),
        (vec![edge, flash, ceiling], "at most 1m 30s of readings"),
    ] {
        let output = run_once(&programs::agent(), &["validate"], &settings);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        assert!(said.contains(bound), "{settings:?}: {said}");
    }
}

/// Variables named in a text, commented out or not.
fn variables(text: &str, prefix: &str) -> BTreeSet<String> {
    text.lines()
        .map(|line| line.trim_start_matches(['#', ' ']))
        .filter_map(|line| Some(line.split_once('=')?.0))
        .filter(|name| {
            name.starts_with(prefix)
                && name
                    .chars()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        })
        .map(str::to_owned)
        .collect()
}

/// `.env.example` names exactly what the programs read, with the defaults they have.
#[test]
fn env_example_equals_what_the_programs_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.env.example");
    let example = std::fs::read_to_string(path).expect(".env.example");
    for (program, prefix) in [
        (programs::agent(), "WEIR_AGENT_"),
        (programs::sink(), "WEIR_SINK_"),
    ] {
        let output = run_once(&program, &["config", "--env"], &[]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let printed = text(&output.stdout);
        let read = variables(&printed, prefix);
        assert!(read.len() > 8, "{printed}");
        assert_eq!(variables(&example, prefix), read);
        for line in printed.lines().filter(|line| line.contains('=')) {
            assert!(example.contains(line), "differs in .env.example: {line}");
        }
    }
}
