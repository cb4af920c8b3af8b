//! How many cases a property is tried on: few in every run of the tests, `WEIR_FUZZ_FACTOR` times as many in
//! `make fuzz`. A case that fails is printed in its smallest form and kept nowhere else. For test programs of any member, which include this file by its path.

use proptest::prelude::ProptestConfig;

/// `few` cases, times the factor.
pub(crate) fn cases(few: u32) -> ProptestConfig {
    let factor = std::env::var("WEIR_FUZZ_FACTOR").ok();
    let factor = factor.map_or(1, |factor| {
        factor.parse().expect("WEIR_FUZZ_FACTOR is a number")
    });
    ProptestConfig {
        cases: few.saturating_mul(factor),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}
