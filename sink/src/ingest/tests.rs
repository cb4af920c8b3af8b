//! The state machine of a stream, without clock, journal or network.

mod hostile;

use weir_proto::batch::{Block, Column, Values, encode};
use weir_proto::v1;
use weir_proto::v1::record::Record;

use super::check::{Unreadable, read};
use super::fault::Fault;
use super::mark::{Mark, REASONS};
use super::owner::Opener;
use super::stream::{Screened, Stream};
use super::{check_hello, hold};
use crate::model::DEFAULT_TENANT;

/// Where nobody is asked who it is.
pub(super) const ANYBODY: Opener<'static> = Opener {
    tenant: DEFAULT_TENANT,
    from: None,
    covers: &|_| true,
};

pub(super) fn series(number: u32, metric: &str) -> v1::Series {
    v1::Series {
        r#ref: number,
        device: "press".into(),
        metric: metric.into(),
        kind: v1::Kind::Gauge.into(),
        ..v1::Series::default()
    }
}

/// A batch with one reading of each of these series.
pub(super) fn batch(sequence: u64, readings_before: u64, refs: &[u32]) -> v1::Batch {
    let column = |r#ref: &u32| Column {
        series: *r#ref,
        values: Values::Numbers(vec![1.5]),
        present: None,
    };
    let encoded = encode(&[Block {
        times: vec![1_700_000_000_000_000_000],
        columns: refs.iter().map(column).collect(),
    }]);
    v1::Batch {
        header: Some(v1::BatchHeader {
            sequence,
            readings_before,
            ..encoded.header()
        }),
        series_defined: Vec::new(),
        payload: encoded.payload,
    }
}

pub(super) fn defining(mut batch: v1::Batch, series: Vec<v1::Series>) -> Record {
    batch.series_defined = series;
    Record::Batch(batch)
}

fn skip(from: u64, through: u64, readings_before: u64, readings: u64) -> Record {
    Record::Skip(v1::Skip {
        from,
        through,
        reason: v1::DropReason::SpoolOldest.into(),
        readings_before,
        readings,
    })
}

/// What a session does with a record, with journal numbers in place of a journal.
#[derive(Debug, PartialEq)]
enum Came {
    Appended,
    Unchanged,
    Again,
    Discarded,
    Refused(v1::RefusedCode),
    Ended(Fault),
}

struct Desk {
    stream: Stream,
    number: u64,
}

impl Desk {
    /// A stream whose first batch, of series 1, is durable.
    fn begun() -> Self {
        let mut desk = Self {
            stream: Stream::default(),
            number: 0,
        };
        let first = defining(batch(1, 0, &[1]), vec![series(1, "a")]);
        assert_eq!(desk.take(&first), Came::Appended);
        desk.stream.settle(desk.number);
        desk
    }

    fn take(&mut self, record: &Record) -> Came {
        match self.stream.screen(record) {
            Err(fault) => return Came::Ended(fault),
            Ok(Screened::Again) => return Came::Again,
            Ok(Screened::Discard) => return Came::Discarded,
            Ok(Screened::Wanted) => {}
        }
        let mut readable = match read(record) {
            Ok(readable) => readable,
            Err(Unreadable::Fault(fault)) => return Came::Ended(fault),
            Err(Unreadable::Refused(refusal)) => return self.refused(record, refusal.code),
        };
        match self.stream.admit(record, &mut readable) {
            Err(refusal) => self.refused(record, refusal.code),
            Ok(None) => Came::Unchanged,
            Ok(Some(effect)) => {
                self.number += 1;
                self.stream.accept(effect);
                self.stream.appended(self.number, 100);
                Came::Appended
            }
        }
    }

    fn refused(&mut self, record: &Record, code: v1::RefusedCode) -> Came {
        if let Record::Batch(batch) = record {
            self.stream.refuse(batch.header.as_ref().unwrap().sequence);
        }
        Came::Refused(code)
    }

    /// Where the stream stands once everything is durable.
    fn mark(&mut self) -> Mark {
        self.stream.settle(self.number);
        self.stream.durable()
    }
}

#[test]
fn a_record_that_came_before_is_acknowledged_again_and_not_stored() {
    let mut desk = Desk::begun();
    let number = desk.number;
    assert_eq!(desk.take(&Record::Batch(batch(1, 0, &[1]))), Came::Again);
    // Not even looked into: the payload may be gone bad meanwhile.
    let mut spoiled = batch(1, 0, &[1]);
    spoiled.payload = bytes::Bytes::from_static(b"spoiled");
    assert_eq!(desk.take(&Record::Batch(spoiled)), Came::Again);
    assert_eq!(desk.take(&skip(1, 1, 0, 1)), Came::Again);
    assert_eq!(desk.number, number);
}

