//! Power loss at any point, on a disk that forgets what was not synced: nothing durable is lost, nothing is invented, no
//! number is given twice among what survives.
//!
//! Seen red with: publishing before the sync, no directory sync after a segment's rename, the recovered tail counted as
//! durable without a copy. `a_disk_that_lies_is_noticed` is the standing control: it runs the same check on a disk whose
//! syncs do nothing and wants it to fail.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/harness.rs"]
mod harness;

use std::collections::BTreeMap;

use harness::{body, open, read, settle, small};
use proptest::prelude::*;
use weir_journal::storage::Faults;
use weir_journal::{Committer, Item, Journal, Memory, OpenError, Options};

/// What the test knows to have happened, over all lives of the journal.
#[derive(Default)]
struct Known {
    /// The latest body given to each number.
    bodies: BTreeMap<u64, Vec<u8>>,
    /// Reported durable.
    durable: u64,
    /// Given up by the test: may be there or not.
    released: u64,
    /// Bodies so far.
    count: u64,
    /// Each recovery finds the disk full.
    full_at_open: bool,
}

impl Known {
    fn append(&mut self, journal: &Journal, length: usize) {
        self.count += 1;
        let body = body(self.count, length);
        if let Ok(number) = journal.try_append(1, &[&body]) {
            assert!(number > self.durable, "number {number} is taken");
            self.bodies.insert(number, body);
        }
    }

    fn open(&self, memory: &Memory, options: Options) -> Result<(Journal, Committer), OpenError> {
        let started = memory.paths().iter().any(|path| path.ends_with("identity"));
        memory.set_capacity((self.full_at_open && started).then_some(0));
        let opened = open(memory, options);
        memory.set_capacity(None);
        opened
    }

    fn observe(&mut self, journal: &Journal) {
        self.durable = journal
            .progress()
            .borrow()
            .durable_through
            .max(self.durable);
    }

    /// What is wrong with a journal just opened, if anything; goes on from there.
    fn compare(&mut self, journal: &Journal) -> Result<(), String> {
        let next = journal.next();
        let oldest = journal.oldest();
        if oldest > self.released + 1 && oldest > next {
            return Err(format!("oldest {oldest} beyond next {next}"));
        }
        if next <= self.durable {
            return Err(format!("next is {next}, durable was {}", self.durable));
        }
        let holes = &journal.recovery().holes;
        if let Some(hole) = holes.iter().find(|hole| hole.through > self.durable) {
            return Err(format!("{hole:?} is of what was never durable"));
        }
        let mut found = BTreeMap::new();
        for item in read(journal, 1) {
            if let Item::Record { number, body, .. } = item
                && found.insert(number, body).is_some()
            {
                return Err(format!("record {number} comes twice"));
            }
        }
        for number in self.released + 1..=self.durable {
            if !found.contains_key(&number) {
                return Err(format!("durable record {number} is gone"));
            }
        }
        for (number, body) in &found {
            if self.bodies.get(number).map(Vec::as_slice) != Some(body) {
                return Err(format!("record {number} is not what was appended"));
            }
        }
        // All that was read is durable now, and numbers beyond are free again.
        self.durable = next - 1;
        self.bodies.retain(|number, _| found.contains_key(number));
        self.released = (self.released + 1..next)
            .rev()
            .find(|number| !found.contains_key(number))
            .unwrap_or(self.released);
        Ok(())
    }
}

/// A life from open to the end of its script, or to the first failure.
fn live(memory: &Memory, known: &mut Known, script: u64) -> Result<(), String> {
    let opened = known.open(memory, small());
    let Ok((journal, mut committer)) = opened else {
        return Ok(());
    };
    known.compare(&journal)?;
    for round in 0..4_u64 {
        for record in 0..=(script + round) % 3 {
            known.append(&journal, (record * 70 + script * 11) as usize % 300);
        }
        settle(&mut committer);
        known.observe(&journal);
        if round == 2 {
            known.released = known.released.max(known.durable.saturating_sub(3));
            let _ = journal.release(known.released);
        }
    }
    if script.is_multiple_of(2) {
        journal.close();
        settle(&mut committer);
    }
    known.observe(&journal);
    Ok(())
}

