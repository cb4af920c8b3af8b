//! One task per sensor: reads it on time, and keeps going whatever the sensor does.
//!
//! In: ticks of the sensor's interval. Out: parcels into the queue, when the sensor's buffer is full or old enough, and
//! when the agent stops. Ticks that come too late are skipped and counted, never made up for. A sensor that fails or panics
//! is reported, left alone for a while that doubles with every failure in a row, and opened anew; the others do not
//! notice. A read runs on the agent's one thread, because all sensors answer within a fraction of a millisecond; how long
//! each takes is a metric.
//!
//! Observed times are cut to what the interval can mean (1 ms, or 1 us below 100 ms), and rise strictly, unless the clock
//! is set back by more than an interval or a second: then they say what the clock says. A buffer never holds readings from
//! both sides of such a step.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;
use weir_process::clock::Clock;
use weir_process::logging::Throttle;

use crate::buffer::{self, Age, Buffer, Limits, Parcel, Start};
use crate::metrics::{Missed, SensorMetrics};
use crate::queue::Queue;
use crate::sensors::{self, Kind, Moment, Scrape, Sensor};

#[cfg(test)]
mod tests;

/// A sensor that keeps failing is tried again at least this often.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A scrape that takes more than this cannot be sent in one batch.
pub(crate) const MAX_SCRAPE_BYTES: usize = 3 << 20;

/// One configured sensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SensorConfig {
    /// Its name, unique; the `source` of its series.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// What it reads.
    pub(crate) device: String,
    /// How often it is read.
    pub(crate) interval: Duration,
}

/// What a sensor does, for the status page.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SensorState {
    /// Ticks that came: readings or not, the sampler is at work.
    pub(crate) ticks: u64,
    /// Reads that gave readings.
    pub(crate) reads: u64,
    /// Reads that did not.
    pub(crate) failures: u64,
    /// Failures since the last read that gave readings.
    pub(crate) failures_in_a_row: u32,
    /// What the last failure said.
    pub(crate) last_error: Option<String>,
    /// When the last reading was taken; 0 when there is none.
    pub(crate) last_read_ns: i64,
    /// Series of the last read.
    pub(crate) series: usize,
}

/// A sensor's state, shared with the status page.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedState(Arc<Mutex<SensorState>>);

