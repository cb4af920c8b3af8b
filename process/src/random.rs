//! The one source of chance: ids, names, jitter and phases come from here.
//!
//! Unseeded, as in every program, numbers come from the system. A simulation seeds the thread it
//! runs on ([`seed`]): everything drawn on that thread until the guard is dropped follows from the
//! seed, so that a run can be repeated. The seeded generator is SplitMix64 (Steele, Lea and Flood,
//! "Fast splittable pseudorandom number generators", 2014): small, and its sequence is fixed for
//! good, which that of a library is not.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::time::Duration;

/// Where ids come from that must differ even in the two halves of a cloned machine.
pub const SYSTEM: &str = "/dev/urandom";

thread_local! {
    /// The state of the seeded generator, where there is one.
    static SEEDED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Ends the seeding of its thread when dropped; what was seeded before goes on.
#[must_use = "the thread is seeded for as long as this lives"]
#[derive(Debug)]
pub struct Seeded {
    before: Option<u64>,
    /// Stays on the thread it seeded.
    here: PhantomData<*const ()>,
}

/// From now on everything drawn on this thread follows from `seed`. For simulations.
pub fn seed(seed: u64) -> Seeded {
    Seeded {
        before: SEEDED.replace(Some(seed)),
        here: PhantomData,
    }
}

impl Drop for Seeded {
    fn drop(&mut self) {
        SEEDED.set(self.before);
    }
}

/// Any number. For names and jitter, not for secrets.
pub fn number() -> u64 {
    seeded().unwrap_or_else(|| {
        // std seeds its hashers from the system's random source: enough for jitter and names.
        RandomState::new().hash_one(0_u8)
    })
}

/// 16 bytes that nobody else draws, not even a clone of this machine.
///
/// # Errors
/// When the system's source cannot be read.
pub fn id() -> io::Result<[u8; 16]> {
    let mut id = [0; 16];
    match seeded() {
        Some(half) => {
            id[..8].copy_from_slice(&half.to_le_bytes());
            id[8..].copy_from_slice(&number().to_le_bytes());
        }
        None => File::open(SYSTEM)?.read_exact(&mut id)?,
    }
    Ok(id)
}

/// Bytes that nobody can guess, for secrets: always the system's, a seed does not change them.
///
/// # Errors
/// When the system's source cannot be read.
pub fn secret<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open(SYSTEM)?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// At least 0 and less than 1.
pub fn fraction() -> f64 {
    // The 53 bits that a double holds.
    (number() >> 11) as f64 / (1_u64 << 53) as f64
}

/// At least zero and less than `limit`: a phase that keeps a fleet from beating in step.
pub fn below(limit: Duration) -> Duration {
    limit.mul_f64(fraction())
}

fn seeded() -> Option<u64> {
    let state = SEEDED.get()?.wrapping_add(0x9e37_79b9_7f4a_7c15);
    SEEDED.set(Some(state));
    let mut mixed = state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Some(mixed ^ (mixed >> 31))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Vec<u64> {
        (0..3).map(|_| number()).collect()
    }

    /// The first three numbers are those of the published generator. Red with another constant.
    #[test]
    fn a_seed_gives_the_same_numbers_for_good() {
        let _seeded = seed(1_234_567);
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(three(), published);
    }

    /// Red when the guard forgets what was there before.
    #[test]
    fn an_inner_seed_ends_with_its_guard_and_the_outer_one_goes_on() {
        let outer = seed(1);
        let expected = three();
        drop(outer);

        let _outer = seed(1);
        let first = number();
        let inner = seed(2);
        assert_ne!(number(), expected[1]);
        drop(inner);
        assert_eq!([first, number(), number()], expected[..]);
    }

    /// Red when the unseeded source is a constant, or other threads are seeded too.
    #[test]
    fn other_threads_are_not_seeded_and_ids_differ() {
        let _seeded = seed(3);
        let other = std::thread::spawn(|| (number(), id().unwrap(), id().unwrap()));
        let (drawn, one, two) = other.join().unwrap();
        assert_ne!(drawn, number());
        assert_ne!(one, two);
    }

    /// Red when secrets follow from a seed.
    #[test]
    fn a_secret_cannot_be_drawn_again_by_a_seed() {
        let drawn = || {
            let _seeded = seed(5);
            secret::<32>().unwrap()
        };
        assert_ne!(drawn(), drawn());
    }

    #[test]
    fn fractions_and_phases_stay_below_their_limit() {
        let _seeded = seed(4);
        let limit = Duration::from_secs(10);
        for _ in 0..1000 {
            assert!((0.0..1.0).contains(&fraction()));
            assert!(below(limit) < limit);
        }
        assert_eq!(below(Duration::ZERO), Duration::ZERO);
    }
}
