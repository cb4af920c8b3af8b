//! What a call waits for, and how each wait ends when the sink stops; and what fills the table of streams.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::Code;
use weir_proto::v1;
use weir_proto::v1::record::Record;

use super::rig::{ANYBODY, Client, Rig, batch, hello};
use crate::ingest::{Fault, Limits, PATIENCE, Quota};

fn request(record: Record) -> v1::DeliverRequest {
    v1::DeliverRequest {
        records: vec![v1::Record {
            record: Some(record),
        }],
        ..Default::default()
    }
}

/// Far below how long any of these waits lasts by itself.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), future)
        .await
        .expect("it ends with the drain")
}

#[tokio::test]
async fn a_hello_that_waits_for_the_former_owner_ends_with_the_drain() {
    let rig = Rig::paused().await;
    let mut former = Client::open(&rig, hello(1)).await.unwrap();
    former.send(vec![batch(1, 0)]).await;
    rig.until(|rig| rig.arrivals().len() == 1).await;
    let newer = tokio::spawn(Client::on(rig.channel().await, hello(1)));
    rig.until(|rig| rig.ingest.connections() == 2).await;
    rig.token.cancel();
    let status = soon(newer).await.unwrap().err().unwrap();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("shutting down"), "{status}");
}

#[tokio::test]
async fn a_hello_that_waits_for_a_commit_ends_with_the_drain() {
    let rig = Rig::paused().await;
    let draining = CancellationToken::new();
    let hello = hello(1);
    let open = || rig.ingest.open(&ANYBODY, &hello, &draining);
    let (mut former, _) = open().await.unwrap();
    former.take(request(batch(1, 0))).await;
    drop(former);
    let newer = async {
        let opened = open().await;
        opened.map(|(_, welcome)| welcome)
    };
    let stop = async {
        rig.until(|rig| rig.ingest.connections() == 1).await;
        draining.cancel();
    };
    let (opened, ()) = soon(async { tokio::join!(newer, stop) }).await;
    assert_eq!(opened, Err(Fault::Draining));
}

/// One request in ten seconds; the second call comes at once. Mutation, red: nobody is held up.
#[tokio::test]
async fn who_comes_back_at_once_while_it_owes_is_held_up() {
    let limits = Limits {
        agent: Quota {
            requests_per_second: 0.1,
            ..Quota::default()
        },
        ..Limits::default()
    };
    let rig = Rig::limited(limits).await;
    let mut former = Client::open(&rig, hello(1)).await.unwrap();
    former.send(vec![batch(1, 0)]).await;
    assert_eq!(former.ended().await.code(), Code::ResourceExhausted);
    let began = std::time::Instant::now();
    let status = Client::open(&rig, hello(1)).await.err().unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(began.elapsed() >= PATIENCE, "{:?}", began.elapsed());
}

/// Red when neither the failed append nor the next connection takes back what was accepted: the agent
/// would be told that the sink has it.
#[tokio::test]
async fn records_that_wait_for_a_busy_journal_end_with_the_drain_and_have_not_happened() {
    let mut rig = Rig::with_queue(1).await;
    let draining = CancellationToken::new();
    let hello = hello(1);
    let opened = rig.ingest.open(&ANYBODY, &hello, &draining).await;
    let (mut session, _) = opened.unwrap();
    let taken = session.take(request(batch(1, 0))).await;
    assert_eq!(taken.fault, None);
    let mut both = request(batch(2, 3));
    both.records.extend(request(batch(3, 6)).records);
    let again = both.clone();
    let stop = async { draining.cancel() };
    let (taken, ()) = soon(async { tokio::join!(session.take(both), stop) }).await;
    assert_eq!(taken.fault, Some(Fault::Draining));
    assert!(session.is_pending(), "the first one still counts");
    assert_eq!(rig.arrivals().len(), 1);
    drop(session);
    rig.commit();
    let draining = CancellationToken::new();
    let opened = rig.ingest.open(&ANYBODY, &hello, &draining).await;
    let (mut session, welcome) = opened.unwrap();
    assert_eq!(welcome.durable_through, 1);
    let taken = soon(session.take(again)).await;
    assert_eq!(taken.fault, None);
    assert_eq!(rig.arrivals().len(), 3);
}

/// Begins a stream; closes it where `closes`.
async fn begin(rig: &Rig, tag: u8, closes: bool) -> Result<(), tonic::Status> {
    let mut client = Client::open(rig, hello(tag)).await?;
    client.send(vec![batch(1, 0)]).await;
    client.acked(1).await;
    if closes {
        let close = Record::Close(v1::Close { last_sequence: 1 });
        client.send(vec![close]).await;
        assert_eq!(client.ended().await.code(), Code::Ok);
    }
    drop(client);
    rig.until(|rig| rig.ingest.connections() == 0).await;
    Ok(())
}

#[tokio::test]
async fn closed_streams_keep_no_new_one_out_before_and_after_a_restart() {
    let mut rig = Rig::start().await;
    for tag in 0..20 {
        begin(&rig, tag, true).await.unwrap();
    }
    rig = rig.restart().await;
    for tag in 20..36 {
        begin(&rig, tag, false).await.unwrap();
    }
    let refused = begin(&rig, 36, false).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    let remedy = "raise WEIR_SINK_INGEST_MAX_STREAMS";
    assert!(refused.message().contains(remedy), "{refused}");
}
