//! What the refs of one stream mean, as far as ingest has to know, while anybody may use them.
//!
//! What is defined by records that cannot be appended is taken back. What the catalog has can be forgotten
//! and loaded again: see [`super::Ingest::forget_unused`].

use weir_proto::batch::Readings;
use weir_proto::v1;

use super::check::table_of;
use super::fault::Refusal;
use crate::refs::Refs;

/// Series one stream may define; an agent that needs more begins a new stream.
pub(super) const MAX_STREAM_SERIES: usize = 1_000_000;

/// What a ref means, as far as ingest has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Definition {
    /// Of the whole definition: two that differ anywhere differ here.
    pub(super) digest: u64,
    /// Whether its values are texts.
    pub(super) text: bool,
    /// Whether it is beyond a limit on series: then it may be defined as anything, and nothing of it is stored.
    pub(super) unwanted: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    series: Refs<Definition>,
    /// Refs that what is accepted and not appended has defined.
    added: Vec<u32>,
    /// Some may be missing: the catalog has them.
    is_forgotten: bool,
}

impl Dictionary {
    /// Everything that is defined.
    pub(super) fn whole(series: Refs<Definition>) -> Self {
        Self {
            series,
            ..Self::default()
        }
    }

    /// Nothing of what the catalog has.
    pub(super) fn forgotten() -> Self {
        Self {
            is_forgotten: true,
            ..Self::default()
        }
    }

    /// Whether it must be loaded before it is asked.
    pub(super) fn is_forgotten(&self) -> bool {
        self.is_forgotten
    }

    /// How many definitions are here.
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// Nothing was ever defined.
    pub(super) fn is_blank(&self) -> bool {
        self.series.len() == 0 && !self.is_forgotten
    }

    /// What the catalog has.
    pub(super) fn load(&mut self, all: impl Iterator<Item = (u32, Definition)>) {
        self.is_forgotten = false;
        for (r#ref, definition) in all {
            if self.series.get(r#ref).is_none() {
                self.series.insert(r#ref, definition);
            }
        }
    }

    /// Definitions among these that are new. Refuses one that differs, and too many.
    pub(super) fn new_in(&self, series: &[v1::Series]) -> Result<Vec<(u32, Definition)>, Refusal> {
        let mut new = Vec::new();
        for (r#ref, definition) in table_of(series) {
            match self.series.get(r#ref) {
                None => new.push((r#ref, definition)),
                Some(known) if known == definition || known.unwanted => {}
                Some(_) => {
                    return Err(Refusal::new(
                        v1::RefusedCode::Invalid,
                        format!("series {} was defined differently before", r#ref),
                    ));
                }
            }
        }
        if self.series.len() + new.len() > MAX_STREAM_SERIES {
            return Err(Refusal::new(
                v1::RefusedCode::TooLarge,
                format!("stream has more than {MAX_STREAM_SERIES} series: begin a new stream"),
            ));
        }
        Ok(new)
    }

    /// Whether readings use what is defined, here or by `new`, and as it is.
    pub(super) fn check(
        &self,
        readings: &Readings,
        new: &[(u32, Definition)],
    ) -> Result<(), Refusal> {
        // Rarely more than a handful beyond the first batch: then nothing is built.
        let new: Refs<Definition> = new.iter().copied().collect();
        for (r#ref, text) in readings.series() {
            let Some(definition) = self.series.get(r#ref).or_else(|| new.get(r#ref)) else {
                return Err(Refusal::new(
                    v1::RefusedCode::UnknownSeries,
                    format!("series {} was never defined in this stream", r#ref),
                ));
            };
            if definition.text != text && !definition.unwanted {
                return Err(Refusal::new(
                    v1::RefusedCode::Invalid,
                    format!("values of series {} are not of its kind", r#ref),
                ));
            }
        }
        Ok(())
    }

    /// Of a record that will be appended, or is being replayed.
    pub(super) fn add(&mut self, new: Vec<(u32, Definition)>) {
        self.added.extend(new.iter().map(|(r#ref, _)| *r#ref));
        self.series.extend(new);
    }

    /// What was added is in the journal.
    pub(super) fn keep(&mut self) {
        self.added.clear();
    }

    /// It never will be.
    pub(super) fn retreat(&mut self) {
        for r#ref in std::mem::take(&mut self.added) {
            self.series.remove(r#ref);
        }
    }
}
