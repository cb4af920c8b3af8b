//! Of which metrics and devices a file holds rows, so that a question opens only files that can
//! answer it and a merge finds those that overlap.
//!
//! Rows of a file are sorted by metric, then device. So the places of its first and last row say
//! which metrics can be in it; of devices the range is another, unless there is one metric only.

use std::sync::Arc;

use super::SeriesKey;

/// What rows are sorted by first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// A dotted name.
    pub metric: Arc<str>,
    /// What was measured.
    pub device: Arc<str>,
}

/// Of what the rows of a file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Of the first row.
    pub first: Place,
    /// Of the last row.
    pub last: Place,
    /// The first and the last device by their bytes, whatever the metric.
    pub devices: (Arc<str>, Arc<str>),
}

impl Extent {
    /// Of rows of these series, in any order; nothing when there are none.
    pub(crate) fn of<'a>(mut keys: impl Iterator<Item = &'a SeriesKey>) -> Option<Self> {
        let first = keys.next()?;
        let (mut least, mut most) = (first, first);
        let (mut from, mut to) = (&first.device, &first.device);
        let place = |key: &'a SeriesKey| (&key.metric, &key.device);
        for key in keys {
            if place(key) < place(least) {
                least = key;
            }
            if place(key) > place(most) {
                most = key;
            }
            from = from.min(&key.device);
            to = to.max(&key.device);
        }
        Some(Self {
            first: Place::of(least),
            last: Place::of(most),
            devices: (Arc::clone(from), Arc::clone(to)),
        })
    }

    /// All rows are of one metric and device: no merge makes it narrower.
    pub(crate) fn is_one_place(&self) -> bool {
        self.first == self.last
    }
}

impl Place {
    fn of(key: &SeriesKey) -> Self {
        Self {
            metric: Arc::clone(&key.metric),
            device: Arc::clone(&key.device),
        }
    }
}
