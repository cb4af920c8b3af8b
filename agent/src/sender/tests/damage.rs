//! Damage on the agent's own disk: what cannot be read is counted exactly, and the rest flows.

use std::fs;
use std::path::PathBuf;

use super::sink::Kept;
use super::*;
use crate::spool::tests::{draft, open_on};
use weir_journal::{Memory, Storage};

/// The segments of the only stream in the spool, oldest first.
fn segments(data_dir: &Path) -> Vec<PathBuf> {
    let streams = fs::read_dir(data_dir.join("spool")).unwrap();
    let stream = streams
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir());
    let files = fs::read_dir(stream.unwrap()).unwrap();
    let mut found: Vec<PathBuf> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    found.sort();
    found
}

/// 60 batches of 10 readings in small segments, committed and left behind by an agent that ended.
async fn leave_behind(data_dir: &Path) -> [u8; 16] {
    let spool = open(tight(data_dir, Overflow::Block)).await;
    spool.append(first_draft(10)).await.unwrap();
    for n in 2..=60 {
        spool.append(draft(n, 10)).await.unwrap();
    }
    spool.finish().await.unwrap();
    spool.ledger().streams[0].stream_id
}

#[tokio::test]
async fn a_damaged_middle_becomes_a_skip_of_exactly_its_readings() {
    let dir = tempfile::tempdir().unwrap();
    let stream = leave_behind(dir.path()).await;
    let segments = segments(dir.path());
    assert!(segments.len() >= 3, "{segments:?}");
    let mut bytes = fs::read(&segments[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&segments[1], bytes).unwrap();

    let sink = Sink::start().await;
    let spool = open(tight(dir.path(), Overflow::Block)).await;
    let running = start(&spool, sender_config(sink.url()));
    until("the stream is delivered", || sink.kept(stream).closed).await;
    let kept = sink.kept(stream);
    let lost = kept.dropped(v1::DropReason::Damaged);
    assert!((10..300).contains(&lost), "{lost}");
    assert_eq!(kept.stored_readings() + lost, 600);
    assert_eq!(lost, 10 * (60 - kept.stored.len() as u64));
    until("the stream is forgotten", || {
        spool.ledger().streams.len() == 1
    })
    .await;
    assert_eq!(spool.ledger().totals.dropped["damaged"], lost);
    check(&sink, &spool);
    running.stop().await;
}

/// A page of the spool the disk refuses: five tries, then exactly its readings are lost and the rest
/// arrives. Seen red with the journal told to keep asking (`give_up_unreadable: false`).
#[tokio::test]
async fn a_disk_that_refuses_to_read_does_not_hold_up_the_rest() {
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let config = tight(Path::new("/data"), Overflow::Block);
    let spool = open_on(Arc::clone(&storage), config.clone()).await;
    spool.append(first_draft(10)).await.unwrap();
    for n in 2..=60 {
        spool.append(draft(n, 10)).await.unwrap();
    }
    spool.finish().await.unwrap();
    let stream = spool.ledger().streams[0].stream_id;
    drop(spool);
    let spool = open_on(storage, config).await;
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "seg");
    let mut segments: Vec<PathBuf> = memory.paths().into_iter().filter(is_segment).collect();
    segments.sort();
    memory.set_unreadable(&segments[0], 2000..2001);
    let sink = Sink::start().await;
    let running = start(&spool, sender_config(sink.url()));
    until("the stream is delivered", || sink.kept(stream).closed).await;
    let kept = sink.kept(stream);
    let lost = kept.dropped(v1::DropReason::Damaged);
    let second = segments[1].file_stem().unwrap().to_str().unwrap();
    let in_first = second.parse::<u64>().unwrap() - 1;
    assert_eq!(lost, 10 * in_first, "the segment is one page");
    assert_eq!(kept.stored_readings() + lost, 600);
    check(&sink, &spool);
    running.stop().await;
}

