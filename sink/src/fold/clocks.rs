//! Whose clock is right: what time quality a batch has, and by how much its times are moved.
//!
//! In: samples that ingest journaled, each two clocks of an agent and one of the sink at one moment;
//! and the header of a batch. Out: a [`Verdict`]. Looks at nothing but journal records, so that a
//! replay gives the same times.
//!
//! An *offset* is a wall clock less the monotonic clock beside it: what the wall clock said at boot.
//! A batch has one (its first reading), a sample has two (the agent's and the sink's). Offsets of one
//! boot are compared; they are near when not more than [`TOLERANCE_NS`] apart.
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

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use weir_proto::v1;

use super::rows::{DAY_NS, Quality};
use crate::envelope::ClockSample;

/// 2000-01-01T00:00:00Z: a clock before it was never set.
pub(crate) const CLOCKS_BEGIN_NS: i64 = 946_684_800_000_000_000;

/// Clocks that are this near agree. A constant of the format: another value would give other times
/// on replay. Longer than a slow handshake takes, shorter than an error that misleads.
pub(crate) const TOLERANCE_NS: i64 = 10_000_000_000;

/// An agent's clock that moves by more against its monotonic clock was set, not slewed.
const STEP_NS: i64 = 1_000_000_000;

/// Samples nearer than this, on the monotonic clock, are kept as one: the earlier the sink's time, the
/// less it was delayed.
const MERGE_NS: u64 = 600_000_000_000;

/// No message is under way for longer, so offsets that differ by more are not one delayed.
const LONGEST_DELAY_NS: i64 = 60_000_000_000;

/// Two clocks that nobody sets part by less than one part in this: far beyond the worst quartz.
const DRIFT_ONE_IN: u64 = 1000;

/// Samples kept of one boot; beyond, every second goes.
const MAX_SAMPLES: usize = 16;

/// Boots kept of one agent; beyond, the oldest goes.
const MAX_BOOTS: usize = 16;

/// What became of the times of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) quality: Quality,
    /// Was added to every time; 0 unless rebased.
    pub(crate) shift_ns: i64,
}

/// One moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) monotonic_ns: u64,
    pub(super) agent_offset: i64,
    pub(super) sink_offset: i64,
}

/// One boot of one agent. At least one sample, in order of the monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Boot {
    pub(super) id: [u8; 16],
    pub(super) own_machine: bool,
    pub(super) samples: Vec<Sample>,
}

/// How the last batch of a stream was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steady {
    pub(super) boot: [u8; 16],
    pub(super) offset: i64,
    pub(super) shift_ns: i64,
}

/// Tenant and agent.
pub(super) type Whose = (Arc<str>, Arc<str>);

/// Everything known of agents' clocks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Clocks {
    /// Boots in the order in which they were first heard of.
    pub(super) agents: BTreeMap<Whose, VecDeque<Boot>>,
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
        let boots = self
            .agents
            .entry((tenant.into(), agent.into()))
            .or_default();
        let index = boots.iter().position(|boot| boot.id == id);
        let index = index.unwrap_or_else(|| {
            if boots.len() >= MAX_BOOTS {
                boots.pop_front();
            }
            boots.push_back(Boot {
                id,
                own_machine: sample.own_machine,
                samples: Vec::new(),
            });
            boots.len() - 1
        });
        boots[index].take(Sample {
            monotonic_ns,
            agent_offset,
            sink_offset,
        });
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
        let boot = id.and_then(|id| {
            let boots = self.agents.get(&whose)?;
            boots.iter().find(|boot| boot.id == id)
        });
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
                if header.first_ns < CLOCKS_BEGIN_NS || self.is_vouched_for(&whose, boot.id) =>
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

    /// Whether more of the tenant's other machines agree with the sink than disagree. A machine with a
    /// clock that was never set has no voice, nor has the sink's own.
    fn is_vouched_for(&self, whose: &Whose, boot: [u8; 16]) -> bool {
        let of_tenant = self.agents.iter().filter(|(other, _)| other.0 == whose.0);
        let mut voices: BTreeMap<[u8; 16], bool> = BTreeMap::new();
        for (other, boots) in of_tenant {
            let Some(last) = boots.back() else { continue };
            let Some(sample) = last.samples.last() else {
                continue;
            };
            let was_set = sample
                .agent_offset
                .saturating_add_unsigned(sample.monotonic_ns);
            if other != whose && last.id != boot && !last.own_machine && was_set >= CLOCKS_BEGIN_NS
            {
                voices.insert(last.id, sample.agrees());
            }
        }
        let agree = voices.values().filter(|agrees| **agrees).count();
        2 * agree > voices.len()
    }
}