impl SharedState {
    /// As it is now.
    pub(crate) fn get(&self) -> SensorState {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, SensorState> {
        // Every change is one field: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a sampler works with.
pub(crate) struct Surroundings {
    /// Where parcels go.
    pub(crate) queue: Queue<Parcel>,
    /// When a buffer's readings move on.
    pub(crate) limits: Limits,
    /// How old a batch may become.
    pub(crate) age: Age,
    /// What time it is.
    pub(crate) clock: Arc<dyn Clock>,
    /// What is counted.
    pub(crate) metrics: SensorMetrics,
    /// What the status page shows.
    pub(crate) state: SharedState,
    /// When the first tick is, from now; at random, so that many agents do not beat in step.
    pub(crate) phase: Duration,
}

/// Reads one sensor.
pub(crate) struct Sampler {
    config: SensorConfig,
    around: Surroundings,
    buffer: Buffer,
    sensor: Option<Box<dyn Sensor>>,
    times: Times,
    resume_at: Option<Instant>,
    last_tick: Option<Instant>,
    throttle: Throttle,
}

impl Sampler {
    /// Nothing is read or opened yet.
    pub(crate) fn new(config: SensorConfig, around: Surroundings) -> Self {
        Self {
            buffer: Buffer::new(around.limits),
            times: Times::new(config.interval),
            config,
            around,
            sensor: None,
            resume_at: None,
            last_tick: None,
            throttle: Throttle::new(Duration::from_secs(10)),
        }
    }

    /// Reads until the token is cancelled, then hands over what the buffer holds.
    pub(crate) async fn run(mut self, token: CancellationToken) {
        let mut ticks = interval_at(Instant::now() + self.around.phase, self.config.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let due = self.buffer.due_at(&self.around.age);
            tokio::select! {
                biased;
                () = token.cancelled() => break,
                tick = ticks.tick() => self.tick(tick).await,
                () = until(due) => self.hand_over().await,
            }
        }
        // A sampler that was held up when the stop came has ticks behind it that no tick will count.
        let missed = self
            .last_tick
            .map_or(0, |last| self.ticks_between(last, Instant::now()));
        self.around.metrics.missed(missed, Missed::Blocked);
        self.hand_over().await;
        tracing::debug!(sensor = %self.config.name, "sampler stopped");
    }

    async fn tick(&mut self, tick: Instant) {
        self.around.state.lock().ticks += 1;
        let skipped = self.skipped(tick);
        self.around.metrics.missed(skipped, Missed::Blocked);
        if self.resume_at.is_some_and(|resume_at| tick < resume_at) {
            self.around.metrics.missed(1, Missed::Down);
            return;
        }
        let moment = Moment {
            wall_ns: self.around.clock.wall_ns(),
            monotonic_ns: self.around.clock.monotonic_ns(),
        };
        let begun = Instant::now();
        let outcome = self.read(moment);
        self.around.metrics.took(begun.elapsed());
        match outcome {
            Ok(scrape) => self.keep(moment, scrape).await,
            Err(failure) => self.fail(tick, failure),
        }
    }

    /// Ticks that were skipped between the last one and this one.
    fn skipped(&mut self, tick: Instant) -> u64 {
        let half = self.config.interval / 2;
        let last = self.last_tick.replace(tick);
        last.map_or(0, |last| self.ticks_between(last, tick + half))
            .saturating_sub(1)
    }

    fn ticks_between(&self, last: Instant, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(last).as_nanos();
        u64::try_from(passed / self.config.interval.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    /// Opens the sensor where it is not open, and reads it. A panic costs the sensor and nothing else.
    fn read(&mut self, moment: Moment) -> Result<Scrape, Failure> {
        let config = &self.config;
        let slot = &mut self.sensor;
        let attempt = AssertUnwindSafe(|| {
            let _guard = Guard::enter();
            if slot.is_none() {
                *slot = Some(sensors::open(&config.kind, &config.name, &config.device)?);
            }
            slot.as_mut()
                .expect("the sensor was opened above")
                .read(moment)
        });
        let scrape = match catch_unwind(attempt) {
            Ok(Ok(scrape)) => scrape,
            Ok(Err(error)) => {
                return Err(Failure {
                    kind: "error",
                    text: error.to_string(),
                });
            }
            Err(panic) => {
                self.sensor = None;
                return Err(Failure {
                    kind: "panic",
                    text: format!("panicked: {}", panic_text(&*panic)),
                });
            }
        };
        let bytes = buffer::bytes(&scrape);
        if bytes > MAX_SCRAPE_BYTES {
            let text = format!(
                "read {bytes} bytes at once, more than the {MAX_SCRAPE_BYTES} that fit a batch"
            );
            return Err(Failure {
                kind: "error",
                text,
            });
        }
        Ok(scrape)
    }

    async fn keep(&mut self, moment: Moment, scrape: Scrape) {
        self.resume_at = None;
        let time_ns = self.times.next(moment.wall_ns);
        let readings = scrape.values.len() as u64;
        self.around.metrics.read(readings);
        let recovered = {
            let mut state = self.around.state.lock();
            state.reads += 1;
            state.last_read_ns = time_ns;
            state.series = scrape.values.len();
            std::mem::take(&mut state.failures_in_a_row)
        };
        if recovered > 1 {
            tracing::info!(sensor = %self.config.name, failures = recovered, "sensor reads again");
        }
        let start = Start {
            at: Instant::now(),
            monotonic_ns: moment.monotonic_ns,
            wall_ns: moment.wall_ns,
        };
        if !self.buffer.has_room(&start, &scrape) {
            self.hand_over().await;
        }
        self.buffer.add(time_ns, start, scrape);
        // Looked at here as well: a sensor that is always due leaves no time between its ticks.
        let due = self
            .buffer
            .due_at(&self.around.age)
            .is_some_and(|due| due <= Instant::now());
        if due || self.buffer.is_full() {
            self.hand_over().await;
        }
    }

    fn fail(&mut self, tick: Instant, failure: Failure) {
        self.around.metrics.failed(failure.kind);
        self.around.metrics.missed(1, Missed::Down);
        let failures = {
            let mut state = self.around.state.lock();
            state.failures += 1;
            state.failures_in_a_row = state.failures_in_a_row.saturating_add(1);
            state.last_error = Some(failure.text.clone());
            state.failures_in_a_row
        };
        let pause = pause(self.config.interval, failures);
        // A little before the tick that is meant, which may come a hair early.
        self.resume_at = Some(tick + pause - self.config.interval / 2);
        // One failure may be an accident; a sensor that fails again is opened anew.
        if failures > 1 {
            self.sensor = None;
        }
        if let Some(held) = self.throttle.permit(self.around.clock.monotonic_ns()) {
            tracing::warn!(
                sensor = %self.config.name,
                error = %failure.text,
                failures,
                retry_in = ?pause,
                held_back = held,
                "sensor failed, other sensors go on"
            );
        }
    }

    async fn hand_over(&mut self) {
        let Some(parcel) = self.buffer.take() else {
            return;
        };
        let (readings, weight) = (parcel.readings, parcel.weight());
        if self.around.queue.push(parcel, weight).await.is_err() {
            self.around.metrics.abandoned(readings);
            tracing::error!(sensor = %self.config.name, readings, "readings lost: the agent had to stop before they were stored");
        }
    }
}

/// Why a read gave nothing.
struct Failure {
    kind: &'static str,
    text: String,
}

thread_local! {
    static READING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside a sensor's read, whose panic is the sampler's to report.
pub(crate) fn is_reading() -> bool {
    READING.get()
}

/// Marks the time inside a sensor.
struct Guard;

impl Guard {
    fn enter() -> Self {
        READING.set(true);
        Self
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        READING.set(false);
    }
}

/// How long a sensor is left alone after so many failures in a row: an interval, doubled each time.
fn pause(interval: Duration, failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures.saturating_sub(1).min(20));
    interval
        .saturating_mul(factor)
        .min(LONGEST_PAUSE.max(interval))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no reason given".to_owned())
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Observed times of one sensor: cut to a resolution, and rising.
#[derive(Debug)]
struct Times {
    resolution_ns: i64,
    /// Clocks that go back by less do not show.
    rises_within_ns: i64,
    last_ns: Option<i64>,
}

impl Times {
    fn new(interval: Duration) -> Self {
        let resolution_ns = if interval >= Duration::from_millis(100) {
            1_000_000
        } else {
            1_000
        };
        let rises_within = interval.min(Duration::from_secs(1));
        Self {
            resolution_ns,
            rises_within_ns: i64::try_from(rises_within.as_nanos()).unwrap_or(i64::MAX),
            last_ns: None,
        }
    }

    fn next(&mut self, wall_ns: i64) -> i64 {
        let cut = wall_ns - wall_ns.rem_euclid(self.resolution_ns);
        let time = match self.last_ns {
            Some(last) if cut <= last && last - cut < self.rises_within_ns => {
                last + self.resolution_ns
            }
            _ => cut,
        };
        self.last_ns = Some(time);
        time
    }
}
