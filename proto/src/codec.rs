//! The gRPC codec of both programs: prost, behind a look at what a message would unfold into.
//!
//! A record or a definition that holds nothing takes two bytes on the wire and a hundred times that in
//! memory, so [`MAX_MESSAGE_BYTES`](crate::limits::MAX_MESSAGE_BYTES) alone does not bound what a peer
//! makes us allocate. Before prost sees a request its records are counted, and every definition must be
//! long enough to name a ref, a device, a metric and a kind.
//!
//! In: the bytes of one message. Out: the message, or `OUT_OF_RANGE`, on which an agent sends less at a
//! time. Promises: decoding a request allocates at most [`UNFOLDED_PER_BYTE`] times its bytes, and
//! [`UNFOLDED_BYTES`] more.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::Buf;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use crate::batch::DecodeError;
use crate::batch::wire::{Field, Fields};
use crate::limits::{MAX_BATCH_READINGS, MAX_DECODED_BYTES, MAX_REQUEST_RECORDS};
use crate::v1;

/// What decoding a request may allocate for each of its bytes.
pub const UNFOLDED_PER_BYTE: usize = 32;

/// What decoding a request may allocate beyond that: the records of the largest number allowed.
pub const UNFOLDED_BYTES: usize = 32 << 20;

/// What a call keeps for each direction while nothing is under way: answers take a few bytes, and a request makes
/// its own room. tonic's default of 8 KiB is a third of what an idle agent costs a sink.
const IDLE_BYTES: usize = 512;

/// Encoded bytes from which the transport is handed what there is; tonic's own default.
const HAND_OVER_BYTES: usize = 32 << 10;

/// Bytes of the shortest definition that [`crate::batch::check_series`] takes: ref, device, metric, kind.
const LEAST_SERIES_BYTES: usize = 10;

/// What taking in a record costs beside what is in it, in readings.
const RECORD_EFFORT: u64 = 256;

/// What taking in a definition costs, in readings.
const SERIES_EFFORT: u64 = 64;

/// Bytes of a payload before compression whose reading costs no more than a reading does.
const BYTES_PER_READING: u64 = 8;

/// Most fields and bytes of a message that [`part`] cuts off at a time, unless one field has more.
const PART: (usize, usize) = (256, 128 << 10);

/// A message that is looked at before it is decoded.
pub trait Bounded {
    /// Why these bytes are not decoded; otherwise what it costs to take in what is in them, as [`effort`] says it.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` when they would unfold into too much, `INVALID_ARGUMENT` when they are no message.
    fn look(bytes: &[u8]) -> Result<u64, Status>;
}

impl Bounded for v1::DeliverRequest {
    fn look(bytes: &[u8]) -> Result<u64, Status> {
        let (mut records, mut effort) = (0, 0);
        walk(bytes, 2, &mut |record| {
            records += 1;
            if records > MAX_REQUEST_RECORDS {
                return Err(Status::out_of_range(format!(
                    "request too large: more than {MAX_REQUEST_RECORDS} records"
                )));
            }
            effort += look_at_record(record)?;
            Ok(())
        })?;
        Ok(effort)
    }
}

impl Bounded for v1::DeliverResponse {
    fn look(_bytes: &[u8]) -> Result<u64, Status> {
        // An agent takes no answer long enough to unfold into much: `limits::MAX_ANSWER_BYTES`.
        Ok(0)
    }
}

/// What it costs to take in a record, in readings, some six nanoseconds each: by what its header announces, beyond which
/// nothing is decoded.
pub fn effort(record: &v1::record::Record) -> u64 {
    RECORD_EFFORT
        + match record {
            v1::record::Record::Batch(batch) => {
                let header = batch.header.as_ref();
                let announced = header.map(|header| (header.readings, header.decoded_bytes));
                payload_effort(announced.unwrap_or_default())
                    + batch.series_defined.len() as u64 * SERIES_EFFORT
            }
            v1::record::Record::Definitions(all) => all.series.len() as u64 * SERIES_EFFORT,
            v1::record::Record::Skip(_) | v1::record::Record::Close(_) => 0,
        }
}

