//! What a sampler promises, on a paused clock.

use std::sync::atomic::{AtomicI64, Ordering};

use weir_process::metrics::Registry;

use super::*;
use crate::metrics::SamplingMetrics;
use crate::queue::{Overflow, Weight};
use crate::sensors::{Mode, Simulated, Value};

const INTERVAL: Duration = Duration::from_millis(200);
const LIMITS: Limits = Limits {
    readings: 5,
    bytes: 1 << 20,
    age: Duration::from_secs(60),
};

/// A clock that follows tokio's.
struct TokioClock {
    zero: Instant,
    wall_ns: Arc<AtomicI64>,
}

impl Clock for TokioClock {
    fn wall_ns(&self) -> i64 {
        self.wall_ns.load(Ordering::SeqCst) + self.monotonic_ns().cast_signed()
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_nanos()).unwrap()
    }

    fn boot_id(&self) -> [u8; 16] {
        [1; 16]
    }
}

struct Bench {
    queue: Queue<Parcel>,
    registry: Registry,
    metrics: SamplingMetrics,
    state: SharedState,
    token: CancellationToken,
    /// What the wall clock said at the start; storing another value sets the clock.
    wall_ns: Arc<AtomicI64>,
}

impl Bench {
    fn new(limit: Weight) -> Self {
        let registry = Registry::new("weir_agent");
        let metrics = SamplingMetrics::new(&registry, Arc::default());
        let queue = Queue::new(limit, Overflow::Block);
        Self {
            queue,
            registry,
            metrics,
            state: SharedState::default(),
            token: CancellationToken::new(),
            wall_ns: Arc::new(AtomicI64::new(1_700_000_000_000_000_000)),
        }
    }

    fn start(&self, settings: Simulated, limits: Limits) -> tokio::task::JoinHandle<()> {
        let config = SensorConfig {
            name: "simulated".to_owned(),
            kind: Kind::Simulated(settings),
            device: "pump".to_owned(),
            interval: INTERVAL,
        };
        let around = Surroundings {
            queue: self.queue.clone(),
            limits,
            age: Age::new(limits.age),
            clock: Arc::new(TokioClock {
                zero: Instant::now(),
                wall_ns: Arc::clone(&self.wall_ns),
            }),
            metrics: self.metrics.sensor("simulated"),
            state: self.state.clone(),
            phase: Duration::from_millis(30),
        };
        tokio::spawn(Sampler::new(config, around).run(self.token.clone()))
    }

    fn drain(&self) -> Vec<Parcel> {
        std::iter::from_fn(|| self.queue.try_pop()).collect()
    }

    fn metric(&self, line: &str) -> u64 {
        let text = self.registry.encode();
        let found = text
            .lines()
            .find_map(|candidate| candidate.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("{line} is not in:\n{text}"))
    }
}

fn counting() -> Simulated {
    Simulated {
        metrics: 1,
        seed: 1,
        mode: Mode::Count,
        fail_every: 0,
        panic_every: 0,
    }
}

const ROOM: Weight = Weight {
    bytes: usize::MAX,
    readings: u64::MAX,
};

fn times(parcels: &[Parcel]) -> Vec<i64> {
    parcels
        .iter()
        .flat_map(|parcel| &parcel.runs)
        .flat_map(|run| run.times.clone())
        .collect()
}

