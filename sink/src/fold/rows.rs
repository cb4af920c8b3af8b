//! The readings of one series between two flushes, in the order they arrived.
//!
//! Times and values stand in two columns; when and how well they were received changes once
//! per batch at most, so it stands in marks. A series that arrives in order, as nearly all
//! do, is written by copying its columns.

use std::sync::Arc;

use weir_proto::batch::{Slice, Values};

use super::readings::Origin;
use crate::catalog::SeriesKey;

pub(crate) const DAY_NS: i64 = 86_400_000_000_000;

/// Whether an observed time can be believed; see [`super::clocks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quality {
    /// The agent's clock agreed with the sink's.
    Ok,
    /// Moved: the clock was wrong, and what is right is known.
    Rebased,
    /// As observed: the agent's clock and the sink's disagree, and nobody can say which is wrong.
    Suspect,
    /// As observed: nothing is known of the clock.
    Unknown,
}

impl Quality {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Rebased => "rebased",
            Self::Suspect => "suspect",
            Self::Unknown => "unknown",
        }
    }

    pub(crate) fn from_name(name: &str) -> Self {
        match name {
            "ok" => Self::Ok,
            "rebased" => Self::Rebased,
            "suspect" => Self::Suspect,
            _ => Self::Unknown,
        }
    }
}

/// From row `from` on, until the next mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) from: u32,
    pub(crate) received: Received,
}

/// How readings were received, and what was done to their times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// By the sink's clock.
    pub(crate) at_ns: i64,
    pub(crate) quality: Quality,
    /// Was added to the observed times; 0 unless rebased.
    pub(crate) shift_ns: i64,
}

impl From<Origin> for Received {
    fn from(origin: Origin) -> Self {
        Self {
            at_ns: origin.received_ns,
            quality: origin.verdict.quality,
            shift_ns: origin.verdict.shift_ns,
        }
    }
}

/// One series' rows in order of arrival.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    pub(crate) times: Vec<i64>,
    pub(crate) values: Values,
    pub(crate) marks: Vec<Mark>,
    /// The times never go back.
    pub(crate) ascending: bool,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            times: Vec::new(),
            values: Values::Numbers(Vec::new()),
            marks: Vec::new(),
            ascending: true,
        }
    }
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Appends readings of one batch. `ascending` says whether `times` never goes back; there
    /// are as many values as times.
    pub(crate) fn push(
        &mut self,
        times: &[i64],
        values: Slice<'_>,
        ascending: bool,
        received: Received,
    ) {
        let Some(&first) = times.first() else { return };
        let follows = self.times.last().is_none_or(|end| *end <= first);
        self.ascending &= ascending && follows;
        self.mark(self.times.len(), received);
        // Many agents send one moment at a time: two copies of one number each would be two calls.
        if let ([time], Slice::Numbers([value]), Values::Numbers(all)) =
            (times, &values, &mut self.values)
        {
            self.times.push(*time);
            all.push(*value);
            return;
        }
        self.times.extend_from_slice(times);
        match (&mut self.values, values) {
            (Values::Numbers(all), Slice::Numbers(new)) => all.extend_from_slice(new),
            (_, Slice::Numbers(new)) => self.extend(Values::Numbers(new.to_vec())),
            (_, Slice::Texts(new)) => {
                self.extend(Values::Texts(new.iter_mut().map(std::mem::take).collect()));
            }
        }
    }

    /// Appends rows as they were read from a file; `marks` says how each was received.
    pub(crate) fn push_stored(
        &mut self,
        times: &[i64],
        values: Values,
        marks: impl Iterator<Item = Received>,
    ) {
        let Some(&first) = times.first() else { return };
        self.ascending &= times.is_sorted() && self.times.last().is_none_or(|end| *end <= first);
        for (row, received) in marks.enumerate() {
            self.mark(self.times.len() + row, received);
        }
        self.times.extend_from_slice(times);
        self.extend(values);
    }

    fn extend(&mut self, values: Values) {
        match (&mut self.values, values) {
            (Values::Numbers(all), Values::Numbers(new)) => {
                if all.is_empty() && new.len() > 1 {
                    *all = new;
                } else {
                    all.extend_from_slice(&new);
                }
            }
            (Values::Texts(all), Values::Texts(new)) => all.extend(new),
            (empty, new) => {
                debug_assert!(empty.is_empty(), "a series has one kind of values");
                *empty = new;
            }
        }
    }

    fn mark(&mut self, row: usize, received: Received) {
        if self
            .marks
            .last()
            .is_some_and(|last| last.received == received)
        {
            return;
        }
        let from = u32::try_from(row).expect("the buffer's limit in bytes is below 2^32 rows");
        self.marks.push(Mark { from, received });
    }

    /// The marks with the rows each covers.
    pub(crate) fn stretches(&self) -> impl Iterator<Item = (std::ops::Range<usize>, Mark)> + '_ {
        self.marks.iter().enumerate().map(|(i, mark)| {
            let end = self
                .marks
                .get(i + 1)
                .map_or(self.len(), |next| next.from as usize);
            (mark.from as usize..end, *mark)
        })
    }

    /// The mark that covers `row`.
    pub(crate) fn mark_at(&self, row: usize) -> Mark {
        let after = self.marks.partition_point(|mark| mark.from as usize <= row);
        self.marks[after - 1]
    }
}

/// Rows and whose they are.
#[derive(Debug, Clone)]
pub(crate) struct SeriesRows {
    pub(crate) key: Arc<SeriesKey>,
    pub(crate) rows: Rows,
}
