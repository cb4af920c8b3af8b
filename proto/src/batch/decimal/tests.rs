//! Which columns become decimals, at which exponent, and that they come back bit by bit.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// The exponent and the mantissas found, after a check that they bring the values back.
fn found(values: &[f64]) -> Option<(i32, Vec<i64>)> {
    let mut mantissas = vec![99; 3];
    let exponent = find(values, &mut mantissas)?;
    let mut message = Vec::new();
    crate::batch::wire::put_uint_field(&mut message, 1, zigzag(exponent.into()));
    let mut deltas = Vec::new();
    put_deltas(&mut deltas, &mantissas);
    crate::batch::wire::put_bytes_head(&mut message, 2, deltas.len());
    message.extend(deltas);
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    // Behind those of another column.
    let mut read_back = vec![7.0];
    read(&message, values.len(), &mut read_back).unwrap();
    assert_eq!(bits(&read_back[1..]), bits(values));
    Some((exponent, mantissas))
}

#[test]
fn exponent_is_the_smallest_number_of_digits_that_fits_all() {
    assert_eq!(
        found(&[20.5, 21.0, 20.25]),
        Some((-2, vec![2050, 2100, 2025]))
    );
    assert_eq!(found(&[0.1, 0.3, 0.7]), Some((-1, vec![1, 3, 7])));
    assert_eq!(found(&[3.0, -4.0, 0.0]), Some((0, vec![3, -4, 0])));
    assert_eq!(found(&[1e-9, 5.0]), Some((-9, vec![1, 5_000_000_000])));
    assert_eq!(found(&[0.0, 0.0]), Some((0, vec![0, 0])));
}

#[test]
fn zeros_common_to_all_integers_are_taken_off() {
    assert_eq!(found(&[12_000.0, 0.0, -500.0]), Some((2, vec![120, 0, -5])));
    assert_eq!(found(&[5_000.0, 5_001.0]), Some((0, vec![5_000, 5_001])));
    assert_eq!(found(&[3e18]), Some((9, vec![3_000_000_000])));
    // Stripping would leave a mantissa that is no exact double.
    assert_eq!(
        found(&[(1_i64 << 61) as f64 * 1.25, 10.0]).map(|(e, _)| e),
        Some(0)
    );
}

#[test]
fn what_no_decimal_brings_back_is_left_alone() {
    for value in [
        -0.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::from_bits(1),
        1.0 / 3.0,
        std::f64::consts::PI,
        1e-10,
        4_611_686_018_427_387_904.0,
    ] {
        assert_eq!(found(&[value]), None, "{value:?}");
        assert_eq!(found(&[20.5, value]), None, "{value:?}");
    }
    // Either fits alone; together the mantissa would be too large.
    assert_eq!(found(&[4_000_000_000_000.0, 1e-9]), None);
    assert_eq!(found(&[9_007_199_254_740_991.0, 0.5]), None);
}

proptest! {
    #[test]
    fn short_decimals_are_always_found(
        mantissas in vec(-1_000_000_000..1_000_000_000_i64, 1..30),
        digits in 0..=9_i32,
    ) {
        let values: Vec<f64> =
            mantissas.iter().map(|m| format!("{m}e-{digits}").parse().unwrap()).collect();
        // "-0" is a double that no integer makes.
        let values: Vec<f64> = values.iter().map(|v| v + 0.0).collect();
        let (exponent, _) = found(&values).unwrap();
        prop_assert!(exponent >= -digits, "{} digits for {}", exponent, digits);
    }

    #[test]
    fn whatever_is_found_comes_back(values in vec(any::<u64>().prop_map(f64::from_bits), 1..4)) {
        found(&values);
    }

    #[test]
    fn integers_come_back(
        values in vec(any::<i64>(), 1..20),
        shift in 0..40_u32,
        power in 0..6_u32,
    ) {
        let near = |v: &i64| ((v >> shift).wrapping_mul(10_i64.pow(power))) as f64;
        found(&values.iter().map(near).collect::<Vec<_>>());
    }
}
