//! A spool that was deleted, an agent that is dead: what they held becomes `spool_lost`, to the
//! reading, and comes back with the stream.

use serde_json::Value;
use weir_proto::v1::Report;
use weir_tests::sender::{Call, Stream};
use weir_tests::wait::until;
use weir_tests::world::{Sink, run_once};
use weir_tests::{http as client, programs};

use crate::stored::LIMIT;

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
    assert!(!done && text.contains("32 hex digits"), "{text}");
    let (done, text) = settle(&["--agent", "dead"]);
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
