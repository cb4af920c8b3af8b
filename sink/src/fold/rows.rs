//! The readings of one series between two flushes, in the order they arrived.
//!
//! Times and values stand in two columns; when and how well they were received changes once
//! per batch at most, so it stands in marks. A series that arrives in order, as nearly all
//! do, is written by copying its columns.

use std::sync::Arc;

use weir_proto::batch::Values;

use crate::catalog::SeriesKey;

pub(crate) const DAY_NS: i64 = 86_400_000_000_000;

/// 2000-01-01T00:00:00Z: a clock before it was never set.
const CLOCKS_BEGIN_NS: i64 = 946_684_800_000_000_000;

/// Whether an observed time can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quality {
    Ok,
    /// Before the year 2000, or more than a day after it was received.
    Suspect,
    /// Written by a part of the program that knew more; kept as it is.
    Unknown,
}

impl Quality {
    /// Of a reading observed at `time` and received at `received`.
    pub(crate) fn of(time: i64, received: i64) -> Self {
        if time < CLOCKS_BEGIN_NS || time > received.saturating_add(DAY_NS) {
            Self::Suspect
        } else {
            Self::Ok
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Suspect => "suspect",
            Self::Unknown => "unknown",
        }
    }

    pub(crate) fn from_name(name: &str) -> Self {
        match name {
            "ok" => Self::Ok,
            "suspect" => Self::Suspect,
            _ => Self::Unknown,
        }
    }
}

/// From row `from` on, until the next mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) from: u32,
    pub(crate) received_ns: i64,
    pub(crate) quality: Quality,
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
    pub(crate) fn push(&mut self, times: &[i64], values: Values, ascending: bool, received: i64) {
        let (Some(&first), Some(&last)) = (times.first(), times.last()) else {
            return;
        };
        let follows = self.times.last().is_none_or(|end| *end <= first);
        self.ascending &= ascending && follows;
        let (earliest, latest) = if ascending {
            (first, last)
        } else {
            let (least, most) = times
                .iter()
                .fold((first, first), |(l, m), t| (l.min(*t), m.max(*t)));
            (least, most)
        };
        let (low, high) = (
            Quality::of(earliest, received),
            Quality::of(latest, received),
        );
        if low == Quality::Ok && high == Quality::Ok {
            self.mark(self.times.len(), received, Quality::Ok);
        } else {
            for (i, time) in times.iter().enumerate() {
                self.mark(self.times.len() + i, received, Quality::of(*time, received));
            }
        }
        self.times.extend_from_slice(times);
        self.extend(values);
    }

    /// Appends rows as they were read from a file; `marks` says how each was received.
    pub(crate) fn push_stored(
        &mut self,
        times: &[i64],
        values: Values,
        marks: impl Iterator<Item = (i64, Quality)>,
    ) {
        let Some(&first) = times.first() else { return };
        self.ascending &= times.is_sorted() && self.times.last().is_none_or(|end| *end <= first);
        for (row, (received_ns, quality)) in marks.enumerate() {
            self.mark(self.times.len() + row, received_ns, quality);
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

    fn mark(&mut self, row: usize, received_ns: i64, quality: Quality) {
        if let Some(last) = self.marks.last()
            && last.received_ns == received_ns
            && last.quality == quality
        {
            return;
        }
        let from = u32::try_from(row).expect("the buffer's limit in bytes is below 2^32 rows");
        self.marks.push(Mark {
            from,
            received_ns,
            quality,
        });
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
