//! What must hold: while the world runs, and when it is quiet.
//!
//! Expected sets come from the sensors' record and from what the spools reported committed; what the sink's files and ledger
//! say is held against them.

use std::collections::{BTreeMap, BTreeSet};

use weir_process::exit::Exit;
use weir_proto::v1::DropReason;

use crate::clock::BEGINNING_NS;
use crate::committed::{Entry, StreamId};
use crate::plan::Fault;
use crate::record::{Taken, number_of};
use crate::sink::{Line, Row};
use crate::world::{Death, World};

/// A journal may go so far beyond its limit for the records that say what it had to leave out.
const RESERVE: u64 = 1 << 20;

/// A scrape: agent, sensor, number.
type Scrape = (usize, usize, usize);

/// Holds at any time.
pub(crate) fn running(world: &mut World) -> Result<(), String> {
    let mut lines = Vec::new();
    let mut pressed = Vec::new();
    for (place, machine) in world.agents.iter().enumerate() {
        let Some(running) = machine.running() else {
            continue;
        };
        let view = running.spool.ledger();
        for stream in &view.streams {
            if stream.unexplained != 0 {
                return Err(format!("{} cannot explain {stream:?}", machine.name));
            }
        }
        let limit = machine.layout.spool_bytes;
        if view.spool_bytes > limit + RESERVE {
            return Err(format!(
                "spool of {}: {} bytes",
                machine.name, view.spool_bytes
            ));
        }
        let (_, queued) = (running.queued)();
        let most = machine.layout.queue_readings.max(60) + machine.layout.metrics as u64;
        if queued > most {
            return Err(format!(
                "{} queues {queued} readings of {most}",
                machine.name
            ));
        }
        if view.spool_bytes > limit / 2 || !view.totals.dropped.is_empty() {
            pressed.push(place);
        }
        let totals = &view.totals;
        lines.push(format!(
            "{} produced {} acked {} spooled {} dropped {:?}",
            machine.name, totals.produced, totals.acked, totals.spooled, totals.dropped
        ));
    }
    if let Ok(books) = world.sink.ledger() {
        unexplained(world, &books)?;
        let sum = |figure: fn(&Line) -> u64| books.iter().map(figure).sum::<u64>();
        let (stored, dropped) = (
            sum(|line| line.stored),
            sum(|line| line.dropped.values().sum()),
        );
        lines.push(format!("sink stored {stored} dropped {dropped}"));
    }
    pressed.into_iter().for_each(|place| world.press(place));
    lines.iter().for_each(|line| world.tell(line));
    Ok(())
}

/// Holds when everything is delivered, folded and written.
pub(crate) fn at_rest(world: &mut World, lines: &[Line]) -> Result<(), String> {
    let rows = world.sink.rows()?;
    world.tell(&format!("{} rows at rest", rows.len()));
    let stored = stored_once(world, &rows)?;
    unexplained(world, lines)?;
    note(world, lines, &rows);
    let lines: BTreeMap<StreamId, &Line> = lines.iter().map(|line| (line.stream, line)).collect();
    let mut covered: BTreeSet<Scrape> = BTreeSet::new();
    for agent in 0..world.agents.len() {
        for id in world.committed[agent].streams.keys() {
            stream_adds_up(world, agent, id, lines.get(id).copied(), &stored)?;
        }
        let streams = world.committed[agent].streams.values();
        for entry in streams.flat_map(|stream| stream.entries.values()) {
            if let Entry::Batch { scrapes, .. } = entry {
                covered.extend(
                    scrapes
                        .iter()
                        .map(|(sensor, number)| (agent, *sensor, *number)),
                );
            }
        }
    }
    if let Some(scrape) = stored.difference(&covered).next() {
        return Err(format!("{scrape:?} is stored and was never committed"));
    }
    lives(world, &covered)?;
    exits(world)
}

/// Nothing is unexplained but what a flipped bit of the sink's journal takes: a record, which is a batch at most.
fn unexplained(world: &World, lines: &[Line]) -> Result<(), String> {
    let mut sum = 0;
    for line in lines {
        sum += line.unexplained.unsigned_abs();
        if line.unexplained < 0 || sum > taken_by_flips(world) {
            return Err(format!("the sink cannot explain {line:?}"));
        }
    }
    Ok(())
}

/// Most readings that flipped bits of the sink's journal take.
fn taken_by_flips(world: &World) -> u64 {
    let layouts = world.agents.iter().map(|machine| &machine.layout);
    let metrics = layouts.map(|layout| layout.metrics as u64).max();
    world.sink_flips * (60 + metrics.unwrap_or_default())
}

