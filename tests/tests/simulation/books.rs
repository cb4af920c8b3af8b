//! What a stream's line in the sink's ledger must say: what its spool committed, and noted, to the reading.

use std::collections::{BTreeMap, BTreeSet};

use weir_process::exit::Exit;
use weir_proto::v1::DropReason;

use crate::check::{Scrape, taken_by_flips};
use crate::committed::{Entry, StreamId};
use crate::plan::Fault;
use crate::sink::Line;
use crate::world::World;

/// What a stream's records come to.
#[derive(Default)]
struct Sums {
    /// Readings of batches that are in the files.
    found: u64,
    /// Readings of skips, by reason.
    skipped: BTreeMap<i32, u64>,
    /// Readings of batches that no sink takes.
    poison: u64,
}

/// A batch is stored whole or not at all.
fn sums(
    entries: &BTreeMap<u64, Entry>,
    agent: usize,
    stored: &BTreeSet<Scrape>,
) -> Result<Sums, String> {
    let mut sums = Sums::default();
    for entry in entries.values() {
        match entry {
            Entry::Batch { scrapes, readings } => {
                let here = scrapes
                    .iter()
                    .filter(|(sensor, number)| stored.contains(&(agent, *sensor, *number)))
                    .count();
                if here != 0 && here != scrapes.len() {
                    return Err(format!(
                        "{here} of {} scrapes of a batch are stored",
                        scrapes.len()
                    ));
                }
                if here > 0 {
                    sums.found += readings;
                }
            }
            Entry::Skip { reason, readings } => {
                *sums.skipped.entry(*reason).or_default() += readings
            }
            Entry::Poison { readings } => sums.poison += readings,
        }
    }
    Ok(sums)
}

/// Of each sensor a stream holds later scrapes behind earlier ones.
fn in_order(entries: &BTreeMap<u64, Entry>) -> Result<(), String> {
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    for entry in entries.values() {
        let Entry::Batch { scrapes, .. } = entry else {
            continue;
        };
        for (sensor, number) in scrapes {
            if last
                .insert(*sensor, *number)
                .is_some_and(|before| before >= *number)
            {
                return Err(format!(
                    "scrape {number} of sensor {sensor} is out of order"
                ));
            }
        }
    }
    Ok(())
}

/// Readings of a stream that were dropped for want of room, and that its agent noted beside its records before it died.
/// That they were taken, and stand in no record, is looked at with the life that took them.
pub(crate) fn noted(world: &World, agent: usize, line: &Line) -> u64 {
    let newest = DropReason::SpoolNewest;
    let Some(stream) = world.committed[agent].streams.get(&line.stream) else {
        return 0;
    };
    let ended_well = (stream.life, Exit::Ok);
    if world.agents[agent].exits().contains(&ended_well) {
        return 0;
    }
    let skips = stream.entries.values().filter_map(|entry| match entry {
        Entry::Skip { reason, readings } if *reason == i32::from(newest) => Some(*readings),
        _ => None,
    });
    let counted = line.dropped.get("spool_newest").copied();
    counted.unwrap_or_default().saturating_sub(skips.sum())
}

/// What the spool committed of a stream is stored, or counted in a drop with its reason, exactly.
pub(crate) fn stream_adds_up(
    world: &World,
    agent: usize,
    id: &StreamId,
    line: Option<&Line>,
    stored: &BTreeSet<Scrape>,
) -> Result<(), String> {
    let entries = &world.committed[agent].streams[id].entries;
    in_order(entries)?;
    let produced: u64 = entries.values().map(Entry::readings).sum();
    let noted = line.map_or(0, |line| noted(world, agent, line));
    let Some(line) = line else {
        return match produced {
            0 => Ok(()),
            _ => Err(format!(
                "the sink does not know a stream of agent-{agent} with {produced} readings"
            )),
        };
    };
    let said = |what: &str| format!("stream of agent-{agent}: {what}: {line:?}");
    let Sums {
        found,
        skipped,
        poison,
    } = sums(entries, agent, stored).map_err(|what| said(&what))?;
    let dropped = |reason: &str| line.dropped.get(reason).copied().unwrap_or_default();
    let all_dropped: u64 = line.dropped.values().sum();
    // Behind the last record of a stream nothing says that it is missing: it counts as still to come.
    if line.produced != produced + noted || line.spooled > taken_by_flips(world) {
        return Err(said(&format!(
            "the spool committed {produced} and noted {noted}"
        )));
    }
    if line.stored != found {
        return Err(said(&format!("{found} readings of it are in the files")));
    }
    let gone = line.unexplained.unsigned_abs() + line.spooled;
    if line.stored + all_dropped + gone != line.produced {
        return Err(said(&format!("{produced} readings do not add up")));
    }
    for (reason, name) in [
        (DropReason::SpoolNewest, "spool_newest"),
        (DropReason::QueueOldest, "queue_oldest"),
        (DropReason::QueueNewest, "queue_newest"),
    ] {
        let mut expected = skipped.get(&reason.into()).copied().unwrap_or_default();
        if reason == DropReason::SpoolNewest {
            expected += noted;
        }
        let holes = dropped("spool_oldest") + dropped("damaged");
        // A skip that lay in a hole itself went under the hole's reason.
        if dropped(name) > expected || dropped(name) + holes < expected {
            return Err(said(&format!("{expected} were skipped as {name}")));
        }
    }
    // A flipped bit may take definitions, and what refers to them is set aside or refused.
    let undefined = world.sink_flips > 0;
    if dropped("refused") > poison && !undefined {
        return Err(said(&format!("{poison} readings were to be refused")));
    }
    let flipped = world.plan.has(|fault| matches!(fault, Fault::Flip(..)));
    for (reason, allowed) in [
        ("damaged", flipped),
        ("sink_rolled_back", false),
        ("fold_error", undefined),
    ] {
        if dropped(reason) > 0 && !allowed {
            return Err(said(&format!("nothing was to be {reason}")));
        }
    }
    Ok(())
}
