//! What ingest writes into the sink's journal: one [`Envelope`] per accepted record.
//!
//! An on-disk format. The body of a journal record of kind [`KIND`] is one protobuf message:
//!
//! | field | type | what it holds |
//! |---|---|---|
//! | 1 `received_ns` | sfixed64 | the sink's wall clock when the request was read, unix ns |
//! | 2 `tenant` | string | immutable slug of the tenant; `default` without a credential |
//! | 3 `agent` | string | the agent's name, from the credential or else from Hello |
//! | 4 `stream_id` | bytes | 16 bytes, the stream the record belongs to |
//! | 5 `clock_offset_ns` | sint64 | the sink's wall clock less the agent's at Hello |
//! | 6 `report` | weir.v1.Report | only on the last record of a request that carried one |
//! | 7 `record` | bytes | an encoded `weir.v1.Record`: batch, skip, definitions or close |
//! | 8 `clock` | [`ClockSample`] | on the first record after the agent said what its clocks say |
//! | 9 `lost` | optional bool | instead of a record: the sink has decided that the agent holds this stream no more (true), or that it does (false) |
//! | 10 `unwanted` | repeated uint32 | refs that the record defines and whose readings are dropped, `series_limit`: a limit on series was reached |
//!
//! | `ClockSample` field | type | what it holds |
//! |---|---|---|
//! | 1 `boot_id` | bytes | 16 bytes, the agent's boot |
//! | 2 `monotonic_ns` | uint64 | the monotonic clock of that boot |
//! | 3 `agent_ns` | sfixed64 | the agent's wall clock at the same moment, unix ns |
//! | 4 `sink_ns` | sfixed64 | the sink's wall clock when it heard of it, unix ns: late, never early |
//! | 5 `own_machine` | bool | the agent runs under the sink's own boot: its clock is the sink's |
//!
//! Field 7 is written last: the head before it is the same for most records of a request.
//! A batch is the agent's bytes unchanged. A skip is written as it was applied: a part that was
//! already durable has been trimmed from its front, so `from` is always the next sequence.
//! Everything here passed ingest's validation before it was appended.
//!
//! Fields are only ever added. A reader ignores fields it does not know; an envelope of a sink that
//! did not write field 8 has no sample.

use bytes::Bytes;
use prost::Message as _;
use weir_proto::v1;

use crate::model::{StreamId, StreamKey};

/// The journal's record kind for an [`Envelope`].
pub const KIND: u8 = 1;

/// Protobuf key of field 7, length delimited.
const RECORD_KEY: u8 = 7 << 3 | 2;

/// One accepted record and everything the fold may know about it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Envelope {
    /// The sink's wall clock when the request was read, unix ns.
    #[prost(sfixed64, tag = "1")]
    pub received_ns: i64,
    /// Immutable slug of the tenant.
    #[prost(string, tag = "2")]
    pub tenant: String,
    /// The agent's name.
    #[prost(string, tag = "3")]
    pub agent: String,
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub stream_id: Bytes,
    /// The sink's wall clock less the agent's at Hello, ns.
    #[prost(sint64, tag = "5")]
    pub clock_offset_ns: i64,
    /// The agent's view of the stream; on the last record of a request that carried one.
    #[prost(message, optional, tag = "6")]
    pub report: Option<v1::Report>,
    /// An encoded `weir.v1.Record`.
    #[prost(bytes = "bytes", tag = "7")]
    pub record: Bytes,
    /// Two clocks at one moment, where they were heard of just before this record.
    #[prost(message, optional, tag = "8")]
    pub clock: Option<ClockSample>,
    /// Instead of a record: whether the agent has lost what it held of this stream.
    #[prost(bool, optional, tag = "9")]
    pub lost: Option<bool>,
    /// Refs that the record defines beyond a limit on series: no reading of them is stored.
    #[prost(uint32, repeated, tag = "10")]
    pub unwanted: Vec<u32>,
}

/// What the agent's clocks said when the sink's said something.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClockSample {
    /// The agent's boot, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub boot_id: Bytes,
    /// The monotonic clock of that boot, ns.
    #[prost(uint64, tag = "2")]
    pub monotonic_ns: u64,
    /// The agent's wall clock, unix ns.
    #[prost(sfixed64, tag = "3")]
    pub agent_ns: i64,
    /// The sink's wall clock, unix ns.
    #[prost(sfixed64, tag = "4")]
    pub sink_ns: i64,
    /// Both programs run under one boot.
    #[prost(bool, tag = "5")]
    pub own_machine: bool,
}