fn values(parcels: &[Parcel]) -> Vec<Value> {
    parcels
        .iter()
        .flat_map(|parcel| &parcel.runs)
        .flat_map(|run| run.values.clone())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn five_per_second_for_ten_seconds_are_fifty_readings_in_ten_parcels() {
    let bench = Bench::new(ROOM);
    let task = bench.start(counting(), LIMITS);
    tokio::time::sleep(Duration::from_secs(10)).await;
    bench.token.cancel();
    task.await.unwrap();
    let parcels = bench.drain();
    assert_eq!(
        parcels
            .iter()
            .map(|parcel| parcel.readings)
            .collect::<Vec<_>>(),
        [5; 10]
    );
    let times = times(&parcels);
    assert!(
        times.windows(2).all(|pair| pair[0] < pair[1]),
        "times rise strictly"
    );
    assert!(
        times.iter().all(|time| time % 1_000_000 == 0),
        "times are whole milliseconds"
    );
}

/// 1970, then NTP, then an operator sets it back. One parcel, one setting of the clock; and nothing is
/// cut while the clock is only slewed. Fails when [`Buffer::has_room`] looks at sizes alone.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_ends_the_parcel() {
    let bench = Bench::new(ROOM);
    bench.wall_ns.store(0, Ordering::SeqCst);
    let limits = Limits {
        readings: 100,
        ..LIMITS
    };
    let task = bench.start(counting(), limits);
    for set_to in [
        500_000_000,
        1_700_000_000_000_000_000,
        1_699_999_000_000_000_000,
    ] {
        tokio::time::sleep(Duration::from_secs(2)).await;
        bench.wall_ns.store(set_to, Ordering::SeqCst);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    bench.token.cancel();
    task.await.unwrap();
    let parcels = bench.drain();
    let counts: Vec<u64> = parcels.iter().map(|parcel| parcel.readings).collect();
    assert_eq!(counts, [20, 10, 10]);
    for parcel in &parcels {
        let first = parcel.runs[0].times[0];
        assert_eq!(
            first,
            parcel.start.wall_ns - parcel.start.wall_ns % 1_000_000
        );
        let times = times(std::slice::from_ref(parcel));
        assert!(times.is_sorted_by(|a, b| a < b), "times rise strictly");
    }
}

#[tokio::test(start_paused = true)]
async fn hands_over_a_half_full_buffer_when_it_stops() {
    let bench = Bench::new(ROOM);
    let task = bench.start(counting(), LIMITS);
    tokio::time::sleep(INTERVAL * 3).await;
    assert!(bench.drain().is_empty());
    bench.token.cancel();
    task.await.unwrap();
    let numbers = (1..=3)
        .map(|number| Value::Number(f64::from(number)))
        .collect::<Vec<_>>();
    assert_eq!(values(&bench.drain()), numbers);
}

#[tokio::test(start_paused = true)]
async fn hands_over_a_buffer_that_is_old_enough() {
    let bench = Bench::new(ROOM);
    let limits = Limits {
        age: Duration::from_millis(500),
        ..LIMITS
    };
    let _task = bench.start(counting(), limits);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        bench.drain()[0].readings,
        2,
        "250 ms after the first reading"
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_makes_it_miss_ticks_and_count_them() {
    let bench = Bench::new(Weight {
        bytes: usize::MAX,
        readings: 5,
    });
    let task = bench.start(counting(), LIMITS);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let taken = bench
        .drain()
        .iter()
        .map(|parcel| parcel.readings)
        .sum::<u64>();
    assert_eq!(taken, 5, "the second parcel waits at the door");
    tokio::time::sleep(Duration::from_secs(2)).await;
    bench.token.cancel();
    let rest = tokio::spawn({
        let queue = bench.queue.clone();
        async move {
            let mut readings = 0;
            while let Some(parcel) = queue.pop().await {
                readings += parcel.readings;
            }
            readings
        }
    });
    task.await.unwrap();
    bench.queue.close();
    let reads = bench.metric("weir_agent_sensor_reads_total{sensor=\"simulated\"}");
    let missed = bench
        .metric("weir_agent_sensor_missed_ticks_total{sensor=\"simulated\",reason=\"blocked\"}");
    assert_eq!(
        reads,
        taken + rest.await.unwrap(),
        "what was read was handed over"
    );
    assert!(missed > 20, "{missed} ticks were missed");
    assert_eq!(
        reads + missed,
        60,
        "every tick of twelve seconds was read or counted"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failing_sensor_is_reported_and_goes_on() {
    let bench = Bench::new(ROOM);
    let task = bench.start(
        Simulated {
            fail_every: 4,
            ..counting()
        },
        LIMITS,
    );
    tokio::time::sleep(Duration::from_secs(4)).await;
    bench.token.cancel();
    task.await.unwrap();
    let errors =
        bench.metric("weir_agent_sensor_errors_total{sensor=\"simulated\",kind=\"error\"}");
    assert_eq!(errors, 5, "every fourth of twenty reads");
    assert_eq!(
        bench
            .drain()
            .iter()
            .map(|parcel| parcel.readings)
            .sum::<u64>(),
        15
    );
    assert_eq!(
        bench.state.get().last_error.unwrap(),
        "simulated failure of read 20"
    );
}

#[tokio::test(start_paused = true)]
async fn a_panicking_sensor_is_opened_anew() {
    let bench = Bench::new(ROOM);
    let task = bench.start(
        Simulated {
            panic_every: 3,
            ..counting()
        },
        LIMITS,
    );
    tokio::time::sleep(INTERVAL * 9).await;
    bench.token.cancel();
    task.await.unwrap();
    let read: Vec<Value> = values(&bench.drain());
    assert_eq!(
        read,
        [1.0, 2.0, 1.0, 2.0, 1.0, 2.0].map(Value::Number),
        "a new sensor counts from the start"
    );
    assert_eq!(
        bench.metric("weir_agent_sensor_errors_total{sensor=\"simulated\",kind=\"panic\"}"),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn a_sensor_that_always_fails_is_left_alone_for_longer_and_longer() {
    let bench = Bench::new(ROOM);
    let task = bench.start(
        Simulated {
            fail_every: 1,
            ..counting()
        },
        LIMITS,
    );
    tokio::time::sleep(Duration::from_secs(100)).await;
    bench.token.cancel();
    task.await.unwrap();
    let errors =
        bench.metric("weir_agent_sensor_errors_total{sensor=\"simulated\",kind=\"error\"}");
    let down =
        bench.metric("weir_agent_sensor_missed_ticks_total{sensor=\"simulated\",reason=\"down\"}");
    assert!((8..14).contains(&errors), "{errors} tries in 100 s");
    assert_eq!(down, 500, "every tick counts as missed");
}

#[test]
fn pauses_double_up_to_their_ceiling() {
    let pauses: Vec<u64> = (1..10)
        .map(|failures| pause(Duration::from_secs(1), failures).as_secs())
        .collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30, 30]);
    assert_eq!(pause(Duration::from_secs(60), 5), Duration::from_secs(60));
}

#[test]
fn times_rise_strictly_unless_the_clock_is_set_back() {
    let ms = 1_000_000;
    let mut times = Times::new(INTERVAL);
    assert_eq!(times.next(100 * ms + 7), 100 * ms);
    assert_eq!(times.next(100 * ms + 9), 101 * ms, "within one millisecond");
    assert_eq!(times.next(50 * ms), 102 * ms, "a small step back");
    assert_eq!(
        times.next(-10_000 * ms),
        -10_000 * ms,
        "a large step back is what the clock says"
    );
    assert_eq!(
        Times::new(Duration::from_millis(10)).next(1_234_567),
        1_234_000
    );
}
