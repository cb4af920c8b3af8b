//! What becomes of readings that an agent counted and no longer has: a spool that was deleted, or an
//! agent that is dead.
//!
//! In: the streams each Hello says the spool holds. Out: decisions, journaled like records, that the
//! rest of a stream is lost (the ledger then counts it as `dropped(reason=spool_lost)`) or is not. A
//! decision is a statement about the ledger only: a stream that reappears delivers as if nothing had
//! been said, and takes its rest back.
//!
//! A stream is *left out* when its agent said Hello, for another stream and after this one's last, and
//! neither that one nor any connected stream of this agent came with a list that has it. One that is
//! connected is never left out: two agents may share a name, which is said once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use weir_proto::v1;

use super::forget::forget_lists;
use super::{Fault, Ingest, Seen, Slot, hold};
use crate::envelope::{self, Envelope};
use crate::fold::Arrival;
use crate::model::StreamId;

#[cfg(test)]
mod tests;

/// How often there is a look at who left what out: a quarter of the grace, between these.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A spool with more streams than this is not followed: nothing of it is ever left out.
const MAX_HELD: usize = 4096;

/// Names that two agents share are told of up to this many.
const MAX_NAMESAKES: usize = 1024;

/// What one Hello said the spool holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// When, by the sink's monotonic clock.
    at_ns: u64,
    streams: Arc<[StreamId]>,
}

impl Held {
    /// Nothing where the agent does not say.
    pub(super) fn of(hello: &v1::Hello, at_ns: u64) -> Option<Self> {
        let held = &hello.held_streams;
        let streams = held.iter().filter_map(|id| StreamId::from_slice(id));
        (!held.is_empty() && held.len() <= MAX_HELD).then(|| Self {
            at_ns,
            streams: streams.collect(),
        })
    }

    pub(super) fn streams(&self) -> &[StreamId] {
        &self.streams
    }
}

/// Which streams an operator gives up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only of this agent.
    pub agent: Option<String>,
    /// Only this stream.
    pub stream: Option<StreamId>,
}

impl Wanted {
    fn lets(&self, slot: &Slot, left_out: bool) -> bool {
        let of_agent = match &self.agent {
            Some(agent) => hold(&slot.seen).agent == *agent,
            None => true,
        };
        let named = self.agent.is_some() || self.stream.is_some();
        of_agent && self.stream.is_none_or(|id| id == slot.key.id) && (named || left_out)
    }
}

/// One stream that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostStream {
    /// Whose.
    pub agent: String,
    /// Which.
    pub stream: StreamId,
    /// Readings that count as lost now.
    pub readings: u64,
}

/// What the last list of its agent says of a stream.
struct Standing {
    slot: Arc<Slot>,
    /// When the list came, if the stream is on it.
    listed_at: Option<u64>,
    /// Since when the agent leaves it out.
    left_out_since: Option<u64>,
}

/// By tenant and agent.
pub(super) type Lists = HashMap<(Arc<str>, String), Said>;

/// What one name says it holds: the last list, and that of each stream that is connected.
#[derive(Default)]
pub(super) struct Said {
    last: Option<Held>,
    connected: Vec<(StreamId, Held)>,
}

impl Said {
    /// When a list came that holds the stream.
    fn listed_at(&self, id: StreamId) -> Option<u64> {
        let connected = self.connected.iter().map(|(_, held)| held);
        let lists = self.last.iter().chain(connected);
        let holding = lists.filter(|list| list.streams.contains(&id));
        holding.map(|list| list.at_ns).max()
    }

    /// Whether the last list is this one.
    pub(super) fn ends_with(&self, seen: &Seen) -> bool {
        self.last.is_some() && self.last == seen.held
    }

