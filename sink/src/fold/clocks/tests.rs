//! What the sink makes of agents' clocks. Times are in seconds; the true time at which the machine of
//! `BOOT` started is `TRUE_BOOT`.

use bytes::Bytes;

use super::boot::MAX_SAMPLES;
use super::known::MAX_BOOTS;
use super::*;

const SECOND: i64 = 1_000_000_000;
const TRUE_BOOT: i64 = 1_700_000_000;
const BOOT: u8 = 1;
const DAY: i64 = 86_400;

/// A sample of one agent: its boot, monotonic seconds, how far its clock is ahead of the true time, and
/// how far the sink's is (late counts as ahead).
fn sample(boot: u8, monotonic: i64, agent_ahead: i64, sink_ahead: i64) -> ClockSample {
    ClockSample {
        boot_id: Bytes::copy_from_slice(&[boot; 16]),
        monotonic_ns: (monotonic * SECOND).unsigned_abs(),
        agent_ns: (TRUE_BOOT + monotonic + agent_ahead) * SECOND,
        sink_ns: (TRUE_BOOT + monotonic + sink_ahead) * SECOND,
        own_machine: false,
    }
}

/// A batch of ten seconds, read when the agent's clock was so far ahead.
fn header(monotonic: i64, ahead: i64) -> v1::BatchHeader {
    let first = TRUE_BOOT + monotonic + ahead;
    v1::BatchHeader {
        boot_id: vec![BOOT; 16],
        monotonic_start_ns: (monotonic * SECOND).unsigned_abs(),
        first_ns: first * SECOND,
        last_ns: (first + 10) * SECOND,
        ..Default::default()
    }
}

struct Table(Clocks);

impl Table {
    fn new(samples: &[ClockSample]) -> Self {
        let mut table = Self(Clocks::default());
        for sample in samples {
            table.hear("us", sample);
        }
        table
    }

    fn hear(&mut self, agent: &str, sample: &ClockSample) {
        self.0.take("default", agent, sample);
    }

    /// Quality and shift in seconds of a batch received an hour after it was read.
    fn judge(&mut self, header: &v1::BatchHeader) -> (Quality, i64) {
        let read_at = TRUE_BOOT * SECOND + header.monotonic_start_ns.cast_signed();
        self.judge_at(header, read_at + 3600 * SECOND)
    }

    fn judge_at(&mut self, header: &v1::BatchHeader, received_ns: i64) -> (Quality, i64) {
        let verdict = self
            .0
            .judge((&"default".into(), &"us".into()), 0, header, received_ns);
        (verdict.quality, verdict.shift_ns / SECOND)
    }
}

/// Fails when a verdict without a sample is anything but unknown.
#[test]
fn a_boot_that_never_met_the_sink_is_stored_as_observed_and_unknown() {
    let mut table = Table::new(&[sample(9, 100, 0, 0)]);
    assert_eq!(table.judge(&header(50, 0)), (Quality::Unknown, 0));
    let never_set = header(50, -TRUE_BOOT);
    assert_eq!(table.judge(&never_set), (Quality::Unknown, 0));
    let nameless = v1::BatchHeader {
        boot_id: Vec::new(),
        ..header(50, 0)
    };
    assert_eq!(table.judge(&nameless), (Quality::Unknown, 0));
}

/// Fails when the comparison with the nearest sample is left out.
#[test]
fn a_clock_that_agrees_is_ok_even_with_a_slow_handshake() {
    let mut table = Table::new(&[sample(BOOT, 100, 0, 7)]);
    assert_eq!(table.judge(&header(50, 0)), (Quality::Ok, 0));
    assert_eq!(table.judge(&header(5000, 3)), (Quality::Ok, 0));
}

/// 1970, an hour back, months ahead: each was set right before the agent met the sink. Fails when the
/// shift has the wrong sign.
#[test]
fn readings_before_the_clock_was_set_right_are_moved() {
    for ahead in [-TRUE_BOOT, -3600, 90 * DAY, 60] {
        let mut table = Table::new(&[sample(BOOT, 100, 0, 0)]);
        let moved = table.judge(&header(50, ahead));
        assert_eq!(moved, (Quality::Rebased, -ahead));
        assert_eq!(table.judge(&header(110, 0)), (Quality::Ok, 0));
    }
}

