//! When a stream is given up and when it comes back, by a clock that the test moves.

use std::path::Path;

use weir_journal::{Journal, Memory, Options};
use weir_process::clock::ManualClock;
use weir_proto::v1::record::Record;

use super::*;
use crate::ingest::tests::ANYBODY;
use crate::ingest::{IngestConfig, Session};
use crate::metrics::IngestMetrics;
use crate::model::DEFAULT_TENANT;

const GRACE: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

struct World {
    ingest: Ingest,
    clock: Arc<ManualClock>,
    journal: Journal,
}

impl World {
    fn new() -> Self {
        let memory = Arc::new(Memory::new());
        let options = Options {
            segment_bytes: 1 << 16,
            ..Options::default()
        };
        let (journal, committer) = Journal::open(memory, Path::new("/log"), options).unwrap();
        committer.spawn().unwrap();
        let clock = Arc::new(ManualClock::new(1_700_000_000_000_000_000));
        let config = IngestConfig {
            window_bytes: 1 << 20,
            budget_bytes: 1 << 30,
            max_connections: 16,
            max_streams: 16,
            high_water_bytes: u64::MAX,
            lost_after: GRACE,
            limits: crate::ingest::Allowed::default(),
        };
        let ingest = Ingest::new(
            journal.clone(),
            Arc::new(drop),
            Arc::<ManualClock>::clone(&clock),
            config,
            IngestMetrics::default(),
        );
        Self {
            ingest,
            clock,
            journal,
        }
    }

    /// A connection of stream `tag` whose Hello lists these.
    async fn connect(&self, tag: u8, held: &[u8]) -> Session {
        let hello = v1::Hello {
            stream_id: vec![tag; 16],
            agent: "edge".into(),
            next_sequence: 2,
            held_streams: held.iter().map(|tag| vec![*tag; 16]).collect(),
            protocol_min: 1,
            protocol_max: 1,
            ..v1::Hello::default()
        };
        let token = CancellationToken::new();
        let opened = self.ingest.open(&ANYBODY, &hello, &token).await;
        opened.unwrap().0
    }

    /// The same, which accounts for 3 readings and says that there are `produced`.
    async fn deliver(&self, tag: u8, produced: u64) -> Session {
        let mut session = self.connect(tag, &[tag]).await;
        let skip = v1::Skip {
            from: 1,
            through: 1,
            reason: v1::DropReason::SpoolOldest.into(),
            readings_before: 0,
            readings: 3,
        };
        let request = v1::DeliverRequest {
            records: vec![v1::Record {
                record: Some(Record::Skip(skip)),
            }],
            report: Some(v1::Report {
                produced,
                ..v1::Report::default()
            }),
            ..v1::DeliverRequest::default()
        };
        let taken = session.take(request).await;
        assert_eq!(taken.fault, None);
        let number = self.journal.next() - 1;
        self.journal.committed(number).await.unwrap();
        session.settle(number);
        session
    }

    async fn look(&self) {
        self.ingest.look_after_spools(GRACE).await.unwrap();
    }

    fn is_lost(&self, tag: u8) -> bool {
        let views = self.ingest.streams();
        let view = views.iter().find(|view| view.key.id.0 == [tag; 16]);
        view.unwrap().seen.lost.is_some()
    }
}

/// Stream 1 holds 7 more readings and is left out by the Hello of stream 2. Fails when the grace is not
/// waited for, when the list of an earlier Hello counts, or when a list that has the stream again does
/// not take it back.
#[tokio::test]
async fn a_stream_that_is_left_out_is_lost_after_the_grace_and_back_when_it_is_listed() {
    let world = World::new();
    drop(world.deliver(1, 10).await);
    world.look().await;
    world.clock.advance(SECOND);
    drop(world.deliver(2, 3).await);
    world.look().await;
    world.clock.advance(GRACE - SECOND);
    world.look().await;
    assert!(!world.is_lost(1), "within the grace");
    world.clock.advance(SECOND);
    world.look().await;
    assert!(world.is_lost(1));
    assert!(!world.is_lost(2), "it is listed");
    world.clock.advance(SECOND);
    drop(world.connect(2, &[2, 1]).await);
    world.look().await;
    assert!(!world.is_lost(1));
}

/// Two agents of one name: each leaves the other's stream out. Fails when a connected stream is given
/// up, or when its grace began before its connection ended.
#[tokio::test]
async fn the_grace_of_a_connected_stream_begins_when_its_connection_ends() {
    let world = World::new();
    let connection = world.deliver(1, 10).await;
    world.clock.advance(SECOND);
    drop(world.deliver(2, 3).await);
    for _ in 0..3 {
        world.clock.advance(GRACE);
        world.look().await;
        assert!(!world.is_lost(1), "connected");
    }
    drop(connection);
    world.look().await;
    assert!(!world.is_lost(1), "a moment ago it was connected");
    world.clock.advance(GRACE);
    world.look().await;
    assert!(world.is_lost(1));
}

/// Nothing is to be looked at for that. Fails when Hello does not take the stream back, or when one
/// that holds nothing is given up.
#[tokio::test]
async fn a_stream_is_back_with_its_hello_and_an_empty_one_is_never_given_up() {
    let world = World::new();
    drop(world.deliver(1, 10).await);
    drop(world.deliver(2, 3).await);
    let wanted = Wanted {
        agent: Some("edge".into()),
        stream: None,
    };
    let settled = world
        .ingest
        .settle_lost(DEFAULT_TENANT, &wanted)
        .await
        .unwrap();
    let settled: Vec<_> = settled
        .iter()
        .map(|one| (one.stream.0[0], one.readings))
        .collect();
    assert_eq!(settled, [(1, 7)]);
    assert!(world.is_lost(1) && !world.is_lost(2));
    drop(world.connect(1, &[1]).await);
    assert!(!world.is_lost(1));
}
