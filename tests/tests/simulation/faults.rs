//! How each fault comes over the world, and how it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use weir_journal::storage::Faults;

use crate::agent::flip;
use crate::network::SINK;
use crate::plan::Fault;
use crate::world::{Death, Power, Turn, World};

impl World {
    pub(crate) fn begin(&mut self, event: usize) -> Result<(), String> {
        let (fault, lasts) = (self.plan.events[event].fault, self.plan.events[event].lasts);
        self.tell(&format!("begins: {fault:?}"));
        let sim = &mut self.sim;
        match fault {
            Fault::Partition(agent) | Fault::Flip(agent, _) => {
                sim.partition(self.agents[agent].name.as_str(), SINK)
            }
            Fault::Deaf(agent) => sim.partition_oneway(SINK, self.agents[agent].name.as_str()),
            Fault::Mute(agent) => sim.partition_oneway(self.agents[agent].name.as_str(), SINK),
            Fault::Hold(agent) => sim.hold(self.agents[agent].name.as_str(), SINK),
            Fault::Delay(agent, millis) => {
                let name = self.agents[agent].name.as_str();
                sim.set_link_latency(name, SINK, Duration::from_millis(millis));
            }
            Fault::Reset(agent) => self.agents[agent].scissors.cut(),
            Fault::CrashAgent(agent, torn) => self.crash_agent(agent, torn)?,
            Fault::CrashSink(torn) => self.crash_sink(torn),
            Fault::StopAgent(agent) => self.stop_agent(agent),
            Fault::StopSink => self.sink.stop(),
            Fault::FullAgent(agent) => {
                self.pressed[agent] = true;
                self.strained[agent] = true;
                fill(&self.agents[agent].disk);
            }
            Fault::FullSink => fill(&self.sink.disk),
            Fault::FailingSyncAgent(agent, left) => {
                self.pressed[agent] = true;
                self.strained[agent] = true;
                self.agents[agent].disk.set_faults(failing(left));
            }
            Fault::FailingSyncSink(left) => self.sink.disk.set_faults(failing(left)),
            Fault::Clock(agent, seconds) => self.agents[agent].clock.set_off(seconds),
            Fault::Poison(agent) => self.agents[agent].poison(),
            Fault::Store | Fault::FlipSink(_) => self.sink.fail_store(true),
            Fault::Catalog => self.sink.fail_catalog(true),
        }
        self.schedule(self.sim.elapsed() + lasts, Turn::Ends, event);
        Ok(())
    }

    pub(crate) fn end(&mut self, event: usize) -> Result<(), String> {
        let fault = self.plan.events[event].fault;
        let still_stopping = match fault {
            Fault::StopAgent(agent) => {
                let machine = &self.agents[agent];
                machine.lives() && machine.asked.load(Ordering::SeqCst)
            }
            Fault::StopSink => self.sink.lives() && self.sink.is_asked(),
            _ => false,
        };
        if still_stopping {
            let later = self.sim.elapsed() + Duration::from_millis(200);
            self.schedule(later, Turn::Ends, event);
            return Ok(());
        }
        self.tell(&format!("ends: {fault:?}"));
        match fault {
            Fault::Partition(agent) | Fault::Deaf(agent) | Fault::Mute(agent) => {
                self.sim.repair(self.agents[agent].name.as_str(), SINK);
            }
            Fault::Hold(agent) => self.sim.release(self.agents[agent].name.as_str(), SINK),
            Fault::Delay(agent, _) => self.set_latency(agent),
            Fault::Flip(agent, chance) => {
                self.sim.repair(self.agents[agent].name.as_str(), SINK);
                self.crash_agent(agent, None)?;
                flip(&self.agents[agent].disk, "/agent/spool", chance);
                self.start(agent);
            }
            Fault::CrashAgent(agent, _) | Fault::StopAgent(agent) => {
                self.start(agent);
            }
            Fault::CrashSink(_) | Fault::StopSink => self.start(self.agents.len()),
            Fault::FlipSink(chance) => {
                self.crash_sink(None);
                self.sink_flips += u64::from(flip(&self.sink.disk, "/sink", chance));
                self.sink.fail_store(false);
                self.start(self.agents.len());
            }
            Fault::FullAgent(agent) => {
                self.strained[agent] = false;
                self.agents[agent].disk.set_capacity(None);
            }
            Fault::FullSink => self.sink.disk.set_capacity(None),
            Fault::FailingSyncAgent(agent, _) => {
                self.strained[agent] = false;
                self.agents[agent].disk.set_faults(Faults::default());
            }
            Fault::FailingSyncSink(_) => self.sink.disk.set_faults(Faults::default()),
            Fault::Clock(agent, _) => self.agents[agent].clock.set_off(0),
            Fault::Store => self.sink.fail_store(false),
            Fault::Catalog => self.sink.fail_catalog(false),
            Fault::Reset(_) | Fault::Poison(_) => {}
        }
        Ok(())
    }

    /// Nothing is wrong any more, whatever overlapped.
    pub(crate) fn heal(&mut self) {
        self.tell("all is well again");
        for agent in 0..self.agents.len() {
            let machine = Arc::clone(&self.agents[agent]);
            self.sim.release(machine.name.as_str(), SINK);
            self.sim.repair(machine.name.as_str(), SINK);
            self.set_latency(agent);
            machine.disk.set_capacity(None);
            machine.disk.set_faults(Faults::default());
            machine.clock.set_off(0);
            self.start(agent);
        }
        self.sink.disk.set_capacity(None);
        self.sink.disk.set_faults(Faults::default());
        self.sink.fail_store(false);
        self.sink.fail_catalog(false);
        self.start(self.agents.len());
    }

    fn set_latency(&mut self, agent: usize) {
        let name = self.agents[agent].name.as_str();
        self.sim
            .set_link_latency(name, SINK, Duration::from_millis(10));
    }

    fn crash_agent(&mut self, agent: usize, torn: Option<u64>) -> Result<(), String> {
        self.look(agent)?;
        let machine = Arc::clone(&self.agents[agent]);
        if machine.lives() {
            self.deaths.push(Death {
                agent,
                life: machine.recording.lock().life,
                at_ns: self.passing.ns(),
                pressed: self.pressed[agent],
            });
        }
        lose_power(&machine.disk, torn);
        self.clear(agent);
        self.machines[agent] = Power::Off;
        machine.clock.boot();
        Ok(())
    }

    fn crash_sink(&mut self, torn: Option<u64>) {
        lose_power(&self.sink.disk, torn);
        self.sink.lose_power();
        self.clear(self.agents.len());
        self.machines[self.agents.len()] = Power::Off;
        self.sink.clock.boot();
    }
}

fn lose_power(disk: &weir_journal::Memory, torn: Option<u64>) {
    match torn {
        None => disk.crash(),
        Some(seed) => disk.crash_torn(seed),
    }
}

fn failing(left: u64) -> Faults {
    Faults {
        syncs_left: Some(left),
        ..Faults::default()
    }
}

/// No byte more fits.
fn fill(disk: &weir_journal::Memory) {
    let lengths = disk.paths().into_iter();
    let used = lengths.map(|path| disk.read(&path).map_or(0, |bytes| bytes.len() as u64));
    disk.set_capacity(Some(used.sum()));
}
