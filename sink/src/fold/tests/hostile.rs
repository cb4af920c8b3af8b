//! A journal of anything: bytes that are no envelope, envelopes that lie, batches whose headers do, at the ends
//! of every number. And snapshots of anything.
//!
//! The fold takes each: it never panics, moves on by one, keeps exactly the rows it counts as stored, sets aside
//! every batch that it books as `fold_error`, and makes a snapshot that it can read. What is stored is held
//! against what the test's own batches contain, by the ledger's counts on one side and the rows on the other.
//!
//! Seen red with: the readings through a batch or a Skip added unchecked (they overflow), no `check` of a batch's
//! columns, `fold_error` not booked, `LatestTable::from_entries` growing to the series an entry names (out of
//! memory).

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use weir_proto::batch::{self, Block, Column, Values};
use weir_proto::v1;
use weir_proto::v1::record::Record as Content;

use super::world::NOON;
use crate::cases;
use crate::catalog::Loaded;
use crate::envelope::{ClockSample, Envelope};
use crate::fold::state::State;
use crate::fold::{prepare, snapshot};
use crate::model::FOLD_ERROR;

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..12_u64, 1 => prop_oneof![Just(u64::MAX), Just(u64::MAX - 1), Just(1 << 63), any::<u64>()]]
}

fn moment() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(NOON), 1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>()]]
}

/// A batch that decodes, of series that may not be defined, under a header that may lie about the rest.
fn batch() -> impl Strategy<Value = Content> {
    let columns = vec((1..5_u32, any::<bool>()), 1..4);
    let times = vec(moment(), 1..4);
    let header = (
        number(),
        number(),
        proptest::option::weighted(0.2, number()),
        number(),
    );
    let header = (
        header,
        vec(any::<u8>(), 0..18),
        proptest::option::weighted(0.1, any::<Index>()),
    );
    (columns, times, header, vec(series(), 0..3)).prop_map(|(columns, times, header, defined)| {
        let ((sequence, before, lie, monotonic), boot, damaged) = header;
        let column = |(series, is_text): &(u32, bool)| Column {
            series: *series,
            values: match is_text {
                true => Values::Texts(vec!["on".into(); times.len()]),
                false => Values::Numbers(vec![1.5; times.len()]),
            },
            present: None,
        };
        let columns: BTreeMap<u32, Column> =
            columns.iter().map(|one| (one.0, column(one))).collect();
        let encoded = batch::encode(&[Block {
            times: times.clone(),
            columns: columns.into_values().collect(),
        }]);
        let mut payload = encoded.payload.to_vec();
        if let Some(at) = damaged {
            let at = at.index(payload.len());
            payload[at] ^= 1;
        }
        let right = encoded.header();
        let header = v1::BatchHeader {
            sequence,
            readings_before: before,
            readings: lie.unwrap_or(right.readings),
            boot_id: boot,
            monotonic_start_ns: monotonic,
            crc: crc32c::crc32c(&payload),
            ..right
        };
        Content::Batch(v1::Batch {
            header: Some(header),
            series_defined: defined,
            payload: payload.into(),
        })
    })
}

fn series() -> impl Strategy<Value = v1::Series> {
    (0..6_u32, 0..7_i32, ".{0,3}").prop_map(|(reference, kind, text)| v1::Series {
        r#ref: reference,
        device: "pump".into(),
        metric: text.clone(),
        kind,
        attributes: BTreeMap::from([(text.clone(), text)]),
        ..v1::Series::default()
    })
}

fn content() -> impl Strategy<Value = Content> {
    let skip = (number(), number(), number(), number(), -1..20_i32);
    prop_oneof![
        5 => batch(),
        2 => vec(series(), 1..6).prop_map(|series| Content::Definitions(v1::Definitions { series })),
        2 => skip.prop_map(|(from, through, readings_before, readings, reason)| {
            Content::Skip(v1::Skip { from, through, readings_before, readings, reason })
        }),
        1 => number().prop_map(|last_sequence| Content::Close(v1::Close { last_sequence })),
    ]
}