/// What came up in this world, for the test that all does in some.
fn note(world: &mut World, lines: &[Line], rows: &[Row]) {
    let mut seen = BTreeSet::new();
    for row in rows {
        seen.insert(format!("time {}", row.quality));
    }
    for line in lines {
        seen.extend(
            line.dropped
                .keys()
                .map(|reason| format!("dropped {reason}")),
        );
        if line.unexplained > 0 {
            seen.insert("unexplained".to_owned());
        }
    }
    for committed in &world.committed {
        let mut lives = BTreeSet::new();
        let streams = committed.streams.values();
        let filled = streams.filter(|stream| !stream.entries.is_empty());
        if filled.into_iter().any(|stream| !lives.insert(stream.life)) {
            seen.insert("two streams of one life".to_owned());
        }
    }
    let failed = |exits: &[Exit]| exits.iter().any(|exit| *exit != Exit::Ok);
    if failed(&world.sink.ends().0) {
        seen.insert("a sink that ends on its disk".to_owned());
    }
    for machine in &world.agents {
        let exits: Vec<Exit> = machine.exits().into_iter().map(|(_, exit)| exit).collect();
        if failed(&exits) {
            seen.insert("an agent that ends on its disk".to_owned());
        }
    }
    world.seen = seen;
}

/// Every row was said by a sensor, once and as it is; the scrapes that are stored, each whole.
fn stored_once(world: &World, rows: &[Row]) -> Result<BTreeSet<Scrape>, String> {
    let mut metrics: BTreeMap<Scrape, BTreeSet<usize>> = BTreeMap::new();
    for row in rows {
        let number = number_of(row.value, row.metric);
        let number = number.ok_or_else(|| format!("no sensor said {row:?}"))?;
        let machine = world.agents.get(row.agent);
        let machine = machine.ok_or_else(|| format!("nobody sent {row:?}"))?;
        let record = machine.recording.lock();
        let taken = record.taken.get(row.sensor).and_then(|all| all.get(number));
        let taken = taken.ok_or_else(|| format!("no sensor said {row:?}"))?;
        let interval_ns = machine.layout.interval.as_nanos() as i64;
        time_is_right(row, taken, interval_ns)?;
        let scrape = (row.agent, row.sensor, number);
        if !metrics.entry(scrape).or_default().insert(row.metric) {
            return Err(format!("stored twice: {row:?}"));
        }
    }
    for (scrape, found) in &metrics {
        let all = world.agents[scrape.0].layout.metrics;
        if found.len() != all {
            return Err(format!("{} of {all} readings of {scrape:?}", found.len()));
        }
    }
    Ok(metrics.into_keys().collect())
}

/// The row says when the sensor was read: by its clock, and truly where the sink says that it knows.
fn time_is_right(row: &Row, taken: &Taken, interval_ns: i64) -> Result<(), String> {
    /// The sink takes a clock that is ten seconds off for right; a sample of it may be late.
    const KNOWN_NS: i64 = 11_000_000_000;
    let observed = row.time_ns - row.shift_ns;
    // Times rise, also where the clock is set back a little.
    let off = (observed - taken.wall_ns).abs();
    let truly = (row.time_ns - BEGINNING_NS - taken.at_ns.cast_signed()).abs();
    let known = matches!(row.quality.as_str(), "ok" | "rebased");
    if off >= interval_ns || (known && truly > KNOWN_NS) {
        return Err(format!("{row:?} was taken at {taken:?}"));
    }
    Ok(())
}

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

/// What the spool committed of a stream is stored, or counted in a drop with its reason, exactly.
fn stream_adds_up(
    world: &World,
    agent: usize,
    id: &StreamId,
    line: Option<&Line>,
    stored: &BTreeSet<Scrape>,
) -> Result<(), String> {
    let entries = &world.committed[agent].streams[id].entries;
    in_order(entries)?;
    let produced: u64 = entries.values().map(Entry::readings).sum();
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
    if line.produced != produced || line.spooled > taken_by_flips(world) {
        return Err(said(&format!("the spool committed {produced}")));
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
        let expected = skipped.get(&reason.into()).copied().unwrap_or_default();
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

/// What each life of each agent took and did not commit: only the last of it, and only by its death.
fn lives(world: &World, covered: &BTreeSet<Scrape>) -> Result<(), String> {
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
            let skipped = skipped(world, agent, life);
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

/// A program ends well, or because its disk failed.
fn exits(world: &World) -> Result<(), String> {
    let (ends, refusals) = world.sink.ends();
    let failing = world.plan.has(|fault| {
        matches!(
            fault,
            Fault::FailingSyncSink(_) | Fault::FullSink | Fault::Catalog
        )
    });
    let well = ends.iter().all(|exit| *exit == Exit::Ok) && refusals.is_empty();
    if !well && !failing {
        return Err(format!(
            "the sink ended with {ends:?} and did not start: {refusals:?}"
        ));
    }

    for (place, machine) in world.agents.iter().enumerate() {
        let failing = world.plan.has(|fault| {
            matches!(fault, Fault::FailingSyncAgent(agent, _) | Fault::FullAgent(agent) if *agent == place)
        });
        for (life, exit) in machine.exits() {
            let allowed = exit == Exit::Ok || (failing && matches!(exit, Exit::Io | Exit::Failure));
            if !allowed {
                return Err(format!("{} ended life {life} with {exit:?}", machine.name));
            }
        }
        if machine.failed_starts() > 0 && !failing {
            return Err(format!(
                "{} did not start {} times",
                machine.name,
                machine.failed_starts()
            ));
        }
    }
    Ok(())
}
