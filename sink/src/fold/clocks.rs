//! Whose clock is right: what time quality a batch has, and by how much its times are moved.
//!
//! In: samples that ingest journaled, each two clocks of an agent and one of the sink at one moment;
//! and the header of a batch. Out: a [`Verdict`]. Looks at nothing but journal records, so that a
//! replay gives the same times.
//!
//! An *offset* is a wall clock less the monotonic clock beside it: what the wall clock said at boot.
//! A batch has one (its first reading), a sample has two (the agent's and the sink's). Offsets of one
//! boot are compared; they are near when not more than 10 s (`boot::TOLERANCE_NS`) apart.
//!
//! | the batch's offset is | verdict |
//! |---|---|
//! | of a boot without a sample | `unknown`, as observed |
//! | near the sink's at the nearest sample | `ok` |
//! | near the sink's at another sample, and the agent's clock was set since | `ok` |
//! | near the sink's at another sample, and the sink's clock was set since | `suspect`, as observed |
//! | not the agent's at any sample (it was set since), and the agent's clock agreed with the sink's later or earlier | `rebased` |
//! | still the agent's, which disagrees with the sink's: before 2000 | `rebased` |
//! | the same, and most other agents of the tenant agree with the sink | `rebased` |
//! | the same, and nobody speaks for the sink | `suspect`, as observed |
//!
//! A batch that would then end later than it was received is `unknown` and stays as observed. The
//! shift of a stream does not change while its clock is not set and the shift stays near what it
//! should be, so that times rise as they were taken.
//!
//! What is kept is bounded: see [`known`].

mod boot;
mod known;

use std::collections::HashMap;
use std::sync::Arc;

use weir_proto::v1;

pub(super) use self::boot::{Boot, Sample};
pub(super) use self::known::{Known, Whose};

use self::boot::{Opinion, STEP_NS, TOLERANCE_NS, is_within, offset};
use super::rows::{DAY_NS, Quality};
use crate::envelope::ClockSample;

/// 2000-01-01T00:00:00Z: a clock before it was never set.
pub(crate) const CLOCKS_BEGIN_NS: i64 = 946_684_800_000_000_000;

/// What became of the times of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) quality: Quality,
    /// Was added to every time; 0 unless rebased.
    pub(crate) shift_ns: i64,
}

/// How the last batch of a stream was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steady {
    pub(super) boot: [u8; 16],
    pub(super) offset: i64,
    pub(super) shift_ns: i64,
}

/// Everything known of agents' clocks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Clocks {
    pub(super) known: Known,
    /// By number of stream.
    pub(super) steady: HashMap<u32, Steady>,
}

impl Clocks {
    /// Takes a sample in. One that makes no sense tells nothing.
    pub(crate) fn take(&mut self, tenant: &str, agent: &str, sample: &ClockSample) {
        let Ok(id) = <[u8; 16]>::try_from(&sample.boot_id[..]) else {
            return;
        };
        let monotonic_ns = sample.monotonic_ns;
        let (Some(agent_offset), Some(sink_offset)) = (
            offset(sample.agent_ns, monotonic_ns),
            offset(sample.sink_ns, monotonic_ns),
        ) else {
            return;
        };
        let whose = (Arc::from(tenant), Arc::from(agent));
        let sample_taken = Sample {
            monotonic_ns,
            agent_offset,
            sink_offset,
        };
        self.known
            .take(&whose, (id, sample.own_machine), sample_taken);
    }

    /// What the times of a batch of `stream` are worth.
    pub(crate) fn judge(
        &mut self,
        whose: (&Arc<str>, &Arc<str>),
        stream: u32,
        header: &v1::BatchHeader,
        received_ns: i64,
    ) -> Verdict {
        let whose = (Arc::clone(whose.0), Arc::clone(whose.1));
        let id = <[u8; 16]>::try_from(&header.boot_id[..]).ok();
        let offset = offset(header.first_ns, header.monotonic_start_ns);
        let boot = id.and_then(|id| self.known.boot(&whose, id));
        let (Some(boot), Some(offset)) = (boot, offset) else {
            return Verdict::as_observed(Quality::Unknown);
        };
        let sink_offset = match boot.opinion(offset, header.monotonic_start_ns) {
            Opinion::Agree => {
                let ends_in_time = header.last_ns <= received_ns.saturating_add(DAY_NS);
                self.steady.insert(stream, Steady::new(boot.id, offset, 0));
                let quality = if ends_in_time {
                    Quality::Ok
                } else {
                    Quality::Unknown
                };
                return Verdict::as_observed(quality);
            }
            Opinion::SinkWasSet => return Verdict::as_observed(Quality::Suspect),
            Opinion::AgentWasSet(sink_offset) => sink_offset,
            Opinion::Disagree(sink_offset)
                if header.first_ns < CLOCKS_BEGIN_NS || self.known.vouches(&whose, boot.id) =>
            {
                sink_offset
            }
            Opinion::Disagree(_) => return Verdict::as_observed(Quality::Suspect),
        };
        let mut shift_ns = sink_offset.saturating_sub(offset);
        if let Some(last) = self.steady.get(&stream)
            && last.boot == boot.id
            && is_within(last.offset, offset, STEP_NS)
            && is_within(last.shift_ns, shift_ns, TOLERANCE_NS)
        {
            shift_ns = last.shift_ns;
        }
        let end = header.last_ns.checked_add(shift_ns);
        if end.is_none_or(|end| end > received_ns.saturating_add(TOLERANCE_NS)) {
            return Verdict::as_observed(Quality::Unknown);
        }
        self.steady
            .insert(stream, Steady::new(boot.id, offset, shift_ns));
        Verdict {
            quality: Quality::Rebased,
            shift_ns,
        }
    }

    /// Nothing follows in this stream.
    pub(crate) fn forget_stream(&mut self, stream: u32) {
        self.steady.remove(&stream);
    }
}

impl Verdict {
    pub(crate) fn as_observed(quality: Quality) -> Self {
        Self {
            quality,
            shift_ns: 0,
        }
    }
}

impl Steady {
    fn new(boot: [u8; 16], offset: i64, shift_ns: i64) -> Self {
        Self {
            boot,
            offset,
            shift_ns,
        }
    }
}

#[cfg(test)]
mod tests;
