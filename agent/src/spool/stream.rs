//! One stream: one journal, its state file, and the books that say where each of its readings is.
//!
//! A stream is live (this process appends to it), ended (an earlier process, `finish`, or a newer
//! stream that took its place, left it complete on disk) or given up (its records were dropped whole to make room, and only the count
//! is left). The sender drains all three the same way.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;
use weir_journal::watch;
use weir_journal::{AppendError, Committer, Journal, Progress, Reader};
use weir_proto::{record, v1};

use super::books::Lost;
use super::state::{State, StateFile};
use super::{Draft, Pending, RECORD_KIND, SpoolError};

/// Most a record adds to its payload: frame, header, field tags; and the frames around a preamble.
const RECORD_BYTES: u64 = 384;

/// See the module.
pub(crate) struct Stream {
    pub(crate) id: [u8; 16],
    pub(crate) dir: PathBuf,
    pub(super) journal: Journal,
    /// Kept unrun where nothing is appended any more: a writer that has ended lets go of the files.
    _idle_writer: Option<Mutex<Committer>>,
    pub(super) live: AtomicBool,
    /// Its writer was ended by this process, or is about to be.
    pub(super) sealed: AtomicBool,
    given_up: AtomicBool,
    ledger: Mutex<Ledger>,
}

/// What changes with every append and every ack.
pub(super) struct Ledger {
    pub(super) file: StateFile,
    pub(super) state: State,
    /// Appended and not known to be durable: sequence, readings of the stream through it, and when that was.
    pub(super) waiting: VecDeque<(u64, u64, Instant)>,
    /// Drops that no ack covers.
    pub(super) dropping: Vec<Pending>,
    pub(super) durable_through: u64,
    pub(super) durable_readings: u64,
    /// Dropped for want of room, noted in the state until a record says so.
    pub(super) lost: Option<Lost>,
    /// Sequences at the end that cannot be read, and of which nothing says how many readings they had.
    pub(super) uncounted: u64,
    pub(super) appended_readings: u64,
    pub(super) dictionary: BTreeMap<u32, v1::Series>,
    /// What every new segment begins with.
    pub(super) preamble_bytes: u64,
    /// Bytes acknowledged since segments were last released.
    pub(super) releasable_bytes: u64,
    /// `acked_through` and the first reading's time beyond it, once looked up.
    pub(super) oldest_unacked: Option<(u64, i64)>,
}

/// What a stream is put together from.
pub(crate) struct Parts {
    pub(crate) id: [u8; 16],
    pub(crate) dir: PathBuf,
    pub(crate) journal: Journal,
    pub(crate) idle_writer: Option<Committer>,
    pub(crate) file: StateFile,
    pub(crate) state: State,
    pub(crate) dictionary: BTreeMap<u32, v1::Series>,
    /// The last sequence of the stream, and its readings through it.
    pub(crate) durable: (u64, u64),
    /// How many sequences at its end were not counted into that: they cannot be read.
    pub(crate) uncounted: u64,
    /// What is missing of it, and what it says was dropped.
    pub(crate) dropping: Vec<Pending>,
}

impl Stream {
    pub(crate) fn new(parts: Parts) -> Stream {
        let (durable_through, durable_readings) = parts.durable;
        Stream {
            id: parts.id,
            dir: parts.dir,
            live: AtomicBool::new(parts.idle_writer.is_none()),
            sealed: AtomicBool::new(false),
            given_up: AtomicBool::new(parts.state.given_up),
            journal: parts.journal,
            _idle_writer: parts.idle_writer.map(Mutex::new),
            ledger: Mutex::new(Ledger {
                file: parts.file,
                state: parts.state,
                waiting: VecDeque::new(),
                dropping: parts.dropping,
                durable_through,
                durable_readings,
                lost: None,
                uncounted: parts.uncounted,
                appended_readings: durable_readings,
                preamble_bytes: preamble(&parts.dictionary).len() as u64,
                dictionary: parts.dictionary,
                releasable_bytes: 0,
                oldest_unacked: None,
            }),
        }
    }

    /// Appends a batch with the next sequence.
    pub(crate) fn append_batch(
        &self,
        draft: &Draft,
        series_defined: Vec<v1::Series>,
        boot_id: [u8; 16],
    ) -> Result<u64, AppendError> {
        let mut ledger = self.lock();
        ledger.define(&self.journal, &series_defined);
        let readings = draft.encoded.readings;
        let header = v1::BatchHeader {
            sequence: self.journal.next(),
            readings_before: ledger.appended_readings,
            boot_id: boot_id.to_vec(),
            monotonic_start_ns: draft.monotonic_start_ns,
            ..draft.encoded.header()
        };
        let payload = draft.encoded.payload.clone();
        let body = record::encode_batch(header, series_defined, payload);
        self.append(&mut ledger, &body, readings)
    }

