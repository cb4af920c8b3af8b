//! Accepted records of one request on their way into the journal: encoded behind each other into one
//! buffer, so that a small record costs little beside its bytes.

use prost::encoding::{encoded_len_varint, key_len};
use weir_journal::{Frames, Sealed};
use weir_proto::batch::Readings;
use weir_proto::v1;

use super::check::Readable;
use crate::envelope::{Envelope, put_record};
use crate::fold::{Decoded, Enclosed, Parcel};

/// Bytes from which a load is appended before the rest of its request is taken.
const FULL_BYTES: usize = 1 << 20;

/// Records in the order in which they were accepted.
#[derive(Default)]
pub(super) struct Load {
    records: Vec<Loaded>,
    bytes: usize,
    /// Batches among them.
    pub(super) batches: u64,
    /// Readings in these.
    pub(super) readings: u64,
}

struct Loaded {
    record: v1::record::Record,
    /// What it takes encoded.
    bytes: usize,
    /// Of a batch.
    readings: Option<Readings>,
    /// Refs it defines beyond a limit on series.
    unwanted: Vec<u32>,
}

/// The same as the journal takes it.
pub(super) struct Packed {
    pub(super) frames: Sealed,
    /// Bytes of the records, without what is written around them.
    pub(super) bytes: u64,
    envelope: Envelope,
    /// Bytes of each record, what is decoded of it, and the refs it defines beyond a limit.
    records: Vec<(usize, Option<Decoded>, Vec<u32>)>,
}

impl Load {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= FULL_BYTES
    }

    /// Adds a record as it was admitted, with the refs it defines beyond a limit on series.
    pub(super) fn put(
        &mut self,
        record: v1::record::Record,
        readable: Readable,
        unwanted: Vec<u32>,
    ) {
        let mut loaded = match readable {
            Readable::Batch { readings, bytes } => {
                if let v1::record::Record::Batch(batch) = &record {
                    self.batches += 1;
                    self.readings += batch.header.as_ref().map_or(0, |header| header.readings);
                }
                Loaded {
                    record,
                    bytes: key_len(1) + encoded_len_varint(bytes as u64) + bytes,
                    readings: Some(readings),
                    unwanted: Vec::new(),
                }
            }
            Readable::Skip(skip) => Loaded::plain(v1::record::Record::Skip(skip)),
            Readable::Definitions | Readable::Close => Loaded::plain(record),
        };
        loaded.unwanted = unwanted;
        self.bytes += loaded.bytes;
        self.records.push(loaded);
    }

    /// Encodes them. `envelope` is that of all: its clock goes with the first, its report with the last.
    pub(super) fn pack(self, envelope: Envelope) -> Packed {
        let count = self.records.len();
        let mut frames = Frames::with_room(count, self.bytes + envelope.head_len() * count);
        let between = envelope.head(false, false, &[]);
        let last = count.saturating_sub(1);
        let mut records = Vec::with_capacity(count);
        for (index, loaded) in self.records.into_iter().enumerate() {
            frames.put(|out| {
                match (index == 0, index == last, &loaded.unwanted[..]) {
                    (false, false, []) => out.extend_from_slice(&between),
                    (first, last, unwanted) => {
                        out.extend_from_slice(&envelope.head(first, last, unwanted));
                    }
                }
                put_record(&loaded.record, loaded.bytes, out);
            });
            let mut loaded = loaded;
            let unwanted = std::mem::take(&mut loaded.unwanted);
            records.push((loaded.bytes, loaded.decoded(), unwanted));
        }
        Packed {
            frames: frames.seal(),
            bytes: self.bytes as u64,
            envelope,
            records,
        }
    }
}

impl Loaded {
    fn plain(record: v1::record::Record) -> Self {
        Self {
            bytes: record.encoded_len(),
            record,
            readings: None,
            unwanted: Vec::new(),
        }
    }

    /// What the fold needs of it beside the encoded record.
    fn decoded(self) -> Option<Decoded> {
        match (self.record, self.readings) {
            (v1::record::Record::Batch(batch), Some(readings)) => Some(Decoded {
                header: batch.header.unwrap_or_default(),
                series_defined: batch.series_defined,
                readings,
            }),
            _ => None,
        }
    }
}

impl Packed {
    /// For the fold, once the journal has given the first record its number.
    pub(super) fn parcel(self, number: u64) -> Parcel {
        let bodies = self.frames.bodies();
        let records = bodies.zip(self.records);
        let records = records.map(|(body, (length, decoded, unwanted))| Enclosed {
            record: body.slice(body.len() - length..),
            decoded,
            unwanted,
        });
        Parcel::new(number, self.envelope, records.collect())
    }
}
