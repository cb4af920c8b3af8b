//! Delivery through the port, in process: a hand-written client, a real journal on disk.

mod owners;
mod rig;
mod waits;

use std::time::Duration;

use tonic::Code;
use tonic_types::StatusExt as _;
use weir_proto::v1;
use weir_proto::v1::deliver_response::Response as Answer;
use weir_proto::v1::record::Record;

use rig::{Client, Rig, batch, hello};

#[tokio::test]
async fn a_batch_is_journaled_handed_on_decoded_and_acknowledged() {
    let rig = Rig::start().await;
    let mut client = Client::open(&rig, hello(1)).await.unwrap();
    assert_eq!(client.welcome.durable_through, 0);
    assert!(client.welcome.window_bytes > 0);
    client.send(vec![batch(1, 0), batch(2, 3)]).await;
    assert_eq!(client.acked(2).await, 2);
    let arrivals = rig.arrivals();
    let numbers: Vec<u64> = arrivals.iter().map(|arrival| arrival.number).collect();
    assert_eq!(numbers, [1, 2]);
    let decoded = arrivals[1].decoded.as_ref().unwrap();
    assert_eq!(
        (decoded.header.readings, decoded.readings.series().count()),
        (3, 1)
    );
    assert_eq!(arrivals[0].envelope.agent, "tester");
    assert_eq!(arrivals[0].envelope.tenant, "default");
    assert!(arrivals[0].envelope.received_ns > 0);
}

#[tokio::test]
async fn welcome_resumes_where_the_stream_stands() {
    let rig = Rig::start().await;
    let mut client = Client::open(&rig, hello(1)).await.unwrap();
    client.send(vec![batch(1, 0)]).await;
    client.acked(1).await;
    drop(client);
    let mut again = Client::open(&rig, hello(1)).await.unwrap();
    let Record::Batch(first) = batch(1, 0) else {
        unreachable!()
    };
    assert_eq!(again.welcome.durable_through, 1);
    assert_eq!(again.welcome.durable_crc, first.header.unwrap().crc);
    assert_eq!(again.welcome.readings_through, 3);
    again.send(vec![batch(1, 0)]).await;
    assert_eq!(again.acked(1).await, 1, "acknowledged again");
    assert_eq!(rig.arrivals().len(), 1, "and not stored again");
    let other = Client::open(&rig, hello(2)).await.unwrap();
    assert_eq!(
        other.welcome.durable_through, 0,
        "another stream is another stream"
    );
}

#[tokio::test]
async fn nothing_is_acknowledged_before_the_journal_is_durable() {
    let mut rig = Rig::paused().await;
    let mut client = Client::open(&rig, hello(1)).await.unwrap();
    client.send(vec![batch(1, 0)]).await;
    rig.until(|rig| rig.arrivals().len() == 1).await;
    // A round trip on the same connection: an ack would have come before it.
    let other = Client::on(client.channel.clone(), hello(2)).await.unwrap();
    drop(other);
    let early = tokio::time::timeout(Duration::ZERO, client.answers.message()).await;
    assert!(early.is_err(), "{early:?}");
    rig.commit();
    assert_eq!(client.acked(1).await, 1);
}

#[tokio::test]
async fn a_gap_ends_the_call_and_names_the_expected_sequence() {
    let rig = Rig::start().await;
    let mut client = Client::open(&rig, hello(1)).await.unwrap();
    client.send(vec![batch(1, 0), batch(3, 6)]).await;
    let status = client.ended().await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("expected sequence 2"), "{status}");
    assert_eq!(
        client.last_ack, 1,
        "what came before the gap is acknowledged first"
    );
}

