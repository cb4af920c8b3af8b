//! The codec held against itself, against the generated messages, and against damage.

use super::*;

fn column(series: u32, numbers: &[f64]) -> Column {
    Column {
        series,
        values: Values::Numbers(numbers.to_vec()),
        present: None,
    }
}

#[test]
fn a_batch_comes_back() {
    let blocks = [Block {
        times: vec![1_000, 2_000, 3_000],
        columns: vec![
            column(1, &[20.1, 20.2, 20.15]),
            column(2, &[f64::NAN.copysign(-1.0).abs(), -0.0, f64::INFINITY]),
            Column {
                series: 3,
                values: Values::Texts(vec!["on".into()]),
                present: Some(vec![false, true, false]),
            },
        ],
    }];
    let encoded = encode(&blocks);
    assert_eq!(encoded.readings, 7);
    assert_eq!((encoded.first_ns, encoded.last_ns), (1_000, 3_000));
    let decoded = decode(&encoded.header(), &encoded.payload).unwrap();
    assert_eq!(format!("{decoded:?}"), format!("{blocks:?}"));
}