#[test]
fn a_gap_ends_the_call_and_names_the_expected_sequence() {
    let mut desk = Desk::begun();
    let came = desk.take(&Record::Batch(batch(3, 2, &[1])));
    let gap = Fault::Gap {
        expected: 2,
        got: 3,
    };
    assert!(gap.to_string().contains("expected sequence 2"));
    assert_eq!(came, Came::Ended(gap));
    assert!(matches!(
        desk.take(&skip(4, 6, 1, 3)),
        Came::Ended(Fault::Gap {
            expected: 2,
            got: 4
        })
    ));
    assert_eq!(desk.take(&Record::Batch(batch(2, 1, &[1]))), Came::Appended);
}

#[test]
fn only_what_is_durable_is_acknowledged() {
    let mut desk = Desk::begun();
    assert_eq!(desk.take(&Record::Batch(batch(2, 1, &[1]))), Came::Appended);
    assert_eq!(desk.take(&Record::Batch(batch(3, 2, &[1]))), Came::Appended);
    assert_eq!(
        (desk.stream.durable().sequence, desk.stream.pending_bytes()),
        (1, 200)
    );
    desk.stream.settle(2);
    assert_eq!(
        (desk.stream.durable().sequence, desk.stream.pending_bytes()),
        (2, 100)
    );
    desk.stream.settle(99);
    assert_eq!(
        (desk.stream.durable().sequence, desk.stream.last_pending()),
        (3, None)
    );
}

#[test]
fn after_a_refusal_everything_is_discarded_until_the_sequence_is_closed() {
    for close in [skip(2, 2, 1, 1), Record::Batch(batch(2, 1, &[1]))] {
        let mut desk = Desk::begun();
        let unknown = Record::Batch(batch(2, 1, &[7]));
        assert_eq!(
            desk.take(&unknown),
            Came::Refused(v1::RefusedCode::UnknownSeries)
        );
        assert_eq!(
            desk.take(&Record::Batch(batch(3, 2, &[1]))),
            Came::Discarded
        );
        assert_eq!(
            desk.take(&Record::Close(v1::Close { last_sequence: 3 })),
            Came::Discarded
        );
        assert_eq!(desk.take(&Record::Batch(batch(1, 0, &[1]))), Came::Again);
        assert_eq!(desk.take(&close), Came::Appended);
        assert_eq!(desk.take(&Record::Batch(batch(3, 2, &[1]))), Came::Appended);
        assert_eq!(desk.mark().readings_through, 3);
    }
}

#[test]
fn a_new_connection_does_not_remember_a_refusal() {
    let mut desk = Desk::begun();
    desk.take(&Record::Batch(batch(2, 1, &[7])));
    desk.stream.reconnected();
    assert!(matches!(
        desk.take(&Record::Batch(batch(3, 2, &[1]))),
        Came::Ended(Fault::Gap { .. })
    ));
}

#[test]
fn what_can_never_be_stored_is_refused_by_its_code() {
    let mut desk = Desk::begun();
    let mut broken = batch(2, 1, &[1]);
    broken.payload = bytes::Bytes::from_static(b"not what the checksum says");
    assert_eq!(
        desk.take(&Record::Batch(broken)),
        Came::Refused(v1::RefusedCode::Malformed)
    );
    let mut counted = batch(2, 1, &[1]);
    counted.header.as_mut().unwrap().readings = 2;
    assert_eq!(
        desk.take(&Record::Batch(counted)),
        Came::Refused(v1::RefusedCode::CountMismatch)
    );
    let nameless = defining(batch(2, 1, &[2]), vec![series(2, "")]);
    assert_eq!(
        desk.take(&nameless),
        Came::Refused(v1::RefusedCode::Invalid)
    );
    let mut text = series(3, "label");
    text.kind = v1::Kind::Text.into();
    let numbers_as_text = defining(batch(2, 1, &[3]), vec![text]);
    assert_eq!(
        desk.take(&numbers_as_text),
        Came::Refused(v1::RefusedCode::Invalid)
    );
}

#[test]
fn an_encoding_of_a_later_version_ends_the_call_and_is_never_refused() {
    let mut desk = Desk::begun();
    let mut later = batch(2, 1, &[1]);
    later.header.as_mut().unwrap().encoding = 9;
    let came = desk.take(&Record::Batch(later));
    let Came::Ended(fault @ Fault::NotYet { .. }) = came else {
        panic!("{came:?}");
    };
    assert_eq!(fault.kind().code(), tonic::Code::Unavailable);
    assert!(fault.retry_after().is_some());
}