/// The bytes of an envelope, perhaps with some of them changed.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let sample = (
        vec(any::<u8>(), 0..18),
        number(),
        moment(),
        moment(),
        any::<bool>(),
    );
    let sample =
        sample.prop_map(
            |(boot, monotonic_ns, agent_ns, sink_ns, own_machine)| ClockSample {
                boot_id: boot.into(),
                monotonic_ns,
                agent_ns,
                sink_ns,
                own_machine,
            },
        );
    let report = (number(), number(), moment());
    let report = report.prop_map(|(produced, spooled, oldest_unacked_ns)| v1::Report {
        produced,
        spooled,
        oldest_unacked_ns,
        ..v1::Report::default()
    });
    let stream =
        prop_oneof![9 => (0..3_u8).prop_map(|id| vec![id; 16]), 1 => vec(any::<u8>(), 0..18)];
    let aside = (
        proptest::option::weighted(0.3, sample),
        proptest::option::weighted(0.3, report),
        proptest::option::weighted(0.1, any::<bool>()),
    );
    let envelope = (stream, moment(), any::<i64>(), content(), aside).prop_map(
        |(stream, received_ns, clock_offset_ns, content, (clock, report, lost))| Envelope {
            unwanted: Vec::new(),
            received_ns,
            tenant: "default".into(),
            agent: "edge".into(),
            stream_id: stream.into(),
            clock_offset_ns,
            report,
            record: v1::Record {
                record: Some(content),
            }
            .encode_to_vec()
            .into(),
            clock,
            lost,
        },
    );
    let damage = vec((any::<Index>(), any::<u8>()), 1..4);
    (envelope, proptest::option::weighted(0.2, damage)).prop_map(|(envelope, damage)| {
        let mut bytes = envelope.encode_to_vec();
        for (at, byte) in damage.into_iter().flatten() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

fn empty() -> State {
    State::load([7; 16], 0, loaded(None)).expect("nothing is wrong with nothing")
}

fn loaded(snapshot: Option<Vec<u8>>) -> Loaded {
    Loaded {
        streams: Vec::new(),
        series: Vec::new(),
        definitions: Vec::new(),
        snapshot: snapshot.map(|body| (snapshot::SNAPSHOT_FORMAT, body)),
        files: Vec::new(),
    }
}

/// As the fold's runner does with a record that it reads from the journal.
fn take(state: &mut State, number: u64, body: Vec<u8>) {
    let body = Bytes::from(body);
    match prepare::arrival(number, crate::envelope::KIND, body.clone()) {
        Ok(arrival) => {
            let known = state.watermark(&arrival.envelope);
            let content = prepare::content(&arrival.envelope, None, known);
            state.apply(number, &arrival.envelope, content);
        }
        Err(error) => state.apply_unreadable(number, body, error),
    }
}

/// Books and rows agree, and all of it can be written down and read again.
fn assert_sound(state: &State, taken: u64) {
    assert_eq!((state.position, state.counts.records), (taken, taken));
    let stored: u64 = state
        .streams
        .iter()
        .map(|stream| stream.ledger.stored)
        .sum();
    assert_eq!(stored, state.current.row_count as u64);
    assert_eq!(stored, state.counts.rows);
    assert_eq!(state.counts.dead_letters, state.current.dead.len() as u64);
    let aside = state.current.dead.iter();
    let aside = aside.fold(0_u64, |sum, letter| sum.saturating_add(letter.readings));
    let dropped = state
        .streams
        .iter()
        .filter_map(|stream| stream.ledger.dropped.get(FOLD_ERROR));
    let dropped = dropped.fold(0_u64, |sum, readings| sum.saturating_add(*readings));
    assert_eq!(aside, dropped, "what is booked as fold_error is set aside");
    let written = snapshot::encode(&state.latest, &state.clocks);
    let read = snapshot::decode(snapshot::SNAPSHOT_FORMAT, &written, state.series.len());
    let (latest, clocks) = read.expect("its own snapshot");
    assert_eq!(snapshot::encode(&latest, &clocks), written);
}

proptest! {
    #![proptest_config(cases::cases(200))]

    #[test]
    fn any_journal_is_folded(bodies in vec(prop_oneof![9 => body(), 1 => vec(any::<u8>(), 0..60)], 1..25)) {
        let mut state = empty();
        for (taken, body) in (1..).zip(bodies) {
            take(&mut state, taken, body);
            assert_sound(&state, taken);
        }
    }

    #[test]
    fn any_snapshot_is_read_or_named_damaged(
        bodies in vec(body(), 1..6),
        damage in vec((any::<Index>(), any::<u8>(), any::<bool>()), 1..4),
        more in vec(body(), 1..4),
    ) {
        let mut state = empty();
        for (taken, body) in (1..).zip(bodies) {
            take(&mut state, taken, body);
        }
        let mut snapshot = snapshot::encode(&state.latest, &state.clocks);
        for (at, byte, cut) in damage {
            let at = at.index(snapshot.len().max(1));
            match cut {
                true => snapshot.truncate(at),
                false => snapshot.splice(at..at, [byte]).for_each(drop),
            }
        }
        // What cannot be read is an error that start-up names; what can be is gone on with.
        if let Ok(mut state) = State::load([7; 16], 0, loaded(Some(snapshot))) {
            for (taken, body) in (1..).zip(more) {
                take(&mut state, taken, body);
                assert_sound(&state, taken);
            }
        }
    }
}

#[test]
fn a_snapshot_of_a_series_that_is_not_there_is_refused() {
    // Entry 1 `series` = 2^32 - 1.
    let body = [0x0a, 6, 0x08, 0xff, 0xff, 0xff, 0xff, 0x0f].to_vec();
    let refused = State::load([7; 16], 0, loaded(Some(body)));
    assert!(refused.is_err_and(|error| error.contains("4294967295")));
}
