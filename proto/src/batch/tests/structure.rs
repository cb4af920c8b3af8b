//! Payloads that are well-formed protobuf and still not acceptable: parts that are missing or do
//! not fit one another, and little that unfolds into much.

use prost::Message;

use super::hostile::header;
use crate::batch::{DecodeError, decode};
use crate::limits;
use crate::v1::{self, RefusedCode, column::Values};

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

fn mask(absent: &[u8], values: Values) -> v1::Column {
    let absent = absent.to_vec();
    v1::Column {
        absent,
        ..column(1, values)
    }
}

fn two() -> Values {
    decimals(vec![1, 1])
}

/// Each block is refused by its code, under a header that counts what the masks leave.
fn assert_refused(cases: impl IntoIterator<Item = (v1::Block, RefusedCode)>) {
    for (at, (block, code)) in cases.into_iter().enumerate() {
        let moments = block
            .times
            .as_ref()
            .map_or(0, |times| u64::from(times.count));
        let absent = |column: &v1::Column| {
            column
                .absent
                .iter()
                .map(|byte| u64::from(byte.count_ones()))
                .sum::<u64>()
        };
        let present = |column| moments.saturating_sub(absent(column));
        let readings = block.columns.iter().map(present).sum();
        let error = refusal(vec![block], readings);
        assert_eq!(error.code(), code, "case {at}: {error}");
    }
}

#[test]
fn what_lacks_a_part_is_refused() {
    let timeless = v1::Block {
        times: None,
        columns: vec![column(1, two())],
    };
    let hollow = v1::Column {
        series: 1,
        ..Default::default()
    };
    assert_refused([
        (timeless, RefusedCode::Malformed),
        (block(0, vec![column(1, two())]), RefusedCode::Malformed),
        (block(2, vec![]), RefusedCode::Malformed),
        (block(2, vec![column(0, two())]), RefusedCode::Malformed),
        (block(2, vec![hollow]), RefusedCode::Malformed),
    ]);
}

#[test]
fn columns_that_do_not_fit_their_moments_are_refused() {
    let none = || decimals(vec![]);
    let doubles = |count| {
        Values::Doubles(v1::Doubles {
            values: vec![0.5; count],
        })
    };
    let texts = |count| {
        Values::Texts(v1::Texts {
            values: vec![String::new(); count],
        })
    };
    assert_refused([
        (block(3, vec![column(1, two())]), RefusedCode::CountMismatch),
        (block(1, vec![column(1, two())]), RefusedCode::CountMismatch),
        (
            block(2, vec![column(1, doubles(1))]),
            RefusedCode::CountMismatch,
        ),
        (
            block(2, vec![column(1, doubles(3))]),
            RefusedCode::CountMismatch,
        ),
        (
            block(2, vec![column(1, texts(1))]),
            RefusedCode::CountMismatch,
        ),
        (
            block(2, vec![column(1, texts(3))]),
            RefusedCode::CountMismatch,
        ),
        // A mask too long, too short, past the end, of nothing but absent values, of one.
        (
            block(2, vec![mask(&[0, 0], two())]),
            RefusedCode::CountMismatch,
        ),
        (
            block(9, vec![mask(&[0xfe], two())]),
            RefusedCode::CountMismatch,
        ),
        (block(2, vec![mask(&[4], two())]), RefusedCode::Malformed),
        (block(2, vec![mask(&[3], none())]), RefusedCode::Malformed),
        (
            block(2, vec![mask(&[1], two())]),
            RefusedCode::CountMismatch,
        ),
    ]);
}

#[test]
fn values_out_of_range_are_refused() {
    let decimal = |exponent, deltas| Values::Decimal(v1::Decimal { exponent, deltas });
    let text = |bytes| {
        Values::Texts(v1::Texts {
            values: vec!["x".repeat(bytes)],
        })
    };
    assert_refused([
        (
            block(2, vec![column(1, decimal(-23, vec![1, 1]))]),
            RefusedCode::Malformed,
        ),
        (
            block(2, vec![column(1, decimal(23, vec![1, 1]))]),
            RefusedCode::Malformed,
        ),
        (
            block(2, vec![column(1, decimal(0, vec![i64::MAX, 1]))]),
            RefusedCode::Malformed,
        ),
        (
            block(1, vec![column(1, text(limits::MAX_TEXT_BYTES + 1))]),
            RefusedCode::TooLarge,
        ),
    ]);
    let longest = block(1, vec![column(1, text(limits::MAX_TEXT_BYTES))]);
    let message = v1::Payload {
        blocks: vec![longest],
    }
    .encode_to_vec();
    assert!(decode(&header(&message, 1), &message).is_ok());
}

#[test]
fn offsets_that_do_not_fit_their_moments_are_refused() {
    let offsets = |resolution_ns, offsets: &[i64]| v1::Block {
        times: Some(v1::Times {
            count: 2,
            resolution_ns,
            offsets: offsets.to_vec(),
            ..Default::default()
        }),
        columns: vec![column(1, two())],
    };
    assert_refused([
        (offsets(1, &[1, 1]), RefusedCode::CountMismatch),
        (offsets(0, &[1]), RefusedCode::Malformed),
    ]);
    let mut few = offsets(1, &[1]);
    few.columns = vec![column(1, decimals(vec![1; 3]))];
    few.times.as_mut().unwrap().count = 3;
    assert_refused([(few, RefusedCode::CountMismatch)]);
}

/// A nested message that stands twice means a merge to protobuf; no encoder writes it, and
/// taking only one of them would lose readings in silence.
#[test]
fn messages_that_stand_twice_are_refused() {
    let times = v1::Times {
        count: 1,
        ..Default::default()
    };
    let once = v1::Block {
        times: Some(times),
        columns: vec![],
    }
    .encode_to_vec();
    let rest = v1::Block {
        times: None,
        columns: vec![column(1, decimals(vec![1]))],
    };
    let block = [&once[..], &once, &rest.encode_to_vec()].concat();
    let message = [&[1 << 3 | 2, block.len() as u8], &block[..]].concat();
    assert!(v1::Payload::decode(&message[..]).is_ok());
    let error = decode(&header(&message, 1), &message).unwrap_err();
    assert_eq!(error, DecodeError::Malformed("a field stands twice"));
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
