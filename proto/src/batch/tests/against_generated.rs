//! The codec's own walk over the wire against the generated messages, in both directions. What
//! the messages mean is written here a second time, straight from the comments in
//! `payload.proto`.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::strategies::{any_blocks, bits_of};
use crate::batch::{Block, Column, Values, decode, encode};
use crate::v1;

/// The meaning of a `Payload`, by the letter of `payload.proto`.
fn meaning(payload: &v1::Payload) -> Vec<Block> {
    payload.blocks.iter().map(block).collect()
}

fn block(block: &v1::Block) -> Block {
    let times = times(block.times.as_ref().unwrap());
    let column = |column: &v1::Column| {
        let absent = |at: usize| column.absent.get(at / 8).copied().unwrap_or(0) >> (at % 8) & 1;
        let mask: Vec<bool> = (0..times.len()).map(|at| absent(at) == 0).collect();
        Column {
            series: column.series,
            values: values(column.values.as_ref().unwrap()),
            present: mask.contains(&false).then_some(mask),
        }
    };
    Block {
        columns: block.columns.iter().map(column).collect(),
        times,
    }
}

fn times(times: &v1::Times) -> Vec<i64> {
    let mut moments = vec![i128::from(times.start_ns)];
    let mut step = 0_i128;
    for at in 1..times.count as usize {
        let by = if times.offsets.is_empty() {
            i128::from(times.interval_ns)
        } else {
            step += i128::from(times.offsets[at - 1]);
            step * i128::from(times.resolution_ns)
        };
        moments.push(moments[at - 1] + by);
    }
    // Modulo 2^64, as `docs/protocol.md` says.
    moments.into_iter().map(|moment| moment as i64).collect()
}

fn values(values: &v1::column::Values) -> Values {
    match values {
        v1::column::Values::Texts(texts) => Values::Texts(texts.values.clone()),
        v1::column::Values::Doubles(doubles) => Values::Numbers(doubles.values.clone()),
        v1::column::Values::Decimal(decimal) => {
            let mut mantissa = 0;
            let value = |delta: &i64| {
                mantissa += delta;
                format!("{mantissa}e{}", decimal.exponent).parse().unwrap()
            };
            Values::Numbers(decimal.deltas.iter().map(value).collect())
        }
    }
}

fn plain_header(payload: &v1::Payload, message: &[u8]) -> v1::BatchHeader {
    let blocks = meaning(payload);
    let columns = blocks.iter().flat_map(|block| &block.columns);
    let times = || blocks.iter().flat_map(|block| block.times.iter().copied());
    v1::BatchHeader {
        readings: columns.map(|column| column.values.len() as u64).sum(),
        encoding: v1::Encoding::Plain.into(),
        crc: crc32c::crc32c(message),
        decoded_bytes: message.len() as u64,
        first_ns: times().min().unwrap_or(0),
        last_ns: times().max().unwrap_or(0),
        ..Default::default()
    }
}

/// Payloads an encoder other than ours might write.
fn foreign_payload() -> impl Strategy<Value = v1::Payload> {
    let times = (any::<i64>(), any::<u32>(), 1..20_u32, any::<bool>()).prop_flat_map(
        |(start_ns, interval, count, regular)| {
            let offsets = if regular { 0 } else { count as usize - 1 };
            (vec(any::<i32>(), offsets), 1..5000_u64).prop_map(move |(offsets, resolution_ns)| {
                v1::Times {
                    start_ns,
                    interval_ns: interval.into(),
                    count,
                    resolution_ns,
                    offsets: offsets.into_iter().map(i64::from).collect(),
                }
            })
        },
    );
    let block = times.prop_flat_map(|times| {
        let count = times.count as usize;
        let decimal = (-22..=22_i32, vec(any::<i32>(), count)).prop_map(|(exponent, deltas)| {
            v1::column::Values::Decimal(v1::Decimal {
                exponent,
                deltas: deltas.into_iter().map(i64::from).collect(),
            })
        });
        let doubles = vec(any::<u64>().prop_map(f64::from_bits), count)
            .prop_map(|values| v1::column::Values::Doubles(v1::Doubles { values }));
        let texts =
            vec(".{0,5}", count).prop_map(|values| v1::column::Values::Texts(v1::Texts { values }));
        let column = (
            1..=u32::MAX,
            prop_oneof![decimal, doubles, texts],
            any::<bool>(),
        )
            .prop_map(move |(series, values, mask)| v1::Column {
                series,
                values: Some(values),
                absent: vec![0; if mask { count.div_ceil(8) } else { 0 }],
            });
        vec(column, 1..4).prop_map(move |columns| v1::Block {
            times: Some(times.clone()),
            columns,
        })
    });
    vec(block, 0..3).prop_map(|blocks| v1::Payload { blocks })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn generated_code_reads_what_we_write(blocks in any_blocks()) {
        let encoded = encode(&blocks);
        let message = match encoded.encoding {
            v1::Encoding::Zstd => {
                Bytes::from(zstd::decode_all(&encoded.payload[..]).unwrap())
            }
            _ => encoded.payload.clone(),
        };
        let payload = v1::Payload::decode(message.clone()).unwrap();
        prop_assert_eq!(bits_of(&meaning(&payload)), bits_of(&blocks));
        // The bytes are the ones the generated code would have written.
        prop_assert_eq!(payload.encode_to_vec(), message);
    }

    #[test]
    fn we_read_what_generated_code_writes(payload in foreign_payload()) {
        let message = payload.encode_to_vec();
        let blocks = decode(&plain_header(&payload, &message), &message).unwrap();
        prop_assert_eq!(bits_of(&blocks), bits_of(&meaning(&payload)));
    }
}

/// Any field order, numbers packed or not or in pieces, unknown fields: all legal protobuf.
#[test]
fn we_read_legal_protobuf_that_no_one_writes() {
    let length =
        |number: u8, content: &[u8]| [&[number << 3 | 2, content.len() as u8], content].concat();
    // Exponent last; deltas +1 (alone), +2 +3 (packed), +4 (alone).
    let decimal = [
        &[2 << 3, 2][..],
        &length(2, &[4, 6]),
        &[2 << 3, 8, 1 << 3, 1],
    ]
    .concat();
    let column = [length(15, b"new"), length(2, &decimal), vec![1 << 3, 7]].concat();
    // Offsets 0, +1 (packed), -1 (alone); count last.
    let times = [&length(5, &[0, 2])[..], &[5 << 3, 1, 4 << 3, 10, 3 << 3, 4]].concat();
    let block = [length(2, &column), length(1, &times)].concat();
    let message = length(1, &block);

    let payload = v1::Payload::decode(&message[..]).unwrap();
    let blocks = decode(&plain_header(&payload, &message), &message).unwrap();
    assert_eq!(blocks[0].times, [0, 0, 10, 10]);
    assert_eq!(
        blocks[0].columns[0].values,
        Values::Numbers(vec![0.1, 0.3, 0.6, 1.0])
    );
    assert_eq!(blocks, meaning(&payload));
}