/// How a batch's offset stands to its boot's samples.
enum Opinion {
    Agree,
    /// The sink's clock moved against both of the agent's: nothing can be told.
    SinkWasSet,
    /// The agent's clock was set between the batch and the moments it agreed with the sink.
    AgentWasSet(i64),
    /// Agent and sink disagree.
    Disagree(i64),
}

impl Boot {
    fn take(&mut self, new: Sample) {
        let at = self
            .samples
            .partition_point(|one| one.monotonic_ns <= new.monotonic_ns);
        let neighbour = self.samples[..at]
            .last_mut()
            .filter(|one| one.is_one_with(&new));
        if let Some(neighbour) = neighbour {
            neighbour.sink_offset = neighbour.sink_offset.min(new.sink_offset);
            return;
        }
        self.samples.insert(at, new);
        if self.samples.len() > MAX_SAMPLES {
            let last = self.samples.len() - 1;
            let mut index = 0;
            self.samples.retain(|_| {
                index += 1;
                index % 2 == 1 || index > last
            });
        }
    }

    fn opinion(&self, offset: i64, monotonic_ns: u64) -> Opinion {
        let distance = |one: &&Sample| one.monotonic_ns.abs_diff(monotonic_ns);
        let nearest_of =
            |samples: &mut dyn Iterator<Item = &Sample>| samples.min_by_key(distance).copied();
        let nearest = nearest_of(&mut self.samples.iter()).expect("a boot has a sample");
        if is_near(nearest.sink_offset, offset) {
            return Opinion::Agree;
        }
        let mut agreed = self
            .samples
            .iter()
            .filter(|one| is_near(one.sink_offset, offset));
        if let Some(agreed) = nearest_of(&mut agreed) {
            if !is_near(nearest.agent_offset, offset) {
                return Opinion::Agree;
            }
            if !nearest.drifted_from(&agreed) {
                return Opinion::SinkWasSet;
            }
            return Opinion::Disagree(nearest.sink_offset);
        }
        let mut good = self.samples.iter().filter(|one| one.agrees());
        let was_set = self
            .samples
            .iter()
            .all(|one| !is_near(one.agent_offset, offset));
        match nearest_of(&mut good) {
            Some(good) if was_set => Opinion::AgentWasSet(good.sink_offset),
            _ => Opinion::Disagree(nearest.sink_offset),
        }
    }
}

impl Sample {
    /// Both wall clocks said the same.
    fn agrees(&self) -> bool {
        is_near(self.sink_offset, self.agent_offset)
    }

    /// Differs only by what a message may be delayed.
    fn is_one_with(&self, later: &Self) -> bool {
        later.monotonic_ns - self.monotonic_ns < MERGE_NS
            && is_within(self.agent_offset, later.agent_offset, STEP_NS)
            && is_within(self.sink_offset, later.sink_offset, LONGEST_DELAY_NS)
    }

    /// Whether the sink's clock moved no further against the monotonic one than clocks do by themselves.
    fn drifted_from(&self, other: &Self) -> bool {
        let may = self.monotonic_ns.abs_diff(other.monotonic_ns) / DRIFT_ONE_IN;
        let may = i64::try_from(may)
            .unwrap_or(i64::MAX)
            .saturating_add(TOLERANCE_NS);
        is_within(self.sink_offset, other.sink_offset, may)
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

/// What the wall clock said at monotonic 0; none where that is beyond all clocks.
fn offset(wall_ns: i64, monotonic_ns: u64) -> Option<i64> {
    i64::try_from(i128::from(wall_ns) - i128::from(monotonic_ns)).ok()
}

fn is_within(a: i64, b: i64, limit: i64) -> bool {
    a.abs_diff(b) <= limit.unsigned_abs()
}

fn is_near(a: i64, b: i64) -> bool {
    is_within(a, b, TOLERANCE_NS)
}

#[cfg(test)]
mod tests;
