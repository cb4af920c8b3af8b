//! From requests to journaled records: who may send, what is accepted, when it is acknowledged.
//!
//! In: a Hello, then requests of one call. Out: envelopes in the journal, in the order in which
//! they were accepted, each handed on to the fold; and acknowledgements for what is durable.
//!
//! Promises:
//!
//! * everything is validated before it is appended, nothing is acknowledged before it is durable;
//! * a record is accepted exactly when it is the next one of its stream; older ones are
//!   acknowledged again and not stored, a gap is refused with the expected sequence;
//! * a stream is the agent's that began it (see `owner`), and one connection's at a time: a new Hello displaces the former owner and waits until what
//!   that one appended is durable, so that Welcome never speaks of anything that could be lost;
//! * memory is bounded: windows are parts of one budget, and there is a limit to connections.
//!
//! State is kept by (tenant, stream) and rebuilt at start from the catalog and the journal behind
//! the catalog's position; only headers in the clear are read for that. Of a stream that is closed, lost or
//! silent only the counts stay in memory, see `forget`.

mod allowed;
mod cardinality;
mod check;
mod dictionary;
mod fault;
mod forget;
mod gate;
mod load;
mod lost;
mod mark;
mod owner;
mod quota;
mod restore;
mod session;
mod slot;
mod stream;
#[cfg(test)]
mod tests;
mod turns;
mod unwanted;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use weir_journal::watch;
use weir_journal::{Journal, Progress};
use weir_process::clock::Clock;
use weir_proto::{limits, v1};

use crate::catalog::{Catalog, SeriesKey};
use crate::envelope::ClockSample;
use crate::fold::{CLOCKS_BEGIN_NS, Parcel};
use crate::metrics::IngestMetrics;
use crate::model::{StreamId, StreamKey};

pub use allowed::{Allowed, Limits};
pub use cardinality::SeriesLimits;
pub use fault::{Fault, Refusal, refused_code_name};
pub use gate::Gate;
pub(crate) use lost::Held;
pub use lost::{LostStream, Wanted};
pub use mark::{Mark, REASONS};
pub use owner::Opener;
pub use quota::{Measure, Over, PATIENCE, Quota, Scope};
pub use restore::RestoreError;
pub use session::{Session, Taken};
pub use slot::{Seen, StreamView};
pub use turns::Turn;

use cardinality::Cardinality;
use quota::{Account, Quotas};
use session::Ends;
use slot::Slot;
use turns::Turns;

/// How long a Hello waits for the former owner of its stream, and then for what that one appended.
const HANDOVER: Duration = Duration::from_secs(20);

/// No agent's window is smaller, however many there are.
pub const LEAST_WINDOW_BYTES: u64 = 64 << 10;

/// Longest name of an agent, in characters.
pub(crate) const MAX_AGENT_CHARS: usize = 256;

/// What bounds ingest.
#[derive(Debug, Clone, PartialEq)]
pub struct IngestConfig {
    /// Payload bytes an agent may have unacknowledged.
    pub window_bytes: u64,
    /// Payload bytes all agents together may have unacknowledged: with many of them each one's window
    /// is its part of this, though never less than [`LEAST_WINDOW_BYTES`].
    pub budget_bytes: u64,
    /// Calls of Deliver at one time.
    pub max_connections: usize,
    /// Streams that are neither closed nor lost. One that is costs a few numbers that are kept beside them, so
    /// that an agent that begins a stream with every start does not keep others out.
    pub max_streams: usize,
    /// Journal bytes from which nothing more is accepted.
    pub high_water_bytes: u64,
    /// How long an agent leaves a stream out before what it held counts as lost; zero is never.
    pub lost_after: Duration,
    /// What each may send and have.
    pub limits: Allowed,
}

/// Where accepted records go on to. Must not block: the call is on the way to an acknowledgement.
pub type Offer = Arc<dyn Fn(Parcel) + Send + Sync>;

/// The front half of the sink. Clones share it.
#[derive(Clone)]
pub struct Ingest {
    inner: Arc<Inner>,
}

struct Inner {
    journal: Journal,
    gate: Gate,
    offer: Offer,
    clock: Arc<dyn Clock>,
    config: IngestConfig,
    metrics: IngestMetrics,
    streams: Mutex<HashMap<StreamKey, Arc<Slot>>>,
    /// How many of the streams are closed or lost.
    resting: AtomicUsize,
    /// Has what is forgotten. Not there before [`Ingest::restore`]: then nothing is.
    catalog: OnceLock<Catalog>,
    /// Tenants and names that two agents were seen to share.
    namesakes: Mutex<HashSet<(Arc<str>, String)>>,
    connections: Arc<Semaphore>,
    turns: Turns,
    quotas: Quotas,
    cardinality: Cardinality,
}

