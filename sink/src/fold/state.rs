//! What the fold knows: streams, series, rows not yet in files, latest values.
//!
//! [`State::apply`] is the fold itself: it looks at nothing but the record and the state, so
//! that the same journal always gives the same result. It does not fail half way: whatever
//! could be wrong with a record was found before anything changed. What the program itself does
//! wrong ends in a new beginning: see [`super::caution`].

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use weir_fault::{Mutant, mutant};
use weir_proto::batch::Readings;
use weir_proto::v1;

use super::buffers::{Buffers, Target, check};
use super::caution::{Caution, Underway};
use super::clocks::Clocks;
use super::latest::LatestTable;
use super::prepare::Content;
use super::readings::Origin;
use super::series::SeriesTable;
use super::snapshot;
use super::view::FrozenRows;
use crate::catalog::{DataFile, Loaded, StreamLedger};
use crate::envelope::{self, Envelope};
use crate::model::{FOLD_ERROR, StreamKey, drop_reason_name};
use crate::refs::Refs;

/// A stream and what its refs mean.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) ledger: StreamLedger,
    pub(super) refs: Refs<Target>,
    /// Refs may be missing: the catalog has them.
    pub(super) is_forgotten: bool,
}

/// Counts for metrics, since the process started.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FoldCounts {
    /// Journal records folded.
    pub records: u64,
    /// Readings folded into rows.
    pub rows: u64,
    /// Of these, those whose times were moved.
    pub rebased: u64,
    /// Of these, those whose clock disagrees with the sink's.
    pub suspect: u64,
    /// Of these, those of whose clock nothing is known.
    pub unknown: u64,
    /// Readings in records at or below a watermark.
    pub duplicates: u64,
    /// Records set aside.
    pub dead_letters: u64,
    /// Places where a stream's counts do not follow each other.
    pub gaps: u64,
    /// Journal numbers that could not be read.
    pub journal_lost: u64,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) journal_id: [u8; 16],
    /// Everything through this journal number is in here.
    pub(crate) position: u64,
    /// Moves with every change that a view would show.
    pub(crate) version: u64,
    pub(crate) streams: Vec<Stream>,
    pub(super) numbers: HashMap<StreamKey, u32>,
    /// Those that have refs.
    pub(super) defined: BTreeSet<u32>,
    /// The latest time at which a record was received.
    pub(super) newest_ns: i64,
    /// The same when refs were last forgotten.
    pub(super) forgot_at_ns: i64,
    /// The stream of the last record, most often the next one's too; nothing once its change is frozen.
    pub(super) last: Option<(StreamKey, u32)>,
    pub(crate) series: SeriesTable,
    /// Series below this number are in the catalog, or on their way there.
    pub(crate) series_frozen: usize,
    pub(crate) latest: LatestTable,
    pub(crate) clocks: Clocks,
    pub(crate) current: Buffers,
    /// Rows on their way into files.
    pub(crate) frozen: FrozenRows,
    pub(crate) frozen_bytes: usize,
    pub(crate) files: Arc<Vec<DataFile>>,
    pub(crate) counts: FoldCounts,
    pub(super) caution: Caution,
    /// The batch that is taken in, or was last.
    pub(super) underway: Option<Underway>,
}

impl State {
    /// The state at the committed position. An error names what in the catalog is wrong.
    pub(crate) fn load(
        journal_id: [u8; 16],
        position: u64,
        loaded: Loaded,
    ) -> Result<Self, String> {
        let series = SeriesTable::load(loaded.series);
        let (latest, clocks) = match loaded.snapshot {
            Some((format, body)) => snapshot::decode(format, &body, series.len())?,
            None => Default::default(),
        };
        let mut state = Self {
            journal_id,
            position,
            version: 0,
            streams: Vec::new(),
            numbers: HashMap::new(),
            defined: BTreeSet::new(),
            newest_ns: i64::MIN,
            forgot_at_ns: i64::MIN,
            last: None,
            series_frozen: series.len(),
            series,
            latest,
            clocks,
            current: Buffers::default(),
            frozen: FrozenRows::default(),
            frozen_bytes: 0,
            files: Arc::new(loaded.files),
            counts: FoldCounts::default(),
            caution: Caution::default(),
            underway: None,
        };
        for (number, ledger) in loaded.streams {
            if number as usize != state.streams.len() {
                return Err(format!(
                    "stream {} of the catalog has number {number}",
                    state.streams.len()
                ));
            }
            state.add_stream(ledger);
        }
        state.load_definitions(loaded.definitions)?;
        Ok(state)
    }

