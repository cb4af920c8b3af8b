//! The world of one seed: it is built, goes wrong as planned, heals, becomes quiet, and is held against its record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use turmoil::Sim;
use weir_process::exit::Exit;
use weir_process::{random, work};

use crate::agent::Machine;
use crate::check;
use crate::clock::Passing;
use crate::committed::Committed;
use crate::network::SINK;
use crate::plan::{HEALED, Plan};
use crate::sink::SinkMachine;
use crate::trace::Trace;

/// One step of the world.
const TICK: Duration = Duration::from_millis(5);
/// Everything that runs is looked at this often.
const LOOK_EVERY: u64 = 50;
/// A supervisor starts a program again after this.
const RESTART: Duration = Duration::from_millis(500);
/// How long after the last fault every agent has caught up.
const CATCH_UP: Duration = Duration::from_secs(30);
/// How long a silent agent's last readings take into its spool.
const QUIET: Duration = Duration::from_secs(4);
/// How long the last readings take into the files.
const SETTLE: Duration = Duration::from_secs(40);

/// How a life of an agent ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    pub(crate) agent: usize,
    pub(crate) life: usize,
    pub(crate) at_ns: u64,
    /// Its disk was full or failed at some time in this life, or its spool was: more may have waited in memory.
    pub(crate) pressed: bool,
}

/// See the module.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) agents: Vec<Arc<Machine>>,
    pub(crate) committed: Vec<Committed>,
    pub(crate) sink: Arc<SinkMachine>,
    pub(crate) deaths: Vec<Death>,
    pub(crate) trace: Trace,
    /// Bits of the sink's journal that were flipped.
    pub(crate) sink_flips: u64,
    /// What came up, once all is at rest.
    pub(crate) seen: BTreeSet<String>,
    pub(crate) passing: Passing,
    pub(crate) sim: Sim<'static>,
    /// What is to happen: when, and then in the order in which it was planned.
    schedule: BTreeMap<(Duration, usize), (Turn, usize)>,
    planned: usize,
    /// Agents whose disk or spool was under pressure in this life.
    pub(crate) pressed: Vec<bool>,
    /// Agents whose disk is full or fails just now.
    pub(crate) strained: Vec<bool>,
    /// What the agents, and behind them the sink, run on.
    pub(crate) machines: Vec<Power>,
    steps: u64,
}

/// Whether a machine runs its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    /// It does.
    On,
    /// The program has ended; a supervisor starts it at this time.
    Restarts(Duration),
    /// It does not before it is started.
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Begins,
    Ends,
}