fn payload_effort((readings, bytes): (u64, u64)) -> u64 {
    let bytes = bytes.min(MAX_DECODED_BYTES as u64);
    let readings = readings.min(MAX_BATCH_READINGS as u64);
    readings.max(bytes / BYTES_PER_READING)
}

/// Length of the first part of a message, in whole fields: merged part by part, it is the message that decoding all at
/// once gives. What is no message is one part.
pub fn part(message: &[u8]) -> usize {
    let (most_fields, most_bytes) = PART;
    let mut fields = Fields::new(message);
    for _ in 0..most_fields {
        match fields.next() {
            Ok(Some(_)) if message.len() - fields.rest() < most_bytes => {}
            Ok(_) => break,
            Err(_) => return message.len(),
        }
    }
    message.len() - fields.rest()
}

/// Messages that are a few KiB at most, and whose fields unfold into nothing: whoever takes them says so to the transport.
macro_rules! small {
    ($($message:ty),*) => {
        $(impl Bounded for $message {
            fn look(_bytes: &[u8]) -> Result<u64, Status> {
                Ok(0)
            }
        })*
    };
}

small!(
    v1::EnrollRequest,
    v1::EnrollResponse,
    v1::RenewRequest,
    v1::RenewResponse
);

/// A record is a batch, whose header is field 1 and whose definitions are field 2, or definitions, where they are field 1.
fn look_at_record(record: &[u8]) -> Result<u64, Status> {
    let mut effort = RECORD_EFFORT;
    let mut fields = Fields::new(record);
    while let Some(field) = fields.next().map_err(unreadable)? {
        match field {
            (1, Field::Bytes(batch)) => effort += look_at_batch(batch)?,
            (3, Field::Bytes(all)) => walk(all, 1, &mut |series| {
                effort += SERIES_EFFORT;
                look_at_series(series)
            })?,
            _ => {}
        }
    }
    Ok(effort)
}

fn look_at_batch(batch: &[u8]) -> Result<u64, Status> {
    let mut effort = 0;
    let mut fields = Fields::new(batch);
    while let Some(field) = fields.next().map_err(unreadable)? {
        match field {
            (1, Field::Bytes(header)) => effort += look_at_header(header)?,
            (2, Field::Bytes(series)) => {
                effort += SERIES_EFFORT;
                look_at_series(series)?;
            }
            _ => {}
        }
    }
    Ok(effort)
}

fn look_at_header(header: &[u8]) -> Result<u64, Status> {
    let mut announced = (0, 0);
    let mut fields = Fields::new(header);
    while let Some(field) = fields.next().map_err(unreadable)? {
        match field {
            (3, Field::Varint(readings)) => announced.0 = readings,
            (10, Field::Varint(bytes)) => announced.1 = bytes,
            _ => {}
        }
    }
    Ok(payload_effort(announced))
}

fn look_at_series(series: &[u8]) -> Result<(), Status> {
    if series.len() < LEAST_SERIES_BYTES {
        return Err(Status::invalid_argument(
            "a definition is too short to name a ref, a device, a metric and a kind",
        ));
    }
    Ok(())
}

/// Shows every message that stands under `wanted` to `see`.
fn walk(
    message: &[u8],
    wanted: u32,
    see: &mut dyn FnMut(&[u8]) -> Result<(), Status>,
) -> Result<(), Status> {
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next().map_err(unreadable)? {
        if let (true, Field::Bytes(bytes)) = (number == wanted, field) {
            see(bytes)?;
        }
    }
    Ok(())
}

fn unreadable(error: DecodeError) -> Status {
    Status::invalid_argument(format!("request {error}"))
}

fn buffers() -> BufferSettings {
    BufferSettings::new(IDLE_BYTES, HAND_OVER_BYTES)
}