    /// The watermark of the envelope's stream; 0 when it is new.
    pub(crate) fn watermark(&self, envelope: &Envelope) -> u64 {
        let number = envelope.stream().and_then(|key| self.numbers.get(&key));
        number.map_or(0, |number| known(&self.streams[*number as usize].ledger))
    }

    /// Takes one record in. `position` moves to its number whatever is in it.
    pub(crate) fn apply(&mut self, number: u64, envelope: &Envelope, content: Content) {
        self.position = number;
        self.version += 1;
        self.counts.records += 1;
        let Some(stream) = self.stream(envelope) else {
            self.set_aside(number, envelope, (0, 0), "stream id is not 16 bytes".into());
            return;
        };
        if let Some(sample) = &envelope.clock {
            let tenant = &self.streams[stream as usize].ledger.tenant;
            self.clocks.take(tenant, &envelope.agent, sample);
        }
        match self.caution.defused(number, content) {
            Content::Batch {
                header,
                defined,
                readings,
            } => {
                self.batch(number, envelope, stream, header, &defined, readings);
            }
            Content::Skip(skip) => self.skip(stream, &skip),
            Content::Definitions(series) => self.define(stream, &series, &envelope.unwanted),
            Content::Close(close) => self.close(stream, &close),
            Content::Lost(lost) => self.lost(stream, lost.then_some(envelope.received_ns)),
            Content::Unreadable(error) => self.set_aside(number, envelope, (0, 0), error),
        }
    }

    fn add_stream(&mut self, ledger: StreamLedger) -> u32 {
        let number = u32::try_from(self.streams.len()).expect("fewer than 2^32 streams");
        let key = StreamKey {
            tenant: Arc::clone(&ledger.tenant),
            id: ledger.stream_id,
        };
        self.numbers.insert(key, number);
        self.newest_ns = self.newest_ns.max(ledger.last_seen_ns);
        self.streams.push(Stream {
            ledger,
            refs: Refs::default(),
            is_forgotten: false,
        });
        number
    }

    /// Finds or adds the stream, and takes what every envelope says of it. None when the id is not one.
    fn stream(&mut self, envelope: &Envelope) -> Option<u32> {
        let number = match &self.last {
            Some((key, number)) if envelope.is_of(key) => *number,
            _ => self.find_stream(envelope)?,
        };
        let ledger = &mut self.streams[number as usize].ledger;
        if envelope.lost.is_none() {
            ledger.last_seen_ns = envelope.received_ns;
            self.newest_ns = self.newest_ns.max(envelope.received_ns);
            ledger.clock_offset_ns = envelope.clock_offset_ns;
            // Whoever delivers has it.
            ledger.lost_at_ns = 0;
        }
        if let Some(report) = &envelope.report {
            ledger.report = Some(envelope::following(ledger.report.as_ref(), *report));
            ledger.report_at_ns = envelope.received_ns;
        }
        Some(number)
    }

    fn find_stream(&mut self, envelope: &Envelope) -> Option<u32> {
        let key = envelope.stream()?;
        let number = match self.numbers.get(&key) {
            Some(number) => *number,
            None => self.add_stream(StreamLedger::new(
                Arc::clone(&key.tenant),
                envelope.agent.as_str().into(),
                key.id,
                envelope.received_ns,
            )),
        };
        self.last = Some((key, number));
        self.current.streams.insert(number);
        Some(number)
    }

