//! From parcels to batches.
//!
//! In: the parcels of all sensors, from the queue. Out: drafts for the spool, each encoded once. A batch is full at
//! `batch.max_readings` or `batch.max_bytes`, and due when its first reading is as old as [`Age`] says; what came together by
//! then leaves together. Scrapes of one shape become one block with several times, whatever parcels they came in. When the
//! time of day was set, a batch ends: its header relates one time of day to one monotonic time, for all its readings.
//!
//! [`Assembler`] thinks, [`Batcher`] waits. Promises: no reading is in two batches; what the queue gave up is reported to the
//! spool; a series is defined in the first batch that uses it.

mod dictionary;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use weir_fault::{Point, point};
use weir_proto::batch::{Block, Column, Values, encode};
use weir_proto::{limits, v1};

use crate::buffer::{Age, Limits, Parcel, Run, Start};
use crate::metrics::SamplingMetrics;
use crate::queue::Queue;
use crate::sensors::Value;
use crate::spool::{Appended, Draft, Spool, SpoolError};
use dictionary::Dictionary;

/// Puts parcels together until a batch is full or due.
pub(crate) struct Assembler {
    limits: Limits,
    dictionary: Dictionary,
    runs: Vec<Run>,
    readings: u64,
    bytes: usize,
    start: Option<Start>,
}

/// What became of the readings of a batch.
pub(crate) struct Batch {
    /// For the spool; None when no reading was acceptable.
    pub(crate) draft: Option<Draft>,
    /// Readings of series or with values that no sink accepts.
    pub(crate) refused: u64,
}

impl Assembler {
    /// Nothing is there, and no series is defined.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            dictionary: Dictionary::default(),
            runs: Vec::new(),
            readings: 0,
            bytes: 0,
            start: None,
        }
    }

    /// Whether a parcel fits beside what is there: never when the time of day was set in between. One that is too large by
    /// itself fits when nothing is.
    pub(crate) fn has_room(&self, parcel: &Parcel) -> bool {
        self.start.is_none_or(|start| {
            self.readings + parcel.readings <= self.limits.readings
                && self.bytes + parcel.bytes <= self.limits.bytes
                && !start.is_parted_from(&parcel.start)
        })
    }

    /// By how many seconds the time of day was set between what is there and the parcel, if it was.
    fn stepped_by(&self, parcel: &Parcel) -> Option<f64> {
        let start = self
            .start
            .filter(|start| start.is_parted_from(&parcel.start))?;
        Some((parcel.start.boot_ns() - start.boot_ns()) as f64 / 1e9)
    }

    /// Puts a parcel in, whatever the limits say.
    pub(crate) fn add(&mut self, parcel: Parcel) {
        self.readings += parcel.readings;
        self.bytes += parcel.bytes;
        let earlier = |known: Start| {
            if parcel.start.at < known.at {
                parcel.start
            } else {
                known
            }
        };
        self.start = Some(self.start.map_or(parcel.start, earlier));
        for run in parcel.runs {
            match self
                .runs
                .iter_mut()
                .find(|known| Arc::ptr_eq(&known.shape, &run.shape))
            {
                Some(known) => {
                    known.times.extend(run.times);
                    known.values.extend(run.values);
                }
                None => self.runs.push(run),
            }
        }
    }

    /// Whether what is there has reached a limit of size.
    pub(crate) fn is_full(&self) -> bool {
        self.readings >= self.limits.readings || self.bytes >= self.limits.bytes
    }

    /// When what is there must leave, as a batch of this age.
    pub(crate) fn due_at(&self, age: &Age) -> Option<Instant> {
        self.start.map(|start| start.at + age.get())
    }

    /// Makes a batch of everything that is there.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        let start = self.start.take()?;
        self.bytes = 0;
        let offered = std::mem::take(&mut self.readings);
        let runs = std::mem::take(&mut self.runs);
        let blocks: Vec<Block> = runs.into_iter().filter_map(|run| self.block(run)).collect();
        if blocks.is_empty() {
            return Some(Batch {
                draft: None,
                refused: offered,
            });
        }
        let encoded = encode(&blocks);
        let refused = offered - encoded.readings;
        let series_defined = self.dictionary.take_new();
        // Not of what was refused: the header speaks of the first reading that is in it.
        let first_ns = encoded.first_ns;
        let draft = Draft {
            encoded,
            series_defined,
            monotonic_start_ns: start.monotonic_at(first_ns),
        };
        Some(Batch {
            draft: Some(draft),
            refused,
        })
    }

    fn block(&mut self, run: Run) -> Option<Block> {
        let refs = self.dictionary.refs(&run.shape);
        let width = refs.len();
        let mut builders: Vec<Option<Builder>> = Vec::with_capacity(width);
        for (series, definition) in refs.iter().zip(&run.shape.series) {
            builders.push(
                series.map(|series| Builder::new(series, definition.kind(), run.times.len())),
            );
        }
        for (place, value) in run.values.into_iter().enumerate() {
            if let Some(builder) = &mut builders[place % width] {
                builder.push(value);
            }
        }
        let columns: Vec<Column> = builders
            .into_iter()
            .flatten()
            .filter_map(Builder::finish)
            .collect();
        (!columns.is_empty()).then_some(Block {
            times: run.times,
            columns,
        })
    }
}