/// What an agent reports of a stream, after what it reported before: `produced` never falls. What it once
/// counted and has no more is lost with its spool and must not leave the books.
pub(crate) fn following(earlier: Option<&v1::Report>, report: v1::Report) -> v1::Report {
    let most = earlier.map_or(0, |earlier| earlier.produced);
    v1::Report {
        produced: report.produced.max(most),
        ..report
    }
}

impl Envelope {
    /// Everything before the record, with the clock and the report or without: what [`put_record`] appends to
    /// it makes an encoded envelope. `unwanted` is the record's own.
    pub fn head(&self, clock: bool, report: bool, unwanted: &[u32]) -> Vec<u8> {
        let mut head = Vec::with_capacity(self.head_len());
        let without_record = Self {
            record: Bytes::new(),
            clock: self.clock.clone().filter(|_| clock),
            report: self.report.filter(|_| report),
            unwanted: unwanted.to_vec(),
            ..self.clone()
        };
        without_record.encode_raw(&mut head);
        head
    }

    /// Bytes that the longest head takes with the key and length of a record, about.
    pub fn head_len(&self) -> usize {
        96 + self.tenant.len() + self.agent.len()
    }

    /// The envelope in a journal record's body; `record` shares its bytes.
    pub fn parse(body: Bytes) -> Result<Self, prost::DecodeError> {
        Self::decode(body)
    }

    /// The record inside; a batch's payload shares its bytes.
    pub fn parse_record(&self) -> Result<Option<v1::record::Record>, prost::DecodeError> {
        Ok(v1::Record::decode(self.record.clone())?.record)
    }

    /// Which stream this belongs to; nothing when the id is not 16 bytes.
    pub fn stream(&self) -> Option<StreamKey> {
        let id = StreamId::from_slice(&self.stream_id)?;
        Some(StreamKey::new(&self.tenant, id))
    }

    /// Whether this belongs to that stream.
    pub fn is_of(&self, stream: &StreamKey) -> bool {
        self.stream_id[..] == stream.id.0[..] && *self.tenant == *stream.tenant
    }
}

/// Each series that a record defines, and whether it is among the `unwanted`, which stand in the same order.
pub fn marked<'a>(
    series: &'a [v1::Series],
    unwanted: &'a [u32],
) -> impl Iterator<Item = (&'a v1::Series, bool)> {
    let mut unwanted = unwanted.iter().peekable();
    series.iter().map(move |series| {
        let is_unwanted = unwanted.next_if(|next| **next == series.r#ref).is_some();
        (series, is_unwanted)
    })
}

/// Appends a record of so many encoded bytes to a head.
pub fn put_record(record: &v1::record::Record, length: usize, out: &mut Vec<u8>) {
    out.push(RECORD_KEY);
    prost::encoding::encode_varint(length as u64, out);
    record.encode(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_record_are_an_encoded_envelope() {
        let envelope = Envelope {
            received_ns: 1_700_000_000_000_000_000,
            tenant: "default".into(),
            agent: "edge-1".into(),
            stream_id: Bytes::from_static(&[7; 16]),
            clock_offset_ns: -5,
            report: Some(v1::Report {
                produced: 3,
                ..Default::default()
            }),
            record: v1::Record {
                record: Some(v1::record::Record::Close(v1::Close { last_sequence: 9 })),
            }
            .encode_to_vec()
            .into(),
            clock: Some(ClockSample {
                boot_id: Bytes::from_static(&[8; 16]),
                monotonic_ns: 1,
                agent_ns: 2,
                sink_ns: 3,
                own_machine: true,
            }),
            lost: None,
            unwanted: vec![3, 70_000],
        };
        let record = envelope.parse_record().expect("own bytes").expect("one");
        let mut whole = envelope.head(true, true, &envelope.unwanted);
        put_record(&record, record.encoded_len(), &mut whole);
        let again = Envelope::parse(whole.into()).expect("own bytes");
        assert_eq!(again, envelope);
        let mut between = envelope.head(false, false, &[]);
        put_record(&record, record.encoded_len(), &mut between);
        let between = Envelope::parse(between.into()).expect("own bytes");
        let expected = Envelope {
            clock: None,
            report: None,
            unwanted: Vec::new(),
            ..envelope
        };
        assert_eq!(between, expected);
        assert!(matches!(
            again.parse_record(),
            Ok(Some(v1::record::Record::Close(v1::Close {
                last_sequence: 9
            })))
        ));
    }

    #[test]
    fn a_stream_id_of_another_length_is_no_stream() {
        let envelope = Envelope {
            stream_id: Bytes::from_static(b"short"),
            ..Default::default()
        };
        assert!(envelope.stream().is_none());
    }
}
