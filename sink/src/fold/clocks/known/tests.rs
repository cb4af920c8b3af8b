//! That what is summed up is what a walk over all agents would say, and that it is bounded.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const SECOND: i64 = 1_000_000_000;
const NOW: i64 = 1_700_000_000 * SECOND;

fn whose(tenant: u32, agent: u32) -> Whose {
    (
        format!("tenant {tenant}").into(),
        format!("agent {agent}").into(),
    )
}

/// Heard of at `at_ns` of the sink's clock, while the agent's is so far ahead.
fn sample(at_ns: i64, monotonic_s: u64, ahead_ns: i64) -> Sample {
    let monotonic_ns = monotonic_s * SECOND.unsigned_abs();
    let sink_offset = at_ns - monotonic_ns.cast_signed();
    Sample {
        monotonic_ns,
        agent_offset: sink_offset.saturating_add(ahead_ns),
        sink_offset,
    }
}

/// The definition, word by word.
fn walk(known: &Known, whose: &Whose, boot: [u8; 16]) -> bool {
    let mut voices = BTreeMap::new();
    for (other, agent) in &known.agents {
        let (Some(last), true) = (agent.boots.back(), other.0 == whose.0) else {
            continue;
        };
        let sample = last.samples.last().expect("a boot has a sample");
        let is_other = other != whose && last.id != boot;
        if is_other && !last.own_machine && sample.agent_ns() >= CLOCKS_BEGIN_NS {
            voices.insert(last.id, sample.agrees());
        }
    }
    let agree = voices.values().filter(|agrees| **agrees).count();
    2 * agree > voices.len()
}

/// Red when an agent's own voice is not left out, and when a former voice is not taken back.
#[test]
fn the_sums_say_what_a_walk_over_all_agents_says() {
    let mut said = [0, 0];
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut known = Known::default();
        for step in 0..200_i64 {
            let whose = whose(random.random_range(0..2), random.random_range(0..6));
            let boot = [random.random_range(0..8); 16];
            let ahead = [0, 3600 * SECOND, -NOW][random.random_range(0..3)];
            // Now and then everybody is old.
            let gap = i64::from(random.random_range(0..40) == 0) * FORGOTTEN_AFTER_NS;
            let at_ns = NOW + step * SECOND + gap;
            let sample = sample(at_ns, random.random_range(0..100_000), ahead);
            known.take(&whose, (boot, random.random_range(0..8) == 0), sample);
            let pairs = (0..6).flat_map(|agent| (0..8).map(move |boot| (agent, boot)));
            for (whose, boot) in pairs.map(|(a, b)| (self::whose(0, a), [b; 16])) {
                let expected = walk(&known, &whose, boot);
                assert_eq!(known.vouches(&whose, boot), expected, "seed {seed}");
                said[usize::from(expected)] += 1;
            }
        }
        let agents = known
            .iter()
            .map(|(who, boots)| (who.clone(), boots.clone()));
        assert_eq!(Known::new(agents.collect()), known, "as from a snapshot");
    }
    assert!(said[0] > 1000 && said[1] > 1000, "{said:?}");
}

/// Red without the bound on names, and when the one that is heard of goes.
#[test]
fn a_hundred_thousand_invented_names_leave_the_last_and_those_that_are_heard_of() {
    let mut known = Known::default();
    let steady = whose(0, u32::MAX);
    for number in 0..100_000_u32 {
        let at_ns = NOW + i64::from(number) * SECOND;
        known.take(
            &whose(number % 3, number),
            ([1; 16], false),
            sample(at_ns, 5, 0),
        );
        if number % 10_000 == 0 {
            let monotonic_s = 5 + u64::from(number);
            known.take(&steady, ([2; 16], false), sample(at_ns, monotonic_s, 0));
        }
    }
    assert_eq!(known.agents.len(), MAX_AGENTS);
    assert_eq!(known.silent.len(), MAX_AGENTS);
    assert_eq!(
        known.samples,
        known.agents.values().map(|a| a.samples).sum::<usize>()
    );
    assert!(known.boot(&steady, [2; 16]).is_some());
    assert!(known.boot(&whose(0, 0), [1; 16]).is_none());
    assert!(known.boot(&whose(0, 99_999), [1; 16]).is_some());
}

/// Red when names go by their number only.
#[test]
fn a_name_that_is_silent_for_ninety_days_is_forgotten() {
    let mut known = Known::default();
    let [gone, there] = [whose(0, 1), whose(0, 2)];
    known.take(&gone, ([1; 16], false), sample(NOW, 5, 0));
    known.take(
        &there,
        ([2; 16], false),
        sample(NOW + FORGOTTEN_AFTER_NS, 5, 0),
    );
    assert!(known.boot(&gone, [1; 16]).is_some(), "not yet");
    let later = sample(NOW + FORGOTTEN_AFTER_NS + SECOND, 9000, 0);
    known.take(&there, ([2; 16], false), later);
    assert!(known.boot(&gone, [1; 16]).is_none());
    assert!(known.boot(&there, [2; 16]).is_some());
    // The sink's clock was wrong, and is set back by years: who is heard of now stays.
    let back = whose(0, 3);
    known.take(
        &back,
        ([3; 16], false),
        sample(NOW - 9 * FORGOTTEN_AFTER_NS, 5, 0),
    );
    assert!(known.boot(&back, [3; 16]).is_some());
}
