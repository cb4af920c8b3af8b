//! Streams that are left alone for now: which, until when, and why.
//!
//! In: that a stream cannot go on although the agent can: the sink refuses this one, another agent delivers it, or it
//! cannot be begun anew. Out: which streams a lane passes over, when the next is to be asked again, and what the status page
//! and the metrics say. Promises: what is said of one stream holds up no other; nothing is given up, each is asked again.
//!
//! | why | asked again after | and at once |
//! |---|---|---|
//! | no room to begin it anew | six times `retry.max_delay` | when nothing else is to be sent |
//! | another agent delivers it | five minutes | |
//! | the sink has it under another agent's name | three times `retry.max_delay`, twice as long each time up to 15 minutes | when this agent shows something else |

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::Instant;
use weir_process::metrics::Registry;
use weir_process::random;

/// What the sink asks is heeded so far: it may not silence a stream for a day.
const MAX_HINT: Duration = Duration::from_secs(600);

/// How long a displaced agent leaves the other one alone: two must not take it from each other all day.
const DISPLACED: Duration = Duration::from_secs(300);

/// The longest wait for a credential; each time costs the sink a line of its audit log.
const FOREIGN_MOST: Duration = Duration::from_secs(900);

/// Of the longest delay between two attempts.
const FOREIGN_FIRST: u32 = 3;

/// Of the longest delay between two attempts.
const NO_ROOM: u32 = 6;

/// A stream's id.
type Id = [u8; 16];

/// Why a stream is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// It has forked, and the disk has no room for its copy.
    NoRoom,
    /// Another agent delivers it.
    Displaced,
    /// An agent of another name began it, and the credential is not for that name.
    Foreign,
}

impl Why {
    const ALL: [Why; 3] = [Why::NoRoom, Why::Displaced, Why::Foreign];

    /// As labels and the status page spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Why::NoRoom => "no_room",
            Why::Displaced => "displaced",
            Why::Foreign => "foreign",
        }
    }
}

/// One stream's.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    pub(crate) why: Why,
    /// What was said of it, in words.
    pub(crate) words: String,
    /// When it is asked again. What is past was not welcomed yet.
    pub(crate) until: Instant,
    pause: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// See the module. Shared by the lanes.
pub(crate) struct Waits {
    streams: watch::Sender<BTreeMap<Id, Wait>>,
    displaced: Gauge,
    waiting: Family<Reason, Gauge>,
    /// The longest delay between two attempts.
    longest: Duration,
    /// The first wait for a credential: a fleet with one wrong credential must not beat in step.
    first: Duration,
}

impl Waits {
    /// None, and metrics that say so.
    pub(crate) fn new(registry: &Registry, longest: Duration) -> Waits {
        let waits = Waits {
            streams: watch::Sender::default(),
            displaced: registry.register(
                "sender_displaced",
                "streams that another agent delivers, a copy of this machine: they wait five minutes",
                Gauge::default(),
            ),
            waiting: registry.register(
                "sender_waiting_streams",
                "streams that are left alone for now while others go on, by reason",
                Family::default(),
            ),
            longest,
            first: longest * FOREIGN_FIRST + random::below(longest),
        };
        waits.change(|_| false);
        waits
    }

    /// Leaves a stream alone from now on. `hint`: how long the sink asks for.
    pub(crate) fn begin(&self, id: Id, (why, words): (Why, String), hint: Option<Duration>) {
        let now = Instant::now();
        self.change(|streams| {
            let before = streams.get(&id).filter(|before| before.why == why);
            let pause = self.pause(why, before.map(|before| before.pause));
            let least = now + pause.max(hint.unwrap_or_default().min(MAX_HINT));
            // Those of one reason are asked together, so that the others are disturbed once.
            let others = streams.iter().filter(|(other, wait)| {
                why == Why::Foreign && **other != id && wait.why == why && wait.until <= least
            });
            let shared = others.map(|(_, wait)| wait.until).max();
            let until = shared.filter(|shared| *shared >= now + pause / 2);
            let wait = Wait {
                why,
                words,
                until: until.unwrap_or(least),
                pause,
            };
            streams.insert(id, wait);
            true
        });
    }

    fn pause(&self, why: Why, before: Option<Duration>) -> Duration {
        match why {
            Why::NoRoom => self.longest * NO_ROOM,
            Why::Displaced => DISPLACED,
            Why::Foreign => before.map_or(self.first, |before| {
                (before * 2).min(FOREIGN_MOST.max(self.first))
            }),
        }
    }

    /// The sink let it go on.
    pub(crate) fn over(&self, id: Id) {
        self.change(|streams| streams.remove(&id).is_some());
    }

