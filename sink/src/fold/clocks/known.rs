//! Every agent whose clocks were heard of: its last boots, when it was last heard of, and what it says of the
//! sink's clock.
//!
//! Names are free to invent, so what is kept of them is bounded: a name that was not heard of for
//! [`FORGOTTEN_AFTER_NS`] goes, and beyond [`MAX_AGENTS`] names or [`MAX_SAMPLES_IN_ALL`] samples the one that
//! was silent for longest. One that is heard of again begins anew; until then its batches are `unknown`. These
//! are constants of the format: other values could give other times on replay.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::CLOCKS_BEGIN_NS;
use super::boot::{Boot, Sample};

/// Boots kept of one agent; beyond, the oldest goes.
pub(super) const MAX_BOOTS: usize = 16;

/// Names kept.
pub(super) const MAX_AGENTS: usize = 1 << 16;

/// Samples kept of all of them.
const MAX_SAMPLES_IN_ALL: usize = 1 << 20;

/// 90 days by the sink's clock.
pub(super) const FORGOTTEN_AFTER_NS: i64 = 90 * 86_400_000_000_000;

/// So many names go at once, at most: a sink whose clock was wrong for a moment has not forgotten all of them.
const FORGOTTEN_AT_ONCE: usize = 2;

/// Tenant and agent.
pub(in crate::fold) type Whose = (Arc<str>, Arc<str>);

/// What is known of agents' clocks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::fold) struct Known {
    agents: BTreeMap<Whose, Agent>,
    /// By when they were last heard of.
    silent: BTreeSet<(i64, Whose)>,
    samples: usize,
    /// By tenant.
    voices: HashMap<Arc<str>, Voices>,
}

/// One name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Agent {
    /// In the order in which they were first heard of.
    boots: VecDeque<Boot>,
    /// By the sink's clock.
    heard_ns: i64,
    samples: usize,
    /// Its machine, and whether that one agrees with the sink.
    voice: Option<([u8; 16], bool)>,
}

/// What the machines of one tenant say. Several agents may run on one: the last of them by name speaks for it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Voices {
    machines: HashMap<[u8; 16], BTreeMap<Arc<str>, bool>>,
    /// Of the machines.
    agree: usize,
}

impl Known {
    /// As a snapshot has it.
    pub(in crate::fold) fn new(agents: BTreeMap<Whose, VecDeque<Boot>>) -> Self {
        let mut known = Self::default();
        for (whose, boots) in agents {
            let agent = known.agents.entry(whose.clone()).or_default();
            agent.boots = boots;
            known.sum_up(&whose);
        }
        known
    }

    /// By name.
    pub(in crate::fold) fn iter(&self) -> impl Iterator<Item = (&Whose, &VecDeque<Boot>)> {
        self.agents
            .iter()
            .map(|(whose, agent)| (whose, &agent.boots))
    }

    pub(super) fn boot(&self, whose: &Whose, id: [u8; 16]) -> Option<&Boot> {
        let boots = &self.agents.get(whose)?.boots;
        boots.iter().find(|boot| boot.id == id)
    }

    /// A boot, whether it is the sink's own machine's, and what was heard of its clocks.
    pub(super) fn take(&mut self, whose: &Whose, boot: ([u8; 16], bool), sample: Sample) {
        let (id, own_machine) = boot;
        let boots = &mut self.agents.entry(whose.clone()).or_default().boots;
        let index = boots.iter().position(|boot| boot.id == id);
        let index = index.unwrap_or_else(|| {
            if boots.len() >= MAX_BOOTS {
                boots.pop_front();
            }
            boots.push_back(Boot {
                id,
                own_machine,
                samples: Vec::new(),
            });
            boots.len() - 1
        });
        boots[index].take(sample);
        self.sum_up(whose);
        for _ in 0..FORGOTTEN_AT_ONCE {
            self.forget_one(whose, sample.heard_ns());
        }
    }

    /// Whether more of the tenant's other machines agree with the sink than disagree. A machine with a
    /// clock that was never set has no voice, nor has the sink's own.
    pub(super) fn vouches(&self, whose: &Whose, boot: [u8; 16]) -> bool {
        let own = self.agents.get(whose).and_then(|agent| agent.voice);
        let voices = self.voices.get(&whose.0);
        voices.is_some_and(|voices| voices.most_agree(&whose.1, own.map(|(id, _)| id), boot))
    }