    /// Bytes the spool may grow by when this batch is appended: the batch, what it defines, and the head
    /// of the segment that may begin with it, which repeats every definition of the stream.
    pub(crate) fn room_for(&self, draft: &Draft, undelivered: &[v1::Series]) -> u64 {
        let series = undelivered.iter().chain(&draft.series_defined);
        let defined: u64 = series.map(|one| one.encoded_len() as u64 + 8).sum();
        let payload = draft.encoded.payload.len() as u64;
        payload + RECORD_BYTES + 2 * defined + self.lock().preamble_bytes
    }

    /// Appends a Skip with a sequence of its own: readings that never made it into a batch.
    pub(crate) fn append_skip(&self, reason: i32, readings: u64) -> Result<u64, AppendError> {
        let mut ledger = self.lock();
        let sequence = self.journal.next();
        let skip = v1::Skip {
            from: sequence,
            through: sequence,
            reason,
            readings_before: ledger.appended_readings,
            readings,
        };
        let body = record::encode(&v1::Record {
            record: Some(v1::record::Record::Skip(skip)),
        });
        let appended = self.append(&mut ledger, &body, readings)?;
        if let Some(lost) = ledger.lost.as_mut()
            && reason == i32::from(v1::DropReason::SpoolNewest)
        {
            lost.told_at = Some(sequence);
        }
        ledger.dropping.push(Pending {
            through: sequence,
            reason,
            readings,
        });
        Ok(appended)
    }

    /// Appends a record of another stream under this one's numbers: see `spool/retire.rs`.
    pub(crate) fn append_again(&self, mut batch: v1::Batch) -> Result<u64, AppendError> {
        let mut ledger = self.lock();
        let mut header = batch.header.take().unwrap_or_default();
        header.sequence = self.journal.next();
        header.readings_before = ledger.appended_readings;
        let readings = header.readings;
        ledger.define(&self.journal, &batch.series_defined);
        let body = record::encode_batch(header, batch.series_defined, batch.payload);
        self.append(&mut ledger, &body, readings)
    }

    /// The one place where numbers are given: the ledger is locked, so the journal's next number is
    /// the record's own.
    fn append(&self, ledger: &mut Ledger, body: &[u8], readings: u64) -> Result<u64, AppendError> {
        let expected = self.journal.next();
        let sequence = self.journal.try_append(RECORD_KIND, &[body])?;
        assert_eq!(sequence, expected, "only the stream appends to its journal");
        ledger.appended_readings += readings;
        ledger
            .waiting
            .push_back((sequence, ledger.appended_readings, Instant::now()));
        Ok(sequence)
    }

    /// Gives acknowledged segments back once `at_least` bytes are acknowledged; the state is durable
    /// before the first of them goes. Says whether it tried.
    pub(crate) fn release(&self, at_least: u64) -> Result<bool, SpoolError> {
        let mut ledger = self.lock();
        if ledger.releasable_bytes < at_least.max(1) || self.is_sealed() {
            return Ok(false);
        }
        self.checkpoint_locked(&mut ledger)?;
        let through = ledger.state.account.acked_through;
        self.journal
            .release(through)
            .map_err(|source| self.io("release segments of", source))?;
        ledger.releasable_bytes = 0;
        Ok(true)
    }

    /// Drops the oldest segment that is not being written, the state first. Says which sequences went.
    pub(crate) fn drop_oldest(&self) -> Result<Option<(u64, u64)>, SpoolError> {
        if self.is_given_up() || self.is_sealed() {
            return Ok(None);
        }
        let mut ledger = self.lock();
        let Some((from, through)) = self.journal.droppable() else {
            return Ok(None);
        };
        // Noted first: what is missing and was not noted is damage.
        self.refresh(&mut ledger);
        let end = (ledger.durable_through, ledger.durable_readings);
        let state = &ledger.state;
        let known = state.dropped_readings.max(state.account.peak().1);
        ledger.state.dropped_readings = self.readings_through((from, through), known, end)?;
        ledger.state.dropped_through = through;
        self.checkpoint_locked(&mut ledger)?;
        self.journal
            .drop_oldest()
            .map_err(|source| self.io("drop a segment of", source))
    }

