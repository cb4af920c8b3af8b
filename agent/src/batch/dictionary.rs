//! The series of one stream and their numbers.
//!
//! In: shapes, as sensors make them. Out: a ref per series, counted up from 1 in the order of first use and never used
//! again for another, and the definitions that the next batch must carry. A series that no sink would accept, or that is
//! one too many, has no ref: its readings are refused and counted, and those of its neighbours go on.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message;
use weir_proto::{batch, limits, v1};

use crate::sensors::Shape;

/// Most series of one stream. One batch may define as many, so that a first batch is never too large.
const MAX_SERIES: usize = limits::MAX_NEW_SERIES;

/// Most bytes of definitions of one stream: with a payload of the largest size they fit one message, and every segment
/// of the spool begins with all of them.
const MAX_DEFINITION_BYTES: usize = 3 << 20;

/// Shapes that are remembered by address; beyond, all are forgotten and looked up anew.
const MAX_SHAPES: usize = 1024;

/// What has been defined so far.
#[derive(Debug, Default)]
pub(crate) struct Dictionary {
    /// By the encoded definition with ref 0.
    refs: HashMap<Vec<u8>, Option<u32>>,
    /// By the shape's address, which the shape beside it keeps from being used again.
    shapes: HashMap<usize, (Arc<Shape>, Refs)>,
    new: Vec<v1::Series>,
    defined: u32,
    definition_bytes: usize,
}

/// The ref of each series of a shape, None where it is refused.
pub(crate) type Refs = Arc<[Option<u32>]>;

impl Dictionary {
    /// The refs of a shape's series, defining those that are new.
    pub(crate) fn refs(&mut self, shape: &Arc<Shape>) -> Refs {
        if let Some((_, refs)) = self.shapes.get(&Arc::as_ptr(shape).addr()) {
            return Arc::clone(refs);
        }
        let refs: Refs = shape
            .series
            .iter()
            .map(|series| self.find(series))
            .collect();
        if self.shapes.len() >= MAX_SHAPES {
            self.shapes.clear();
        }
        self.shapes.insert(
            Arc::as_ptr(shape).addr(),
            (Arc::clone(shape), Arc::clone(&refs)),
        );
        refs
    }

    /// Definitions made since the last call.
    pub(crate) fn take_new(&mut self) -> Vec<v1::Series> {
        std::mem::take(&mut self.new)
    }

    fn find(&mut self, series: &v1::Series) -> Option<u32> {
        let key = series.encode_to_vec();
        if let Some(known) = self.refs.get(&key) {
            return *known;
        }
        let made = self.define(series, key.len());
        // The refused are remembered as well, so that each is logged once, but never without bound.
        if self.refs.len() < 2 * MAX_SERIES {
            self.refs.insert(key, made);
        }
        made
    }

    fn define(&mut self, series: &v1::Series, bytes: usize) -> Option<u32> {
        let definition = v1::Series {
            r#ref: self.defined + 1,
            ..series.clone()
        };
        if let Err(error) = batch::check_series(&definition) {
            tracing::warn!(metric = %series.metric, device = %series.device, %error, "series refused");
            return None;
        }
        if self.defined as usize >= MAX_SERIES
            || self.definition_bytes + bytes > MAX_DEFINITION_BYTES
        {
            tracing::warn!(
                metric = %series.metric,
                device = %series.device,
                series = self.defined,
                "series refused: one agent has too many, spread its devices over several agents"
            );
            return None;
        }
        self.defined += 1;
        self.definition_bytes += bytes;
        self.new.push(definition);
        Some(self.defined)
    }
}