    /// Brings in line with an agent's boots what is summed up of them.
    fn sum_up(&mut self, whose: &Whose) {
        let Some(agent) = self.agents.get_mut(whose) else {
            return;
        };
        let samples = || agent.boots.iter().flat_map(|boot| &boot.samples);
        let (count, heard_ns) = (samples().count(), samples().map(Sample::heard_ns).max());
        let voice = voice_of(&agent.boots);
        self.samples = self.samples - agent.samples + count;
        agent.samples = count;
        let before = std::mem::replace(&mut agent.heard_ns, heard_ns.unwrap_or(i64::MIN));
        let (heard_ns, former) = (agent.heard_ns, std::mem::replace(&mut agent.voice, voice));
        if before != heard_ns {
            self.silent.remove(&(before, whose.clone()));
        }
        self.silent.insert((heard_ns, whose.clone()));
        self.speak(whose, former, voice);
    }

    fn speak(
        &mut self,
        whose: &Whose,
        former: Option<([u8; 16], bool)>,
        voice: Option<([u8; 16], bool)>,
    ) {
        if former == voice {
            return;
        }
        let voices = self.voices.entry(Arc::clone(&whose.0)).or_default();
        if let Some((machine, _)) = former {
            voices.change(machine, |agents| {
                agents.remove(&whose.1);
            });
        }
        if let Some((machine, agrees)) = voice {
            voices.change(machine, |agents| {
                agents.insert(Arc::clone(&whose.1), agrees);
            });
        }
        if voices.machines.is_empty() {
            self.voices.remove(&whose.0);
        }
    }

    /// Forgets who was silent for longest, if that is too long or there are too many. Never `but`.
    fn forget_one(&mut self, but: &Whose, now_ns: i64) {
        let too_many = self.agents.len() > MAX_AGENTS || self.samples > MAX_SAMPLES_IN_ALL;
        let mut silent = self.silent.iter().take(2);
        let Some((heard_ns, whose)) = silent.find(|(_, whose)| whose != but) else {
            return;
        };
        if !too_many && now_ns.saturating_sub(*heard_ns) <= FORGOTTEN_AFTER_NS {
            return;
        }
        let (heard_ns, whose) = (*heard_ns, whose.clone());
        self.silent.remove(&(heard_ns, whose.clone()));
        let Some(agent) = self.agents.remove(&whose) else {
            return;
        };
        self.samples -= agent.samples;
        self.speak(&whose, agent.voice, None);
    }
}

impl Voices {
    fn change(&mut self, machine: [u8; 16], change: impl FnOnce(&mut BTreeMap<Arc<str>, bool>)) {
        let agents = self.machines.entry(machine).or_default();
        self.agree -= usize::from(says(agents) == Some(true));
        change(agents);
        self.agree += usize::from(says(agents) == Some(true));
        if agents.is_empty() {
            self.machines.remove(&machine);
        }
    }

    /// Without what `agent` says of the machine it runs on, and without the machine that is judged.
    fn most_agree(&self, agent: &Arc<str>, runs_on: Option<[u8; 16]>, judged: [u8; 16]) -> bool {
        let (mut agree, mut all) = (self.agree, self.machines.len());
        let mut leave_out = |said: Option<bool>| {
            agree -= usize::from(said == Some(true));
            all -= usize::from(said.is_some());
        };
        leave_out(self.machines.get(&judged).and_then(says));
        let beside = runs_on.filter(|machine| *machine != judged);
        if let Some(agents) = beside.and_then(|machine| self.machines.get(&machine)) {
            leave_out(says(agents));
            let mut others = agents.iter().rev().filter(|(other, _)| *other != agent);
            if let Some((_, agrees)) = others.next() {
                agree += usize::from(*agrees);
                all += 1;
            }
        }
        2 * agree > all
    }
}

/// What a machine says.
fn says(agents: &BTreeMap<Arc<str>, bool>) -> Option<bool> {
    agents.last_key_value().map(|(_, agrees)| *agrees)
}

fn voice_of(boots: &VecDeque<Boot>) -> Option<([u8; 16], bool)> {
    let last = boots.back()?;
    let sample = last.samples.last()?;
    let has_one = !last.own_machine && sample.agent_ns() >= CLOCKS_BEGIN_NS;
    has_one.then(|| (last.id, sample.agrees()))
}

#[cfg(test)]
mod tests;