/// The last batch before a crash had reached the sink, and cannot be read since: only the sink knows how many readings it
/// had. Red when that is taken for a lie, and nothing is delivered any more.
#[tokio::test]
async fn a_damaged_end_is_counted_by_the_sink_that_has_it() {
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let config = tight(Path::new("/data"), Overflow::Block);
    let spool = open_on(Arc::clone(&storage), config.clone()).await;
    fill(&spool, 60).await;
    let stream = spool.ledger().streams[0].stream_id;
    memory.crash();
    drop(spool);
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "seg");
    let mut segments: Vec<PathBuf> = memory.paths().into_iter().filter(is_segment).collect();
    segments.sort();
    let [.., before, last] = &segments[..] else {
        panic!("{segments:?}")
    };
    let mut bytes = memory.read(before).unwrap();
    let content = bytes.iter_mut().rev().find(|byte| **byte != 0);
    *content.unwrap() ^= 1;
    memory.write(before, bytes);
    memory.write(last, memory.read(last).unwrap()[..64].to_vec());
    let stem = last.file_stem().unwrap().to_str().unwrap();
    let end = stem.parse::<u64>().unwrap() - 1;

    let sink = Sink::start().await;
    let has = Kept {
        durable_through: end,
        readings_through: 10 * end,
        stored: (1..=end).map(|sequence| (sequence, 10)).collect(),
        ..Kept::default()
    };
    sink.lock().streams.insert(stream.to_vec(), has);
    let spool = open_on(storage, config).await;
    let line = |spool: &Spool| {
        let streams = spool.ledger().streams;
        let found = streams.into_iter().find(|line| line.stream_id == stream);
        found.map(|line| (line.produced, line.acked))
    };
    assert_eq!(line(&spool), Some((10 * (end - 1), 0)));
    let running = start(&spool, sender_config(sink.url()));
    until("the stream is delivered", || sink.kept(stream).closed).await;
    assert_eq!(sink.kept(stream).skips, []);
    assert_eq!(spool.ledger().totals.acked, 10 * end);
    check(&sink, &spool);
    running.stop().await;
}

#[tokio::test]
async fn a_lost_state_file_costs_nothing_that_was_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let stream = leave_behind(dir.path()).await;
    let state = segments(dir.path())[0].with_file_name("state");
    fs::write(&state, vec![0xff; 8192]).unwrap();
    let sink = Sink::start().await;
    let spool = open(tight(dir.path(), Overflow::Block)).await;
    let running = start(&spool, sender_config(sink.url()));
    until("the stream is delivered", || sink.kept(stream).closed).await;
    assert_eq!(sink.kept(stream).stored_readings(), 600);
    check(&sink, &spool);
    running.stop().await;
}

#[tokio::test]
async fn a_throttled_agent_waits_as_long_as_the_sink_asks() {
    use tonic_types::{ErrorDetails, StatusExt};
    let dir = tempfile::tempdir().unwrap();
    let (sink, spool) = (Sink::start().await, spool_in(dir.path()).await);
    let asked = Duration::from_millis(700);
    let details = ErrorDetails::with_retry_info(Some(asked));
    let code = tonic::Code::ResourceExhausted;
    let status = Status::with_error_details(code, "over the limit", details);
    sink.fault(Fault::OnBatch(status));
    fill(&spool, 3).await;
    let began = Instant::now();
    let running = start(&spool, sender_config(sink.url()));
    until_acked(&spool, 30).await;
    assert!(began.elapsed() >= asked, "{:?}", began.elapsed());
    assert!(DeadLetters::new(dir.path()).list().unwrap().is_empty());
    check(&sink, &spool);
    running.stop().await;
}

/// Somebody removes the spool under the running agent while the sink is away: what was in it is counted, what is read
/// from then on is delivered, and every stream ends. Mutation, red: a lane that does not say which stream it leaves.
#[tokio::test]
async fn a_spool_removed_under_the_running_agent_is_counted_and_delivery_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, spool) = (Sink::start().await, spool_in(dir.path()).await);
    fill(&spool, 5).await;
    std::fs::remove_dir_all(dir.path().join("spool")).unwrap();
    let health = Health::new(clock());
    let registry = Registry::new("weir_agent");
    let sender = Sender::new(sender_config(sink.url()), spool.clone(), &health, &registry).unwrap();
    let token = CancellationToken::new();
    let task = tokio::spawn(sender.run(token.clone()));
    let old = spool.live_stream_id().unwrap();
    until("it is seen", || spool.live_stream_id() != Some(old)).await;
    until("it is said", || {
        health
            .ready()
            .is_err_and(|failing| failing[0].to_string().contains("were removed"))
    })
    .await;
    spool.append(draft(6, 10)).await.unwrap();
    // What is read counts as produced once it is on the disk.
    until("all is there", || spool.ledger().totals.produced >= 60).await;
    until("all is settled", || spool.ledger().totals.spooled == 0).await;
    let totals = spool.ledger().totals;
    assert_eq!(totals.produced, 60);
    let damaged = totals.dropped.get("damaged").copied().unwrap_or(0);
    assert_eq!(totals.acked + damaged, 60, "{totals:?}");
    until("the old one is retired", || spool.streams().len() == 1).await;
    check(&sink, &spool);
    token.cancel();
    spool.finish().await.unwrap();
    within(task).await.unwrap();
}
