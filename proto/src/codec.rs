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
use crate::limits::MAX_REQUEST_RECORDS;
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

/// A message that is looked at before it is decoded.
pub trait Bounded {
    /// Why these bytes are not decoded.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` when they would unfold into too much, `INVALID_ARGUMENT` when they are no message.
    fn look(bytes: &[u8]) -> Result<(), Status>;
}

impl Bounded for v1::DeliverRequest {
    fn look(bytes: &[u8]) -> Result<(), Status> {
        let mut records = 0;
        walk(bytes, 2, &mut |record| {
            records += 1;
            if records > MAX_REQUEST_RECORDS {
                return Err(Status::out_of_range(format!(
                    "request too large: more than {MAX_REQUEST_RECORDS} records"
                )));
            }
            look_at_record(record)
        })
    }
}

impl Bounded for v1::DeliverResponse {
    fn look(_bytes: &[u8]) -> Result<(), Status> {
        // An agent takes no answer long enough to unfold into much: `limits::MAX_ANSWER_BYTES`.
        Ok(())
    }
}

/// Messages that are a few KiB at most, and whose fields unfold into nothing: whoever takes them says so to the transport.
macro_rules! small {
    ($($message:ty),*) => {
        $(impl Bounded for $message {
            fn look(_bytes: &[u8]) -> Result<(), Status> {
                Ok(())
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

/// A record is a batch, whose definitions are field 2, or definitions, where they are field 1.
fn look_at_record(record: &[u8]) -> Result<(), Status> {
    let mut fields = Fields::new(record);
    while let Some(field) = fields.next().map_err(unreadable)? {
        match field {
            (1, Field::Bytes(batch)) => walk(batch, 2, &mut look_at_series)?,
            (3, Field::Bytes(all)) => walk(all, 1, &mut look_at_series)?,
            _ => {}
        }
    }
    Ok(())
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