#[test]
fn power_loss_between_any_two_operations_loses_nothing_durable() {
    let rehearsal = Memory::new();
    let mut known = Known::default();
    for script in 0..3 {
        live(&rehearsal, &mut known, script).unwrap();
    }
    let operations = rehearsal.operations();
    assert!(operations > 60, "{operations}");
    for point in 0..operations {
        for seed in 0..8 {
            let memory = Memory::new();
            let mut known = Known {
                full_at_open: seed >= 4,
                ..Known::default()
            };
            memory.set_faults(Faults {
                operations_left: Some(point),
                ..Faults::default()
            });
            for script in 0..3 {
                live(&memory, &mut known, script).unwrap();
            }
            lose_power(&memory, seed);
            // Recovery itself may be interrupted too, soon or late.
            for again in [seed, seed + 3, 9] {
                memory.set_faults(Faults {
                    operations_left: Some(again),
                    ..Faults::default()
                });
                let lived = live(&memory, &mut known, 1);
                assert_eq!(lived, Ok(()), "point {point}, seed {seed}");
                lose_power(&memory, seed + again);
            }
            let lived = live(&memory, &mut known, 3);
            assert_eq!(lived, Ok(()), "point {point}, seed {seed}");
            let (journal, _committer) = open(&memory, small()).unwrap();
            assert_eq!(
                known.compare(&journal),
                Ok(()),
                "point {point}, seed {seed}"
            );
        }
    }
}

#[test]
fn a_disk_that_lies_is_noticed() {
    let memory = Memory::new();
    let mut known = Known::default();
    live(&memory, &mut known, 0).unwrap();
    memory.set_faults(Faults {
        lying_syncs: true,
        ..Faults::default()
    });
    live(&memory, &mut known, 1).unwrap();
    lose_power(&memory, 0);
    let (journal, _committer) = open(&memory, small()).unwrap();
    let verdict = known.compare(&journal).unwrap_err();
    assert!(verdict.contains("durable was"), "{verdict}");
}

#[test]
fn a_recovered_tail_survives_the_next_power_loss() {
    recover_unsynced_tail(None);
}

#[test]
fn a_tail_recovered_on_a_full_disk_survives_it_too() {
    recover_unsynced_tail(Some(0));
}

/// The process is killed before its sync: the bytes are in the page cache, the next process reads them.
fn recover_unsynced_tail(capacity_at_open: Option<u64>) {
    let memory = Memory::new();
    let (journal, mut committer) = open(&memory, small()).unwrap();
    journal.try_append(1, &[b"synced"]).unwrap();
    settle(&mut committer);
    journal.try_append(1, &[b"written"]).unwrap();
    memory.set_faults(Faults {
        syncs_left: Some(0),
        ..Faults::default()
    });
    settle(&mut committer);
    drop((journal, committer));
    memory.set_faults(Faults::default());
    memory.set_capacity(capacity_at_open);
    let (journal, committer) = open(&memory, small()).unwrap();
    assert_eq!(journal.progress().borrow().durable_through, 2);
    drop((journal, committer));
    memory.set_capacity(None);
    lose_power(&memory, 0);
    let (journal, _committer) = open(&memory, small()).unwrap();
    assert_eq!(read(&journal, 2), [harness::record(2, b"written")]);
}