    /// A connected stream that the last one to connect does not list, nor the other way round: one process
    /// lists all that it delivers.
    fn stranger(&self) -> Option<StreamId> {
        let newest = self.connected.iter().max_by_key(|(_, held)| held.at_ns);
        let (newest, held) = newest?;
        let mut others = self.connected.iter();
        let other = others
            .find(|(id, theirs)| !held.streams.contains(id) && !theirs.streams.contains(newest));
        other.map(|(id, _)| *id)
    }
}

impl Ingest {
    /// Looks again and again until told to stop. Where nothing is ever given up by itself, what reappears is
    /// still taken back.
    pub async fn watch_spools(self, token: CancellationToken) {
        let grace = self.inner.config.lost_after;
        let every = match grace {
            Duration::ZERO => LOOK_EVERY.1,
            grace => (grace / 4).clamp(LOOK_EVERY.0, LOOK_EVERY.1),
        };
        loop {
            tokio::select! {
                biased;
                () = token.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            if let Err(fault) = self.look_after_spools(grace).await {
                tracing::debug!(%fault, "cannot settle lost spools now");
            }
            match self.forget_unused().await {
                Ok(0) => {}
                Ok(streams) => tracing::debug!(streams, "definitions are in the catalog only"),
                Err(error) => tracing::debug!(%error, "cannot forget silent streams now"),
            }
        }
    }

    /// One look: gives up what was left out for longer than `grace`, takes back what is listed again.
    pub(super) async fn look_after_spools(&self, grace: Duration) -> Result<(), Fault> {
        let now_ns = self.inner.clock.monotonic_ns();
        for one in self.standings(now_ns) {
            let lost = hold(&one.slot.seen).lost;
            if lost.is_some() && one.listed_at > lost {
                self.take_back(&one.slot).await?;
            }
            let passed = one.left_out_since.map(|since| now_ns.saturating_sub(since));
            let overdue = passed.is_some_and(|ns| Duration::from_nanos(ns) >= grace);
            if overdue && !grace.is_zero() {
                self.give_up(&one.slot).await?;
            }
        }
        Ok(())
    }

    /// Gives up what an operator of a tenant names: streams that are not connected and of which the agent still
    /// held something. Without a name, those that their agents leave out. Durable when it returns.
    pub async fn settle_lost(
        &self,
        tenant: &str,
        wanted: &Wanted,
    ) -> Result<Vec<LostStream>, Fault> {
        let mut settled = Vec::new();
        for one in self.standings(self.inner.clock.monotonic_ns()) {
            let is_own = *one.slot.key.tenant == *tenant;
            if is_own && wanted.lets(&one.slot, one.left_out_since.is_some()) {
                settled.extend(self.give_up(&one.slot).await?);
            }
        }
        Ok(settled)
    }

    /// Every open stream, with what is known of it.
    fn standings(&self, now_ns: u64) -> Vec<Standing> {
        // Blank ones are left alone: a second handle would keep them from being forgotten.
        let slots: Vec<Arc<Slot>> = {
            let streams = hold(&self.inner.streams);
            let known = streams.values().filter(|slot| !slot.stream().is_blank());
            known.cloned().collect()
        };
        let mut lists = Lists::new();
        for slot in &slots {
            let is_connected = is_connected(slot) && !slot.stream().is_closed();
            let seen = hold(&slot.seen);
            let Some(held) = &seen.held else { continue };
            let whose = (Arc::clone(&slot.key.tenant), seen.agent.clone());
            let said = lists.entry(whose).or_default();
            if said
                .last
                .as_ref()
                .is_none_or(|last| held.at_ns > last.at_ns)
            {
                said.last = Some(held.clone());
            }
            if is_connected {
                said.connected.push((slot.key.id, held.clone()));
            }
        }
        self.tell_namesakes(&lists);
        forget_lists(&slots, &lists);
        let open = slots.into_iter().filter(|slot| !slot.stream().is_closed());
        open.map(|slot| standing(slot, &lists, now_ns)).collect()
    }

    /// Two agents of one name: once for each name.
    fn tell_namesakes(&self, lists: &Lists) {
        let mut told = hold(&self.inner.namesakes);
        for (whose, said) in lists {
            let Some(stream) = said.stranger() else {
                continue;
            };
            if told.len() < MAX_NAMESAKES && told.insert(whose.clone()) {
                tracing::warn!(
                    tenant = &*whose.0, agent = whose.1, %stream,
                    "two agents that are connected share this name: give each its own WEIR_AGENT_NAME; their series are \
                     mixed, and what one of them holds counts as spool_lost while it is away and the other is not"
                );
            }
        }
    }

    /// The stream is there after all.
    pub(super) async fn take_back(&self, slot: &Slot) -> Result<(), Fault> {
        self.decide(slot, false).await?;
        tracing::info!(stream = %slot.key, "a stream that was given up is back");
        Ok(())
    }

    async fn give_up(&self, slot: &Arc<Slot>) -> Result<Option<LostStream>, Fault> {
        // Whoever holds the lane is connected; who comes while it is held here waits a moment.
        let Ok(_lane) = Arc::clone(&slot.lane).try_lock_owned() else {
            return Ok(None);
        };
        let readings = {
            let through = slot.stream().durable().readings_through;
            let seen = hold(&slot.seen);
            let reported = seen.report.map_or(0, |(report, _)| report.produced);
            reported.saturating_sub(through)
        };
        if readings == 0 || hold(&slot.seen).lost.is_some() {
            return Ok(None);
        }
        self.decide(slot, true).await?;
        let agent = hold(&slot.seen).agent.clone();
        tracing::error!(
            stream = %slot.key, agent, readings,
            "the agent holds this stream no more: its rest counts as dropped, spool_lost"
        );
        Ok(Some(LostStream {
            agent,
            stream: slot.key.id,
            readings,
        }))
    }

    /// Journals a decision and waits until it is durable.
    async fn decide(&self, slot: &Slot, lost: bool) -> Result<(), Fault> {
        let inner = &self.inner;
        inner.gate.check()?;
        let envelope = {
            let seen = hold(&slot.seen);
            Envelope {
                received_ns: inner.clock.wall_ns(),
                tenant: slot.key.tenant.to_string(),
                agent: seen.agent.clone(),
                stream_id: Bytes::copy_from_slice(&slot.key.id.0),
                clock_offset_ns: seen.clock_offset_ns,
                lost: Some(lost),
                ..Envelope::default()
            }
        };
        let head = envelope.head(true, true, &[]);
        let number = inner.journal.try_append(envelope::KIND, &[&head])?;
        let at_ns = lost.then(|| inner.clock.monotonic_ns());
        let was_lost = std::mem::replace(&mut hold(&slot.seen).lost, at_ns).is_some();
        match (was_lost, lost) {
            (false, true) => drop(inner.resting.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(inner.resting.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        let arrival = Arrival {
            number,
            envelope,
            decoded: None,
        };
        (inner.offer)(arrival.into());
        inner.journal.committed(number).await?;
        Ok(())
    }
}

/// What `lists` say of the stream. Remembers since when it is left out, for as long as it is.
fn standing(slot: Arc<Slot>, lists: &Lists, now_ns: u64) -> Standing {
    let is_connected = is_connected(&slot);
    let (listed_at, left_out_since) = {
        let mut seen = hold(&slot.seen);
        let said = lists.get(&(Arc::clone(&slot.key.tenant), seen.agent.clone()));
        let listed_at = said.and_then(|said| said.listed_at(slot.key.id));
        let is_left_out = said.is_some() && listed_at.is_none() && !is_connected;
        // From now on: the last list may be older than the end of another connection that listed it.
        seen.unlisted_since = is_left_out.then(|| seen.unlisted_since.unwrap_or(now_ns));
        (listed_at, seen.unlisted_since)
    };
    Standing {
        slot,
        listed_at,
        left_out_since,
    }
}

fn is_connected(slot: &Slot) -> bool {
    slot.lane.try_lock().is_err()
}
