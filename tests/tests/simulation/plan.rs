//! What a seed decides: how the world is laid out, and what goes wrong in it, when and for how long.
//!
//! In: a seed. Out: a [`Plan`], the same for the same seed, which prints itself so that a failure can be read.

use std::fmt;
use std::time::Duration;

use weir_process::random;

/// Faults begin after this, and have all ended by [`HEALED`].
const QUIET_START: Duration = Duration::from_secs(2);
/// From here on nothing is wrong any more.
pub(crate) const HEALED: Duration = Duration::from_secs(24);

/// A whole world.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) agents: Vec<Layout>,
    pub(crate) sink: SinkLayout,
    pub(crate) events: Vec<Event>,
}

/// How one agent is set up.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) sensors: usize,
    /// Gauges of each sensor.
    pub(crate) metrics: usize,
    pub(crate) interval: Duration,
    pub(crate) batch_age: Duration,
    pub(crate) commit_interval: Duration,
    pub(crate) spool_bytes: u64,
    pub(crate) spool_overflow: &'static str,
    pub(crate) queue_overflow: &'static str,
    pub(crate) queue_readings: u64,
    /// Between a write and its sync.
    pub(crate) disk_latency: Duration,
    /// Requests per second; 0 is no limit.
    pub(crate) rate: f64,
    /// Most bytes of one request.
    pub(crate) request_bytes: u64,
    /// What goes first after an outage.
    pub(crate) order: &'static str,
    /// What has waited so long when the sink is back gets a stream of its own.
    pub(crate) backlog_age: Duration,
}

/// How the sink is set up.
#[derive(Clone, Debug)]
pub(crate) struct SinkLayout {
    pub(crate) flush_interval: Duration,
    pub(crate) flush_rows: u64,
    pub(crate) disk_latency: Duration,
    pub(crate) segment_bytes: u64,
    pub(crate) window_bytes: u64,
}

/// One thing that goes wrong, for a while.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) fault: Fault,
}

/// What can go wrong. Agents by their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No packet passes either way.
    Partition(usize),
    /// Packets to the agent are lost: what it sends arrives, and it hears nothing.
    Deaf(usize),
    /// Packets to the sink are lost.
    Mute(usize),
    /// Packets wait.
    Hold(usize),
    /// Each packet takes so many milliseconds.
    Delay(usize, u64),
    /// The agent's connections break.
    Reset(usize),
    /// Power loss; unsynced sectors survive by that seed, or none do. Lasts until it is switched on again.
    CrashAgent(usize, Option<u64>),
    /// The same at the sink.
    CrashSink(Option<u64>),
    /// An orderly stop, and a start.
    StopAgent(usize),
    /// The same at the sink.
    StopSink,
    /// No byte more fits on the disk.
    FullAgent(usize),
    /// The same at the sink.
    FullSink,
    /// After so many syncs one fails: the program ends and is started again.
    FailingSyncAgent(usize, u64),
    /// The same at the sink.
    FailingSyncSink(u64),
    /// The clock is off by so many seconds.
    Clock(usize, i64),
    /// A batch is spooled that no sink takes.
    Poison(usize),
    /// The agent reaches nobody; at its end it loses power, and a bit of what it spooled is another one afterwards, in a
    /// segment nobody writes to.
    Flip(usize, u64),
    /// Files cannot be written; at its end the sink loses power, and a bit of what it has not stored is another one
    /// afterwards, in a segment of its journal that nobody writes to.
    FlipSink(u64),
    /// Files cannot be written.
    Store,
    /// The catalog does not answer.
    Catalog,
}

/// The kinds of fault, to draw one evenly; each is drawn with its own details.
const KINDS: u64 = 20;

impl Plan {
    /// What this seed decides.
    pub(crate) fn draw(seed: u64) -> Plan {
        let _seeded = random::seed(seed);
        let agents: Vec<Layout> = (0..2 + below(2)).map(|_| layout()).collect();
        let sink = SinkLayout {
            flush_interval: pick(&[Duration::from_secs(2), Duration::from_secs(5)]),
            flush_rows: pick(&[300, 2_000, 100_000]),
            disk_latency: pick(&LATENCIES),
            segment_bytes: pick(&[4 << 10, 16 << 10, 64 << 10]),
            window_bytes: pick(&[2 << 10, 1 << 20]),
        };
        let mut events: Vec<Event> = (0..3 + below(7)).map(|_| event(agents.len())).collect();
        events.sort_by_key(|event| event.at);
        Plan {
            seed,
            agents,
            sink,
            events,
        }
    }

