//! Blocks of every shape the codec promises to bring back.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::batch::{Block, Column, Values};

/// A column of numbers without absent ones.
pub(super) fn numbers(series: u32, values: Vec<f64>) -> Column {
    Column {
        series,
        values: Values::Numbers(values),
        present: None,
    }
}

/// Doubles of every kind; columns of one kind only, so that decimals get their chance.
fn any_doubles(count: usize) -> BoxedStrategy<Vec<f64>> {
    let decimals = (0..=12_i32, any::<i16>()).prop_flat_map(move |(digits, base)| {
        let near = (-300..300_i32)
            .prop_map(move |step| f64::from(i32::from(base) + step) / 10_f64.powi(digits));
        vec(near, count)
    });
    let rising_digits = vec((any::<i32>(), 0..=9_i32), count).prop_map(|all| {
        all.into_iter()
            .map(|(m, d)| f64::from(m) / 10_f64.powi(d))
            .collect()
    });
    let integers = vec(any::<i64>().prop_map(|integer| integer as f64), count);
    let tens = (0..=20_i32).prop_flat_map(move |zeros| {
        vec(
            any::<i32>().prop_map(move |m| f64::from(m) * 10_f64.powi(zeros)),
            count,
        )
    });
    let special = prop_oneof![
        Just(-0.0),
        Just(0.0),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(9_007_199_254_740_993.0),
        Just(4_611_686_018_427_387_904.0),
        Just(f64::MAX),
        any::<i8>().prop_map(f64::from),
        any::<u64>().prop_map(f64::from_bits),
    ];
    prop_oneof![
        decimals,
        rising_digits,
        integers,
        tens,
        vec(special, count),
        vec(any::<u64>().prop_map(f64::from_bits), count),
    ]
    .boxed()
}

/// Times of every kind: any at all, regular, regular with jitter in some unit.
pub(super) fn any_times() -> impl Strategy<Value = Vec<i64>> {
    let wild = prop_oneof![
        any::<i64>(),
        Just(i64::MIN),
        Just(i64::MAX),
        Just(0),
        -5..5_i64,
    ];
    let unit = prop_oneof![
        Just(1_i64),
        Just(1_000),
        Just(1_000_000),
        Just(1_000_000_000),
        Just(60_000_000_000),
    ];
    let jittered =
        (any::<i64>(), unit, vec(-3..1000_i64, 0..40)).prop_map(|(start, unit, steps)| {
            let mut at = start;
            let later = steps.into_iter().map(|step| {
                at = at.wrapping_add(step * unit);
                at
            });
            std::iter::once(start).chain(later).collect()
        });
    let regular = (any::<i64>(), any::<i64>(), 1..40_i64).prop_map(|(start, interval, count)| {
        (0..count)
            .map(|i| start.wrapping_add(interval.wrapping_mul(i)))
            .collect()
    });
    prop_oneof![vec(wild, 1..40), jittered, regular]
}

/// A column over `moments`, with at least one value.
fn any_column(moments: usize) -> impl Strategy<Value = Column> {
    let masked = (vec(any::<bool>(), moments), 0..moments).prop_map(|(mut mask, at)| {
        mask[at] = true;
        mask.contains(&false).then_some(mask)
    });
    let present = prop_oneof![Just(None), masked];
    (1..=u32::MAX, present).prop_flat_map(move |(series, present)| {
        let count = present.as_ref().map_or(moments, |mask| {
            mask.iter().filter(|present| **present).count()
        });
        let values = prop_oneof![
            4 => any_doubles(count).prop_map(Values::Numbers),
            1 => vec(".{0,12}", count).prop_map(Values::Texts),
        ];
        values.prop_map(move |values| Column {
            series,
            values,
            present: present.clone(),
        })
    })
}

/// Blocks as [`crate::batch::decode`] would return them.
pub(super) fn any_blocks() -> impl Strategy<Value = Vec<Block>> {
    let block = any_times().prop_flat_map(|times| {
        vec(any_column(times.len()), 1..5).prop_map(move |columns| Block {
            times: times.clone(),
            columns,
        })
    });
    vec(block, 0..4)
}

/// Times, and of each column the series, the mask, the values' bits, the texts.
type Bits = (
    Vec<i64>,
    Vec<(u32, Option<Vec<bool>>, Vec<u64>, Vec<String>)>,
);

/// Blocks as something that compares bit by bit.
pub(super) fn bits_of(blocks: &[Block]) -> Vec<Bits> {
    let column = |column: &Column| {
        let (bits, texts) = match &column.values {
            Values::Numbers(all) => (all.iter().map(|one| one.to_bits()).collect(), vec![]),
            Values::Texts(all) => (vec![], all.clone()),
        };
        (column.series, column.present.clone(), bits, texts)
    };
    let block = |block: &Block| {
        let columns = block.columns.iter().map(column).collect();
        (block.times.clone(), columns)
    };
    blocks.iter().map(block).collect()
}
