//! The sink is killed; a sender of our own has the record of what must be stored.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use weir_tests::counting::{audited, folded, readings};
use weir_tests::proxy::Proxy;
use weir_tests::world::{Faults, Sink};

use crate::cases::Case;
use crate::feeder::{Feeder, Record};

/// Small flushes, small segments, merges as soon as there are two files.
pub(crate) const SETTINGS: &[(&str, &str)] = &[
    ("STORE_FLUSH_ROWS", "200"),
    ("STORE_FLUSH_INTERVAL", "100ms"),
    ("JOURNAL_SEGMENT_BYTES", "1MiB"),
    ("COMPACTION_INTERVAL", "1s"),
    ("COMPACTION_MIN_FILES", "2"),
    ("QUERY_MAX_ROWS", "1000000"),
];

/// Batches acknowledged before the first kill.
const BEFORE: u64 = 5;

const AGENT: &str = "feeder";

/// Runs one case; what is wrong, if anything is.
pub(crate) async fn run(case: &Case) -> Result<(), String> {
    run_with(case, Faults::none).await
}

async fn run_with(case: &Case, always: impl Fn() -> Faults) -> Result<(), String> {
    let place = tempfile::tempdir().expect("a directory");
    let proxy = Proxy::start().await;
    let mut sink = Sink::start(place.path(), SETTINGS).await;
    sink.roam();
    proxy.to(sink.grpc);
    let mut feeder = Feeder::start(proxy.address, AGENT, case.fills_segments());
    feeder.acked(BEFORE).await;
    sink.kill();
    for passing in &case.passings {
        proxy.close();
        sink.faults = Faults::kill(case.point, *passing).and(always());
        let exited = match sink.launch().await {
            Some(exited) => exited,
            None => {
                if case.ack_lost {
                    proxy.lose_acks(1);
                }
                proxy.to(sink.grpc);
                sink.ended(&format!("the sink to pass {case} for the {passing}. time"))
                    .await
            }
        };
        killed(exited, case)?;
    }
    proxy.close();
    sink.faults = always();
    sink.restart().await;
    proxy.to(sink.grpc);
    let record = feeder.finish().await;
    check(&sink, &record).await?;
    audited(&sink)?;
    if !sink.terminate().await.success() {
        return Err("the sink did not stop well".to_owned());
    }
    Ok(())
}

/// A case that is not reached proves nothing.
pub(crate) fn killed(exited: ExitStatus, case: &Case) -> Result<(), String> {
    if exited.signal() == Some(9) {
        return Ok(());
    }
    Err(format!("ended with {exited} and not by the kill at {case}"))
}

async fn check(sink: &Sink, record: &Record) -> Result<(), String> {
    if !record.breaches.is_empty() {
        return Err(record.breaches.join("; "));
    }
    folded(sink, AGENT).await;
    let stored = readings(sink, AGENT).await;
    differences(&record.readings, &stored)?;
    let sums = sink.closed_ledger(AGENT).await;
    let count = record.readings.len() as u64;
    if (sums.produced, sums.stored, sums.dropped) != (count, count, 0) {
        return Err(format!(
            "{count} readings were sent, the ledger says {sums:?}"
        ));
    }
    Ok(())
}

/// What is missing, doubled or invented; both in the order of time.
pub(crate) fn differences(expected: &[(i64, u64)], stored: &[(i64, u64)]) -> Result<(), String> {
    if expected == stored {
        return Ok(());
    }
    let values = |of: &[(i64, u64)]| of.iter().map(|(_, value)| *value).collect::<Vec<_>>();
    let (wanted, found) = (values(expected), values(stored));
    let missing: Vec<_> = wanted.iter().filter(|one| !found.contains(one)).collect();
    let invented: Vec<_> = found.iter().filter(|one| !wanted.contains(one)).collect();
    let doubled = found.windows(2).filter(|pair| pair[0] == pair[1]);
    let doubled: Vec<u64> = doubled.map(|pair| pair[0]).collect();
    Err(format!(
        "{} readings were sent and {} are stored: missing {missing:?}, stored twice {doubled:?}, never sent {invented:?}",
        wanted.len(),
        found.len()
    ))
}