/// A panic in one connection leaves every one of these whole: each is changed by a single statement
/// or by a method that cannot panic half way.
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ingest {
    /// An ingest that knows no stream yet; see [`Ingest::restore`].
    pub fn new(
        journal: Journal,
        offer: Offer,
        clock: Arc<dyn Clock>,
        config: IngestConfig,
        metrics: IngestMetrics,
    ) -> Self {
        let gate = Gate::new(journal.clone(), config.high_water_bytes);
        Self {
            inner: Arc::new(Inner {
                journal,
                gate,
                offer,
                clock,
                metrics,
                streams: Mutex::default(),
                resting: AtomicUsize::new(0),
                catalog: OnceLock::new(),
                namesakes: Mutex::default(),
                connections: Arc::new(Semaphore::new(config.max_connections)),
                turns: Turns::default(),
                quotas: Quotas::new(config.limits.clone()),
                cardinality: Cardinality::new(config.limits.clone()),
                config,
            }),
        }
    }

    /// Whether anything can be accepted now.
    pub fn gate(&self) -> &Gate {
        &self.inner.gate
    }

    /// How far the journal is durable.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.inner.journal.progress()
    }

    /// The counters.
    pub fn metrics(&self) -> &IngestMetrics {
        &self.inner.metrics
    }

    /// Takes over a stream for one call. Waits for its former connection, though not once `draining`.
    pub async fn open(
        &self,
        opener: &Opener<'_>,
        hello: &v1::Hello,
        draining: &CancellationToken,
    ) -> Result<(Session, v1::Welcome), Fault> {
        // Before anything is waited for: what is late makes an agent's clock look slow.
        let heard_ns = self.inner.clock.wall_ns();
        let id = check_hello(hello)?;
        self.inner.gate.check()?;
        let account = self.account(opener.tenant, &hello.agent)?;
        let permit = Arc::clone(&self.inner.connections)
            .try_acquire_owned()
            .map_err(|_| Fault::Overloaded("too many connections".into()))?;
        let slot = self.slot(StreamKey::new(opener.tenant, id))?;
        let former = hold(&slot.claim).from;
        let displaced = slot.claim(opener, &hello.agent)?;
        if slot.lane.try_lock().is_err() {
            self.tell_of_a_takeover(&slot, (former, opener.from), hello);
        }
        let lane = tokio::select! {
            biased;
            lane = Arc::clone(&slot.lane).lock_owned() => lane,
            () = displaced.cancelled() => return Err(slot.displaced()),
            () = draining.cancelled() => return Err(Fault::Draining),
            () = tokio::time::sleep(HANDOVER) => {
                return Err(Fault::Overloaded("the former connection of this stream has not ended".into()));
            }
        };
        slot.confirm(opener, &hello.agent)?;
        let boot_id = Bytes::copy_from_slice(&hello.boot_id);
        {
            let mut seen = hold(&slot.seen);
            seen.agent.clone_from(&hello.agent);
            seen.clock_offset_ns = 0;
            seen.sample = None;
            seen.held = Held::of(hello, self.inner.clock.monotonic_ns());
            seen.unlisted_since = None;
            seen.connected_at = self.inner.clock.monotonic_ns();
        }
        if hold(&slot.seen).lost.is_some() {
            self.take_back(&slot).await?;
        }
        self.remember(&slot).await?;
        if let Some(clock) = &hello.clock {
            self.hear(&slot, &boot_id, clock, heard_ns);
        }
        let ends = Ends {
            displaced,
            draining: draining.clone(),
        };
        let session = Session::new(self.clone(), slot, boot_id, account, ends, (lane, permit));
        let welcome = session.welcome().await?;
        Ok((session, welcome))
    }

    /// Other limits from now on, also for those that are connected. Answers the tenants whose series can be bounded from the
    /// next start on only, because theirs were not counted so far.
    pub fn set_limits(&self, limits: &Allowed) -> Vec<String> {
        let now_ns = self.inner.clock.monotonic_ns();
        self.inner.quotas.set(limits.clone(), now_ns);
        self.inner.cardinality.set(limits)
    }

    /// What an agent may send; it comes later where it owes too much.
    fn account(&self, tenant: &str, agent: &str) -> Result<Arc<Account>, Fault> {
        let now_ns = self.inner.clock.monotonic_ns();
        let account = self.inner.quotas.account(tenant, agent, now_ns);
        let over = account.over(now_ns);
        match over.filter(|over| over.wait > PATIENCE) {
            Some(over) => Err(Fault::OverQuota(over)),
            None => Ok(account),
        }
    }

    /// A series that is stored already counts against the limits, and is never beyond them.
    pub fn know(&self, series: &SeriesKey) {
        self.inner.cardinality.know(series);
    }

    /// Takes what an agent says of its clocks; `heard_ns` is the sink's wall clock at that.
    fn hear(&self, slot: &Slot, boot_id: &Bytes, clock: &v1::Clock, heard_ns: i64) {
        let mut seen = hold(&slot.seen);
        seen.clock_offset_ns = heard_ns.saturating_sub(clock.wall_ns);
        // Nothing can be told by it of a boot without a name, or by a sink whose clock was never set.
        if boot_id.len() == limits::ID_BYTES && heard_ns >= CLOCKS_BEGIN_NS {
            seen.sample = Some(ClockSample {
                boot_id: boot_id.clone(),
                monotonic_ns: clock.monotonic_ns,
                agent_ns: clock.wall_ns,
                sink_ns: heard_ns,
                own_machine: **boot_id == self.inner.clock.boot_id(),
            });
        }
    }

    fn slot(&self, key: StreamKey) -> Result<Arc<Slot>, Fault> {
        let mut streams = hold(&self.inner.streams);
        if let Some(slot) = streams.get(&key) {
            return Ok(Arc::clone(slot));
        }
        let resting = self.inner.resting.load(Ordering::Relaxed);
        if streams.len().saturating_sub(resting) >= self.inner.config.max_streams {
            return Err(Fault::Overloaded(
                "too many streams: raise WEIR_SINK_INGEST_MAX_STREAMS".into(),
            ));
        }
        let slot = Arc::new(Slot::new(key.clone()));
        streams.insert(key, Arc::clone(&slot));
        Ok(slot)
    }

    /// Forgets a stream of which nothing was ever accepted, unless somebody else waits for it.
    fn forget_blank(&self, slot: &Arc<Slot>) {
        let mut streams = hold(&self.inner.streams);
        // The map's and the caller's: handles are only given out under the map's lock.
        if Arc::strong_count(slot) == 2 && slot.stream().is_blank() {
            streams.remove(&slot.key);
        }
    }

    /// Every stream as it stands, durably.
    pub fn streams(&self) -> Vec<StreamView> {
        self.streams_where(|_| true)
    }

    /// Those of them that are this tenant's.
    pub fn streams_of(&self, tenant: &str) -> Vec<StreamView> {
        self.streams_where(|key| *key.tenant == *tenant)
    }

    fn streams_where(&self, wanted: impl Fn(&StreamKey) -> bool) -> Vec<StreamView> {
        let streams = hold(&self.inner.streams);
        let slots = streams.values().filter(|slot| wanted(&slot.key));
        let slots: Vec<Arc<Slot>> = slots.cloned().collect();
        drop(streams);
        let durable_through = self.inner.journal.progress().borrow().durable_through;
        slots
            .iter()
            .map(|slot| {
                let mut stream = slot.stream();
                stream.settle(durable_through);
                let is_settled = stream.last_pending().is_none();
                let (durable, closed) = (stream.durable(), stream.is_closed() && is_settled);
                drop(stream);
                StreamView {
                    key: slot.key.clone(),
                    durable,
                    closed,
                    seen: hold(&slot.seen).clone(),
                }
            })
            .collect()
    }

    /// What each agent may have unacknowledged now: when a thousand return at once, they share.
    fn window_bytes(&self) -> u64 {
        let config = &self.inner.config;
        let part = config.budget_bytes / (self.connections() as u64).max(1);
        config.window_bytes.min(part.max(LEAST_WINDOW_BYTES))
    }

    /// Calls of Deliver that run now.
    pub fn connections(&self) -> usize {
        self.inner.config.max_connections - self.inner.connections.available_permits()
    }
}

/// What a Hello must be before anything is looked up by it.
fn check_hello(hello: &v1::Hello) -> Result<StreamId, Fault> {
    let (min, max) = (hello.protocol_min, hello.protocol_max);
    if !(min..=max).contains(&limits::PROTOCOL_VERSION) {
        return Err(Fault::Protocol { min, max });
    }
    let id = StreamId::from_slice(&hello.stream_id)
        .ok_or_else(|| Fault::Invalid("stream_id is not 16 bytes".into()))?;
    if !hello.boot_id.is_empty() && hello.boot_id.len() != limits::ID_BYTES {
        return Err(Fault::Invalid("boot_id is not 16 bytes".into()));
    }
    let chars = hello.agent.chars().count();
    if chars == 0 || chars > MAX_AGENT_CHARS || hello.agent.chars().any(char::is_control) {
        return Err(Fault::Invalid(format!(
            "agent must be 1 to {MAX_AGENT_CHARS} printable characters"
        )));
    }
    Ok(id)
}