/// See the module. Named by the generated client and server.
#[derive(Debug, Clone)]
pub struct BoundedCodec<T, U> {
    messages: PhantomData<(T, U)>,
}

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self {
            messages: PhantomData,
        }
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Bounded + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(buffers())
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder {
            messages: PhantomData,
        }
    }
}

/// The decoding half of [`BoundedCodec`].
#[derive(Debug, Clone)]
pub struct BoundedDecoder<U> {
    messages: PhantomData<U>,
}

impl<U: Message + Default + Bounded> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // tonic hands a message over in one piece, so this copies nothing; and prost takes half as long over plain bytes.
        let bytes = bytes.copy_to_bytes(bytes.remaining());
        U::look(&bytes)?;
        // As tonic's own codec says it.
        let message = U::decode(bytes).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(message))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

#[cfg(test)]
mod tests {
    use prost::bytes::Bytes;

    use super::*;

    fn record(record: v1::record::Record) -> v1::Record {
        v1::Record {
            record: Some(record),
        }
    }

    fn series(number: u32) -> v1::Series {
        v1::Series {
            r#ref: number,
            device: "press".into(),
            metric: "force".into(),
            kind: v1::Kind::Gauge.into(),
            ..v1::Series::default()
        }
    }

    /// A request of `count` records, every third of each kind.
    fn request(count: u32) -> v1::DeliverRequest {
        let one = |number| match number % 3 {
            0 => v1::record::Record::Batch(v1::Batch {
                header: Some(v1::BatchHeader {
                    readings: u64::from(number) * 1000,
                    decoded_bytes: 99_999,
                    ..v1::BatchHeader::default()
                }),
                series_defined: vec![series(number)],
                payload: Bytes::from(vec![7; 300]),
            }),
            1 => v1::record::Record::Definitions(v1::Definitions {
                series: vec![series(number), series(number + 1)],
            }),
            _ => v1::record::Record::Skip(v1::Skip::default()),
        };
        v1::DeliverRequest {
            records: (0..count).map(one).map(record).collect(),
            report: Some(v1::Report {
                produced: 7,
                ..v1::Report::default()
            }),
            ..v1::DeliverRequest::default()
        }
    }

    /// Mutations: a part that ends within a field; the last part left out.
    #[test]
    fn what_is_merged_part_by_part_is_the_message() {
        for count in [0, 1, 255, 256, 257, 3000] {
            let sent = request(count);
            let mut rest = Bytes::from(sent.encode_to_vec());
            let (mut found, mut parts) = (v1::DeliverRequest::default(), 0);
            while !rest.is_empty() {
                let first = rest.split_to(part(&rest));
                assert!(first.len() <= PART.1 + 400, "{}", first.len());
                found.merge(first).unwrap();
                parts += 1;
            }
            assert_eq!(found, sent);
            // The report is a field too.
            assert_eq!(parts, (count as usize + 1).div_ceil(PART.0), "{count}");
        }
        assert_eq!(
            part(&[0xff; 100]),
            100,
            "what is no message is left to prost"
        );
    }

    /// Mutation: another number of a header's field, or definitions that count for nothing, in one of the two.
    #[test]
    fn the_bytes_of_a_request_tell_what_its_records_cost() {
        for count in [0, 1, 2, 3, 100] {
            let request = request(count);
            let all = request.records.iter().flat_map(|one| &one.record);
            let seen = v1::DeliverRequest::look(&request.encode_to_vec()).unwrap();
            assert_eq!(seen, all.map(effort).sum::<u64>());
        }
        let none = record(v1::record::Record::Batch(v1::Batch::default()));
        let one = v1::DeliverRequest {
            records: vec![none],
            ..v1::DeliverRequest::default()
        };
        let seen = v1::DeliverRequest::look(&one.encode_to_vec());
        assert_eq!(seen.unwrap(), RECORD_EFFORT);
    }
}
