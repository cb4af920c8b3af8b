//! One agent of the simulated world: its machine, and the program that lives on it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use weir_agent::assembly::{Agent, Parts};
use weir_agent::config::Config;
use weir_agent::spool::{Draft, Ground, Spool, Writers};
use weir_journal::Memory;
use weir_process::exit::Exit;
use weir_process::shutdown::Shutdown;
use weir_proto::batch::Encoded;
use weir_proto::v1;

use crate::clock::{MachineClock, Passing};
use crate::network::{PORT, SINK, Scissors};
use crate::plan::Layout;
use crate::record::Recording;

/// A machine with an agent. The disk and the record outlive the program.
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) layout: Layout,
    pub(crate) disk: Memory,
    pub(crate) clock: Arc<MachineClock>,
    pub(crate) scissors: Scissors,
    pub(crate) recording: Recording,
    /// Readings of batches that no sink takes.
    pub(crate) poisoned: AtomicU64,
    /// The driver asked it to stop: it is not started again.
    pub(crate) asked: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    /// The program is between its start and its end.
    alive: bool,
    /// How it ended, each time, and in which life.
    exits: Vec<(usize, Exit)>,
    failed_starts: u64,
}

/// The program, while it runs.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) spool: Spool,
    pub(crate) shutdown: Shutdown,
    pub(crate) queued: Arc<dyn Fn() -> (usize, u64) + Send + Sync>,
    poison: mpsc::UnboundedSender<()>,
}

