//! Drops that are decided are shown at once, and are the drops the sink confirms in the end.

use super::*;

fn tight(dir: &Path) -> SpoolConfig {
    SpoolConfig {
        max_bytes: 64 << 10,
        segment_bytes: 8 << 10,
        overflow: Overflow::DropOldest,
        ..config(dir)
    }
}

fn dropping(spool: &Spool) -> Vec<(String, u64)> {
    spool.ledger().totals.dropping.into_iter().collect()
}

/// Flips a bit in the third record of the second oldest segment.
fn damage(dir: &Path) {
    let stream = std::fs::read_dir(dir.join("spool")).unwrap();
    let mut streams: Vec<_> = stream.map(|entry| entry.unwrap().path()).collect();
    streams.retain(|path| path.is_dir());
    let files = std::fs::read_dir(&streams[0]).unwrap();
    let mut segments: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|end| end == "seg"));
    segments.sort();
    let mut bytes = std::fs::read(&segments[1]).unwrap();
    let sync = [0xF7, b'W', b'E', b'R'];
    let frames: Vec<usize> = (0..bytes.len() - 4)
        .filter(|at| bytes[*at..*at + 4] == sync)
        .collect();
    bytes[frames[3] + 30] ^= 4;
    std::fs::write(&segments[1], bytes).unwrap();
}

/// Red with the state's count of what made room left out, with Skips of an earlier run not surveyed, and
/// with a Skip that is acknowledged kept.
#[tokio::test]
async fn drops_are_shown_before_the_sink_confirms_them_and_are_those_it_confirms() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(tight(dir.path())).await;
    spool.append(first_draft(100)).await.unwrap();
    for n in 2..=100 {
        spool.append(draft(n, 100)).await.unwrap();
    }
    committed(&spool).await;
    let made_room = (spool.streams()[0].oldest_sequence() - 1) * 100;
    assert!(made_room > 0);
    let oldest = ("spool_oldest".to_owned(), made_room);
    assert_eq!(dropping(&spool), std::slice::from_ref(&oldest));
    // In no stream yet, in one, and in one of an earlier run.
    spool.record_drop(v1::DropReason::QueueNewest, 7).await;
    let both = vec![("queue_newest".to_owned(), 7), oldest.clone()];
    assert_eq!(dropping(&spool), both);
    spool.flush_lost(true).unwrap();
    assert_eq!(dropping(&spool), both);
    spool.finish().await.unwrap();
    drop(spool);
    damage(dir.path());
    let spool = open(tight(dir.path())).await;
    let all = vec![("damaged".to_owned(), 100), both[0].clone(), oldest];
    assert_eq!(dropping(&spool), all);
    assert_eq!(spool.ledger().totals.dropped.len(), 0);

    let sink = Sink::start().await;
    let running = start(&spool, sender_config(sink.url()));
    until("all is confirmed", || spool.ledger().totals.spooled == 0).await;
    assert_eq!(dropping(&spool), []);
    let totals = spool.ledger().totals;
    assert_eq!(totals.dropped.into_iter().collect::<Vec<_>>(), all);
    assert_eq!(totals.acked, 10_000 - made_room - 100);
    check(&sink, &spool);
    running.stop().await;
}