    /// Whether anything of this kind happens.
    pub(crate) fn has(&self, kind: impl Fn(&Fault) -> bool) -> bool {
        self.events.iter().any(|event| kind(&event.fault))
    }
}

fn layout() -> Layout {
    let rate = pick(&[0.0, 0.0, 4.0]);
    // Few requests have to be large ones, or no agent would ever catch up.
    let request_bytes = match rate > 0.0 {
        true => 1 << 20,
        false => pick(&[1 << 10, 1 << 20]),
    };
    Layout {
        sensors: 1 + below(2) as usize,
        metrics: pick(&[2, 8, 24]),
        interval: pick(&[Duration::from_millis(200), Duration::from_millis(500)]),
        batch_age: pick(&[Duration::from_millis(300), Duration::from_secs(1)]),
        commit_interval: pick(&[
            Duration::ZERO,
            Duration::from_millis(200),
            Duration::from_secs(1),
        ]),
        spool_bytes: pick(&[14 << 10, 14 << 10, 1 << 20]),
        spool_overflow: pick(&["block", "drop_oldest", "drop_newest"]),
        queue_overflow: pick(&["block", "drop_oldest", "drop_newest"]),
        queue_readings: pick(&[60, 60, 10_000]),
        disk_latency: pick(&LATENCIES),
        rate,
        request_bytes,
        order: pick(&["newest_first", "newest_first", "oldest_first"]),
        backlog_age: pick(&[Duration::from_millis(200), Duration::from_secs(1)]),
    }
}

/// Of disks: none, quick, slow.
const LATENCIES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(10),
    Duration::from_millis(150),
];

fn event(agents: usize) -> Event {
    let room = HEALED - QUIET_START;
    let at = QUIET_START + random::below(room * 3 / 4);
    let most = pick(&[6_000, 20_000]);
    let lasts = Duration::from_millis(100 + below(most)).min(HEALED - at);
    let fault = fault(below(agents as u64) as usize);
    let (at, lasts) = (whole(at), whole(lasts));
    Event { at, lasts, fault }
}

fn fault(agent: usize) -> Fault {
    let torn = || (below(2) == 0).then(|| below(u64::MAX));
    match below(KINDS) {
        0 => Fault::Partition(agent),
        1 => Fault::Deaf(agent),
        2 => Fault::Mute(agent),
        3 => Fault::Hold(agent),
        4 => Fault::Delay(agent, 100 + below(900)),
        5 => Fault::Reset(agent),
        6 => Fault::CrashAgent(agent, torn()),
        7 => Fault::CrashSink(torn()),
        8 => Fault::StopAgent(agent),
        9 => Fault::StopSink,
        10 => Fault::FullAgent(agent),
        11 => Fault::FullSink,
        12 => Fault::FailingSyncAgent(agent, below(4)),
        13 => Fault::FailingSyncSink(below(4)),
        14 => Fault::Clock(agent, pick(&[-1_800_000_000, -90, -1, 30, 86_400])),
        15 => Fault::Poison(agent),
        16 => Fault::Flip(agent, below(u64::MAX)),
        17 => Fault::FlipSink(below(u64::MAX)),
        18 => Fault::Store,
        _ => Fault::Catalog,
    }
}

/// The world moves in steps of milliseconds.
fn whole(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn below(limit: u64) -> u64 {
    random::number() % limit.max(1)
}

fn pick<T: Copy>(from: &[T]) -> T {
    from[below(from.len() as u64) as usize]
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        for (place, layout) in self.agents.iter().enumerate() {
            writeln!(f, "  agent-{place}: {layout:?}")?;
        }
        writeln!(f, "  sink: {:?}", self.sink)?;
        for Event { at, lasts, fault } in &self.events {
            writeln!(f, "  {at:>8.1?} for {lasts:>8.1?}: {fault:?}")?;
        }
        Ok(())
    }
}