#[tokio::test]
async fn a_refused_batch_is_closed_by_a_skip_and_the_stream_goes_on() {
    let rig = Rig::start().await;
    let mut client = Client::open(&rig, hello(1)).await.unwrap();
    let Record::Batch(mut spoiled) = batch(1, 0) else {
        unreachable!()
    };
    spoiled.payload = bytes::Bytes::from_static(b"spoiled");
    client.send(vec![Record::Batch(spoiled), batch(2, 3)]).await;
    let Some(Answer::Refused(refused)) = client.answer().await.unwrap() else {
        panic!("no refusal");
    };
    assert_eq!(
        (refused.sequence, refused.code()),
        (1, v1::RefusedCode::Malformed)
    );
    assert_eq!(
        rig.arrivals().len(),
        0,
        "what follows a refused batch is discarded"
    );
    let skip = v1::Skip {
        from: 1,
        through: 1,
        reason: v1::DropReason::Refused.into(),
        readings_before: 0,
        readings: 3,
    };
    let Record::Batch(mut second) = batch(2, 3) else {
        unreachable!()
    };
    second.series_defined = vec![rig::series()];
    client
        .send(vec![Record::Skip(skip), Record::Batch(second)])
        .await;
    assert_eq!(client.acked(2).await, 2);
}

#[tokio::test]
async fn a_new_connection_takes_the_stream_over() {
    let rig = Rig::start().await;
    let mut former = Client::open(&rig, hello(1)).await.unwrap();
    former.send(vec![batch(1, 0)]).await;
    former.acked(1).await;
    let newer = Client::open(&rig, hello(1)).await.unwrap();
    assert_eq!(newer.welcome.durable_through, 1);
    let status = former.ended().await;
    assert_eq!(status.code(), Code::Aborted);
    assert!(status.message().contains("took over"), "{status}");
}

#[tokio::test]
async fn takeover_waits_until_what_the_former_owner_appended_is_durable() {
    let mut rig = Rig::paused().await;
    let mut former = Client::open(&rig, hello(1)).await.unwrap();
    former.send(vec![batch(1, 0)]).await;
    rig.until(|rig| rig.arrivals().len() == 1).await;
    drop(former);
    let opening = tokio::spawn(Client::on(rig.channel().await, hello(1)));
    rig.commit();
    let newer = opening.await.unwrap().unwrap();
    assert_eq!(newer.welcome.durable_through, 1);
}

#[tokio::test]
async fn close_is_acknowledged_by_a_good_end() {
    let rig = Rig::start().await;
    let mut client = Client::open(&rig, hello(1)).await.unwrap();
    client.send(vec![batch(1, 0)]).await;
    client.acked(1).await;
    client
        .send(vec![Record::Close(v1::Close { last_sequence: 1 })])
        .await;
    assert_eq!(client.ended().await.code(), Code::Ok);
    assert!(rig.ingest.streams()[0].closed);
    let mut again = Client::open(&rig, hello(1)).await.unwrap();
    again.send(vec![batch(2, 3)]).await;
    let status = again.ended().await;
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn draining_ends_calls_retryably_after_the_last_acknowledgement() {
    let rig = Rig::start().await;
    let mut client = Client::open(&rig, hello(1)).await.unwrap();
    client.send(vec![batch(1, 0)]).await;
    rig.until(|rig| rig.arrivals().len() == 1).await;
    rig.token.cancel();
    let status = client.ended().await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("shutting down"), "{status}");
    assert!(status.get_details_retry_info().is_some());
    assert_eq!(client.last_ack, 1);
    drop(client);
    rig.served().await;
}

#[tokio::test]
async fn a_full_journal_is_said_at_hello_with_a_time_to_wait() {
    let rig = Rig::with_high_water(0).await;
    let status = Client::open(&rig, hello(1)).await.err().unwrap();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("high water"), "{status}");
    assert!(
        status
            .get_details_retry_info()
            .unwrap()
            .retry_delay
            .is_some()
    );
    assert_eq!(rig.ingest.streams().len(), 0);
}