    fn batch(
        &mut self,
        number: u64,
        envelope: &Envelope,
        stream: u32,
        header: v1::BatchHeader,
        defined: &[v1::Series],
        readings: Result<Readings, String>,
    ) {
        if header.sequence <= known(&self.streams[stream as usize].ledger) {
            self.duplicate(stream, header.readings);
            return;
        }
        self.define(stream, defined, &envelope.unwanted);
        self.follow(stream, header.sequence, header.readings_before);
        let ledger = &mut self.streams[stream as usize].ledger;
        self.underway = Some(Underway::new(stream, ledger));
        ledger.watermark = header.sequence;
        ledger.last_crc = header.crc;
        ledger.readings_through = header.readings_before.saturating_add(header.readings);
        let checked = readings.and_then(|readings| {
            check(&readings, &self.streams[stream as usize].refs)?;
            Ok(readings)
        });
        let checked = checked.and_then(|readings| {
            let ledger = &self.streams[stream as usize].ledger;
            let whose = (&ledger.tenant, &ledger.agent);
            let verdict = self
                .clocks
                .judge(whose, stream, &header, envelope.received_ns);
            let origin = Origin {
                stream,
                sequence: header.sequence,
                received_ns: envelope.received_ns,
                verdict,
            };
            self.try_out(number, &readings, origin)?;
            Ok((readings, origin))
        });
        match checked {
            Ok((readings, origin)) => {
                self.readings(readings, origin);
            }
            Err(error) => {
                self.drop_readings(stream, FOLD_ERROR, header.readings);
                self.set_aside(number, envelope, (header.sequence, header.readings), error);
            }
        }
    }

    fn skip(&mut self, stream: u32, skip: &v1::Skip) {
        let ledger = &self.streams[stream as usize].ledger;
        if skip.through <= ledger.watermark {
            self.duplicate(stream, 0);
            return;
        }
        let through = skip.readings_before.saturating_add(skip.readings);
        // A part that is already known has been counted: only the rest is dropped here.
        let readings = if skip.from <= ledger.watermark {
            through.saturating_sub(ledger.readings_through)
        } else {
            self.follow(stream, skip.from, skip.readings_before);
            skip.readings
        };
        let ledger = &mut self.streams[stream as usize].ledger;
        ledger.watermark = skip.through;
        ledger.last_crc = 0;
        ledger.readings_through = through;
        self.drop_readings(stream, drop_reason_name(skip.reason()), readings);
    }

    fn close(&mut self, stream: u32, close: &v1::Close) {
        let ledger = &mut self.streams[stream as usize].ledger;
        if close.last_sequence > ledger.watermark {
            tracing::error!(
                stream_id = %ledger.stream_id,
                agent = %ledger.agent,
                watermark = ledger.watermark,
                last_sequence = close.last_sequence,
                "stream was closed before all of it arrived"
            );
            self.counts.gaps += 1;
        }
        ledger.closed = true;
        // Nothing that is folded can follow; the catalog keeps none of a closed stream either.
        self.drop_refs(stream, false);
        self.clocks.forget_stream(stream);
    }

    fn lost(&mut self, stream: u32, at_ns: Option<i64>) {
        self.streams[stream as usize].ledger.lost_at_ns = at_ns.unwrap_or(0);
        if at_ns.is_some() {
            self.clocks.forget_stream(stream);
        }
    }

    /// Says so, once, when a record does not follow the one before. The count shows in
    /// `unexplained` by itself: `readings_through` takes the new value, nothing else does.
    fn follow(&mut self, stream: u32, sequence: u64, readings_before: u64) {
        let ledger = &self.streams[stream as usize].ledger;
        if sequence == ledger.watermark.wrapping_add(1)
            && readings_before == ledger.readings_through
        {
            return;
        }
        self.counts.gaps += 1;
        tracing::error!(
            stream_id = %ledger.stream_id,
            agent = %ledger.agent,
            expected_sequence = ledger.watermark.wrapping_add(1),
            sequence,
            expected_readings = ledger.readings_through,
            readings_before,
            "a stream's records do not follow each other, the difference shows as unexplained"
        );
    }

    fn duplicate(&mut self, stream: u32, readings: u64) {
        let ledger = &mut self.streams[stream as usize].ledger;
        ledger.duplicates = ledger.duplicates.saturating_add(readings);
        self.counts.duplicates = self.counts.duplicates.saturating_add(readings);
    }

    pub(super) fn drop_readings(&mut self, stream: u32, reason: &str, readings: u64) {
        if readings > 0 {
            let dropped = &mut self.streams[stream as usize].ledger.dropped;
            let count = dropped.entry(reason.to_owned()).or_default();
            *count = count.saturating_add(readings);
        }
    }
}

/// Through this sequence nothing of the stream is taken again.
fn known(ledger: &StreamLedger) -> u64 {
    if mutant(Mutant::NoDedupe) {
        return 0;
    }
    let off_by_one = mutant(Mutant::WatermarkOffByOne);
    ledger.watermark.saturating_sub(u64::from(off_by_one))
}
