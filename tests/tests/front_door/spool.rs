//! `weir-agent spool`: what an operator sees of a spool, beside a running agent and without one.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use weir_tests::faulty::{FaultySink, Plan};
use weir_tests::programs;
use weir_tests::world::{Agent, run_once};

use crate::stored::{counting, own, wait_own};

/// Nobody listens on port 1.
const NOWHERE: &str = "http://127.0.0.1:1";

fn spool(data: &Path, arguments: &[&str]) -> Output {
    let data = data.to_str().expect("a path in UTF-8");
    let all = [&["spool"], arguments, &["--data-dir", data]].concat();
    run_once(&programs::agent(), &all, &[])
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The values that were counted, in the order in which they were exported.
fn values(csv: &str) -> Vec<u64> {
    let mut lines = csv.lines();
    let headings: Vec<&str> = lines.next().expect("headings").split(',').collect();
    let value = headings.iter().position(|name| *name == "value");
    let value = value.expect("a column of values");
    lines
        .map(|line| line.split(',').nth(value).unwrap().parse().unwrap())
        .collect()
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for stream in fs::read_dir(data.join("spool")).unwrap() {
        let stream = stream.unwrap().path();
        if stream.is_dir() {
            let files = fs::read_dir(stream).unwrap();
            found.extend(files.map(|file| file.unwrap().path()));
        }
    }
    found.retain(|path: &PathBuf| path.extension().is_some_and(|end| end == "seg"));
    found.sort();
    found
}

/// The agent counts from 1, so the export is complete when it counts from 1 as well.
#[tokio::test]
async fn a_spool_is_listed_verified_and_exported_beside_its_agent_and_without_it() {
    let place = tempfile::tempdir().expect("a directory");
    let settings = counting(&[("SAMPLE_INTERVAL", "10ms"), ("BATCH_MAX_READINGS", "10")]);
    let mut agent = Agent::start(place.path(), "looked-at", NOWHERE, &settings).await;
    wait_own(&agent, "produced", 100).await;

    let produced = own(&agent, "produced").await;
    let listed = json(&spool(&agent.data(), &["ls", "--json"]));
    assert_eq!(listed["in_use"], true);
    assert_eq!(listed["streams"][0]["state"], "live");
    assert!(listed["streams"][0]["unacked_readings"].as_u64().unwrap() >= produced);
    let verified = spool(&agent.data(), &["verify"]);
    assert!(verified.status.success(), "{verified:?}");

    assert!(agent.terminate().await.success());
    let listed = json(&spool(&agent.data(), &["ls", "--json"]));
    assert_eq!(listed["in_use"], false);
    assert_eq!(listed["streams"][0]["state"], "ended");
    let readings = listed["streams"][0]["readings"].as_u64().unwrap();
    assert!(readings >= produced);

    let exported = spool(&agent.data(), &["export"]);
    assert!(exported.status.success(), "{exported:?}");
    let all: Vec<u64> = (1..=readings).collect();
    assert_eq!(values(&text(&exported.stdout)), all);

    let file = place.path().join("readings.jsonl");
    let file_name = file.to_str().unwrap();
    let some = [
        "export",
        "--format",
        "json",
        "--from",
        "2",
        "--through",
        "3",
    ];
    let some = [&some[..], &["--output", file_name]].concat();
    assert!(spool(&agent.data(), &some).status.success());
    let lines = fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let found: Vec<u64> = lines
        .iter()
        .map(|line| line["value"].as_f64().unwrap() as u64)
        .collect();
    assert_eq!(found, (11..=30).collect::<Vec<u64>>());
    assert!(lines.iter().all(|line| line["metric"] == "simulated.count"));
}

/// Seen red with the checksum of a frame not compared, and with exit 0 in any case.
#[tokio::test]
async fn verify_names_the_damaged_sequence_and_its_readings() {
    let place = tempfile::tempdir().expect("a directory");
    let settings = counting(&[("SAMPLE_INTERVAL", "10ms"), ("BATCH_MAX_READINGS", "10")]);
    let mut agent = Agent::start(place.path(), "damaged", NOWHERE, &settings).await;
    wait_own(&agent, "produced", 100).await;
    assert!(agent.terminate().await.success());
    let data = agent.data();

    let segment = segments(&data).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    let frames: Vec<usize> = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, word)| *word == [0xF7, b'W', b'E', b'R'])
        .map(|(at, _)| at)
        .collect();
    // A preamble, then the frames of sequences 1, 2, 3 and so on.
    bytes[frames[4] + 30] ^= 4;
    fs::write(&segment, bytes).unwrap();

    let verified = spool(&data, &["verify"]);
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    let said = text(&verified.stdout);
    assert!(
        said.contains("sequences 4 to 4 are missing: 10 readings"),
        "{said}"
    );
    let listed = json(&spool(&data, &["ls", "--json"]));
    let hole = &listed["streams"][0]["holes"][0];
    assert_eq!(
        (hole["from"].as_u64(), hole["through"].as_u64()),
        (Some(4), Some(4))
    );
    assert_eq!(
        (hole["readings"].as_u64(), hole["reason"].as_str()),
        (Some(10), Some("damaged"))
    );
    let exported = spool(&data, &["export"]);
    assert_eq!(exported.status.code(), Some(1), "{exported:?}");
    let found = values(&text(&exported.stdout));
    let gap: Vec<u64> = (1..=30).chain(41..=100).collect();
    assert_eq!(found[..gap.len()], gap[..]);
}

