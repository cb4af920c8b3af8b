//! What a peer's bytes make us allocate: never more than the stated multiple of what it sent, whether they
//! decode or not, and never a panic.
//!
//! Seen red with: no comparison of a block's moments with its bytes (8 MB from thirty bytes), no comparison of
//! the announced size with the frame's (16 MiB from twenty), `Bounded::look` answering `Ok` (1 GiB from 8 MiB).

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/cases.rs"]
mod cases;
#[path = "support/counting.rs"]
mod counting;

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use tonic::Code;
use weir_proto::codec::Bounded;
use weir_proto::v1::{self, column::Values};
use weir_proto::{batch, codec, limits};

use counting::peak_of;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

const SLACK: usize = 64 << 10;
/// What the codec keeps of its buffer for frames, and copies it into when it gives the rest back.
const KEPT: usize = 1 << 20;

/// A payload, and how long the message in it is.
struct Sent<'a> {
    payload: &'a [u8],
    encoding: v1::Encoding,
    message: usize,
}

/// Decodes under a header that is right about the bytes, and holds what it took against the promise.
fn decode(sent: &Sent<'_>, decoded_bytes: usize, readings: u64) -> bool {
    let payload = sent.payload;
    let header = v1::BatchHeader {
        readings,
        encoding: sent.encoding.into(),
        crc: crc32c::crc32c(payload),
        decoded_bytes: decoded_bytes as u64,
        ..v1::BatchHeader::default()
    };
    let (decoded, peak) = peak_of(|| batch::decode(&header, payload));
    let inflated = match sent.encoding {
        v1::Encoding::Zstd => KEPT + decoded_bytes.min(payload.len() * batch::INFLATED_PER_BYTE),
        _ => 0,
    };
    let allowed = SLACK + inflated + batch::UNFOLDED_PER_BYTE * sent.message;
    assert!(
        peak <= allowed,
        "{} bytes took {peak}: {decoded:?}",
        payload.len()
    );
    assert!(
        peak <= batch::DECODED_BYTES,
        "{} bytes took {peak}",
        payload.len()
    );
    decoded.is_ok()
}

fn plain(blocks: Vec<v1::Block>, readings: u64) -> bool {
    let message = v1::Payload { blocks }.encode_to_vec();
    decode_plain(&message, message.len(), readings)
}

fn decode_plain(payload: &[u8], decoded_bytes: usize, readings: u64) -> bool {
    let sent = Sent {
        payload,
        encoding: v1::Encoding::Plain,
        message: payload.len(),
    };
    decode(&sent, decoded_bytes, readings)
}

/// Takes the frame of a message of so many bytes.
fn decode_frame(payload: &[u8], message: usize, decoded_bytes: usize, readings: u64) -> bool {
    let sent = Sent {
        payload,
        encoding: v1::Encoding::Zstd,
        message,
    };
    decode(&sent, decoded_bytes, readings)
}

fn regular(count: u32, columns: Vec<v1::Column>) -> v1::Block {
    let times = v1::Times {
        count,
        ..v1::Times::default()
    };
    v1::Block {
        times: Some(times),
        columns,
    }
}

fn column(values: Values, absent: Vec<u8>) -> v1::Column {
    v1::Column {
        series: 1,
        values: Some(values),
        absent,
    }
}

fn decimal(deltas: Vec<i64>) -> Values {
    let exponent = 0;
    Values::Decimal(v1::Decimal { exponent, deltas })
}

#[test]
fn a_block_of_a_huge_count_takes_no_more_than_its_bytes_allow() {
    let most = limits::MAX_BATCH_READINGS as u32;
    for count in [2, 1000, most, most + 1, u32::MAX] {
        assert!(!plain(
            vec![regular(count, vec![column(decimal(vec![1]), vec![])])],
            1
        ));
        let announced = u64::from(count).min(limits::MAX_BATCH_READINGS as u64);
        let one = || column(decimal(vec![1]), vec![]);
        assert!(!plain(vec![regular(count, vec![one(), one()])], announced));
    }
}

