//! What others may send: damage, lies in the header, bombs.

use proptest::collection::vec;
use proptest::prelude::*;

use super::strategies::{any_blocks, numbers};
use crate::batch::{Block, DecodeError, decode, encode};
use crate::limits;
use crate::v1::{self, RefusedCode};

/// A header that is right about everything outside the message.
pub(super) fn header(message: &[u8], readings: u64) -> v1::BatchHeader {
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
    let times = (0..300).collect();
    let block = Block {
        times,
        columns: vec![numbers(1, vec![0.5; 300])],
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