/// The step comes while the call lasts. Fails when samples of two settings are kept as one.
#[test]
fn a_sample_after_the_step_moves_what_no_setting_stands_by() {
    let mut table = Table::new(&[sample(BOOT, 100, 3600, 0)]);
    let early = table.judge(&header(50, 3600));
    assert_eq!(early, (Quality::Suspect, 0), "as long as nobody knows");
    table.hear("us", &sample(BOOT, 120, 0, 0));
    assert_eq!(table.judge(&header(125, 0)), (Quality::Ok, 0));
    assert_eq!(table.judge(&header(60, -50)), (Quality::Rebased, 50));
}

/// Fails when the rule for years before 2000 is left out.
#[test]
fn a_clock_that_was_never_set_is_moved_on_the_sinks_word() {
    let mut table = Table::new(&[sample(BOOT, 100, -TRUE_BOOT, 0)]);
    let moved = table.judge(&header(50, -TRUE_BOOT));
    assert_eq!(moved, (Quality::Rebased, TRUE_BOOT));
}

/// A sink whose own clock is wrong must not move good readings. Fails when `Disagree` moves always.
#[test]
fn where_a_steady_clock_and_the_sink_disagree_nothing_is_moved() {
    for sink_ahead in [-90 * DAY, -3600, 3600, 90 * DAY] {
        let mut table = Table::new(&[sample(BOOT, 100, 0, sink_ahead)]);
        assert_eq!(table.judge(&header(50, 0)), (Quality::Suspect, 0));
    }
}

/// The sink's clock was set wrong while the agent was away. Fails when a sink that others vouch for may
/// overrule an agent it once agreed with.
#[test]
fn a_sink_that_agreed_before_and_was_set_since_moves_nothing() {
    let mut table = Table::new(&[sample(BOOT, 100, 0, 0), sample(BOOT, 5000, 0, 7200)]);
    for other in [2, 3, 4] {
        table.hear(&format!("other {other}"), &sample(other, 100, 0, 0));
    }
    assert_eq!(table.judge(&header(5000, 0)), (Quality::Suspect, 0));
    assert_eq!(table.judge(&header(200, 0)), (Quality::Ok, 0));
}

/// Fails when voices are not counted, or those of the sink's own machine or of clocks that were never
/// set are.
#[test]
fn other_agents_decide_between_a_steady_clock_and_the_sink() {
    let wrong = header(50, 3600);
    let mut table = Table::new(&[sample(BOOT, 100, 3600, 0)]);
    let own = ClockSample {
        own_machine: true,
        ..sample(7, 100, 0, 0)
    };
    table.hear("beside the sink", &own);
    let alone = table.judge(&wrong);
    assert_eq!(
        alone,
        (Quality::Suspect, 0),
        "that one has the sink's clock"
    );
    table.hear("two", &sample(2, 100, 0, 0));
    assert_eq!(table.judge(&wrong), (Quality::Rebased, -3600));
    table.hear("three", &sample(3, 100, 600, 0));
    assert_eq!(
        table.judge(&wrong),
        (Quality::Suspect, 0),
        "one against one"
    );
    table.hear("four", &sample(4, 100, -TRUE_BOOT, 0));
    table.hear("five", &sample(5, 100, 0, 0));
    assert_eq!(table.judge(&wrong), (Quality::Rebased, -3600));
    for boot in [6, 8] {
        table
            .0
            .take("another tenant", "six", &sample(boot, 100, 900, 0));
    }
    assert_eq!(table.judge(&wrong), (Quality::Rebased, -3600));
}

/// A clock nobody sets drifts; what agreed at boot is not `ok` for ever. Fails when any sample that
/// agrees is enough.
#[test]
fn a_slow_drift_is_noticed() {
    let mut table = Table::new(&[sample(BOOT, 100, 0, 0), sample(BOOT, 30 * DAY, 0, 130)]);
    assert_eq!(table.judge(&header(200, 0)), (Quality::Ok, 0));
    assert_eq!(table.judge(&header(30 * DAY, 0)), (Quality::Suspect, 0));
    table.hear("two", &sample(2, 100, 0, 0));
    assert_eq!(table.judge(&header(30 * DAY, 0)), (Quality::Rebased, 130));
}