#[test]
fn the_most_a_small_message_may_unfold_into_is_still_taken() {
    // One reading among eighty thousand moments: a bit for each.
    let mut absent = vec![0xff; 10_000];
    absent[0] = 0xfe;
    assert!(plain(
        vec![regular(80_000, vec![column(decimal(vec![1]), absent)])],
        1
    ));
    let columns = (0..5000)
        .map(|_| column(decimal(vec![1]), vec![]))
        .collect();
    assert!(plain(vec![regular(1, columns)], 5000));
    let texts = Values::Texts(v1::Texts {
        values: vec![String::new(); 8000],
    });
    assert!(plain(
        vec![regular(8000, vec![column(texts, vec![])])],
        8000
    ));
}

#[test]
fn the_largest_batches_stay_under_the_ceiling() {
    let texts = Values::Texts(v1::Texts {
        values: vec!["12345678".into(); limits::MAX_BATCH_READINGS],
    });
    let most = limits::MAX_BATCH_READINGS as u32;
    assert!(plain_of_any_size(
        vec![regular(most, vec![column(texts, vec![])])],
        u64::from(most)
    ));
    let columns = limits::MAX_BATCH_COLUMNS as u64;
    let one = || column(decimal(vec![1]), vec![]);
    let wide = regular(1, (0..columns).map(|_| one()).collect());
    assert!(plain_of_any_size(vec![wide], columns));
}

/// Compressed, because a payload may be 4 MiB and what it holds 16.
fn plain_of_any_size(blocks: Vec<v1::Block>, readings: u64) -> bool {
    let message = v1::Payload { blocks }.encode_to_vec();
    let payload = zstd::encode_all(&message[..], 1).unwrap();
    decode_frame(&payload, message.len(), message.len(), readings)
}

#[test]
fn a_bomb_takes_no_more_than_a_frame_of_its_length_can_hold() {
    for size in [1 << 20, limits::MAX_DECODED_BYTES] {
        let bomb = zstd::encode_all(&vec![0_u8; size][..], 19).unwrap();
        assert!(!decode_frame(&bomb, size, size, 1));
        // Its head alone announces as much, and nothing of it is there.
        for length in [0, 6, 12, 20] {
            assert!(!decode_frame(&bomb[..length], 0, size, 1));
        }
    }
}

/// Little of everything, huge numbers among it.
fn any_block() -> impl Strategy<Value = v1::Block> {
    let huge = prop_oneof![0..40_u32, Just(1_000_000), Just(u32::MAX), any::<u32>()];
    let times =
        (huge, any::<i64>(), vec(any::<i64>(), 0..20)).prop_map(|(count, ns, offsets)| v1::Times {
            start_ns: ns,
            interval_ns: ns.cast_unsigned(),
            count,
            resolution_ns: ns.cast_unsigned(),
            offsets,
        });
    let values = prop_oneof![
        (any::<i32>(), vec(any::<i64>(), 0..40))
            .prop_map(|(exponent, deltas)| Values::Decimal(v1::Decimal { exponent, deltas })),
        vec(any::<f64>(), 0..40).prop_map(|values| Values::Doubles(v1::Doubles { values })),
        vec(".{0,3}", 0..40).prop_map(|values| Values::Texts(v1::Texts { values })),
    ];
    let column =
        (any::<u32>(), values, vec(any::<u8>(), 0..6)).prop_map(|(series, values, absent)| {
            v1::Column {
                series,
                values: Some(values),
                absent,
            }
        });
    (times, vec(column, 0..6)).prop_map(|(times, columns)| v1::Block {
        times: Some(times),
        columns,
    })
}