/// The agent counts from 1: with what was refused put back, nothing is missing and nothing is there twice.
/// Seen red with a letter left where it is (a second replay finds it again).
#[tokio::test]
async fn dead_letters_are_put_back_beside_a_running_agent() {
    let place = tempfile::tempdir().expect("a directory");
    let refusing = Plan {
        refuse: Some(3),
        ..Plan::default()
    };
    let sink = FaultySink::start(refusing).await;
    let url = format!("http://{}", sink.address);
    let settings = counting(&[("SAMPLE_INTERVAL", "10ms"), ("BATCH_MAX_READINGS", "10")]);
    let mut agent = Agent::start(place.path(), "refused", &url, &settings).await;
    wait_own(&agent, "acked", 50).await;
    assert_eq!(agent.status().await["ledger"]["dropped"]["refused"], 10);
    sink.plan(Plan::default());

    let data = agent.data();
    let none = spool(&data, &["replay"]);
    assert_eq!(none.status.code(), Some(64), "{none:?}");
    let unknown = spool(&data, &["replay", "nobody-1"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    assert!(text(&unknown.stderr).contains("there is no letter nobody-1"));
    let letter = json(&spool(&data, &["ls", "--json"]))["dead_letters"][0].clone();
    let stream = letter["stream_id"].as_str().unwrap();
    let name = format!("{stream}-{}", letter["sequence"]);
    let put_back = spool(&data, &["replay", &name]);
    assert!(put_back.status.success(), "{put_back:?}");
    assert!(text(&put_back.stdout).contains("1 of the dead letters, 10 readings"));
    let again = spool(&data, &["replay", "--all"]);
    assert!(again.status.success(), "{again:?}");
    assert!(text(&again.stdout).contains("0 of the dead letters, 0 readings"));

    assert!(agent.terminate().await.success());
    let stored = sink.seen().readings();
    let mut values: Vec<u64> = stored.iter().map(|(_, value)| *value as u64).collect();
    values.sort_unstable();
    assert_eq!(values, (1..=values.len() as u64).collect::<Vec<u64>>());
    assert!(values.len() >= 60);
}

#[test]
fn a_wrong_directory_and_an_unknown_stream_are_told() {
    let place = tempfile::tempdir().expect("a directory");
    let wrong = spool(place.path(), &["ls"]);
    assert_eq!(wrong.status.code(), Some(64));
    assert!(text(&wrong.stderr).contains("--data-dir"), "{wrong:?}");
    fs::create_dir(place.path().join("spool")).unwrap();
    let unknown = spool(place.path(), &["export", "--stream", "abc"]);
    assert_eq!(unknown.status.code(), Some(64));
    assert!(
        text(&unknown.stderr).contains("no stream begins with abc"),
        "{unknown:?}"
    );
    let empty = spool(place.path(), &["verify"]);
    assert!(empty.status.success(), "{empty:?}");
}
