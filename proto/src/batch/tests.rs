//! The codec held against itself; beside this file against the generated messages
//! (`against_generated`) and against what others may send (`hostile`, `structure`).

mod against_generated;
mod hostile;
mod strategies;
mod structure;

use proptest::prelude::*;

use super::*;
use strategies::{any_blocks, bits_of, numbers};

/// Encodes, decodes, and compares bit by bit.
fn assert_comes_back(blocks: &[Block]) -> Encoded {
    let encoded = encode(blocks);
    let decoded = decode(&encoded.header(), &encoded.payload).unwrap();
    assert_eq!(bits_of(&decoded), bits_of(blocks));
    encoded
}

fn block(times: Vec<i64>, columns: Vec<Column>) -> Block {
    Block { times, columns }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_blocks_come_back(blocks in any_blocks()) {
        let encoded = assert_comes_back(&blocks);
        let times = || blocks.iter().flat_map(|block| block.times.iter().copied());
        let columns = blocks.iter().flat_map(|block| &block.columns);
        prop_assert_eq!(encoded.readings, columns.map(|c| c.values.len() as u64).sum::<u64>());
        prop_assert_eq!(encoded.first_ns, times().min().unwrap_or(0));
        prop_assert_eq!(encoded.last_ns, times().max().unwrap_or(0));
        prop_assert_eq!(encoded.crc, crc32c::crc32c(&encoded.payload));
    }

    #[test]
    fn any_double_comes_back_alone(bits in any::<u64>()) {
        assert_comes_back(&[block(vec![0], vec![numbers(1, vec![f64::from_bits(bits)])])]);
    }
}

/// The example of `docs/protocol.md`, which is there for those who write another codec.
#[test]
fn bytes_are_those_of_the_protocol_page() {
    let column = Column {
        series: 7,
        values: Values::Numbers(vec![21.5, 21.6]),
        present: Some(vec![true, true, false]),
    };
    let times = vec![0, 1_000_000_000, 2_000_000_000];
    let page = include_str!("../../../docs/protocol.md");
    let example = page.lines().skip_while(|line| !line.starts_with("0a "));
    let byte = |word: &str| match word.len() {
        2 => u8::from_str_radix(word, 16).ok(),
        _ => None,
    };
    let bytes: Vec<u8> = example
        .take_while(|line| !line.starts_with("```"))
        .flat_map(|line| line.split_whitespace().map_while(byte))
        .collect();
    assert_eq!(encode(&[block(times, vec![column])]).payload, bytes);
}

#[test]
fn doubles_that_are_not_numbers_come_back_bit_by_bit() {
    let odd = vec![
        f64::from_bits(0x7ff0_0000_0000_0001),
        f64::from_bits(0xffff_dead_beef_0001),
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        f64::from_bits(1),
        f64::MIN_POSITIVE / 3.0,
        f64::MAX,
        f64::MIN,
    ];
    let times = (0..odd.len() as i64).collect();
    assert_comes_back(&[block(times, vec![numbers(1, odd)])]);
}

#[test]
fn nothing_is_a_batch_without_readings() {
    let encoded = assert_comes_back(&[]);
    assert_eq!((encoded.readings, encoded.decoded_bytes), (0, 0));
    assert_eq!((encoded.first_ns, encoded.last_ns), (0, 0));
}

#[test]
fn what_holds_no_reading_is_left_out() {
    let empty = Column {
        series: 9,
        values: Values::Numbers(vec![]),
        present: Some(vec![false, false]),
    };
    let full = numbers(1, vec![1.0, 2.0]);
    let given = [
        block(vec![-5, -4], vec![empty.clone()]),
        block(vec![1, 2], vec![empty, full.clone()]),
        block(vec![], vec![]),
    ];
    let encoded = encode(&given);
    let decoded = decode(&encoded.header(), &encoded.payload).unwrap();
    assert_eq!(decoded, [block(vec![1, 2], vec![full])]);
    assert_eq!((encoded.first_ns, encoded.last_ns), (1, 2));
}

