//! Accepted records of one request on their way into the journal: encoded behind each other into one
//! buffer, so that a small record costs little beside its bytes.

use std::collections::VecDeque;

use bytes::Bytes;
use weir_journal::{Frames, Sealed};
use weir_proto::v1;

use super::check::Readable;
use crate::envelope::{Envelope, put_record};
use crate::fold::{Decoded, Parcel};

/// Payload bytes from which a load is appended before the rest of its request is taken.
const FULL_BYTES: usize = 1 << 20;

/// Records in the order in which they were accepted.
#[derive(Default)]
pub(super) struct Load {
    records: Vec<(v1::record::Record, Option<Decoded>)>,
    payload_bytes: usize,
    /// Batches among them.
    pub(super) batches: u64,
    /// Readings in these.
    pub(super) readings: u64,
}

/// The same as the journal takes it.
pub(super) struct Packed {
    pub(super) frames: Sealed,
    /// Bytes of the records, without what is written around them.
    pub(super) bytes: u64,
    envelope: Envelope,
    /// Bytes of each record, and what is decoded of it.
    records: Vec<(usize, Option<Decoded>)>,
}

impl Load {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.payload_bytes >= FULL_BYTES
    }

    /// Adds a record as it was admitted.
    pub(super) fn put(&mut self, record: v1::record::Record, readable: Readable) {
        let (record, decoded) = match readable {
            Readable::Skip(skip) => (v1::record::Record::Skip(skip), None),
            Readable::Batch {
                header,
                defined,
                readings,
            } => {
                self.batches += 1;
                self.readings += header.readings;
                let decoded = Decoded {
                    header,
                    series_defined: defined,
                    readings,
                };
                (record, Some(decoded))
            }
            Readable::Definitions(_) | Readable::Close => (record, None),
        };
        if let v1::record::Record::Batch(batch) = &record {
            self.payload_bytes += batch.payload.len();
        }
        self.records.push((record, decoded));
    }

    /// Encodes them. `envelope` is that of all: its clock goes with the first, its report with the last.
    pub(super) fn pack(self, envelope: Envelope) -> Packed {
        let lengths = self.records.iter().map(|(record, _)| record.encoded_len());
        let lengths: Vec<usize> = lengths.collect();
        let room = envelope.head_len();
        let bytes = lengths.iter().sum::<usize>();
        let mut frames = Frames::with_room(lengths.len(), bytes + room * lengths.len());
        let between = envelope.head(false, false);
        let last = lengths.len().saturating_sub(1);
        for (index, ((record, _), length)) in self.records.iter().zip(&lengths).enumerate() {
            frames.put(|out| {
                match (index == 0, index == last) {
                    (false, false) => out.extend_from_slice(&between),
                    (first, last) => out.extend_from_slice(&envelope.head(first, last)),
                }
                put_record(record, *length, out);
            });
        }
        let decoded = self.records.into_iter().map(|(_, decoded)| decoded);
        Packed {
            frames: frames.seal(),
            bytes: bytes as u64,
            envelope,
            records: lengths.into_iter().zip(decoded).collect(),
        }
    }
}

impl Packed {
    /// For the fold, once the journal has given the first record its number.
    pub(super) fn parcel(self, number: u64) -> Parcel {
        let bodies = self.frames.bodies();
        let records = bodies.zip(self.records).map(|(body, (length, decoded))| {
            let record = body.slice(body.len() - length..);
            (record, decoded)
        });
        let records: VecDeque<(Bytes, Option<Decoded>)> = records.collect();
        Parcel::new(number, self.envelope, records)
    }
}