#[test]
fn a_ref_never_changes_its_meaning() {
    let mut desk = Desk::begun();
    let same = defining(batch(2, 1, &[1]), vec![series(1, "a")]);
    assert_eq!(desk.take(&same), Came::Appended);
    let other = defining(batch(3, 2, &[1]), vec![series(1, "b")]);
    assert_eq!(desk.take(&other), Came::Refused(v1::RefusedCode::Invalid));
}

#[test]
fn definitions_are_journaled_once() {
    let mut desk = Desk::begun();
    let more = Record::Definitions(v1::Definitions {
        series: vec![series(1, "a"), series(2, "b")],
    });
    assert_eq!(desk.take(&more), Came::Appended);
    assert_eq!(desk.take(&more), Came::Unchanged);
    assert_eq!(
        desk.take(&Record::Batch(batch(2, 1, &[1, 2]))),
        Came::Appended
    );
    assert_eq!(desk.mark().sequence, 2);
}

#[test]
fn a_skip_closes_its_range_and_counts_by_reason() {
    let mut desk = Desk::begun();
    assert_eq!(desk.take(&skip(2, 5, 1, 40)), Came::Appended);
    let mark = desk.mark();
    assert_eq!((mark.sequence, mark.readings_through, mark.crc), (5, 41, 0));
    assert_eq!(mark.dropped[v1::DropReason::SpoolOldest as usize], 40);
    assert_eq!(
        desk.take(&Record::Batch(batch(6, 41, &[1]))),
        Came::Appended
    );
}

#[test]
fn a_late_skip_is_trimmed_to_what_follows() {
    let mut desk = Desk::begun();
    assert_eq!(desk.take(&Record::Batch(batch(2, 1, &[1]))), Came::Appended);
    // The agent gave up 1 to 4 (2 + 30 readings) and did not know that 1 and 2 had arrived.
    assert_eq!(desk.take(&skip(1, 4, 0, 32)), Came::Appended);
    let mark = desk.mark();
    assert_eq!(
        (mark.sequence, mark.readings_through, mark.dropped_total()),
        (4, 32, 30)
    );
}

#[test]
fn a_skip_that_counts_from_elsewhere_is_not_taken() {
    let mut desk = Desk::begun();
    for wrong in [
        skip(2, 3, 0, 5),
        skip(2, 3, 2, 5),
        skip(1, 3, 2, 5),
        skip(1, 3, 0, 0),
    ] {
        let came = desk.take(&wrong);
        assert!(
            matches!(came, Came::Ended(Fault::SkipDisagrees { .. })),
            "{came:?}"
        );
    }
    for nonsense in [skip(0, 3, 1, 5), skip(3, 2, 1, 5), skip(2, u64::MAX, 1, 5)] {
        assert!(matches!(
            desk.take(&nonsense),
            Came::Ended(Fault::Invalid(_))
        ));
    }
    assert_eq!(desk.mark().sequence, 1);
}

#[test]
fn a_skip_without_a_known_reason_is_not_taken() {
    let mut desk = Desk::begun();
    for reason in [0, 99] {
        let mut record = skip(2, 2, 1, 1);
        if let Record::Skip(skip) = &mut record {
            skip.reason = reason;
        }
        assert!(matches!(desk.take(&record), Came::Ended(Fault::Invalid(_))));
    }
}

#[test]
fn readings_nobody_sent_are_taken_with_their_count_and_said_once() {
    let mut desk = Desk::begun();
    let mut jump = |sequence: u64, before: u64| {
        let record = Record::Batch(batch(sequence, before, &[1]));
        let mut readable = read(&record).unwrap();
        let effect = desk.stream.admit(&record, &mut readable).unwrap().unwrap();
        let by = effect.jump;
        let said = desk.stream.accept(effect);
        desk.stream.appended(sequence, 1);
        (by, said)
    };
    assert_eq!(jump(2, 6), (5, true));
    assert_eq!(jump(3, 7), (0, false));
    assert_eq!(jump(4, 5), (-3, false));
    assert_eq!(desk.stream.screen(&skip(5, 5, 6, 1)), Ok(Screened::Wanted));
}

