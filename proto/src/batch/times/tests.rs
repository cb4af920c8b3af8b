//! Which form a list of times takes, and that any comes back.

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::v1;

fn message(times: &[i64]) -> v1::Times {
    let mut bytes = Vec::new();
    put(&mut bytes, times, &mut Vec::new());
    let header = Header::read(&bytes).unwrap();
    assert_eq!(header.count, times.len());
    let mut moments = Vec::new();
    header.moments(&mut moments).unwrap();
    assert_eq!(moments, times);
    v1::Times::decode(&bytes[..]).unwrap()
}

#[test]
fn regular_times_take_no_bytes_per_moment() {
    let times: Vec<i64> = (0..1000).map(|i| 7 + i * 250).collect();
    let form = message(&times);
    assert_eq!(
        (form.start_ns, form.interval_ns, form.count),
        (7, 250, 1000)
    );
    assert!(form.offsets.is_empty());
}

#[test]
fn resolution_is_the_largest_that_divides_every_distance() {
    for (unit, resolution) in [
        (60_000_000_000, 1_000_000_000),
        (1_000_000_000, 1_000_000_000),
        (50_000_000, 1_000_000),
        (7_000, 1_000),
        (1, 1),
    ] {
        // The start need not be a multiple of it.
        let times = [13, 13 + unit, 13 + 3 * unit, 13 + 2 * unit];
        let form = message(&times);
        assert_eq!(form.resolution_ns, resolution);
        let step = unit / resolution as i64;
        assert_eq!(form.offsets, [step, step, -3 * step]);
    }
}

#[test]
fn times_at_the_ends_of_the_range_come_back() {
    for times in [
        vec![i64::MIN],
        vec![i64::MAX, i64::MIN],
        vec![i64::MIN, i64::MAX, i64::MIN, 0],
        vec![i64::MAX, i64::MIN, i64::MAX, i64::MAX],
        vec![-4_611_686_018_427_387_904, 4_611_686_018_427_388_000, 0],
        vec![5, 5, 5],
        vec![3, 2, 1, -9],
    ] {
        message(&times);
    }
}

proptest! {
    #[test]
    fn any_times_come_back(times in vec(any::<i64>(), 1..50)) {
        message(&times);
    }

    #[test]
    fn far_apart_multiples_come_back(
        seconds in vec(-9_223_372_036..9_223_372_036_i64, 1..50),
        unit in prop_oneof![Just(1_000_000_000_i64), Just(1_000_000), Just(1_000)],
    ) {
        let times: Vec<i64> = seconds.iter().map(|second| second.wrapping_mul(unit)).collect();
        message(&times);
    }
}