#[test]
fn a_mask_without_absent_values_is_no_mask() {
    let mut masked = numbers(1, vec![1.0, 2.0]);
    masked.present = Some(vec![true, true]);
    let encoded = encode(&[block(vec![1, 2], vec![masked])]);
    let decoded = decode(&encoded.header(), &encoded.payload).unwrap();
    assert_eq!(decoded[0].columns[0].present, None);
}

#[test]
fn payload_is_plain_where_zstd_is_not_smaller() {
    let mut bits = 1_u64;
    let noise = (0..100).map(|_| {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        f64::from_bits(bits ^ bits >> 29)
    });
    let noise = encode(&[block((0..100).collect(), vec![numbers(1, noise.collect())])]);
    let short = encode(&[block((0..100).collect(), vec![numbers(1, vec![1.5; 100])])]);
    for plain in [noise, short] {
        assert_eq!(plain.encoding, v1::Encoding::Plain);
        assert_eq!(plain.payload.len() as u64, plain.decoded_bytes);
    }
    let long = encode(&[block(
        (0..1000).collect(),
        vec![numbers(1, vec![1.5; 1000])],
    )]);
    assert_eq!(long.encoding, v1::Encoding::Zstd);
    assert!((long.payload.len() as u64) < long.decoded_bytes);
}

#[test]
fn decimals_longer_than_doubles_are_sent_as_doubles() {
    let far = 2_f64.powi(61) + 2_f64.powi(20);
    let values = (0..100).map(|at| if at % 2 == 0 { far } else { -far });
    let encoded = assert_comes_back(&[block(
        (0..100).collect(),
        vec![numbers(1, values.collect())],
    )]);
    assert!(encoded.decoded_bytes < 8 * 100 + 40, "{encoded:?}");
}

#[test]
fn sensor_values_take_less_than_two_bytes_each() {
    // Ten temperatures with one decimal, each second, walking by at most 0.3.
    let walk = |series: u32| {
        let step = |at: u32| f64::from((at * 7 + series * 3) % 7) - 3.0;
        let tenths = (0..100).scan(205.0, |at, n| {
            *at += step(n);
            Some(*at / 10.0)
        });
        numbers(series, tenths.collect())
    };
    let times = (0..100).map(|second| 1_760_000_000_000_000_000 + second * 1_000_000_000);
    let encoded = assert_comes_back(&[block(times.collect(), (1..=10).map(walk).collect())]);
    assert!(encoded.decoded_bytes < 2 * encoded.readings, "{encoded:?}");
}

/// What the two decoders give is the same. Red when a column's place in the lists is off by one.
#[test]
fn readings_are_the_blocks_column_after_column() {
    let mut masked = numbers(2, vec![5.5, 1e300]);
    masked.present = Some(vec![true, false, true]);
    let texts = Column {
        series: 3,
        values: Values::Texts(vec!["a".into(), String::new(), "c".into()]),
        present: None,
    };
    let blocks = [
        block(
            vec![10, 20, 30],
            vec![numbers(1, vec![1.0, 2.0, 3.5]), masked, texts],
        ),
        block(
            vec![5],
            vec![numbers(1, vec![f64::MAX]), numbers(4, vec![0.1])],
        ),
    ];
    let encoded = encode(&blocks);
    let mut readings = decode_readings(&encoded.header(), &encoded.payload).unwrap();
    let mut found: Vec<(Vec<i64>, Column)> = Vec::new();
    readings.take(|column| {
        let values = match column.values {
            Slice::Numbers(numbers) => Values::Numbers(numbers.to_vec()),
            Slice::Texts(texts) => Values::Texts(texts.to_vec()),
        };
        let present = column.present.map(<[bool]>::to_vec);
        let series = column.series;
        found.push((
            column.times.to_vec(),
            Column {
                series,
                values,
                present,
            },
        ));
    });
    let expected = blocks.iter().flat_map(|block| {
        let columns = block.columns.iter().cloned();
        columns.map(|column| (block.times.clone(), column))
    });
    assert_eq!(found, expected.collect::<Vec<_>>());
}
