//! Which points are killed at, at which passings, and how many cases run at one time.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use weir_fault::Point;

/// Points of one program, and a later passing than the first that each of its lives reaches;
/// 1 where a life passes only once.
pub(crate) type Points = &'static [(Point, u64)];

/// In the sink.
pub(crate) const SINK: Points = &[
    (Point::JournalWrite, 5),
    (Point::JournalSync, 5),
    (Point::JournalSynced, 5),
    (Point::JournalRoll, 2),
    (Point::JournalDrafted, 2),
    (Point::JournalRolled, 2),
    (Point::JournalRelease, 2),
    (Point::JournalReleased, 2),
    (Point::JournalCopied, 1),
    (Point::SinkChecked, 4),
    (Point::SinkAppended, 4),
    (Point::SinkAck, 4),
    (Point::SinkAnswered, 5),
    (Point::SinkFolded, 4),
    (Point::SinkIntended, 2),
    (Point::StorePart, 2),
    (Point::StoreRenamed, 2),
    (Point::StorePut, 2),
    (Point::CatalogCommit, 2),
    (Point::CatalogCommitted, 2),
    (Point::CompactionPut, 2),
    (Point::CompactionCommitted, 2),
];

/// In the agent, with a sink that takes everything.
pub(crate) const AGENT: Points = &[
    // At a start, and where new readings get a stream of their own.
    (Point::AgentBegan, 2),
    (Point::AgentBatched, 7),
    (Point::AgentAppended, 7),
    (Point::AgentWelcomed, 2),
    (Point::AgentSend, 3),
    (Point::AgentSent, 3),
    (Point::AgentAcked, 3),
    (Point::AgentSettled, 3),
    (Point::AgentState, 2),
    (Point::AgentNoted, 2),
    (Point::AgentRetire, 2),
    (Point::AgentRetired, 2),
    (Point::JournalWrite, 5),
    (Point::JournalSync, 5),
    (Point::JournalSynced, 5),
    (Point::JournalRoll, 2),
    (Point::JournalDrafted, 2),
    (Point::JournalRolled, 2),
    (Point::JournalRelease, 2),
    (Point::JournalReleased, 2),
    (Point::JournalCopied, 2),
];

/// In the agent, with a sink that refuses.
pub(crate) const REFUSED: Points = &[
    (Point::AgentRefused, 2),
    // What an earlier life has set aside is not sent again: a life passes once, for its own stream.
    (Point::AgentSetAside, 1),
];

/// In `weir-agent spool replay`, run while no agent does.
pub(crate) const REPLAY: Points = &[
    (Point::AgentReplayCopied, 1),
    (Point::AgentReplayNoted, 1),
    (Point::AgentReplayBooked, 1),
    (Point::AgentReplayed, 1),
];

/// Cases that run at one time: a kill and a start are mostly waiting.
const AT_ONE_TIME: usize = 5;

/// What a life leaves to the next one at least.
pub(crate) const BACKLOG: u64 = 20;

/// One point, killed at several times on the same data.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Where.
    pub(crate) point: Point,
    /// At which passing, one life after the other.
    pub(crate) passings: Vec<u64>,
    /// Whether the link loses acknowledgements at the beginning of every life.
    pub(crate) ack_lost: bool,
    /// Readings an agent's life commits before its link opens: every life leaves a stream to drain.
    pub(crate) backlog: u64,
}

impl Case {
    /// Twice at the first passing, twice at a later one, and so on for longer runs.
    pub(crate) fn new(point: Point, later: u64, ack_lost: bool) -> Self {
        let later = (1..=rounds()).flat_map(|round| {
            let few = later == 1 || point == Point::AgentBegan;
            let passing = if few { later } else { later * round };
            [passing, passing]
        });
        Self {
            point,
            passings: [1, 1].into_iter().chain(later).collect(),
            ack_lost,
            backlog: if point == Point::AgentBegan {
                10 * BACKLOG
            } else {
                BACKLOG
            },
        }
    }

    /// Whether it needs a journal that fills quickly.
    pub(crate) fn fills_segments(&self) -> bool {
        matches!(
            self.point,
            Point::JournalRoll
                | Point::JournalDrafted
                | Point::JournalRolled
                | Point::JournalRelease
                | Point::JournalReleased
        )
    }

    /// Whether the agent passes once for every stream that earlier lives left.
    pub(crate) fn passes_once_per_stream(&self) -> bool {
        matches!(
            self.point,
            Point::AgentWelcomed | Point::AgentRetire | Point::AgentRetired | Point::JournalCopied
        )
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let acks = if self.ack_lost { ", acks lost" } else { "" };
        write!(formatter, "{}{acks}", self.point.name())
    }
}

fn rounds() -> u64 {
    let asked = std::env::var("WEIR_TESTS_CRASH_ROUNDS").ok();
    asked.map_or(1, |text| {
        text.parse()
            .expect("WEIR_TESTS_CRASH_ROUNDS is a number of rounds")
    })
}

/// One case for every point.
pub(crate) fn each(points: Points, ack_lost: bool) -> Vec<Case> {
    let case = |(point, later): &(Point, u64)| Case::new(*point, *later, ack_lost);
    points.iter().map(case).collect()
}

/// The points of some tables.
pub(crate) fn all_of(tables: &[Points]) -> Vec<Point> {
    let points = tables.iter().flat_map(|table| table.iter());
    points.map(|(point, _)| *point).collect()
}

/// Runs cases a few at a time, and fails with everything that was found.
pub(crate) async fn run<F, R>(cases: Vec<Case>, one: F)
where
    F: Fn(Case) -> R,
    R: Future<Output = Result<(), String>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(AT_ONE_TIME));
    let mut running = JoinSet::new();
    for case in cases {
        let (name, work) = (case.to_string(), one(case));
        let places = Arc::clone(&places);
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            // In a task of its own, so that a panic has a name too.
            match tokio::spawn(work).await {
                Ok(outcome) => outcome.map_err(|found| format!("{name}: {found}")),
                Err(panicked) => Err(format!("{name}: {panicked}")),
            }
        });
    }
    let found: Vec<String> = running
        .join_all()
        .await
        .into_iter()
        .filter_map(Result::err)
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
