//! What others may send: damage, lies in the header, and little that unfolds into much.

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::strategies::{any_blocks, numbers};
use crate::batch::{Block, DecodeError, decode, encode};
use crate::limits;
use crate::v1::{self, RefusedCode, column::Values};

/// A header that is right about everything outside the message.
fn header(message: &[u8], readings: u64) -> v1::BatchHeader {
    v1::BatchHeader {
        readings,
        encoding: v1::Encoding::Plain.into(),
        crc: crc32c::crc32c(message),
        decoded_bytes: message.len() as u64,
        ..Default::default()
    }
}

/// The same payload without compression.
fn plain(blocks: &[Block]) -> (v1::BatchHeader, Vec<u8>) {
    let encoded = encode(blocks);
    let message = match encoded.encoding {
        v1::Encoding::Zstd => zstd::decode_all(&encoded.payload[..]).unwrap(),
        _ => encoded.payload.to_vec(),
    };
    let header = v1::BatchHeader {
        encoding: v1::Encoding::Plain.into(),
        crc: crc32c::crc32c(&message),
        ..encoded.header()
    };
    (header, message)
}

/// Whatever was decoded keeps every promise the header and the types make.
fn assert_sound(header: &v1::BatchHeader, blocks: &[Block]) {
    let mut readings = 0;
    for block in blocks {
        assert!(!block.times.is_empty() && !block.columns.is_empty());
        for column in &block.columns {
            assert_ne!(column.series, 0);
            let expected = match &column.present {
                None => block.times.len(),
                Some(present) => {
                    assert_eq!(present.len(), block.times.len());
                    present.iter().filter(|present| **present).count()
                }
            };
            assert!(expected > 0);
            assert_eq!(column.values.len(), expected);
            readings += expected as u64;
        }
    }
    assert_eq!(readings, header.readings);
    let times = || blocks.iter().flat_map(|block| block.times.iter().copied());
    assert_eq!(times().min().unwrap_or(0), header.first_ns);
    assert_eq!(times().max().unwrap_or(0), header.last_ns);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_bytes_never_panic(
        bytes in vec(any::<u8>(), 0..200),
        readings in 0..20_u64,
        encoding in 0..4_i32,
        decoded_bytes in 0..300_u64,
    ) {
        let header = v1::BatchHeader { encoding, decoded_bytes, ..header(&bytes, readings) };
        if let Ok(blocks) = decode(&header, &bytes) {
            assert_sound(&header, &blocks);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_messages_never_decode_to_something_unsound(
        blocks in any_blocks(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4),
        more_readings in -2..3_i64,
    ) {
        let (mut header, mut message) = plain(&blocks);
        for (at, byte, what) in damage {
            if message.is_empty() { break; }
            let at = at.index(message.len());
            match what {
                0 => message[at] = byte,
                1 => message[at] ^= 1 << (byte % 8),
                2 => message.insert(at, byte),
                _ => message.truncate(at),
            }
        }
        header.crc = crc32c::crc32c(&message);
        header.decoded_bytes = message.len() as u64;
        header.readings = header.readings.saturating_add_signed(more_readings);
        if let Ok(blocks) = decode(&header, &message) {
            assert_sound(&header, &blocks);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_payload_is_seen(
        blocks in any_blocks(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let encoded = encode(&blocks);
        let mut payload = encoded.payload.to_vec();
        if !payload.is_empty() {
            let at = at.index(payload.len());
            payload[at] ^= 1 << bit;
            let error = decode(&encoded.header(), &payload).unwrap_err();
            let seen = matches!(error, DecodeError::Checksum { .. });
            prop_assert!(seen, "{:?}", error);
        }
    }
}

#[test]
fn a_header_that_lies_is_refused_by_the_right_code() {
    let times = (0..100).collect();
    let block = Block {
        times,
        columns: vec![numbers(1, vec![0.5; 100])],
    };
    let encoded = encode(&[block]);
    let good = encoded.header();
    assert_eq!(good.encoding, i32::from(v1::Encoding::Zstd));
    type Lie = fn(&mut v1::BatchHeader);
    let lies: [(Lie, RefusedCode); 13] = [
        (|h| h.readings += 1, RefusedCode::CountMismatch),
        (|h| h.readings -= 1, RefusedCode::CountMismatch),
        (|h| h.readings = u64::MAX, RefusedCode::TooLarge),
        (|h| h.first_ns -= 1, RefusedCode::CountMismatch),
        (|h| h.last_ns += 1, RefusedCode::CountMismatch),
        (|h| h.decoded_bytes += 1, RefusedCode::CountMismatch),
        (|h| h.decoded_bytes -= 1, RefusedCode::CountMismatch),
        (|h| h.decoded_bytes = 1 << 40, RefusedCode::TooLarge),
        (|h| h.crc ^= 1, RefusedCode::Malformed),
        (|h| h.encoding = 0, RefusedCode::Malformed),
        (|h| h.encoding = 1, RefusedCode::CountMismatch),
        (|h| h.encoding = 77, RefusedCode::Unspecified),
        (|h| h.encoding = -1, RefusedCode::Unspecified),
    ];
    for (at, (lie, code)) in lies.into_iter().enumerate() {
        let mut header = good.clone();
        lie(&mut header);
        let error = decode(&header, &encoded.payload).unwrap_err();
        assert_eq!(error.code(), code, "lie {at}: {error}");
    }
    assert!(decode(&good, &encoded.payload).is_ok());
}

#[test]
fn a_bomb_is_refused_by_its_announced_and_by_its_real_size() {
    let bomb = zstd::encode_all(&vec![0_u8; limits::MAX_DECODED_BYTES + 1][..], 1).unwrap();
    // This frame does not say how long its content is, so only the room stops it.
    let announced = zstd::zstd_safe::get_frame_content_size(&bomb);
    assert!(matches!(announced, Ok(None)));
    let mut header = header(&bomb, 1);
    header.encoding = v1::Encoding::Zstd.into();
    header.decoded_bytes = 1000;
    assert_eq!(
        decode(&header, &bomb).unwrap_err().code(),
        RefusedCode::Malformed
    );
    header.decoded_bytes = limits::MAX_DECODED_BYTES as u64 + 1;
    assert_eq!(
        decode(&header, &bomb).unwrap_err().code(),
        RefusedCode::TooLarge
    );
    let long = vec![0; limits::MAX_BATCH_BYTES + 1];
    assert_eq!(
        decode(&header, &long).unwrap_err().code(),
        RefusedCode::TooLarge
    );
}

/// One block of `count` regular moments with the columns given.
fn block(count: u32, columns: Vec<v1::Column>) -> v1::Block {
    let times = v1::Times {
        count,
        ..Default::default()
    };
    v1::Block {
        times: Some(times),
        columns,
    }
}

fn column(series: u32, values: Values) -> v1::Column {
    v1::Column {
        series,
        values: Some(values),
        absent: vec![],
    }
}

fn decimals(deltas: Vec<i64>) -> Values {
    Values::Decimal(v1::Decimal {
        exponent: 0,
        deltas,
    })
}

fn refusal(blocks: Vec<v1::Block>, readings: u64) -> DecodeError {
    let message = v1::Payload { blocks }.encode_to_vec();
    decode(&header(&message, readings), &message).unwrap_err()
}

#[test]
fn little_that_unfolds_into_much_is_refused() {
    let one = || column(1, decimals(vec![0]));
    let most = limits::MAX_BATCH_READINGS as u32;
    // A regular block of many moments that no column fills.
    assert_eq!(
        refusal(vec![block(most, vec![one()])], 1).code(),
        RefusedCode::CountMismatch
    );
    assert_eq!(
        refusal(vec![block(u32::MAX, vec![one()])], 1).code(),
        RefusedCode::TooLarge
    );
    // The same again and again, each with one value present: the moments add up.
    let mut sparse = one();
    sparse.absent = vec![0xff; most as usize / 8];
    sparse.absent[0] = 0xfe;
    let twice = vec![block(most, vec![sparse.clone()]); 2];
    assert_eq!(refusal(twice, 2).code(), RefusedCode::TooLarge);
    // Side by side in one block: the places add up.
    let wide = vec![block(most, vec![sparse; 5])];
    assert_eq!(refusal(wide, 5).code(), RefusedCode::TooLarge);
    let many = vec![block(1, vec![one(); limits::MAX_BATCH_COLUMNS + 1])];
    assert_eq!(
        refusal(many, limits::MAX_BATCH_COLUMNS as u64 + 1).code(),
        RefusedCode::TooLarge
    );
}

#[test]
fn structure_that_does_not_add_up_is_refused() {
    let two = || decimals(vec![1, 1]);
    let masked = |absent: &[u8], values| v1::Column {
        absent: absent.to_vec(),
        ..column(1, values)
    };
    let decimal = |exponent, deltas| Values::Decimal(v1::Decimal { exponent, deltas });
    let text = |text: String| {
        Values::Texts(v1::Texts {
            values: vec![text.clone(), text],
        })
    };
    let cases = [
        (
            "no moment",
            block(0, vec![column(1, two())]),
            RefusedCode::Malformed,
        ),
        ("no column", block(2, vec![]), RefusedCode::Malformed),
        (
            "no times",
            v1::Block {
                times: None,
                columns: vec![column(1, two())],
            },
            RefusedCode::Malformed,
        ),
        (
            "series 0",
            block(2, vec![column(0, two())]),
            RefusedCode::Malformed,
        ),
        (
            "a value too few",
            block(3, vec![column(1, two())]),
            RefusedCode::CountMismatch,
        ),
        (
            "a value too many",
            block(1, vec![column(1, two())]),
            RefusedCode::CountMismatch,
        ),
        (
            "no values",
            block(
                2,
                vec![v1::Column {
                    series: 1,
                    ..Default::default()
                }],
            ),
            RefusedCode::Malformed,
        ),
        (
            "mask too long",
            block(2, vec![masked(&[0, 0], two())]),
            RefusedCode::CountMismatch,
        ),
        (
            "mask too short",
            block(9, vec![masked(&[0xfe], two())]),
            RefusedCode::CountMismatch,
        ),
        (
            "mask past the end",
            block(2, vec![masked(&[4], two())]),
            RefusedCode::Malformed,
        ),
        (
            "all absent",
            block(2, vec![masked(&[3], decimals(vec![]))]),
            RefusedCode::Malformed,
        ),
        (
            "values for absent",
            block(2, vec![masked(&[1], two())]),
            RefusedCode::CountMismatch,
        ),
        (
            "exponent",
            block(2, vec![column(1, decimal(-23, vec![1, 1]))]),
            RefusedCode::Malformed,
        ),
        (
            "overflow",
            block(2, vec![column(1, decimal(0, vec![i64::MAX, 1]))]),
            RefusedCode::Malformed,
        ),
        (
            "long text",
            block(
                2,
                vec![column(1, text("x".repeat(limits::MAX_TEXT_BYTES + 1)))],
            ),
            RefusedCode::TooLarge,
        ),
    ];
    for (name, block, code) in cases {
        let error = refusal(vec![block], 2);
        assert_eq!(error.code(), code, "{name}: {error}");
    }
    let fine = block(2, vec![column(1, text("x".repeat(limits::MAX_TEXT_BYTES)))]);
    let message = v1::Payload { blocks: vec![fine] }.encode_to_vec();
    assert!(decode(&header(&message, 2), &message).is_ok());
}

#[test]
fn texts_that_are_not_utf_8_are_refused() {
    let values = Values::Texts(v1::Texts {
        values: vec!["abc".into()],
    });
    let payload = v1::Payload {
        blocks: vec![block(1, vec![column(1, values)])],
    };
    let mut message = payload.encode_to_vec();
    let at = message.windows(3).position(|part| part == b"abc").unwrap();
    message[at] = 0xff;
    let error = decode(&header(&message, 1), &message).unwrap_err();
    assert_eq!(error, DecodeError::Malformed("a text is not utf-8"));
}