impl Machine {
    pub(crate) fn new(place: usize, layout: &Layout, passing: &Passing) -> Arc<Machine> {
        Arc::new(Machine {
            name: format!("agent-{place}"),
            layout: layout.clone(),
            disk: Memory::new(),
            clock: MachineClock::new(passing, place as u8 + 1),
            scissors: Scissors::default(),
            recording: Recording::new(layout.sensors, passing),
            poisoned: AtomicU64::new(0),
            asked: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    /// The program while it runs.
    pub(crate) fn running(&self) -> Option<Running> {
        self.lock().running.clone()
    }

    /// Nothing of it is left.
    pub(crate) fn forget(&self) {
        let mut state = self.lock();
        state.running = None;
        state.alive = false;
    }

    /// Whether the program is between its start and its end.
    pub(crate) fn lives(&self) -> bool {
        self.lock().alive
    }

    pub(crate) fn exits(&self) -> Vec<(usize, Exit)> {
        self.lock().exits.clone()
    }

    pub(crate) fn failed_starts(&self) -> u64 {
        self.lock().failed_starts
    }

    /// What the machine runs when it is switched on: one life of the agent. Its end is told by [`Machine::lives`]; the
    /// driver then takes away what is left of it, as the end of a process does.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        self.lock().alive = true;
        let lived = self.live().await;
        let life = self.recording.lock().life;
        {
            // The spool stays until the driver has seen what it committed last.
            let mut state = self.lock();
            state.alive = false;
            match lived {
                Ok(exit) => state.exits.push((life, exit)),
                Err(_) => state.failed_starts += 1,
            }
        }
        std::future::pending().await
    }

    async fn live(&self) -> Result<Exit, weir_agent::assembly::StartError> {
        self.recording.lock().life += 1;
        let shutdown = Shutdown::new();
        let parts = Parts {
            config: self.config(),
            ground: Ground {
                storage: Arc::new(self.disk.clone()),
                clock: Arc::clone(&self.clock) as _,
                writers: Writers::Tasks(self.layout.disk_latency),
            },
            dial: Some(self.scissors.dial()),
            shutdown: shutdown.clone(),
        };
        let agent = Agent::start(parts)?;
        let (poison, mut poisonings) = mpsc::unbounded_channel();
        let spool = agent.spool().clone();
        self.lock().running = Some(Running {
            spool: spool.clone(),
            shutdown,
            queued: agent.gauge(),
            poison,
        });
        let poisoning = async {
            while poisonings.recv().await.is_some() {
                self.poison_spool(&spool).await;
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            exit = agent.until_stopped() => Ok(exit),
            () = poisoning => unreachable!("it never ends"),
        }
    }

    /// Has the agent spool a batch that no sink takes.
    pub(crate) fn poison(&self) {
        if let Some(running) = self.running() {
            let _ = running.poison.send(());
        }
    }

    async fn poison_spool(&self, spool: &Spool) {
        let payload = Bytes::from_static(b"this is no zstd frame");
        let draft = Draft {
            encoded: Encoded {
                crc: crc32c::crc32c(&payload),
                payload,
                encoding: v1::Encoding::Zstd,
                readings: 3,
                decoded_bytes: 1_000,
                first_ns: 0,
                last_ns: 0,
            },
            series_defined: Vec::new(),
            monotonic_start_ns: 0,
        };
        // A stop that comes first is fine: then there is no such batch.
        let appended = spool.append(draft).await;
        if appended.is_ok() {
            self.poisoned.fetch_add(3, Ordering::SeqCst);
        }
    }

    fn config(&self) -> Config {
        let layout = &self.layout;
        let millis = |time: Duration| format!("{}ms", time.as_millis());
        let (age, commit) = (millis(layout.batch_age), millis(layout.commit_interval));
        let (rate, readings) = (layout.rate.to_string(), layout.queue_readings.to_string());
        let (backlog_age, request) = (millis(layout.backlog_age), layout.request_bytes.to_string());
        let url = format!("http://{SINK}:{PORT}");
        let settings = [
            ("WEIR_AGENT_NAME", self.name.as_str()),
            ("WEIR_AGENT_DATA_DIR", "/agent"),
            ("WEIR_AGENT_SINK_URL", &url),
            ("WEIR_AGENT_ALLOW_PLAINTEXT", "true"),
            ("WEIR_AGENT_BATCH_MAX_AGE", &age),
            ("WEIR_AGENT_BATCH_MAX_READINGS", "60"),
            ("WEIR_AGENT_SPOOL_COMMIT_INTERVAL", &commit),
            ("WEIR_AGENT_SPOOL_OVERFLOW", layout.spool_overflow),
            ("WEIR_AGENT_QUEUE_OVERFLOW", layout.queue_overflow),
            ("WEIR_AGENT_QUEUE_MAX_READINGS", &readings),
            ("WEIR_AGENT_RATE_REQUESTS_PER_SECOND", &rate),
            ("WEIR_AGENT_REQUEST_MAX_BYTES", &request),
            ("WEIR_AGENT_DELIVERY_ORDER", layout.order),
            ("WEIR_AGENT_DELIVERY_BACKLOG_AGE", &backlog_age),
            ("WEIR_AGENT_RETRY_MIN_DELAY", "100ms"),
            ("WEIR_AGENT_RETRY_MAX_DELAY", "2s"),
            ("WEIR_AGENT_TIMEOUT_CONNECT", "1s"),
            ("WEIR_AGENT_TIMEOUT_ACK", "3s"),
            ("WEIR_AGENT_SHUTDOWN_GRACE", "10s"),
        ];
        let mut config = Config::of(&settings).expect("a valid configuration");
        config.spool.max_bytes = layout.spool_bytes;
        config.spool.segment_bytes = 4096;
        config.sensing(
            self.recording
                .sensors(&self.name, layout.metrics, layout.interval),
        )
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under it")
    }
}

/// Flips one bit of a segment that nobody writes to any more. False where there is none.
pub(crate) fn flip(disk: &Memory, under: &str, chance: u64) -> bool {
    let mut cold: Vec<_> = Vec::new();
    let paths = disk.paths();
    for path in &paths {
        let sibling = |other: &&std::path::PathBuf| {
            other.parent() == path.parent()
                && *other > path
                && other.extension() == path.extension()
        };
        let segment = path.extension().is_some_and(|extension| extension == "seg");
        if segment && path.starts_with(under) && paths.iter().any(|other| sibling(&other)) {
            cold.push(path);
        }
    }
    let Some(path) = cold.get(chance as usize % cold.len().max(1)) else {
        return false;
    };
    let mut bytes = disk.read(path).unwrap_or_default();
    // Behind the header: where it is damaged, the whole segment is given up.
    let place = 64 + (chance >> 8) as usize % bytes.len().saturating_sub(64).max(1);
    if let Some(byte) = bytes.get_mut(place) {
        *byte ^= 1 << (chance % 8);
    }
    disk.write(path, bytes);
    true
}