/// The sectors of a group that was never synced survive in any order: what is behind a missing record of it goes with that
/// record, for nobody was told of either. What is missing before the group was durable, and is a hole.
///
/// Red when the last group is not told from those before it, or is cut at its last whole record.
#[test]
fn a_torn_group_is_cut_where_its_first_record_is_missing() {
    let mut kept = [0; 6];
    for seed in 1..200 {
        let memory = Memory::new();
        let (journal, mut committer) = open(&memory, roomy()).unwrap();
        for number in 1..=3 {
            journal.try_append(1, &[&body(number, 700)]).unwrap();
            settle(&mut committer);
        }
        memory.set_faults(Faults {
            syncs_left: Some(0),
            ..Faults::default()
        });
        for number in 4..=8 {
            journal.try_append(1, &[&body(number, 700)]).unwrap();
        }
        settle(&mut committer);
        drop((journal, committer));
        lose_power(&memory, seed);
        let damaged = seed.is_multiple_of(2);
        if damaged {
            let path = harness::segment(1);
            let mut bytes = memory.read(&path).unwrap();
            bytes[1000] ^= 1;
            memory.write(&path, bytes);
        }
        for _ in 0..2 {
            let (journal, _committer) = open(&memory, roomy()).unwrap();
            let mut expected: Vec<Item> = (1..journal.next())
                .map(|number| harness::record(number, &body(number, 700)))
                .collect();
            if damaged {
                expected[1] = Item::Hole {
                    from: 2,
                    through: 2,
                };
            }
            assert_eq!(read(&journal, 1), expected, "seed {seed}");
            assert!(journal.next() >= 4, "seed {seed}");
            kept[journal.next() as usize - 4] += 1;
        }
    }
    assert!(kept[0] > 0 && kept[1] > 0 && kept[2] > 0, "{kept:?}");
}

/// Room for all of it in one segment.
fn roomy() -> Options {
    Options {
        segment_bytes: 16 << 10,
        ..Options::default()
    }
}

/// What one step of a random history does.
#[derive(Debug, Clone)]
enum Act {
    Append(usize),
    Step,
    Release(u64),
    DropOldest,
    Close,
    Kill,
    PowerLoss(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..400_usize).prop_map(Act::Append),
        6 => Just(Act::Step),
        2 => (0..20_u64).prop_map(Act::Release),
        1 => Just(Act::DropOldest),
        1 => Just(Act::Close),
        1 => Just(Act::Kill),
        2 => any::<u64>().prop_map(Act::PowerLoss),
    ]
}

fn lose_power(memory: &Memory, seed: u64) {
    memory.set_faults(Faults::default());
    if seed == 0 {
        memory.crash();
    } else {
        memory.crash_torn(seed);
    }
}

fn reopen(memory: &Memory, known: &mut Known) -> Result<(Journal, Committer), TestCaseError> {
    let options = Options {
        max_bytes: 6000,
        ..small()
    };
    let opened = known.open(memory, options).unwrap();
    known.compare(&opened.0).map_err(TestCaseError::fail)?;
    Ok(opened)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_what_was_durable(
        full_at_open in any::<bool>(),
        acts in proptest::collection::vec(act(), 1..80),
    ) {
        let memory = Memory::new();
        let mut known = Known { full_at_open, ..Known::default() };
        let mut opened = reopen(&memory, &mut known)?;
        for act in acts {
            let (journal, committer) = &mut opened;
            match act {
                Act::Append(length) => known.append(journal, length),
                Act::Step => {
                    committer.step();
                    known.observe(journal);
                }
                Act::Release(back) => {
                    known.released = known.released.max(known.durable.saturating_sub(back));
                    journal.release(known.released).unwrap();
                    known.observe(journal);
                }
                Act::DropOldest => {
                    if let Some((_, through)) = journal.drop_oldest().unwrap() {
                        known.released = known.released.max(through);
                    }
                }
                Act::Close => {
                    journal.close();
                    settle(committer);
                    known.observe(journal);
                    drop(opened);
                    opened = reopen(&memory, &mut known)?;
                }
                Act::Kill => {
                    drop(opened);
                    opened = reopen(&memory, &mut known)?;
                }
                Act::PowerLoss(seed) => {
                    drop(opened);
                    lose_power(&memory, seed);
                    opened = reopen(&memory, &mut known)?;
                }
            }
        }
        settle(&mut opened.1);
        known.observe(&opened.0);
        drop(opened);
        reopen(&memory, &mut known)?;
    }
}
