//! Whose a stream is, and who of those that may delivers it now.
//!
//! A stream is the agent's that began it, by the name of its first record; the catalog keeps that name. Who says Hello
//! for it later must show what is for that name, too: an agent that learned another's stream id is turned away, and
//! whoever delivers is not disturbed. Where a credential is for both names (a pattern), or none is asked for, an agent that was
//! renamed goes on with what its spool has. Of those that may, the newest delivers.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use weir_proto::v1;

use super::{Fault, Ingest, Slot, hold};
use crate::model::{StreamId, StreamKey};

/// Who says Hello.
#[derive(Clone, Copy)]
pub struct Opener<'a> {
    /// Whose data.
    pub tenant: &'a str,
    /// Where the connection comes from.
    pub from: Option<SocketAddr>,
    /// Whether what was shown is for an agent of this name.
    pub covers: &'a (dyn Fn(&str) -> bool + Sync),
}

/// Of one stream.
#[derive(Default)]
pub(super) struct Claim {
    /// The agent that began it; of a stream that has nothing, the one that would. Empty while nobody said Hello.
    owner: String,
    /// Where the newest Hello came from.
    pub(super) from: Option<SocketAddr>,
    /// Cancelled by the next.
    displaced: CancellationToken,
}

impl Claim {
    fn check(&self, opener: &Opener<'_>, slot: &Slot) -> Result<(), Fault> {
        if self.owner.is_empty() || (opener.covers)(&self.owner) {
            return Ok(());
        }
        Err(Fault::Foreign {
            stream: slot.key.id,
            owner: self.owner.clone(),
        })
    }
}

impl Slot {
    /// The stream was begun by this agent: the first to be named counts.
    pub(super) fn begun_by(&self, agent: &str) {
        let mut claim = hold(&self.claim);
        if claim.owner.is_empty() {
            agent.clone_into(&mut claim.owner);
        }
    }

    /// Whoever may deliver this stream sends its former connection away, and learns when it has to go itself.
    pub(super) fn claim(
        &self,
        opener: &Opener<'_>,
        agent: &str,
    ) -> Result<CancellationToken, Fault> {
        // Of one that has nothing and that nobody holds it counts for nothing who asked for it before.
        let is_free = self.stream().is_blank() && self.lane.try_lock().is_ok();
        let mut claim = hold(&self.claim);
        if is_free {
            agent.clone_into(&mut claim.owner);
        }
        claim.check(opener, self)?;
        let displaced = CancellationToken::new();
        std::mem::replace(&mut claim.displaced, displaced.clone()).cancel();
        claim.from = opener.from;
        Ok(displaced)
    }

    /// The same once the lane is held: who was waited for may have begun the stream.
    pub(super) fn confirm(&self, opener: &Opener<'_>, agent: &str) -> Result<(), Fault> {
        let is_blank = self.stream().is_blank();
        let mut claim = hold(&self.claim);
        if is_blank || claim.owner.is_empty() {
            agent.clone_into(&mut claim.owner);
        }
        claim.check(opener, self)
    }

    /// Why a connection that was sent away ends.
    pub(super) fn displaced(&self) -> Fault {
        Fault::Displaced(hold(&self.claim).from)
    }
}

impl Ingest {
    /// Says that one connection takes a stream over from another that has not ended. Mostly that one is broken; a copy it
    /// is where it held another stream that goes on here, and of which the new one knows nothing.
    pub(super) fn tell_of_a_takeover(
        &self,
        slot: &Slot,
        (former, newer): (Option<SocketAddr>, Option<SocketAddr>),
        hello: &v1::Hello,
    ) {
        let (agent, held) = {
            let seen = hold(&slot.seen);
            (seen.agent.clone(), seen.held.clone())
        };
        let held = held.iter().flat_map(|held| held.streams());
        let other = held
            .filter(|id| **id != slot.key.id && !hello.held_streams.is_empty())
            .filter(|id| hello.held_streams.iter().all(|known| known[..] != id.0[..]))
            .find(|id| self.goes_on(&slot.key.tenant, **id));
        let (former, newer) = (shown(former), shown(newer));
        match other {
            Some(other) => tracing::warn!(
                stream = %slot.key, former_agent = agent, former, agent = hello.agent, newer, %other,
                "two agents have this stream and different spools: does a copy of a machine run? The newest connection \
                 delivers it, the former one is told and waits"
            ),
            None => tracing::info!(
                stream = %slot.key, former_agent = agent, former, agent = hello.agent, newer,
                "a newer connection takes this stream over from one that had not ended"
            ),
        }
    }

    /// Whether there is such a stream that has something and has not ended.
    fn goes_on(&self, tenant: &Arc<str>, id: StreamId) -> bool {
        let key = StreamKey {
            tenant: Arc::clone(tenant),
            id,
        };
        let slot = hold(&self.inner.streams).get(&key).cloned();
        slot.is_some_and(|slot| {
            let stream = slot.stream();
            !stream.is_blank() && !stream.is_closed()
        })
    }
}

fn shown(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
}
