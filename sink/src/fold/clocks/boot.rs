//! One boot of one agent: what its clocks and the sink's said at a few moments, and how a batch's offset
//! stands to that.

/// Clocks that are this near agree. A constant of the format: another value would give other times
/// on replay. Longer than a slow handshake takes, shorter than an error that misleads.
pub(super) const TOLERANCE_NS: i64 = 10_000_000_000;

/// An agent's clock that moves by more against its monotonic clock was set, not slewed.
pub(super) const STEP_NS: i64 = 1_000_000_000;

/// Samples nearer than this, on the monotonic clock, are kept as one: the earlier the sink's time, the
/// less it was delayed.
const MERGE_NS: u64 = 600_000_000_000;

/// No message is under way for longer, so offsets that differ by more are not one delayed.
const LONGEST_DELAY_NS: i64 = 60_000_000_000;

/// Two clocks that nobody sets part by less than one part in this: far beyond the worst quartz.
const DRIFT_ONE_IN: u64 = 1000;

/// Samples kept of one boot; beyond, every second goes.
pub(super) const MAX_SAMPLES: usize = 16;

/// One moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fold) struct Sample {
    pub(in crate::fold) monotonic_ns: u64,
    pub(in crate::fold) agent_offset: i64,
    pub(in crate::fold) sink_offset: i64,
}

/// One boot of one agent. At least one sample, in order of the monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::fold) struct Boot {
    pub(in crate::fold) id: [u8; 16],
    pub(in crate::fold) own_machine: bool,
    pub(in crate::fold) samples: Vec<Sample>,
}

/// How a batch's offset stands to its boot's samples.
pub(super) enum Opinion {
    Agree,
    /// The sink's clock moved against both of the agent's: nothing can be told.
    SinkWasSet,
    /// The agent's clock was set between the batch and the moments it agreed with the sink.
    AgentWasSet(i64),
    /// Agent and sink disagree.
    Disagree(i64),
}

impl Boot {
    pub(super) fn take(&mut self, new: Sample) {
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

    pub(super) fn opinion(&self, offset: i64, monotonic_ns: u64) -> Opinion {
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
    pub(super) fn agrees(&self) -> bool {
        is_near(self.sink_offset, self.agent_offset)
    }

    /// The sink's wall clock then.
    pub(super) fn heard_ns(&self) -> i64 {
        self.sink_offset.saturating_add_unsigned(self.monotonic_ns)
    }

    /// The agent's.
    pub(super) fn agent_ns(&self) -> i64 {
        self.agent_offset.saturating_add_unsigned(self.monotonic_ns)
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

/// What the wall clock said at monotonic 0; none where that is beyond all clocks.
pub(super) fn offset(wall_ns: i64, monotonic_ns: u64) -> Option<i64> {
    i64::try_from(i128::from(wall_ns) - i128::from(monotonic_ns)).ok()
}

pub(super) fn is_within(a: i64, b: i64, limit: i64) -> bool {
    a.abs_diff(b) <= limit.unsigned_abs()
}

fn is_near(a: i64, b: i64) -> bool {
    is_within(a, b, TOLERANCE_NS)
}