#[tokio::test]
async fn what_is_not_our_protocol_is_said() {
    let rig = Rig::start().await;
    let mut newer = hello(1);
    (newer.protocol_min, newer.protocol_max) = (2, 4);
    let status = Client::open(&rig, newer).await.err().unwrap();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("2 to 4"), "{status}");
    let mut twice = Client::open(&rig, hello(2)).await.unwrap();
    twice
        .request(v1::DeliverRequest {
            hello: Some(hello(2)),
            ..Default::default()
        })
        .await;
    assert_eq!(twice.ended().await.code(), Code::InvalidArgument);
    let mut empty = Client::open(&rig, hello(3)).await.unwrap();
    empty
        .request(v1::DeliverRequest {
            records: vec![v1::Record::default()],
            ..Default::default()
        })
        .await;
    assert_eq!(empty.ended().await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_message_beyond_the_limit_never_looks_like_a_good_end() {
    let rig = Rig::start().await;
    let mut client = Client::open(&rig, hello(1)).await.unwrap();
    let Record::Batch(mut huge) = batch(1, 0) else {
        unreachable!()
    };
    huge.payload = vec![0; weir_proto::limits::MAX_MESSAGE_BYTES + 1].into();
    client.send(vec![Record::Batch(huge)]).await;
    let code = client.ended().await.code();
    assert!(
        matches!(code, Code::OutOfRange | Code::ResourceExhausted),
        "{code}"
    );
}

#[tokio::test]
async fn a_stream_of_which_nothing_came_is_forgotten() {
    let rig = Rig::start().await;
    let client = Client::open(&rig, hello(1)).await.unwrap();
    assert_eq!(rig.ingest.streams().len(), 1);
    drop(client);
    rig.until(|rig| rig.ingest.streams().is_empty()).await;
    assert_eq!(rig.ingest.connections(), 0);
}

#[tokio::test]
async fn a_restart_knows_every_stream_from_the_journal_alone() {
    let rig = Rig::start().await;
    let mut client = Client::open(&rig, hello(1)).await.unwrap();
    let report = v1::Report {
        produced: 9,
        ..Default::default()
    };
    client
        .request(v1::DeliverRequest {
            records: vec![v1::Record {
                record: Some(batch(1, 0)),
            }],
            report: Some(report),
            ..Default::default()
        })
        .await;
    client.acked(1).await;
    drop(client);
    let before = rig.ingest.streams();
    let rig = rig.restart().await;
    let after = rig.ingest.streams();
    assert_eq!(after[0].durable, before[0].durable);
    assert_eq!(
        after[0].seen.report.map(|(report, _)| report.produced),
        Some(9)
    );
    let mut client = Client::open(&rig, hello(1)).await.unwrap();
    assert_eq!(client.welcome.durable_through, 1);
    // Uses a series that only the journal of the former life defines.
    client.send(vec![batch(2, 3)]).await;
    assert_eq!(client.acked(2).await, 2);
}

/// Fails when the last report takes the place of the highest, live or when the journal is read again.
#[tokio::test]
async fn what_an_agent_once_reported_as_produced_is_never_forgotten() {
    let mut rig = Rig::start().await;
    let produced = |rig: &Rig| {
        rig.ingest.streams()[0]
            .seen
            .report
            .map(|(report, _)| report.produced)
    };
    for (sequence, said) in [(1, 9), (2, 6)] {
        let mut client = Client::open(&rig, hello(1)).await.unwrap();
        let report = v1::Report {
            produced: said,
            ..Default::default()
        };
        client
            .request(v1::DeliverRequest {
                records: vec![v1::Record {
                    record: Some(batch(sequence, 3 * (sequence - 1))),
                }],
                report: Some(report),
                ..Default::default()
            })
            .await;
        client.acked(sequence).await;
        drop(client);
        assert_eq!(produced(&rig), Some(9));
        rig = rig.restart().await;
        assert_eq!(produced(&rig), Some(9));
    }
}

#[tokio::test]
async fn health_says_serving_until_the_drain() {
    use tonic_health::pb::health_check_response::ServingStatus;
    let rig = Rig::start().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(rig.channel().await);
    for service in ["", "weir.v1.DeliveryService"] {
        let request = tonic_health::pb::HealthCheckRequest {
            service: service.into(),
        };
        let mut watch = health.watch(request).await.unwrap().into_inner();
        let first = watch.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving);
        if service.is_empty() {
            continue;
        }
        rig.token.cancel();
        let next = watch.message().await.unwrap().unwrap();
        assert_eq!(next.status(), ServingStatus::NotServing);
    }
}
