//! A spool that was deleted, an agent that is dead: what they held becomes `spool_lost`, to the
//! reading, and comes back with the stream.

use std::path::Path;

use serde_json::Value;
use weir_proto::v1::Report;
use weir_tests::sender::{Call, Stream};
use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink, run_once};
use weir_tests::{http as client, programs};

use crate::stored::{LIMIT, counting};

const BASE: i64 = 1_700_000_000_000_000_000;

/// An agent that delivers 3 readings and says that it has produced 10.
async fn leaves_seven(sink: &Sink, stream: &mut Stream) {
    let mut call = Call::open(sink.grpc, stream).await.expect("welcome");
    let batch = stream.batch(&[BASE, BASE + 1, BASE + 2], &[1.0, 2.0, 3.0]);
    let report = Report {
        produced: 10,
        spooled: 7,
        ..Default::default()
    };
    call.batch_and_report(batch, report).await;
    call.acked(1).await.expect("an ack");
}

async fn line_of(sink: &Sink, stream: &Stream) -> Value {
    let id: String = stream.id.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines = sink.ledger().await;
    let line = lines.into_iter().find(|line| line["stream_id"] == id);
    line.unwrap_or_else(|| panic!("no stream {id}"))
}

/// (spooled, spool_lost), after a check that the line closes.
fn figures(line: &Value) -> (u64, u64) {
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let dropped = line["dropped"].as_object().expect("an object");
    let right =
        count(&line["stored"]) + count(&line["spooled"]) + dropped.values().map(count).sum::<u64>();
    assert_eq!(count(&line["produced"]), right, "{line}");
    assert_eq!(line["unexplained"], 0, "{line}");
    (
        count(&line["spooled"]),
        count(&line["dropped"]["spool_lost"]),
    )
}

async fn comes_to(sink: &Sink, stream: &Stream, expected: (u64, u64)) {
    until(&format!("{expected:?} spooled and lost"), LIMIT, || async {
        (figures(&line_of(sink, stream).await) == expected).then_some(())
    })
    .await;
}

/// The spool was deleted: the agent's next Hello is for a new stream and lists no other. Killed and
/// stopped in between. Then the old stream reappears. Fails when the list of Hello is not looked at,
/// or when a restart forgets the decision, from the journal or from the catalog.
#[tokio::test]
async fn a_stream_its_agent_lists_no_more_is_lost_after_the_grace_and_back_when_it_delivers() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(place.path(), &[("LEDGER_LOST_AFTER", "1s")]).await;
    let mut old = Stream::new("edge", 51);
    leaves_seven(&sink, &mut old).await;
    assert_eq!(figures(&line_of(&sink, &old).await), (7, 0));
    let mut new = Stream::new("edge", 52);
    let mut call = Call::open(sink.grpc, &new).await.expect("welcome");
    call.batch(new.batch(&[BASE], &[1.0])).await;
    call.acked(1).await.expect("an ack");
    comes_to(&sink, &old, (0, 7)).await;
    assert_eq!(figures(&line_of(&sink, &new).await), (0, 0));
    let rows = sink
        .sql("select sum(dropped), sum(spool_lost), sum(spooled) from streams")
        .await;
    assert_eq!(rows[0], [7, 7, 0]);
    drop(call);

    sink.kill();
    sink.restart().await;
    comes_to(&sink, &old, (0, 7)).await;

    // Killed, the journal has the decision; stopped, the catalog.
    assert!(sink.terminate().await.success());
    sink.restart().await;
    comes_to(&sink, &old, (0, 7)).await;

    let mut call = Call::open(sink.grpc, &old).await.expect("welcome");
    assert_eq!(call.welcome.durable_through, 1);
    comes_to(&sink, &old, (7, 0)).await;
    call.batch(old.batch(&[BASE + 3, BASE + 4], &[4.0, 5.0]))
        .await;
    call.acked(2).await.expect("an ack");
    comes_to(&sink, &old, (5, 0)).await;
}

/// A dead agent lists nothing any more: an operator says so. Fails when a connected stream is settled
/// as well.
#[tokio::test]
async fn an_operator_settles_a_dead_agent_and_never_a_connected_one() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[]).await;
    let (mut dead, mut alive) = (Stream::new("dead", 53), Stream::new("alive", 54));
    leaves_seven(&sink, &mut dead).await;
    leaves_seven(&sink, &mut alive).await;
    let call = Call::open(sink.grpc, &alive).await.expect("welcome");
    let settle = |arguments: &[&str]| {
        let url = format!("http://{}", sink.http);
        let all = [&["ledger", "settle", "--url", &url], arguments].concat();
        let output = run_once(&programs::sink(), &all, &[]);
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8(text).expect("text"),
        )
    };
    let (done, text) = settle(&[]);
    assert!(done && text.contains("nothing to settle"), "{text}");
    let (done, text) = settle(&["--agent", "alive"]);
    assert!(done && text.contains("nothing to settle"), "{text}");
    let (done, text) = settle(&["--stream", "abc"]);
    assert!(!done && text.contains("8 hex digits"), "{text}");
    let shown: String = dead.id[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let (done, text) = settle(&["--stream", &shown]);
    assert!(done && text.contains("dead: 7 readings"), "{text}");
    comes_to(&sink, &dead, (0, 7)).await;
    assert_eq!(figures(&line_of(&sink, &alive).await), (7, 0));
    let (_, text) = settle(&["--agent", "dead"]);
    assert!(text.contains("nothing to settle"), "said once: {text}");
    drop(call);
    let read = client::get(sink.http, "/v1/ledger/settle").await;
    assert_eq!(
        read.expect("an answer").0,
        http::StatusCode::METHOD_NOT_ALLOWED
    );
}

