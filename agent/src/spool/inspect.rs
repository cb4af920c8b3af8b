//! Looks at a spool from outside: no lock, no change, beside a running agent or without one.
//!
//! In: a spool's directory. Out: its streams, oldest first, each as a walk over its records and over
//! what is missing between them, with the readings that cost by the counts the records carry.
//! Beside a running agent the newest records may not be synced yet, and the very last may be half
//! written.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use weir_journal::{Finding, Inspector, ReadError, Storage};
use weir_proto::{record, v1};

use super::directory::{STATE, parse_name};
use super::state::{State, StateFile};

/// One stream of a spool that is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// Its place among the streams: it rises with every start of an agent.
    pub(crate) order: u64,
    /// Its id.
    pub(crate) id: [u8; 16],
    dir: PathBuf,
}

/// Sequences that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    /// First sequence missing.
    pub(crate) from: u64,
    /// Last sequence missing.
    pub(crate) through: u64,
    /// Readings in them; `None` where no count behind them is left to tell.
    pub(crate) readings: Option<u64>,
    /// Whether the agent gave them up to make room; otherwise they are damaged.
    pub(crate) given_up: bool,
}

/// What a [`Walk`] comes across.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A segment file, of this length.
    Segment { bytes: u64 },
    /// A batch that can be read.
    Batch { sequence: u64, batch: v1::Batch },
    /// A Skip the agent wrote, for readings that never made it into a batch.
    Skip { sequence: u64 },
    /// A record whose frame is whole and whose content is none: a fault of the program.
    Nonsense { sequence: u64 },
    /// Sequences that are missing. Those behind the acknowledged ones only.
    Lost(Lost),
    /// Bytes of a segment that are no record.
    Damage {
        segment: u64,
        from: u64,
        to: u64,
        tail: bool,
    },
}

/// What a stream holds, in numbers.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// The first and the last record that can be read.
    pub(crate) first: Option<u64>,
    /// See `first`.
    pub(crate) last: u64,
    /// Batches among them.
    pub(crate) batches: u64,
    /// Readings in the batches.
    pub(crate) readings: u64,
    /// Readings in batches the sink has not acknowledged.
    pub(crate) unacked: u64,
    /// Observed time of the first of these; 0 when there is none.
    pub(crate) oldest_unacked_ns: i64,
    /// Bytes of the segment files.
    pub(crate) bytes: u64,
    /// What is missing.
    pub(crate) lost: Vec<Lost>,
    /// Bytes that are no record, those that may be a record being written left out.
    pub(crate) damaged_bytes: u64,
}

/// A pass over one stream; see [`Held::walk`].
pub(crate) struct Walk {
    inspector: Inspector,
    state: State,
    /// The next sequence, and the readings of the stream before it.
    next: u64,
    readings: u64,
    dictionary: BTreeMap<u32, v1::Series>,
    ready: std::collections::VecDeque<Entry>,
    ended: bool,
}

/// The streams of a spool, oldest first; none when the directory does not hold any.
pub(crate) fn streams(storage: &dyn Storage, spool: &Path) -> io::Result<Vec<Held>> {
    let mut held: Vec<Held> = storage
        .list(spool)?
        .iter()
        .filter_map(|name| {
            let (order, id) = parse_name(name)?;
            let dir = spool.join(name);
            Some(Held { order, id, dir })
        })
        .collect();
    held.sort_by_key(|stream| stream.order);
    Ok(held)
}

impl Held {
    /// A pass over everything the stream holds.
    pub(crate) fn walk(&self, storage: &Arc<dyn Storage>) -> Result<Walk, ReadError> {
        let failed = |source| ReadError {
            path: self.dir.clone(),
            source,
        };
        // The segments are listed before the books are read: what a running agent releases in between is then
        // acknowledged by the books, and not taken for missing.
        let inspector = Inspector::new(Arc::clone(storage), &self.dir).map_err(failed)?;
        let path = self.dir.join(STATE);
        let state = match StateFile::look(storage.as_ref(), &path, self.id) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => other.map_err(failed)?,
        };
        let state = state.unwrap_or_default();
        let (acked, acked_readings) = state.account.peak();
        Ok(Walk {
            inspector,
            next: acked + 1,
            readings: acked_readings,
            state,
            dictionary: BTreeMap::new(),
            ready: std::collections::VecDeque::new(),
            ended: false,
        })
    }

    /// A pass that only counts; also answers the books and every series of the stream.
    pub(crate) fn survey(
        &self,
        storage: &Arc<dyn Storage>,
    ) -> Result<(Summary, State, BTreeMap<u32, v1::Series>), ReadError> {
        let mut walk = self.walk(storage)?;
        let mut summary = Summary::default();
        while let Some(entry) = walk.next()? {
            summary.add(entry, walk.state.account.acked_through);
        }
        Ok((summary, walk.state, walk.dictionary))
    }
}