    /// Drops everything that is left of an ended stream: the count at its end stays. The files are
    /// the caller's to remove once this has returned.
    pub(crate) fn give_up(&self) -> Result<(u64, u64), SpoolError> {
        let mut ledger = self.lock();
        ledger.state.given_up = true;
        if let Err(error) = self.checkpoint_locked(&mut ledger) {
            // Nothing has gone: what is noted next must not say so.
            ledger.state.given_up = false;
            return Err(error);
        }
        self.given_up.store(true, Ordering::Release);
        Ok((
            ledger.state.account.acked_through + 1,
            ledger.durable_through,
        ))
    }

    /// Commits what waits and ends the writer. The stream is then complete.
    pub(crate) async fn seal(&self) -> Result<(), SpoolError> {
        let last = self.journal.next() - 1;
        self.sealed.store(true, Ordering::Release);
        self.journal.close();
        self.journal.committed(last).await?;
        // Only now is the last sequence known: a Close must not name an earlier one.
        self.live.store(false, Ordering::Release);
        self.checkpoint()
    }

    /// Whether records wait in memory for room on the disk. What is appended now would wait there, too, and
    /// be gone with the process. One that takes nothing any more is not held up: appending says so.
    pub(crate) fn is_held_up(&self) -> bool {
        let progress = self.journal.progress();
        let progress = progress.borrow();
        let waits = self.journal.next() > progress.durable_through + 1;
        progress.disk_full && waits && progress.poisoned.is_none()
    }

    /// Whether this process appends to it.
    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    /// Whether nothing is appended to it any more, and what was is durable: its last sequence is known.
    pub(crate) fn is_ended(&self) -> bool {
        !self.is_live() && self.durable().0 + 1 >= self.journal.next()
    }

    /// Whether its records were dropped whole.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Whether its writer was ended by this process: its segments go with the stream, not before.
    fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Whether its writer runs in this process.
    pub(crate) fn is_open(&self) -> bool {
        self._idle_writer.is_none() && !self.is_sealed()
    }

    /// The last durable sequence, and the readings of the stream through it.
    pub(crate) fn durable(&self) -> (u64, u64) {
        let mut ledger = self.lock();
        self.refresh(&mut ledger);
        (ledger.durable_through, ledger.durable_readings)
    }

    /// Readings that were appended and are not known to be durable, and since when the first of them wait.
    pub(crate) fn uncommitted(&self) -> (u64, Option<Instant>) {
        let mut ledger = self.lock();
        self.refresh(&mut ledger);
        let since = ledger.waiting.front().map(|(_, _, since)| *since);
        (ledger.appended_readings - ledger.durable_readings, since)
    }

    /// The sequence the next record will get, as Hello says it.
    pub(crate) fn next_sequence(&self) -> u64 {
        let ended = self.lock().durable_through + 1;
        self.journal.next().max(ended)
    }

    /// The first sequence that can still be read.
    pub(crate) fn oldest_sequence(&self) -> u64 {
        if self.is_given_up() {
            return self.next_sequence();
        }
        self.journal.oldest().min(self.next_sequence())
    }

    /// Reads durable records from a sequence on.
    pub(crate) fn reader(&self, from: u64) -> Reader {
        self.journal.reader(from)
    }

    /// How far the writer is.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.journal.progress()
    }

    /// Bytes on disk and waiting to be.
    pub(crate) fn bytes(&self) -> u64 {
        if self.is_given_up() {
            return 0;
        }
        self.journal.bytes()
    }

    /// The journal's counters.
    pub(crate) fn stats(&self) -> weir_journal::Stats {
        self.journal.stats()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn io(&self, doing: &'static str, source: std::io::Error) -> SpoolError {
        SpoolError::Io {
            doing,
            path: Path::to_path_buf(&self.dir),
            source,
        }
    }
}

impl Ledger {
    /// Takes new definitions in; every segment from now on starts with all of them.
    fn define(&mut self, journal: &Journal, series: &[v1::Series]) {
        let before = self.dictionary.len();
        for one in series {
            self.dictionary
                .entry(one.r#ref)
                .or_insert_with(|| one.clone());
        }
        if self.dictionary.len() > before {
            let preamble = preamble(&self.dictionary);
            self.preamble_bytes = preamble.len() as u64;
            journal.set_preamble(Some(preamble));
        }
    }
}

/// A segment's preamble: an encoded `Record` with every series.
pub(crate) fn preamble(dictionary: &BTreeMap<u32, v1::Series>) -> Bytes {
    let definitions = v1::Definitions {
        series: dictionary.values().cloned().collect(),
    };
    record::encode(&v1::Record {
        record: Some(v1::record::Record::Definitions(definitions)),
    })
}
