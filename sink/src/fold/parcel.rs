//! Records that ingest appended together, on their way to the fold: what they share stands once.

use std::collections::VecDeque;

use bytes::Bytes;
use weir_proto::v1;

use super::{Arrival, Decoded};
use crate::envelope::Envelope;

/// One record, beside what it shares with the others.
#[derive(Debug)]
pub struct Enclosed {
    /// Encoded.
    pub record: Bytes,
    /// What ingest has decoded of it.
    pub decoded: Option<Decoded>,
    /// Refs it defines beyond a limit on series.
    pub unwanted: Vec<u32>,
}

/// Records of one request under numbers in a row.
#[derive(Debug)]
pub struct Parcel {
    /// Of the first that is still in it.
    number: u64,
    /// Of all; beside the record itself, which stands in it only while it is looked at.
    envelope: Envelope,
    /// Belongs to the last.
    report: Option<v1::Report>,
    records: VecDeque<Enclosed>,
}

impl Parcel {
    /// From the journal's number of the first record, at least one record, and the envelope of all: its clock belongs
    /// to the first, its report to the last.
    pub fn new(number: u64, mut envelope: Envelope, records: VecDeque<Enclosed>) -> Self {
        Self {
            number,
            report: envelope.report.take(),
            envelope,
            records,
        }
    }

    /// Number of the first record that is still in it.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Number behind the last one.
    pub(super) fn end(&self) -> u64 {
        self.number + self.records.len() as u64
    }

    /// Bytes it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let record =
            |one: &Enclosed| 64 + one.record.len() + one.decoded.as_ref().map_or(0, Decoded::bytes);
        256 + self.records.iter().map(record).sum::<usize>()
    }

    /// Whether the next record needs no decoding.
    pub(super) fn is_decoded(&self) -> bool {
        let next = self.records.front();
        next.is_some_and(|next| next.decoded.is_some())
    }

    /// Takes the next record out: its number, its whole envelope, and what is decoded of it.
    pub(super) fn next(&mut self) -> Option<(u64, &Envelope, Option<Decoded>)> {
        let Enclosed {
            record,
            decoded,
            unwanted,
        } = self.records.pop_front()?;
        if !self.envelope.record.is_empty() {
            // Not the first any more.
            self.envelope.clock = None;
        }
        self.envelope.record = record;
        self.envelope.unwanted = unwanted;
        if self.records.is_empty() {
            self.envelope.report = self.report.take();
        }
        let number = self.number;
        self.number += 1;
        Some((number, &self.envelope, decoded))
    }

    /// Each with an envelope of its own.
    pub fn arrivals(mut self) -> Vec<Arrival> {
        let mut arrivals = Vec::with_capacity(self.records.len());
        while let Some((number, envelope, decoded)) = self.next() {
            arrivals.push(Arrival {
                number,
                envelope: envelope.clone(),
                decoded,
            });
        }
        arrivals
    }
}

impl From<Arrival> for Parcel {
    fn from(arrival: Arrival) -> Self {
        let mut envelope = arrival.envelope;
        let only = Enclosed {
            record: std::mem::take(&mut envelope.record),
            decoded: arrival.decoded,
            unwanted: std::mem::take(&mut envelope.unwanted),
        };
        Self::new(arrival.number, envelope, [only].into())
    }
}

impl Decoded {
    fn bytes(&self) -> usize {
        256 + self.series_defined.len() * 256 + self.readings.bytes()
    }
}
