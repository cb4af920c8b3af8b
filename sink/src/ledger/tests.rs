//! One line of the ledger from both of its views.

use super::*;
use crate::ingest::Seen;
use crate::model::{StreamId, StreamKey};

const ID: StreamId = StreamId([9; 16]);

fn view(sequence: u64, readings_through: u64, skipped: u64) -> StreamView {
    let mut durable = Mark {
        sequence,
        readings_through,
        ..Mark::default()
    };
    durable.dropped[v1::DropReason::Refused as usize] = skipped;
    StreamView {
        key: StreamKey::new("default", ID),
        durable,
        closed: false,
        seen: Seen {
            agent: "edge".into(),
            ..Seen::default()
        },
    }
}

fn folded(watermark: u64, readings_through: u64, stored: u64) -> StreamLedger {
    StreamLedger {
        watermark,
        readings_through,
        stored,
        ..StreamLedger::new("default".into(), "edge".into(), ID, 0)
    }
}

/// Seen red with: the sums of `Ledger::new` made by `+=`.
#[test]
fn whatever_agents_report_has_a_ledger() {
    let mut views = Vec::new();
    for number in 0..3 {
        let mut view = view(u64::MAX - 1, u64::MAX, u64::MAX);
        view.durable.dropped = [u64::MAX; crate::ingest::REASONS];
        view.key = StreamKey::new("default", StreamId([number; 16]));
        let report = v1::Report {
            produced: u64::MAX,
            spooled: u64::MAX,
            oldest_unacked_ns: i64::MIN,
            missed_ticks: u64::MAX,
            ..v1::Report::default()
        };
        view.seen.report = Some((report, i64::MIN));
        view.seen.clock_offset_ns = i64::MIN;
        views.push(view);
    }
    let folded = vec![folded(1, 1, u64::MAX)];
    let ledger = Ledger::new(lines(folded, &views, i64::MAX));
    assert_eq!(ledger.totals.produced, u64::MAX);
    assert_eq!(ledger.totals.dropped, u64::MAX);
}

fn closes(line: &Line) -> bool {
    let right = line.stored + line.spooled + line.dropped_total();
    i128::from(line.produced) == i128::from(right) + i128::from(line.unexplained)
}

#[test]
fn closes_while_the_fold_is_behind() {
    // 100 folded, then a batch of 50 and a skip of 7 that are only journaled.
    let lines = lines(vec![folded(1, 100, 100)], &[view(3, 157, 7)], 0);
    let line = &lines[0];
    assert_eq!(
        (line.produced, line.stored, line.pending_fold),
        (157, 150, 50)
    );
    assert_eq!(line.dropped["refused"], 7);
    assert!(closes(line), "{line:?}");
}

#[test]
fn closes_when_the_fold_is_a_moment_ahead() {
    let lines = lines(vec![folded(2, 30, 30)], &[view(1, 10, 0)], 0);
    assert_eq!(
        (lines[0].produced, lines[0].stored, lines[0].pending_fold),
        (30, 30, 0)
    );
    assert_eq!(lines[0].durable_through, 2);
    assert!(closes(&lines[0]));
}

#[test]
fn a_stream_that_was_never_folded_is_all_pending() {
    let lines = lines(Vec::new(), &[view(4, 40, 0)], 0);
    assert_eq!((lines[0].stored, lines[0].pending_fold), (40, 40));
    assert!(closes(&lines[0]));
}

#[test]
fn a_loss_is_unexplained_to_the_reading_and_shows_in_the_totals() {
    let mut other = folded(1, 10, 13);
    other.stream_id = StreamId([1; 16]);
    let mut twice = view(1, 10, 0);
    twice.key.id = other.stream_id;
    let lines = lines(
        vec![folded(3, 100, 97), other],
        &[view(3, 100, 0), twice],
        0,
    );
    let unexplained: Vec<i64> = lines.iter().map(|line| line.unexplained).collect();
    assert_eq!(unexplained, [-3, 3]);
    let totals = Ledger::new(lines).totals;
    assert_eq!((totals.unexplained, totals.unexplained_streams), (0, 2));
}

#[test]
fn what_the_agent_reports_beyond_the_watermark_is_spooled() {
    let mut view = view(5, 50, 0);
    view.seen.clock_offset_ns = 2_000_000_000;
    let report = v1::Report {
        produced: 80,
        spooled: 30,
        oldest_unacked_ns: 10_000_000_000,
        missed_ticks: 4,
        ..Default::default()
    };
    view.seen.report = Some((report, 17_000_000_000));
    let line = lines(vec![folded(5, 50, 50)], &[view], 19_500_000_000).remove(0);
    assert_eq!(
        (line.produced, line.spooled, line.missed_ticks),
        (80, 30, 4)
    );
    assert_eq!(line.oldest_unacked_age_seconds, 7.5);
    assert_eq!(line.report_age_seconds, Some(2.5));
    assert!(closes(&line));
}

/// Fails when the remainder of a lost spool stays `spooled`, or is counted in both.
#[test]
fn what_a_lost_spool_held_is_dropped_and_the_line_closes() {
    let mut view = view(4, 40, 5);
    let report = v1::Report {
        produced: 100,
        ..v1::Report::default()
    };
    view.seen.report = Some((report, 0));
    let lost = StreamLedger {
        lost_at_ns: 7,
        dropped: BTreeMap::from([("refused".to_owned(), 5)]),
        ..folded(4, 40, 35)
    };
    let held = StreamLedger {
        lost_at_ns: 0,
        ..lost.clone()
    };
    let of = |ledger: StreamLedger| lines(vec![ledger], &[view.clone()], 0).remove(0);
    let (lost, held) = (of(lost), of(held));
    assert_eq!((lost.spooled, lost.dropped["spool_lost"]), (0, 60));
    assert_eq!((held.spooled, held.dropped.get("spool_lost")), (60, None));
    assert_eq!((lost.stored, lost.dropped_total()), (35, 65));
    assert!(closes(&lost) && closes(&held));
}

/// Fails when what a closed stream does not hold stays `spooled`.
#[test]
fn what_a_stream_was_closed_without_is_lost() {
    let mut view = view(4, 40, 0);
    let report = v1::Report {
        produced: 100,
        ..v1::Report::default()
    };
    view.seen.report = Some((report, 0));
    view.closed = true;
    let line = lines(vec![folded(4, 40, 40)], &[view], 0).remove(0);
    assert_eq!((line.spooled, line.dropped["spool_lost"]), (0, 60));
    assert!(closes(&line));
}