impl Summary {
    fn add(&mut self, entry: Entry, acked_through: u64) {
        match entry {
            Entry::Segment { bytes } => self.bytes += bytes,
            Entry::Batch { sequence, batch } => {
                self.at(sequence);
                let header = batch.header.unwrap_or_default();
                self.batches += 1;
                self.readings += header.readings;
                if sequence > acked_through {
                    self.unacked += header.readings;
                    if self.oldest_unacked_ns == 0 {
                        self.oldest_unacked_ns = header.first_ns;
                    }
                }
            }
            Entry::Skip { sequence } | Entry::Nonsense { sequence } => self.at(sequence),
            Entry::Lost(lost) => self.lost.push(lost),
            Entry::Damage { tail: true, .. } => {}
            Entry::Damage { from, to, .. } => self.damaged_bytes += to - from,
        }
    }

    fn at(&mut self, sequence: u64) {
        self.first.get_or_insert(sequence);
        self.last = sequence;
    }
}

impl Walk {
    /// What comes next; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Ok(Some(entry));
            }
            match self.inspector.next()? {
                Some(finding) => self.take(finding),
                None if self.ended => return Ok(None),
                None => {
                    self.ended = true;
                    self.close();
                }
            }
        }
    }

    /// The books as they were when the pass began.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    fn take(&mut self, finding: Finding) {
        match finding {
            Finding::Segment { bytes, .. } => self.ready.push_back(Entry::Segment { bytes }),
            Finding::Record { number, body } => self.take_record(number, body),
            Finding::Preamble { body } => {
                if let Some(v1::record::Record::Definitions(definitions)) = content(body) {
                    self.define(&definitions.series);
                }
            }
            // The next record's count says what it cost.
            Finding::Missing { .. } => {}
            Finding::Damage {
                segment,
                from,
                to,
                tail,
            } => self.ready.push_back(Entry::Damage {
                segment,
                from,
                to,
                tail,
            }),
        }
    }

    fn take_record(&mut self, sequence: u64, body: Bytes) {
        match content(body) {
            Some(v1::record::Record::Batch(batch)) => {
                self.define(&batch.series_defined);
                let header = batch.header.clone().unwrap_or_default();
                self.pass(sequence, header.readings_before, header.readings);
                self.ready.push_back(Entry::Batch { sequence, batch });
            }
            Some(v1::record::Record::Skip(skip)) => {
                self.pass(sequence, skip.readings_before, skip.readings);
                self.ready.push_back(Entry::Skip { sequence });
            }
            _ => self.ready.push_back(Entry::Nonsense { sequence }),
        }
    }

    /// Goes over a record, and names what is missing before it.
    fn pass(&mut self, sequence: u64, before: u64, readings: u64) {
        if sequence >= self.next {
            self.lose(sequence - 1, Some(before));
            self.next = sequence + 1;
            self.readings = before.saturating_add(readings);
        }
    }

    /// Names what is missing between the last record and `through`, where the stream has had
    /// `readings`; what the agent gave up to make room apart from the rest.
    fn lose(&mut self, through: u64, readings: Option<u64>) {
        let (dropped, dropped_readings) = (self.state.dropped_through, self.state.dropped_readings);
        if self.next <= dropped && dropped < through {
            self.lose_range(dropped, Some(dropped_readings), true);
        }
        if self.next <= through {
            self.lose_range(through, readings, self.state.given_up || through <= dropped);
        }
    }

    fn lose_range(&mut self, through: u64, readings: Option<u64>, given_up: bool) {
        self.ready.push_back(Entry::Lost(Lost {
            from: self.next,
            through,
            readings: readings.map(|readings| readings.saturating_sub(self.readings)),
            given_up,
        }));
        self.next = through + 1;
        self.readings = readings.unwrap_or(self.readings);
    }

    /// What the books know to have been behind the last record.
    fn close(&mut self) {
        let known = self.state.known_through;
        if known >= self.next {
            self.lose(known, Some(self.state.known_readings));
        }
    }

    fn define(&mut self, series: &[v1::Series]) {
        for one in series {
            self.dictionary
                .entry(one.r#ref)
                .or_insert_with(|| one.clone());
        }
    }
}

fn content(body: Bytes) -> Option<v1::record::Record> {
    record::decode(body).ok()?.record
}