/// Lives through a seed. The error says what was wrong; the world says the rest.
pub(crate) fn run(seed: u64) -> (World, Result<(), String>) {
    let plan = Plan::draw(seed);
    let _seeded = random::seed(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let _in_place = work::in_place();
    let mut world = World::new(plan);
    let outcome = world.live();
    (world, outcome)
}

impl World {
    fn new(plan: Plan) -> World {
        let passing = Passing::default();
        let mut sim = turmoil::Builder::new()
            .rng_seed(plan.seed)
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(2))
            .max_message_latency(Duration::from_millis(30))
            .simulation_duration(Duration::from_secs(3_600))
            .tcp_capacity(4_096)
            .enable_random_order()
            .build();
        let sink = SinkMachine::new(&plan.sink, &passing);
        let host = Arc::clone(&sink);
        sim.host(SINK, move || Arc::clone(&host).run());
        let mut agents = Vec::new();
        for (place, layout) in plan.agents.iter().enumerate() {
            let machine = Machine::new(place, layout, &passing);
            let host = Arc::clone(&machine);
            sim.host(machine.name.clone(), move || Arc::clone(&host).run());
            agents.push(machine);
        }
        let mut world = World {
            committed: agents.iter().map(|_| Committed::default()).collect(),
            pressed: vec![false; agents.len()],
            strained: vec![false; agents.len()],
            machines: vec![Power::On; agents.len() + 1],
            agents,
            sink,
            deaths: Vec::new(),
            trace: Trace::default(),
            sink_flips: 0,
            seen: BTreeSet::new(),
            passing,
            sim,
            schedule: BTreeMap::new(),
            planned: 0,
            steps: 0,
            plan,
        };
        for place in 0..world.plan.events.len() {
            world.schedule(world.plan.events[place].at, Turn::Begins, place);
        }
        world
    }

    pub(crate) fn schedule(&mut self, at: Duration, turn: Turn, event: usize) {
        self.planned += 1;
        self.schedule.insert((at, self.planned), (turn, event));
    }

    fn live(&mut self) -> Result<(), String> {
        while self.sim.elapsed() < HEALED || !self.schedule.is_empty() {
            if self.sim.elapsed() > HEALED + SETTLE {
                return Err("a program did not stop".to_owned());
            }
            self.step()?;
        }
        self.heal();
        self.wait("an agent did not catch up", CATCH_UP, World::has_caught_up)?;
        for agent in &self.agents {
            agent.recording.lock().silent = true;
        }
        self.tell("the sensors are silent");
        // By then nothing is on its way to the spools any more.
        let quiet = self.sim.elapsed() + QUIET;
        self.wait("an agent did not deliver all", SETTLE, |world| {
            world.sim.elapsed() > quiet && world.has_delivered()
        })?;
        self.stop_agents()?;
        self.wait("the sink did not take all in", SETTLE, |world| {
            world.sink.has_taken_all_in()
        })?;
        let lines = self.sink.ledger()?;
        self.sink.stop();
        self.wait("the sink did not stop", SETTLE, |world| !world.sink.lives())?;
        check::at_rest(self, &lines)
    }

    /// One step: what is due happens, everybody moves, everything is looked at.
    fn step(&mut self) -> Result<(), String> {
        self.passing.set(self.sim.elapsed());
        while let Some(next) = self.schedule.first_entry() {
            if next.key().0 > self.sim.elapsed() {
                break;
            }
            let (turn, event) = next.remove();
            match turn {
                Turn::Begins => self.begin(event)?,
                Turn::Ends => self.end(event)?,
            }
        }
        self.sim.step().map_err(|error| error.to_string())?;
        self.steps += 1;
        for place in 0..self.agents.len() {
            self.look(place)?;
        }
        for machine in 0..self.machines.len() {
            self.supervise(machine);
        }
        if self.steps.is_multiple_of(LOOK_EVERY) {
            check::running(self)?;
        }
        Ok(())
    }

    /// What the agent's spool has committed since the last step.
    pub(crate) fn look(&mut self, place: usize) -> Result<(), String> {
        let machine = &self.agents[place];
        let Some(running) = machine.running() else {
            self.committed[place].close();
            return Ok(());
        };
        let life = machine.recording.lock().life;
        let committed = &mut self.committed[place];
        let looked = committed.look(&running.spool, life, machine.layout.metrics);
        looked.map_err(|error| format!("spool of {}: {error}", machine.name))
    }

    fn wait(
        &mut self,
        otherwise: &str,
        within: Duration,
        done: impl Fn(&World) -> bool,
    ) -> Result<(), String> {
        let until = self.sim.elapsed() + within;
        while !done(self) {
            if self.sim.elapsed() > until {
                return Err(format!("{otherwise} within {within:?}"));
            }
            for _ in 0..20 {
                self.step()?;
            }
        }
        Ok(())
    }

    /// A program that has ended leaves nothing behind, and is started again unless it was asked to stop.
    fn supervise(&mut self, machine: usize) {
        let (lives, asked) = match self.agents.get(machine) {
            Some(agent) => (agent.lives(), agent.asked.load(Ordering::SeqCst)),
            None => (self.sink.lives(), self.sink.is_asked()),
        };
        match self.machines[machine] {
            Power::On if !lives => {
                self.clear(machine);
                self.machines[machine] = if asked {
                    Power::Off
                } else {
                    Power::Restarts(self.sim.elapsed() + RESTART)
                };
            }
            Power::Restarts(at) if at <= self.sim.elapsed() => self.start(machine),
            _ => {}
        }
    }

    /// Takes the program away, with all it had in memory.
    pub(crate) fn clear(&mut self, machine: usize) {
        let name = self.name(machine);
        self.sim.crash(name.as_str());
        match self.agents.get(machine) {
            Some(agent) => {
                agent.forget();
                self.committed[machine].close();
            }
            None => self.sink.forget(),
        }
    }

    /// Starts the program where it does not run.
    pub(crate) fn start(&mut self, machine: usize) {
        if let Some(agent) = self.agents.get(machine) {
            agent.asked.store(false, Ordering::SeqCst);
        } else {
            self.sink.allow();
        }
        if self.machines[machine] != Power::On {
            if machine < self.agents.len() {
                self.pressed[machine] = self.strained[machine];
            }
            self.machines[machine] = Power::On;
            let name = self.name(machine);
            self.sim.bounce(name.as_str());
        }
    }

    fn name(&self, machine: usize) -> String {
        let agent = self.agents.get(machine);
        agent.map_or_else(|| SINK.to_owned(), |agent| agent.name.clone())
    }

    pub(crate) fn stop_agent(&mut self, agent: usize) {
        let machine = &self.agents[agent];
        machine.asked.store(true, Ordering::SeqCst);
        if let Some(running) = machine.running() {
            running.shutdown.stop();
        }
    }

    fn stop_agents(&mut self) -> Result<(), String> {
        for agent in 0..self.agents.len() {
            self.stop_agent(agent);
        }
        self.wait("an agent did not stop", SETTLE, |world| {
            world.agents.iter().all(|machine| !machine.lives())
        })?;
        self.tell("the agents have stopped");
        for machine in &self.agents {
            match machine.exits().last() {
                Some((_, Exit::Ok)) => {}
                other => return Err(format!("{} ended with {other:?}", machine.name)),
            }
        }
        Ok(())
    }

    fn has_caught_up(&self) -> bool {
        self.agents.iter().all(|machine| {
            let layout = &machine.layout;
            let per_second =
                (layout.sensors * layout.metrics) as u128 * 1_000 / layout.interval.as_millis();
            let fresh = 5 * u64::try_from(per_second).unwrap_or(u64::MAX);
            machine
                .running()
                .filter(|running| !running.shutdown.token().is_cancelled())
                .is_some_and(|running| running.spool.ledger().totals.spooled <= fresh)
        })
    }

    fn has_delivered(&self) -> bool {
        self.agents.iter().all(|machine| {
            machine.running().is_some_and(|running| {
                let waiting = (running.queued)().1;
                waiting == 0 && running.spool.ledger().totals.spooled == 0
            })
        })
    }

    pub(crate) fn tell(&mut self, event: &str) {
        self.trace.tell(self.sim.elapsed(), event);
    }

    /// An agent's spool gave way, or held up what came: more than usual may wait in memory.
    pub(crate) fn press(&mut self, agent: usize) {
        self.pressed[agent] = true;
    }
}