/// One column as it grows.
struct Builder {
    series: u32,
    values: Values,
    present: Vec<bool>,
}

impl Builder {
    fn new(series: u32, kind: v1::Kind, moments: usize) -> Self {
        let values = match kind {
            v1::Kind::Text => Values::Texts(Vec::with_capacity(moments)),
            _ => Values::Numbers(Vec::with_capacity(moments)),
        };
        Self {
            series,
            values,
            present: Vec::with_capacity(moments),
        }
    }

    /// A value that is not of the series' kind, or too long a text, is absent.
    fn push(&mut self, value: Value) {
        let accepted = match (&mut self.values, value) {
            (Values::Numbers(numbers), Value::Number(number)) => {
                numbers.push(number);
                true
            }
            (Values::Texts(texts), Value::Text(text)) if text.len() <= limits::MAX_TEXT_BYTES => {
                texts.push(text.into());
                true
            }
            _ => false,
        };
        self.present.push(accepted);
    }

    fn finish(self) -> Option<Column> {
        let Self {
            series,
            values,
            present,
        } = self;
        let complete = present.iter().all(|present| *present);
        let column = Column {
            series,
            values,
            present: (!complete).then_some(present),
        };
        (!column.values.is_empty()).then_some(column)
    }
}

/// Puts the batches that come out of an assembler into the spool.
pub(crate) struct Batcher {
    /// Where parcels come from.
    pub(crate) queue: Queue<Parcel>,
    /// What makes batches of them.
    pub(crate) assembler: Assembler,
    /// How old a batch may become.
    pub(crate) age: Age,
    /// Where batches go.
    pub(crate) spool: Spool,
    /// What is counted.
    pub(crate) metrics: SamplingMetrics,
    /// Says that the agent is to stop.
    pub(crate) stop: CancellationToken,
    /// How long a full spool may hold up a stop. What has no room then is dropped, and counted.
    pub(crate) patience: Duration,
}

impl Batcher {
    /// Takes parcels until the queue is closed and empty.
    ///
    /// # Errors
    /// The spool accepts nothing any more.
    pub(crate) async fn run(mut self) -> Result<(), SpoolError> {
        let mut open = true;
        while open {
            tokio::select! {
                biased;
                parcel = self.queue.pop() => match parcel {
                    Some(parcel) => self.collect(parcel).await?,
                    None => open = false,
                },
                () = until(self.assembler.due_at(&self.age)) => {}
            }
            let now = Instant::now();
            let due = self.assembler.due_at(&self.age);
            if !open || due.is_some_and(|due| due <= now) {
                self.store().await?;
            }
            self.report_drops().await;
        }
        Ok(())
    }

    /// Takes everything that waits in the queue, storing each batch that fills up on the way.
    async fn collect(&mut self, first: Parcel) -> Result<(), SpoolError> {
        let mut next = Some(first);
        while let Some(parcel) = next {
            if let Some(seconds) = self.assembler.stepped_by(&parcel) {
                tracing::warn!(seconds, "the time of day was set: a new batch begins");
            }
            if !self.assembler.has_room(&parcel) {
                self.store().await?;
            }
            self.assembler.add(parcel);
            if self.assembler.is_full() {
                self.store().await?;
            }
            next = self.queue.try_pop();
        }
        Ok(())
    }

    async fn store(&mut self) -> Result<(), SpoolError> {
        let Some(Batch { draft, refused }) = self.assembler.take() else {
            return Ok(());
        };
        self.metrics.refused(refused);
        let Some(draft) = draft else { return Ok(()) };
        let (readings, bytes) = (draft.encoded.readings, draft.encoded.payload.len());
        let new_series = draft.series_defined.len();
        point(Point::AgentBatched);
        match self.append(draft).await? {
            Appended::Stored { sequence } => {
                point(Point::AgentAppended);
                self.metrics.batched(readings, bytes);
                tracing::debug!(sequence, readings, bytes, new_series, "batch spooled");
            }
            Appended::Dropped => tracing::debug!(readings, "batch dropped: the spool is full"),
        }
        Ok(())
    }

    async fn append(&mut self, draft: Draft) -> Result<Appended, SpoolError> {
        let held_up = async {
            self.stop.cancelled().await;
            sleep(self.patience).await;
        };
        tokio::select! {
            biased;
            appended = self.spool.append(draft.clone()) => return appended,
            () = held_up => {}
        }
        let readings = draft.encoded.readings;
        tracing::error!(
            readings,
            "readings dropped: the spool is full and the agent has to stop"
        );
        self.spool.lose_newest(draft);
        // Those that follow find room at once or not at all.
        self.patience = Duration::ZERO;
        Ok(Appended::Dropped)
    }

    async fn report_drops(&self) {
        let drops = self.queue.take_drops();
        let reasons = [
            (v1::DropReason::QueueOldest, drops.oldest),
            (v1::DropReason::QueueNewest, drops.newest),
        ];
        for (reason, readings) in reasons {
            if readings > 0 {
                self.spool.record_drop(reason, readings).await;
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
