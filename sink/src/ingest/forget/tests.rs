//! What ingest keeps of streams that are gone, and that they are served when they are back.

use std::path::Path;

use tokio_util::sync::CancellationToken;
use weir_journal::{Journal, Memory, Options};
use weir_process::clock::ManualClock;
use weir_proto::v1;
use weir_proto::v1::record::Record;

use super::*;
use crate::catalog::{self, Backend, Catalog, Commit, Faults, SeriesKey, StreamLedger};
use crate::ingest::tests::{ANYBODY, batch, defining, series};
use crate::ingest::{IngestConfig, Session};
use crate::metrics::IngestMetrics;
use crate::model::{DEFAULT_TENANT, StreamId};

struct World {
    ingest: Ingest,
    clock: Arc<ManualClock>,
    journal: Journal,
    catalog: catalog::Memory,
}

impl World {
    async fn new() -> Self {
        let options = Options {
            segment_bytes: 1 << 20,
            ..Options::default()
        };
        let (journal, committer) =
            Journal::open(Arc::new(Memory::new()), Path::new("/log"), options).unwrap();
        committer.spawn().unwrap();
        let clock = Arc::new(ManualClock::new(1_700_000_000_000_000_000));
        let config = IngestConfig {
            window_bytes: 1 << 20,
            budget_bytes: 1 << 30,
            max_connections: 16,
            max_streams: 2,
            high_water_bytes: u64::MAX,
            lost_after: Duration::from_secs(10),
            limits: crate::ingest::Allowed::default(),
        };
        let ingest = Ingest::new(
            journal.clone(),
            Arc::new(drop),
            Arc::<ManualClock>::clone(&clock),
            config,
            IngestMetrics::default(),
        );
        let catalog = catalog::Memory::new();
        catalog.take_over(journal.id()).await.unwrap();
        let handle = Catalog::new(catalog.clone());
        ingest.restore(&handle, 0).await.unwrap();
        Self {
            ingest,
            clock,
            journal,
            catalog,
        }
    }

    async fn connect(&self, number: u32) -> Result<Session, Fault> {
        let hello = v1::Hello {
            stream_id: id_of(number).0.to_vec(),
            agent: format!("edge-{number}"),
            next_sequence: 2,
            held_streams: vec![id_of(number).0.to_vec()],
            protocol_min: 1,
            protocol_max: 1,
            ..v1::Hello::default()
        };
        let token = CancellationToken::new();
        let opened = self.ingest.open(&ANYBODY, &hello, &token).await;
        opened.map(|(session, _)| session)
    }

    /// A connection takes these, durably, and ends.
    async fn take(&self, number: u32, records: Vec<Record>) {
        let mut session = self.connect(number).await.unwrap();
        let record = |record| v1::Record {
            record: Some(record),
        };
        let request = v1::DeliverRequest {
            records: records.into_iter().map(record).collect(),
            report: Some(v1::Report {
                produced: 10,
                ..v1::Report::default()
            }),
            ..v1::DeliverRequest::default()
        };
        let taken = session.take(request).await;
        assert_eq!((taken.fault, taken.refused), (None, Vec::new()));
        let last = self.journal.next() - 1;
        self.journal.committed(last).await.unwrap();
        session.settle(last);
    }

    /// Stream 1 and its series 1, as the fold commits them.
    async fn commit(&self) {
        let expected = self.catalog.position().await.unwrap().unwrap();
        let word = |text: &str| Arc::<str>::from(text);
        let key = SeriesKey {
            tenant: word(DEFAULT_TENANT),
            metric: word("a"),
            device: word("press"),
            attributes: word("{}"),
            unit: word(""),
            kind: word("gauge"),
            source: word(""),
            agent: word("edge-1"),
        };
        let ledger = StreamLedger::new(word(DEFAULT_TENANT), word("edge-1"), id_of(1), 0);
        let commit = Commit {
            expected,
            through: self.journal.next() - 1,
            files: Vec::new(),
            streams: vec![(0, ledger)],
            series: vec![(0, key)],
            definitions: vec![(0, 1, 0)],
            snapshot: (1, Vec::new()),
            dead: Vec::new(),
            losses: Vec::new(),
            now_ns: 0,
        };
        self.catalog.commit(&commit).await.unwrap();
    }

    async fn forget(&self) -> usize {
        self.ingest.forget_unused().await.unwrap()
    }
}

fn id_of(number: u32) -> StreamId {
    let mut id = [7; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    StreamId(id)
}

fn first() -> Record {
    defining(batch(1, 0, &[1]), vec![series(1, "a")])
}

/// Red when what the catalog does not have yet is forgotten, when what was forgotten is not read back, and
/// when a Hello is answered although it cannot be.
#[tokio::test]
async fn what_a_silent_stream_has_defined_is_read_back_with_its_hello() {
    let world = World::new().await;
    world.take(1, vec![first()]).await;
    assert_eq!(world.forget().await, 0, "a moment ago it was connected");
    world.clock.advance(KEPT + Duration::from_secs(1));
    assert_eq!(world.forget().await, 0, "only the journal has them");
    world.commit().await;
    let connection = world.connect(1).await.unwrap();
    world.clock.advance(2 * KEPT);
    assert_eq!(world.forget().await, 0, "connected");
    drop(connection);
    world.clock.advance(KEPT + Duration::from_secs(1));
    assert_eq!(world.forget().await, 1);
    assert_eq!(world.forget().await, 0);
    world.catalog.set_faults(Faults {
        away: true,
        ..Faults::default()
    });
    let refused = world.connect(1).await.map(drop).unwrap_err();
    assert!(refused.retry_after().is_some(), "{refused}");
    world.catalog.set_faults(Faults::default());
    world.take(1, vec![Record::Batch(batch(2, 1, &[1]))]).await;
}

/// Red when only silence counts, or when a lost stream still takes the room of an open one.
#[tokio::test]
async fn a_lost_stream_is_forgotten_at_once_and_keeps_nobody_out() {
    let world = World::new().await;
    world.take(1, vec![first()]).await;
    world.take(2, vec![first()]).await;
    world.commit().await;
    assert!(world.connect(3).await.is_err(), "there are two already");
    let wanted = crate::ingest::Wanted {
        agent: Some("edge-1".into()),
        stream: None,
    };
    let settled = world
        .ingest
        .settle_lost(DEFAULT_TENANT, &wanted)
        .await
        .unwrap();
    assert_eq!(settled.len(), 1);
    assert_eq!(world.forget().await, 1);
    drop(world.connect(3).await.unwrap());
    world.take(1, vec![Record::Batch(batch(2, 1, &[1]))]).await;
}

/// Each of another agent, each with definitions, a report and a list. Red when a Close keeps one of them, or
/// when closed streams count as open ones.
#[tokio::test]
async fn twenty_thousand_closed_streams_leave_their_counts() {
    let world = World::new().await;
    let count = 20_000;
    for number in 0..count {
        let close = v1::Close { last_sequence: 1 };
        world
            .take(number, vec![first(), Record::Close(close)])
            .await;
    }
    world
        .ingest
        .look_after_spools(Duration::ZERO)
        .await
        .unwrap();
    let slots: Vec<Arc<Slot>> = hold(&world.ingest.inner.streams)
        .values()
        .cloned()
        .collect();
    assert_eq!(slots.len(), count as usize);
    for slot in slots {
        let mut stream = slot.stream();
        assert!(stream.is_closed() && stream.holds_nothing());
        assert_eq!(stream.dictionary().len(), 0);
        assert_eq!(hold(&slot.seen).held, None);
        assert_eq!(hold(&slot.seen).sample, None);
    }
}
