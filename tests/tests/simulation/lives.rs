//! What each life of an agent may have lost: the last of what its sensors gave, by its death, and no more than it says.

use std::collections::{BTreeMap, BTreeSet};

use weir_process::exit::Exit;
use weir_proto::v1::DropReason;

use crate::books::noted;
use crate::check::Scrape;
use crate::committed::{Entry, StreamId};
use crate::sink::Line;
use crate::world::{Death, World};

/// What each life of each agent took and did not commit: only the last of it, and only by its death. Red when a note beside the
/// records says twice what was dropped (seed 534).
pub(crate) fn lives(
    world: &World,
    covered: &BTreeSet<Scrape>,
    lines: &BTreeMap<StreamId, &Line>,
) -> Result<(), String> {
    for (agent, machine) in world.agents.iter().enumerate() {
        let record = machine.recording.lock();
        for life in 1..=record.life {
            let (mut taken, mut committed) = (0_u64, 0_u64);
            let mut earliest_lost: Option<u64> = None;
            for (sensor, all) in record.taken.iter().enumerate() {
                for (number, one) in all.iter().enumerate().filter(|(_, one)| one.life == life) {
                    taken += machine.layout.metrics as u64;
                    if covered.contains(&(agent, sensor, number)) {
                        committed += machine.layout.metrics as u64;
                    } else {
                        let at = earliest_lost.get_or_insert(one.at_ns);
                        *at = one.at_ns.min(*at);
                    }
                }
            }
            let streams = world.committed[agent].streams.iter();
            let lived = streams.filter(|(_, stream)| stream.life == life);
            let known = lived.filter_map(|(id, _)| lines.get(id));
            let noted: u64 = known.map(|line| noted(world, agent, line)).sum();
            let skipped = skipped(world, agent, life) + noted;
            let death = world
                .deaths
                .iter()
                .find(|death| (death.agent, death.life) == (agent, life));
            let lost = taken.checked_sub(committed + skipped).ok_or_else(|| {
                format!(
                    "{} took {taken} in life {life}: {committed} committed, {skipped} skipped",
                    machine.name
                )
            })?;
            loss_is_bounded(world, agent, life, (lost, skipped, earliest_lost), death)?;
        }
    }
    Ok(())
}

fn loss_is_bounded(
    world: &World,
    agent: usize,
    life: usize,
    (lost, skipped, earliest): (u64, u64, Option<u64>),
    death: Option<&Death>,
) -> Result<(), String> {
    let machine = &world.agents[agent];
    let clean = machine.exits().contains(&(life, Exit::Ok));
    if clean && lost > 0 {
        return Err(format!(
            "{} lost {lost} readings of life {life}, which ended well, the first after {:?}",
            machine.name,
            std::time::Duration::from_nanos(earliest.unwrap_or_default())
        ));
    }
    let (Some(death), Some(earliest)) = (death, earliest) else {
        return Ok(());
    };
    if death.pressed || skipped > 0 || lost == 0 {
        return Ok(());
    }
    // A step of the world, and the writing itself.
    const SLACK_NS: u64 = 50_000_000;
    let layout = &machine.layout;
    // A group may wait for the one before it: the disk takes its time twice.
    let bound = layout.batch_age + layout.commit_interval + 2 * layout.disk_latency;
    let bound = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX) + SLACK_NS;
    if earliest + bound < death.at_ns {
        let age = (death.at_ns - earliest) / 1_000_000;
        return Err(format!(
            "{} lost readings {age} ms old when it died, life {life}: {lost} in all",
            machine.name
        ));
    }
    Ok(())
}

/// Readings of this life that were given up before they were batched.
fn skipped(world: &World, agent: usize, life: usize) -> u64 {
    let streams = world.committed[agent].streams.values();
    let entries = streams
        .filter(|stream| stream.life == life)
        .flat_map(|stream| stream.entries.values());
    let skips = entries.filter_map(|entry| match entry {
        Entry::Skip { reason, readings } if *reason != i32::from(DropReason::Damaged) => {
            Some(*readings)
        }
        _ => None,
    });
    skips.sum()
}