/// Two agents share a name: what one of them holds stays its own while it is connected, whatever the
/// other lists. Another agent's lost stream shows that the grace has passed meanwhile. Fails when only the
/// last list of a name counts.
#[tokio::test]
async fn what_a_connected_agent_lists_is_never_lost_by_the_list_of_a_namesake() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[("LEDGER_LOST_AFTER", "1s")]).await;
    let mut waiting = Stream::new("edge", 61);
    leaves_seven(&sink, &mut waiting).await;
    let mut gone = Stream::new("other", 62);
    leaves_seven(&sink, &mut gone).await;

    let mut first = Stream::new("edge", 63);
    first.also_held = vec![waiting.id.clone()];
    let first = begun(&sink, &mut first).await;
    let _namesake = begun(&sink, &mut Stream::new("edge", 64)).await;
    let _other = begun(&sink, &mut Stream::new("other", 65)).await;
    comes_to(&sink, &gone, (0, 7)).await;
    assert_eq!(figures(&line_of(&sink, &waiting).await), (7, 0));
    let said = |log: String| log.matches("share this name").count();
    assert_eq!(said(sink.log()), 1, "{}", sink.log());

    drop(first);
    comes_to(&sink, &waiting, (0, 7)).await;
    assert_eq!(said(sink.log()), 1, "{}", sink.log());
}

/// A call that has delivered one reading.
async fn begun(sink: &Sink, stream: &mut Stream) -> Call {
    let mut call = Call::open(sink.grpc, stream).await.expect("welcome");
    call.batch(stream.batch(&[BASE], &[1.0])).await;
    call.acked(1).await.expect("an ack");
    call
}

/// Half of a spool is overwritten while its agent is down. What the agent had reported of it stays in the
/// books. Fails when the sink takes the last report in place of the highest, or leaves what a closed
/// stream does not hold out of `spool_lost`.
#[tokio::test]
async fn what_a_damaged_spool_had_reported_and_lost_is_dropped_to_the_reading() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[]).await;
    let settings = counting(&[
        ("SAMPLE_INTERVAL", "5ms"),
        ("BATCH_MAX_READINGS", "10"),
        ("RATE_REQUESTS_PER_SECOND", "0.2"),
        ("RATE_BURST", "1"),
        // Most of what is reported waits, so that what is left of the spool is beyond what is stored.
        ("REQUEST_WINDOW_BYTES", "1KiB"),
    ]);
    let mut agent = Agent::start(place.path(), "cut", &sink.url(), &settings).await;
    until("readings that wait", LIMIT, || async {
        let lines = sink.ledger().await;
        let count = |name: &str| lines.first()?[name].as_u64();
        let (spooled, produced) = (count("spooled")?, count("produced")?);
        (spooled >= 200 && spooled * 4 >= produced * 3).then_some(())
    })
    .await;
    agent.kill();
    let before = sink.ledger().await.remove(0);
    overwrite_second_half(&agent.data().join("spool"));
    let data = agent.data();
    let data = data.to_str().expect("a path");
    let listed = run_once(
        &programs::agent(),
        &["spool", "ls", "--json", "--data-dir", data],
        &[],
    );
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("a listing");
    let left = listed["streams"][0]["readings"].as_u64().expect("a count");
    let produced = before["produced"].as_u64().expect("a count");
    assert!(left < produced, "{left} of {produced} are left");

    agent.set("RATE_REQUESTS_PER_SECOND", "1000");
    agent.set("REQUEST_WINDOW_BYTES", "8MiB");
    agent.restart().await;
    let after = until("the old stream to be closed", LIMIT, || async {
        let mut lines = sink.ledger().await;
        lines.retain(|line| line["stream_id"] == before["stream_id"]);
        Some(lines.remove(0)).filter(|line| line["closed"] == true)
    })
    .await;
    assert_eq!(after["produced"], produced, "{after}");
    assert_eq!(figures(&after), (0, produced - left), "{after}");
    assert!(sink.log().contains("without readings that it had reported"));
}

/// Of the bytes that are used, in the one segment there is.
fn overwrite_second_half(spool: &Path) {
    let streams = std::fs::read_dir(spool).expect("a spool").flatten();
    let files = streams.filter_map(|stream| std::fs::read_dir(stream.path()).ok());
    let mut segments = files.flatten().flatten().map(|file| file.path());
    let segment = segments.find(|path| path.extension().is_some_and(|end| end == "seg"));
    let segment = segment.expect("a segment");
    let mut bytes = std::fs::read(&segment).expect("readable");
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("not empty");
    bytes[used / 2..=used].fill(0xAA);
    std::fs::write(&segment, bytes).expect("writable");
}