/// Two calls, one with a slow handshake. Fails when the later sample replaces the earlier.
#[test]
fn of_samples_that_differ_by_a_delay_the_smallest_counts() {
    let ago = -TRUE_BOOT;
    for delays in [[8, 2], [2, 8]] {
        let samples = [
            sample(BOOT, 100, ago, delays[0]),
            sample(BOOT, 160, ago, delays[1]),
        ];
        let mut table = Table::new(&samples);
        let moved = table.judge(&header(50, ago));
        assert_eq!(moved, (Quality::Rebased, TRUE_BOOT + 2));
    }
}

/// Times rise as they were taken although the estimate gets better. Fails when the shift is chosen anew
/// for every batch.
#[test]
fn the_shift_of_a_steady_clock_does_not_tremble() {
    let ago = -TRUE_BOOT;
    let mut table = Table::new(&[sample(BOOT, 100, ago, 6)]);
    let first = table.judge(&header(50, ago));
    assert_eq!(first, (Quality::Rebased, TRUE_BOOT + 6));
    table.hear("us", &sample(BOOT, 160, ago, 0));
    assert_eq!(table.judge(&header(60, ago)), first);
    table.hear("us", &sample(BOOT, 9000, ago, 40));
    let far = table.judge(&header(9000, ago));
    assert_eq!(far, (Quality::Rebased, TRUE_BOOT + 40));
}

/// An older agent's batch may hold readings from both sides of a step: no shift is right for all.
/// Fails when the guard on the batch's end is left out.
#[test]
fn a_batch_across_a_step_is_not_moved_into_the_future() {
    let mut table = Table::new(&[sample(BOOT, 100, 0, 0)]);
    let straddling = v1::BatchHeader {
        last_ns: (TRUE_BOOT + 60) * SECOND,
        ..header(50, -TRUE_BOOT)
    };
    assert_eq!(table.judge(&straddling), (Quality::Unknown, 0));
    let ahead = v1::BatchHeader {
        last_ns: (TRUE_BOOT + 90 * DAY) * SECOND,
        ..header(50, 0)
    };
    assert_eq!(table.judge(&ahead), (Quality::Unknown, 0));
}

#[test]
fn hostile_numbers_do_no_harm() {
    let extremes = [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX];
    let walls = [i64::MIN, i64::MIN + 1, -1, 0, TRUE_BOOT * SECOND, i64::MAX];
    let mut table = Table::new(&[]);
    for monotonic_ns in extremes {
        for (agent_ns, sink_ns) in walls.iter().flat_map(|a| walls.map(|s| (*a, s))) {
            let sample = ClockSample {
                monotonic_ns,
                agent_ns,
                sink_ns,
                ..sample(0, 0, 0, 0)
            };
            table.hear("us", &sample);
            table.hear(
                "them",
                &ClockSample {
                    boot_id: Bytes::from_static(&[1; 16]),
                    ..sample
                },
            );
        }
    }
    for monotonic_start_ns in extremes {
        for (first_ns, last_ns) in walls.iter().flat_map(|a| walls.map(|s| (*a, s))) {
            let header = v1::BatchHeader {
                boot_id: vec![0; 16],
                monotonic_start_ns,
                first_ns,
                last_ns,
                ..Default::default()
            };
            for received_ns in walls {
                table.judge_at(&header, received_ns);
            }
        }
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let mut table = Table::new(&[]);
    for boot in 0..40 {
        for i in 0..100 {
            table.hear("us", &sample(boot, i * 1000, 0, 0));
        }
    }
    let (_, boots) = table.0.known.iter().next().expect("one agent");
    assert_eq!(boots.len(), MAX_BOOTS);
    let samples = &boots.back().expect("boots").samples;
    assert!(samples.len() <= MAX_SAMPLES);
    assert!(samples.is_sorted_by_key(|sample| sample.monotonic_ns));
    let ends = [samples[0], samples[samples.len() - 1]].map(|one| one.monotonic_ns);
    assert_eq!(ends, [0, 99_000 * SECOND.unsigned_abs()]);
}
