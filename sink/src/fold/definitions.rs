//! What the refs of streams mean, as far as it is kept in memory.
//!
//! The catalog has every definition of a stream that is open. Here are those of streams that are in use: what
//! a stream that was given up, or of which nothing was heard for [`KEPT`], has defined is forgotten once it is
//! committed. [`State::missing`] says which stream a record wants back; the loop reads it from the catalog and
//! [`State::remember`]s it before that record is folded. So a stream that is gone costs its counts, and what
//! the fold makes of the journal does not depend on what was forgotten when.

use weir_proto::v1;

use super::buffers::Target;
use super::prepare::Content;
use super::state::{State, Stream};
use crate::envelope::{Envelope, marked};
use crate::model::StreamKey;
use crate::refs::{KEPT, Refs};

/// Streams are looked through this often, by the time of their records.
const FORGET_EVERY_NS: i64 = 60_000_000_000;

impl State {
    /// Takes over the catalog's definitions, but for those of streams that are not in use.
    pub(super) fn load_definitions(&mut self, all: Vec<(u32, u32, u32)>) -> Result<(), String> {
        let newest_ns = self.newest_ns;
        for stream in &mut self.streams {
            stream.is_forgotten = !stream.ledger.closed && is_unused(stream, newest_ns);
        }
        for (stream, reference, series) in all {
            let known = (series as usize) < self.series.len();
            let found = self.streams.get_mut(stream as usize).filter(|_| known);
            let found = found.ok_or("a definition names a stream or series that is not there")?;
            if !found.is_forgotten {
                let target = Target::new(series, &self.series);
                found.refs.insert(reference, target);
                self.defined.insert(stream);
            }
        }
        Ok(())
    }

    /// Takes in what a record defines; of the `unwanted` among it no reading is stored.
    pub(super) fn define(&mut self, stream: u32, defined: &[v1::Series], unwanted: &[u32]) {
        let State {
            streams,
            series,
            current,
            ..
        } = self;
        let Stream { ledger, refs, .. } = &mut streams[stream as usize];
        for (definition, is_unwanted) in marked(defined, unwanted) {
            let (tenant, agent) = (&ledger.tenant, &ledger.agent);
            let number = if is_unwanted {
                series.over_limit(tenant, agent)
            } else {
                series.number(tenant, agent, definition)
            };
            let target = Target::new(number, series);
            if refs.insert(definition.r#ref, target) != Some(target) {
                current.definitions.push((stream, definition.r#ref, number));
            }
        }
        if !defined.is_empty() {
            self.defined.insert(stream);
        }
    }

    /// The stream whose definitions must be here before this record is folded, if they are not.
    pub(super) fn missing(&self, envelope: &Envelope, content: &Content) -> Option<StreamKey> {
        if !matches!(content, Content::Batch { .. }) {
            return None;
        }
        let number = match &self.last {
            Some((key, number)) if envelope.is_of(key) => *number,
            _ => *self.numbers.get(&envelope.stream()?)?,
        };
        let is_forgotten = self.streams[number as usize].is_forgotten;
        is_forgotten.then(|| envelope.stream()).flatten()
    }

    /// These are the catalog's definitions of a stream. What came since it was forgotten is newer.
    pub(super) fn remember(&mut self, key: &StreamKey, defined: &[v1::Series]) {
        let Some(number) = self.numbers.get(key).copied() else {
            return;
        };
        let Stream {
            ledger,
            refs,
            is_forgotten,
        } = &mut self.streams[number as usize];
        *is_forgotten = false;
        for definition in defined {
            let series = self
                .series
                .number(&ledger.tenant, &ledger.agent, definition);
            if refs.get(definition.r#ref).is_none() {
                refs.insert(definition.r#ref, Target::new(series, &self.series));
            }
        }
        self.defined.insert(number);
    }

    /// Everything that is not in the current buffer is committed: forgets what is not in use.
    pub(super) fn forget_unused(&mut self) {
        if self.newest_ns.saturating_sub(self.forgot_at_ns) < FORGET_EVERY_NS {
            return;
        }
        self.forgot_at_ns = self.newest_ns;
        let is_committed = |number: &&u32| !self.current.streams.contains(number);
        let unused = self.defined.iter().filter(is_committed).filter(|number| {
            let stream = &self.streams[**number as usize];
            is_unused(stream, self.newest_ns)
        });
        for number in unused.copied().collect::<Vec<u32>>() {
            self.drop_refs(number, true);
        }
    }

    /// Lets go of what a stream has defined; `is_forgotten` where it may still be asked for.
    pub(super) fn drop_refs(&mut self, number: u32, is_forgotten: bool) {
        let stream = &mut self.streams[number as usize];
        stream.refs = Refs::default();
        stream.is_forgotten = is_forgotten;
        self.defined.remove(&number);
    }
}

fn is_unused(stream: &Stream, now_ns: i64) -> bool {
    let silent_ns = now_ns.saturating_sub(stream.ledger.last_seen_ns);
    stream.ledger.lost_at_ns != 0 || i128::from(silent_ns) > KEPT.as_nanos().cast_signed()
}
