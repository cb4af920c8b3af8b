//! A disk that is really full: a small file system of memory, mounted where only this test sees it.
//!
//! Each test starts itself once more in namespaces of its own (`unshare`) with the file system mounted,
//! and says `skipped` on standard error where that is not permitted.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use weir_tests::faulty::{FaultySink, Plan};
use weir_tests::proxy::Proxy;
use weir_tests::wait::until;
use weir_tests::world::Agent;

use crate::stored::{LIMIT, counting};

/// Where the small disk is, in the process that has it.
const INSIDE: &str = "WEIR_TESTS_SMALL_DISK";
const MOUNT: &str = "mount -t tmpfs -o size=4m small \"$0\"";
/// Left free for the spool: a few of its segments.
const ROOM: u64 = 200 << 10;

/// The small disk; nothing in the process outside, which has run the test inside by then.
fn small_disk(test: &str) -> Option<PathBuf> {
    if let Some(disk) = std::env::var_os(INSIDE) {
        return Some(disk.into());
    }
    let place = tempfile::tempdir().unwrap();
    let unshare = |script: &str, arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command.arg(place.path()).args(arguments);
        command.env(INSIDE, place.path());
        command.output()
    };
    match unshare(MOUNT, &[]) {
        Ok(tried) if tried.status.success() => {}
        tried => {
            let text =
                format!("\n{test}: skipped: no small file system can be mounted here: {tried:?}\n");
            // Past the test harness, which keeps what a test prints.
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            return None;
        }
    }
    let me = std::env::current_exe().unwrap();
    let script = format!("{MOUNT} && exec \"$@\"");
    let arguments = [me.to_str().unwrap(), test, "--exact", "--nocapture"];
    let inside = unshare(&script, &arguments).unwrap();
    let said = String::from_utf8_lossy(&inside.stdout);
    assert!(
        inside.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&inside.stderr)
    );
    assert!(said.contains("1 passed"), "{said}");
    None
}

/// Takes the whole disk but for `ROOM`.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("filler");
    let mut file = File::create(&path).unwrap();
    let block = [1_u8; 16 << 10];
    let mut taken = 0;
    while file.write_all(&block).is_ok() {
        taken += block.len() as u64;
    }
    file.set_len(taken - ROOM).unwrap();
    path
}

/// An agent fills the disk while its sink is away; `felt` sees that its policy had something to do. The log has one line
/// when that begins and one when it is over. Mutations: a line for each batch or segment, or none. With
/// room again everything is delivered. Answers the readings counted as dropped, and the values stored.
async fn run(disk: &Path, overflow: &str, felt: impl Fn(&Value, &str) -> bool) -> (u64, Vec<u64>) {
    let sink = FaultySink::start(Plan::default()).await;
    let proxy = Proxy::start().await;
    let settings = counting(&[
        ("SAMPLE_INTERVAL", "2ms"),
        ("BATCH_MAX_READINGS", "5"),
        ("SPOOL_SEGMENT_BYTES", "64KiB"),
        ("SPOOL_OVERFLOW", overflow),
    ]);
    let mut agent = Agent::start(disk, "small", &proxy.url(), &settings).await;
    let filler = fill(disk);
    until("a full disk that was felt", LIMIT, || async {
        felt(&agent.try_status().await?, &agent.log()).then_some(())
    })
    .await;
    assert_eq!(agent.status().await["spool"]["full"], "disk");
    fs::remove_file(filler).unwrap();
    proxy.to(sink.address);
    let status = until("everything delivered, and a ready agent", LIMIT, || async {
        let status = agent.try_status().await?;
        let ledger = &status["ledger"];
        // What is counted in memory until there is room is `dropping`, too.
        let confirmed = ledger["dropping"].as_object()?.is_empty();
        let delivered = ledger["spooled"].as_u64()? < 100 && ledger["acked"].as_u64()? > 0;
        (confirmed && delivered && status["ready"] == true).then_some(status)
    })
    .await;
    assert_eq!(status["ledger"]["unexplained"], 0, "{status}");
    let dropped = status["ledger"]["dropped_total"].as_u64().unwrap();
    until("it is said that there is room again", LIMIT, || async {
        let status = agent.try_status().await?;
        let said = agent.log().contains("the spool has room again");
        (said && status["spool"]["full"].is_null()).then_some(())
    })
    .await;
    assert_eq!(agent.log().matches("the disk is full: ").count(), 1);
    assert!(agent.terminate().await.success(), "{}", agent.log());
    let stored = sink.seen().readings();
    let mut values: Vec<u64> = stored.iter().map(|(_, value)| *value as u64).collect();
    values.sort_unstable();
    (dropped, values)
}

/// Every value up to the last is stored once, or counted as dropped.
fn check(dropped: u64, values: &[u64]) {
    let mut once = values.to_vec();
    once.dedup();
    assert_eq!(once.len(), values.len(), "nothing is stored twice");
    let last = *values.last().unwrap();
    assert_eq!(last - values.len() as u64, dropped, "missing, and counted");
}

fn is_full(status: &Value) -> bool {
    let spool = status["failing"]["spool"].as_str().unwrap_or_default();
    spool.starts_with("disk is full")
}

/// Red with batches left in memory until the writer's queue is full: nothing is dropped in time.
#[tokio::test]
async fn drop_newest_on_a_full_disk_counts_what_it_gave_up_and_goes_on() {
    let name = "disk::drop_newest_on_a_full_disk_counts_what_it_gave_up_and_goes_on";
    let Some(disk) = small_disk(name) else { return };
    // Read, and neither durable nor on its way there.
    let felt = |status: &Value, _: &str| {
        let reads = status["sensors"][0]["reads"].as_u64();
        let produced = status["ledger"]["produced"].as_u64();
        is_full(status) && reads > produced.map(|produced| produced + 300)
    };
    let (dropped, values) = run(&disk, "drop_newest", felt).await;
    assert!(dropped > 200, "{dropped}");
    check(dropped, &values);
}

#[tokio::test]
async fn drop_oldest_on_a_full_disk_counts_what_it_gave_up_and_goes_on() {
    let name = "disk::drop_oldest_on_a_full_disk_counts_what_it_gave_up_and_goes_on";
    let Some(disk) = small_disk(name) else { return };
    let felt =
        |status: &Value, _: &str| status["ledger"]["dropping"]["spool_oldest"].as_u64() > Some(0);
    let (dropped, values) = run(&disk, "drop_oldest", felt).await;
    assert!(dropped > 0);
    check(dropped, &values);
}

/// The sampler waits, so that what it counts has no gap.
#[tokio::test]
async fn block_on_a_full_disk_loses_nothing_it_read() {
    let name = "disk::block_on_a_full_disk_loses_nothing_it_read";
    let Some(disk) = small_disk(name) else { return };
    let felt = |status: &Value, _: &str| {
        is_full(status) && status["queue"]["readings"].as_u64() > Some(100)
    };
    let (dropped, values) = run(&disk, "block", felt).await;
    assert_eq!(dropped, 0);
    check(0, &values);
}