/// Red when `retreat` leaves any of what `accept` has changed.
#[test]
fn what_is_accepted_and_not_appended_has_not_happened() {
    let mut desk = Desk::begun();
    let before = desk.mark();
    let records = |metric: &str| {
        [
            defining(batch(2, 1, &[1, 2]), vec![series(2, metric)]),
            skip(3, 5, 3, 4),
            Record::Close(v1::Close { last_sequence: 5 }),
        ]
    };
    for record in &records("b") {
        assert_eq!(desk.stream.screen(record), Ok(Screened::Wanted));
        let mut readable = read(record).unwrap();
        let effect = desk.stream.admit(record, &mut readable).unwrap();
        desk.stream.accept(effect.unwrap());
    }
    desk.stream.retreat();
    assert!(!desk.stream.is_closed());
    assert_eq!(desk.mark(), before);
    let undefined = Record::Batch(batch(2, 1, &[2]));
    let unknown = Came::Refused(v1::RefusedCode::UnknownSeries);
    assert_eq!(desk.take(&undefined), unknown);
    for record in &records("another meaning") {
        assert_eq!(desk.take(record), Came::Appended);
    }
    assert!(desk.stream.is_closed());
    assert_eq!(desk.mark().sequence, 5);
}

#[test]
fn a_closed_stream_takes_nothing_more() {
    let mut desk = Desk::begun();
    let early = Record::Close(v1::Close { last_sequence: 2 });
    assert!(matches!(
        desk.take(&early),
        Came::Ended(Fault::CloseDisagrees { named: 2, last: 1 })
    ));
    let close = Record::Close(v1::Close { last_sequence: 1 });
    assert_eq!(desk.take(&close), Came::Appended);
    assert!(desk.stream.is_closed());
    assert_eq!(desk.take(&close), Came::Again);
    assert_eq!(desk.take(&Record::Batch(batch(1, 0, &[1]))), Came::Again);
    assert_eq!(
        desk.take(&Record::Batch(batch(2, 1, &[1]))),
        Came::Ended(Fault::Closed(1))
    );
}

#[test]
fn replay_ends_where_the_live_stream_stood() {
    let records = [
        defining(batch(1, 0, &[1]), vec![series(1, "a")]),
        Record::Definitions(v1::Definitions {
            series: vec![series(2, "b")],
        }),
        Record::Batch(batch(2, 1, &[1, 2])),
        skip(3, 4, 3, 9),
        Record::Batch(batch(5, 12, &[2])),
    ];
    let mut live = Desk {
        stream: Stream::default(),
        number: 0,
    };
    let mut replayed = Stream::default();
    for record in &records {
        assert_eq!(live.take(record), Came::Appended);
        replayed.replay(1, record, &[]);
        // A journal can hold a record twice when its commit was not seen to succeed.
        replayed.replay(1, record, &[]);
    }
    assert_eq!(replayed.durable(), live.mark());
    let mut resumed = Desk {
        stream: replayed,
        number: 0,
    };
    assert_eq!(
        resumed.take(&Record::Batch(batch(6, 13, &[1, 2]))),
        Came::Appended
    );
}

#[test]
fn a_hello_is_checked_before_anything_is_looked_up() {
    let good = v1::Hello {
        stream_id: vec![1; 16],
        agent: "edge-1".into(),
        protocol_min: 1,
        protocol_max: 3,
        ..v1::Hello::default()
    };
    assert!(check_hello(&good).is_ok());
    let with = |change: fn(&mut v1::Hello)| {
        let mut hello = good.clone();
        change(&mut hello);
        check_hello(&hello).unwrap_err()
    };
    assert_eq!(
        with(|h| h.protocol_min = 2),
        Fault::Protocol { min: 2, max: 3 }
    );
    assert!(
        with(|h| h.protocol_min = 2)
            .to_string()
            .contains("speaks 1")
    );
    for change in [
        |h: &mut v1::Hello| h.stream_id = vec![1; 15],
        |h: &mut v1::Hello| h.boot_id = vec![1; 3],
        |h: &mut v1::Hello| h.agent.clear(),
        |h: &mut v1::Hello| h.agent = "x".repeat(257),
        |h: &mut v1::Hello| h.agent = "a\nb".into(),
    ] {
        assert!(matches!(with(change), Fault::Invalid(_)));
    }
}

#[test]
fn a_lock_survives_a_panic_of_its_holder() {
    let shared = std::sync::Arc::new(std::sync::Mutex::new(7));
    let held = std::sync::Arc::clone(&shared);
    let panicked = std::thread::spawn(move || {
        let _guard = held.lock().unwrap();
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    assert_eq!(*hold(&shared), 7);
}

#[test]
fn every_drop_reason_has_its_own_count() {
    let known = |number: usize| v1::DropReason::try_from(i32::try_from(number).unwrap()).is_ok();
    assert!((0..REASONS).all(known));
    assert!(
        !known(REASONS),
        "a new reason would be counted as unspecified"
    );
}
