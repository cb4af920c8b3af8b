//! What the records of an earlier run say: which series they use, how many readings they count, what is missing between
//! them.

use std::collections::BTreeMap;
use std::path::Path;

use weir_journal::{Item, Journal, READ_TRIES, ReadError, Reader};
use weir_proto::v1;

use super::content::{Content, content};
use super::state::State;
use super::{Pending, SpoolError};

/// What the records of a stream say.
#[derive(Default)]
pub(super) struct Survey {
    pub(super) dictionary: BTreeMap<u32, v1::Series>,
    /// The first record: its sequence and the readings before it.
    first: Option<(u64, u64)>,
    /// The last record: its sequence and the readings through it.
    pub(super) last: Option<(u64, u64)>,
    /// What Skips name, and what is missing between two records.
    pub(super) dropping: Vec<Pending>,
}

/// Reads every record's clear-text part; payloads are shared, not copied.
pub(super) fn survey(journal: &Journal) -> Result<Survey, SpoolError> {
    let mut survey = Survey::default();
    let mut reader = journal.reader(journal.oldest());
    while let Some(item) = insist(&mut reader)? {
        let (number, body) = match item {
            Item::Record { number, body, .. } => (number, body),
            Item::Preamble { body } => (0, body),
            Item::Hole { .. } => continue,
        };
        let Some(content) = content(body) else {
            continue;
        };
        if let Some((before, readings)) = content.counts() {
            survey.count(number, before, readings);
        }
        match content {
            Content::Batch(_, batch) => survey.define(batch.series_defined),
            Content::Skip(skip) => survey.dropping.push(Pending {
                through: number,
                reason: skip.reason,
                readings: skip.readings,
            }),
            Content::Definitions(series) => survey.define(series),
        }
    }
    Ok(survey)
}

/// The next item, asked for as often as it takes the journal to give up what the disk refuses.
pub(super) fn insist(reader: &mut Reader) -> Result<Option<Item>, ReadError> {
    let mut tries = 1;
    loop {
        match reader.next() {
            Err(_) if tries < READ_TRIES => tries += 1,
            other => return other,
        }
    }
}

impl Survey {
    fn define(&mut self, series: Vec<v1::Series>) {
        for one in series {
            self.dictionary.entry(one.r#ref).or_insert(one);
        }
    }

    fn count(&mut self, number: u64, before: u64, readings: u64) {
        if let Some((_, through)) = self.last {
            self.miss(number - 1, before.saturating_sub(through));
        }
        self.first.get_or_insert((number, before));
        self.last = Some((number, before.saturating_add(readings)));
    }

    fn miss(&mut self, through: u64, readings: u64) {
        self.miss_for(v1::DropReason::Damaged, through, readings);
    }

    fn miss_for(&mut self, reason: v1::DropReason, through: u64, readings: u64) {
        if readings > 0 {
            self.dropping.push(Pending {
                through,
                reason: reason.into(),
                readings,
            });
        }
    }

    /// What is missing before the first record and behind the last one, too.
    pub(super) fn miss_ends(&mut self, state: &State, durable: (u64, u64)) {
        let account = &state.account;
        if let Some((number, before)) = self.first {
            let known = state.dropped_readings.max(account.readings_through);
            self.miss(number - 1, before.saturating_sub(known));
        }
        let through = self
            .last
            .map_or(account.readings_through, |(_, through)| through);
        let known = through.max(state.dropped_readings);
        let reason = match state.ends_lost {
            true => v1::DropReason::SpoolNewest,
            false => v1::DropReason::Damaged,
        };
        self.miss_for(reason, durable.0, durable.1.saturating_sub(known));
    }

    /// The end of the stream: its last sequence and the readings through it, from the records or,
    /// where they were dropped or damaged, from what was noted before.
    pub(super) fn durable(&self, last: u64, state: &State) -> (u64, u64) {
        let (sequence, readings) = self.last.unwrap_or_default();
        let through = last.max(state.known_through).max(state.account.peak().0);
        let readings = if state.known_through > sequence {
            state.known_readings.max(readings)
        } else {
            readings
        };
        (through, readings.max(state.account.peak().1))
    }

    /// How many sequences at the end neither a record nor a note counts.
    pub(super) fn uncounted(&self, through: u64, state: &State) -> u64 {
        let (sequence, _) = self.last.unwrap_or_default();
        let noted = state.known_through.max(state.account.peak().0);
        through - sequence.max(noted).min(through)
    }
}

/// Where both slots of a state file are damaged: what lies before the first record was acknowledged,
/// for nothing else removes it without a trace.
pub(super) fn guess(survey: &Survey, dir: &Path) -> State {
    let mut state = State::default();
    if let Some((first, readings_before)) = survey.first
        && first > 1
    {
        tracing::warn!(dir = %dir.display(), "state file is damaged: the acknowledged count is taken from the records");
        state.announced = true;
        state.account.acked_through = first - 1;
        state.account.readings_through = readings_before;
        state.account.stored = readings_before;
    }
    state
}