proptest! {
    #![proptest_config(cases::cases(400))]

    #[test]
    fn any_message_of_the_right_shape_takes_no_more_than_its_bytes_allow(
        blocks in vec(any_block(), 0..4),
        readings in prop_oneof![0..60_u64, Just(1_000_000), any::<u64>()],
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        compress in any::<bool>(),
        announced in prop_oneof![Just(None), (0..20_000_000_usize).prop_map(Some)],
    ) {
        let mut message = v1::Payload { blocks }.encode_to_vec();
        for (at, byte) in damage {
            if !message.is_empty() {
                let at = at.index(message.len());
                message[at] = byte;
            }
        }
        let announced = announced.unwrap_or(message.len());
        if compress {
            let payload = zstd::encode_all(&message[..], 1).unwrap();
            decode_frame(&payload, message.len(), announced, readings);
        } else {
            decode_plain(&message, announced, readings);
        }
    }

    #[test]
    fn any_bytes_are_looked_at_before_they_are_a_request(
        bytes in vec(any::<u8>(), 0..300),
        of_shape in any::<bool>(),
        records in vec((0..5_u8, vec(any::<u8>(), 0..12)), 0..20),
    ) {
        let bytes = if of_shape { request_of(&records) } else { bytes };
        let _refused_or_not = take_request(&bytes);
    }
}

/// A request whose records hold these bytes.
fn request_of(records: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut request = Vec::new();
    for (number, bytes) in records {
        let mut record = vec![number << 3 | 2, bytes.len() as u8];
        record.extend(bytes);
        request.extend([2 << 3 | 2, record.len() as u8]);
        request.extend(record);
    }
    request
}

/// What the gRPC codec does with a message; the code it is refused by.
fn take_request(bytes: &[u8]) -> Result<v1::DeliverRequest, Code> {
    let (taken, peak) = peak_of(|| {
        v1::DeliverRequest::look(bytes).map_err(|status| status.code())?;
        v1::DeliverRequest::decode(bytes).map_err(|_| Code::Internal)
    });
    let allowed = codec::UNFOLDED_BYTES.min(4096 * bytes.len() + SLACK)
        + codec::UNFOLDED_PER_BYTE * bytes.len();
    assert!(
        peak <= allowed,
        "{} bytes took {peak}, allowed are {allowed}",
        bytes.len()
    );
    taken
}

/// As many copies of these bytes as a message may hold.
fn full_of(bytes: &[u8]) -> Vec<u8> {
    bytes.repeat(limits::MAX_MESSAGE_BYTES / bytes.len())
}

#[test]
fn a_request_of_empty_parts_is_refused_before_it_unfolds() {
    assert_eq!(take_request(&full_of(&[0x12, 0])), Err(Code::OutOfRange));
    // The same within records: definitions of nothing in a batch, and alone.
    for kind in [0x0a, 0x1a] {
        let series = full_of(&[if kind == 0x0a { 0x12 } else { 0x0a }, 0]);
        let series = &series[..series.len() - 64];
        let wrap = |key: u8, inner: &[u8]| {
            let mut outer = vec![key];
            prost::encoding::encode_varint(inner.len() as u64, &mut outer);
            outer.extend(inner);
            outer
        };
        let request = wrap(0x12, &wrap(kind, series));
        assert_eq!(take_request(&request), Err(Code::InvalidArgument));
    }
    // A group hides what follows it from a reader that stops there, and not from prost.
    assert_eq!(
        take_request(&[0x5b, 0x5c, 0x12, 0]),
        Err(Code::InvalidArgument)
    );
}

#[test]
fn the_largest_requests_that_mean_something_are_taken() {
    let series = |r#ref: u32| v1::Series {
        r#ref,
        device: "d".into(),
        metric: "m".into(),
        kind: v1::Kind::Gauge.into(),
        ..v1::Series::default()
    };
    assert_eq!(series(1).encoded_len(), 10, "the shortest there is");
    let definitions = v1::Definitions {
        series: (1..=600_000).map(series).collect(),
    };
    let record = v1::Record {
        record: Some(v1::record::Record::Definitions(definitions)),
    };
    let close = v1::Record {
        record: Some(v1::record::Record::Close(v1::Close { last_sequence: 1 })),
    };
    for records in [vec![record], vec![close; limits::MAX_REQUEST_RECORDS]] {
        let request = v1::DeliverRequest {
            records,
            ..v1::DeliverRequest::default()
        };
        let bytes = request.encode_to_vec();
        assert!(bytes.len() <= limits::MAX_MESSAGE_BYTES);
        assert_eq!(take_request(&bytes), Ok(request));
    }
}