    /// Forgets those that are not held any more.
    pub(crate) fn keep(&self, held: impl Fn(&Id) -> bool) {
        self.change(|streams| {
            let before = streams.len();
            streams.retain(|id, _| held(id));
            streams.len() != before
        });
    }

    /// Something else is shown to the sink from now on: what waits for that is asked at once.
    pub(crate) fn shown_anew(&self) {
        let now = Instant::now();
        self.change(|streams| {
            let foreign = streams.values_mut().filter(|wait| wait.why == Why::Foreign);
            foreign.fold(false, |_, wait| {
                wait.until = now;
                true
            })
        });
    }

    /// Why a stream is to be left alone now, and until when.
    pub(crate) fn now(&self, id: &Id) -> Option<(Why, Instant)> {
        let streams = self.streams.borrow();
        let wait = streams.get(id)?;
        (Instant::now() < wait.until).then_some((wait.why, wait.until))
    }

    /// What was last said of a stream.
    pub(crate) fn words(&self, id: &Id) -> Option<String> {
        self.streams.borrow().get(id).map(|wait| wait.words.clone())
    }

    /// What was last said of a stream that cannot go on for this agent's name, if there is one.
    pub(crate) fn foreign(&self) -> Option<String> {
        let streams = self.streams.borrow();
        let wait = streams.values().find(|wait| wait.why == Why::Foreign);
        wait.map(|wait| wait.words.clone())
    }

    /// All of them, now and on every change.
    pub(crate) fn streams(&self) -> watch::Receiver<BTreeMap<Id, Wait>> {
        self.streams.subscribe()
    }

    fn change(&self, to: impl FnOnce(&mut BTreeMap<Id, Wait>) -> bool) {
        self.streams.send_if_modified(to);
        let streams = self.streams.borrow();
        for why in Why::ALL {
            let count = streams.values().filter(|wait| wait.why == why).count();
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            let reason = why.name();
            self.waiting.get_or_create(&Reason { reason }).set(count);
            if why == Why::Displaced {
                self.displaced.set(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(30);

    fn waits() -> Waits {
        Waits::new(&Registry::new("weir_agent"), LONGEST)
    }

    fn refused(waits: &Waits, id: Id, why: Why) -> Duration {
        waits.begin(id, (why, "as the test says".into()), None);
        let (_, until) = waits.now(&id).expect("it waits");
        until - Instant::now()
    }

    /// Mutations: a pause that does not grow; one that grows for ever; one that a welcome does not end.
    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_refused_again_and_again_waits_longer_and_not_for_ever() {
        let (waits, id) = (waits(), [1; 16]);
        let mut before = refused(&waits, id, Why::Foreign);
        assert!(before >= LONGEST * 3 && before <= LONGEST * 4, "{before:?}");
        for _ in 0..5 {
            tokio::time::advance(before).await;
            assert!(waits.now(&id).is_none(), "it is asked again");
            let next = refused(&waits, id, Why::Foreign);
            assert_eq!(next, (before * 2).min(FOREIGN_MOST));
            before = next;
        }
        assert_eq!(before, FOREIGN_MOST);
        waits.over(id);
        assert!(waits.now(&id).is_none() && waits.foreign().is_none());
        assert!(refused(&waits, id, Why::Foreign) <= LONGEST * 4);
    }

    /// Mutation: streams that are refused one after the other are asked one after the other, each time at the others' cost.
    #[tokio::test(start_paused = true)]
    async fn streams_of_one_reason_are_asked_together() {
        let waits = waits();
        refused(&waits, [1; 16], Why::Foreign);
        tokio::time::advance(Duration::from_secs(1)).await;
        refused(&waits, [2; 16], Why::Foreign);
        tokio::time::advance(LONGEST * 4).await;
        assert!(refused(&waits, [1; 16], Why::Foreign) >= LONGEST * 6);
        let first = waits.now(&[1; 16]);
        tokio::time::advance(Duration::from_secs(1)).await;
        refused(&waits, [2; 16], Why::Foreign);
        assert_eq!(waits.now(&[2; 16]), first);
    }

    /// Mutation: a displaced stream that is asked because of another credential, or sooner than after five minutes.
    #[tokio::test(start_paused = true)]
    async fn what_another_delivers_waits_five_minutes_whatever_is_shown() {
        let (waits, id) = (waits(), [1; 16]);
        assert_eq!(refused(&waits, id, Why::Displaced), DISPLACED);
        refused(&waits, [2; 16], Why::Foreign);
        waits.shown_anew();
        assert!(waits.now(&id).is_some() && waits.now(&[2; 16]).is_none());
        waits.keep(|held| *held == [2; 16]);
        assert!(waits.now(&id).is_none());
        assert_eq!(waits.streams().borrow().len(), 1);
    }
}
