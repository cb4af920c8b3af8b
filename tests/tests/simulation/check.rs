//! What must hold: while the world runs, and when it is quiet.
//!
//! Expected sets come from the sensors' record and from what the spools reported committed; what the sink's files and ledger
//! say is held against them.

use std::collections::{BTreeMap, BTreeSet};

use weir_process::exit::Exit;

use crate::books::stream_adds_up;
use crate::clock::BEGINNING_NS;
use crate::committed::{Entry, StreamId};
use crate::lives::lives;
use crate::plan::Fault;
use crate::record::{Taken, number_of};
use crate::sink::{Line, Row};
use crate::world::World;

/// A journal may go so far beyond its limit for the records that say what it had to leave out.
const RESERVE: u64 = 1 << 20;

/// A scrape: agent, sensor, number.
pub(crate) type Scrape = (usize, usize, usize);

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
    lives(world, &covered, &lines)?;
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
pub(crate) fn taken_by_flips(world: &World) -> u64 {
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
