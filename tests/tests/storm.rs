//! A reconnect storm: every agent comes back at once after the sink's restart, each with a backlog.
//! The agents are senders of our own in one process; the sink is the real one.
//!
//! A third more agents come than the sink serves at one time: those are told when to come again.
//!
//! Held: all is delivered once, the ledger of every stream closes, nobody waits longer than a bound for
//! his next acknowledgement, every window is a fair part of the budget, and the sink's memory stays
//! within what its settings promise. The thousand are for `make storm`.
//!
//! Mutations seen red: a window that is not a part of the budget (`Ingest::window_bytes`), a sink
//! without RetryInfo (`status_of`), a sink that has room for all.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Barrier;
use tonic::Status;
use tonic_types::StatusExt as _;
use weir_proto::v1::Batch;
use weir_proto::v1::deliver_response::Response;
use weir_proto::v1::record::Record as Kind;
use weir_tests::sender::{Call, Stream};
use weir_tests::wait::until;
use weir_tests::world::Sink;

/// Batches of each agent, of about 4 KB, those before the restart among them: more than its window.
const BATCHES: u64 = 20;
const BEFORE: usize = 3;
const READINGS: usize = 500;
/// Of every agent's first reading; the others follow, one each millisecond.
const FIRST_NS: i64 = 1_800_000_000_000_000_000;
/// Batches in a request: several requests are under way at once.
const REQUEST_BATCHES: usize = 4;
/// Nobody waits longer for an acknowledgement, the first after the restart or any later one.
const STARVED: Duration = Duration::from_secs(60);
const WHOLE: Duration = Duration::from_secs(300);

/// What so many agents may cost in MiB: what waits for commit, for the fold and for files, what the
/// program takes by itself, and 0.2 MiB for each connection.
const fn memory_bound_mib(agents: usize) -> u64 {
    16 + 16 + 64 + 32 + 160 + agents as u64 / 5
}

/// All agents' windows together.
const BUDGET: u64 = 8 << 20;
/// No window is smaller.
const LEAST_WINDOW: u64 = 64 << 10;

const SETTINGS: &[(&str, &str)] = &[
    ("JOURNAL_QUEUE_BYTES", "16MiB"),
    ("INGEST_BUDGET_BYTES", "8MiB"),
    ("STORE_INTAKE_BYTES", "16MiB"),
    ("STORE_BUFFER_BYTES", "64MiB"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_and_fifty_agents_come_back_at_once() {
    storm(150).await;
}

#[ignore = "takes two minutes: make storm"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_agents_come_back_at_once() {
    storm(1000).await;
}

/// How an agent fared.
struct Times {
    first: Duration,
    /// The longest time between two acknowledgements.
    gap: Duration,
    done: Duration,
    attempts: u32,
    /// Times the sink said when to come again.
    told: u32,
    smallest_window: u64,
}

async fn storm(agents: usize) {
    let place = tempfile::tempdir().expect("a directory");
    let served = served(agents).to_string();
    let settings = [SETTINGS, &[("INGEST_MAX_CONNECTIONS", &served)]].concat();
    let mut sink = Sink::start(place.path(), &settings).await;
    let before = Arc::new(Barrier::new(agents + 1));
    let after = Arc::new(Barrier::new(agents + 1));
    let answered = Arc::new(Barrier::new(agents));
    let mut running = Vec::new();
    for number in 0..agents {
        let barriers = [&before, &after, &answered].map(Arc::clone);
        running.push(tokio::spawn(agent(number, sink.grpc, barriers)));
    }
    before.wait().await;
    sink.kill();
    sink.restart().await;
    after.wait().await;
    let mut times = Vec::new();
    for agent in running {
        let ended = tokio::time::timeout(WHOLE, agent).await;
        times.push(ended.expect("in time").expect("an agent that ends well"));
    }
    let peak = peak_mib(sink.pid());
    report(&times, peak);
    assert!(peak < memory_bound_mib(agents), "{peak} MiB");
    judge(&times);
    all_is_there_once(&sink, agents).await;
}

fn judge(times: &[Times]) {
    let starved = times.iter().map(|times| times.first.max(times.gap)).max();
    assert!(starved < Some(STARVED), "{starved:?}");
    let told = times.iter().filter(|times| times.told > 0).count();
    assert!(told > 0, "some were told when to come again");
    // Those served at first were all there together: of them the k-th had a k-th of the budget at most.
    let half = served(times.len()) / 2;
    let part = (BUDGET / half as u64).max(LEAST_WINDOW);
    let fair = times.iter().filter(|times| times.smallest_window <= part);
    let fair = fair.count();
    assert!(fair >= half, "{fair} had a part of the budget");
}

/// So many at one time.
const fn served(agents: usize) -> usize {
    agents * 3 / 4
}

async fn all_is_there_once(sink: &Sink, agents: usize) {
    let each = BATCHES * READINGS as u64;
    let ledger = until("all is folded", WHOLE, || async {
        let ledger = sink.ledger().await;
        let all = ledger.iter().all(|line| line["pending_fold"] == 0);
        all.then_some(ledger)
    })
    .await;
    for number in 0..agents {
        let name = name(number);
        let of: Vec<_> = ledger.iter().filter(|line| line["agent"] == name).collect();
        assert_eq!(of.len(), 1, "{name}: {of:?}");
        for (figure, is) in [("produced", each), ("stored", each), ("unexplained", 0)] {
            assert_eq!(of[0][figure], is, "{figure} of {}", of[0]);
        }
    }
    let rows = sink.sql("select count(*) from samples").await;
    assert_eq!(rows[0][0], each * agents as u64);
    // Every reading has a time of its own: with these sums none is missing and none is there twice.
    // Of a thousand agents some stand for all: the query is not what is tested.
    let some: Vec<_> = (0..agents).step_by(agents.div_ceil(150)).collect();
    let names: Vec<_> = some.iter().map(|n| format!("'{}'", name(*n))).collect();
    let query = format!(
        "select count(*), sum(n), sum(n * n) from (select agent, (cast(time as bigint) - {FIRST_NS}) / 1000000 as n from samples where agent in ({})) group by agent",
        names.join(", ")
    );
    let rows = sink.sql(&query).await;
    assert_eq!(rows.len(), some.len());
    let squares = (0..each).map(|n| n * n).sum::<u64>();
    let whole = [each, each * (each - 1) / 2, squares].map(serde_json::Value::from);
    for row in rows {
        assert_eq!(row, whole);
    }
}

fn name(number: usize) -> String {
    format!("storm-{number}")
}

async fn agent(
    number: usize,
    sink: SocketAddr,
    [before, after, answered]: [Arc<Barrier>; 3],
) -> Times {
    let mut stream = Stream::new(&name(number), 1);
    stream.id = [&[0x57; 8][..], &(number as u64).to_be_bytes()].concat();
    let batches: Vec<Batch> = (0..BATCHES).map(|n| batch(&mut stream, n)).collect();
    let storm = Storm {
        stream,
        sink,
        start: Instant::now(),
        answered: None,
    };
    storm.deliver(&batches[..BEFORE]).await;
    before.wait().await;
    after.wait().await;
    let again = Storm {
        start: Instant::now(),
        answered: Some(answered),
        ..storm
    };
    again.deliver(&batches).await
}

/// Noise that hardly compresses; every reading has a time of its own.
fn batch(stream: &mut Stream, n: u64) -> Batch {
    let number = |k: usize| n.cast_signed() * READINGS as i64 + k as i64;
    let times: Vec<i64> = (0..READINGS)
        .map(|k| FIRST_NS + number(k) * 1_000_000)
        .collect();
    let noise = |k: usize| ((n * 7919 + k as u64) as f64).sqrt().sin();
    let values: Vec<f64> = (0..READINGS).map(noise).collect();
    stream.batch(&times, &values)
}

/// One agent's delivery.
struct Storm {
    stream: Stream,
    sink: SocketAddr,
    start: Instant,
    /// Passed when the sink has answered everybody's Hello for the first time.
    answered: Option<Arc<Barrier>>,
}

impl Storm {
    /// Delivers `batches`, from wherever the sink says; as often as it takes.
    async fn deliver(&self, batches: &[Batch]) -> Times {
        let mut times = Times::none();
        let mut delay = Duration::from_millis(50);
        loop {
            times.attempts += 1;
            let Err(status) = self.attempt(batches, &mut times).await else {
                times.done = self.start.elapsed();
                return times;
            };
            let info = status.get_details_retry_info();
            let hint = info.and_then(|info| info.retry_delay);
            times.told += u32::from(hint.is_some());
            // As agents do: at least as long as told, else longer than before.
            tokio::time::sleep(hint.unwrap_or(delay).max(delay)).await;
            delay = (delay * 2).min(Duration::from_secs(5));
        }
    }

    async fn attempt(&self, batches: &[Batch], times: &mut Times) -> Result<(), Status> {
        let call = Call::open(self.sink, &self.stream).await;
        if let Some(answered) = self.answered.as_ref().filter(|_| times.attempts == 1) {
            answered.wait().await;
        }
        let mut call = call?;
        let mut window = call.welcome.window_bytes;
        let durable = |sequence| usize::try_from(sequence).expect("few batches");
        let mut sent = durable(call.welcome.durable_through);
        let (mut acked, mut last) = (sent, None::<Instant>);
        while acked < batches.len() {
            times.smallest_window = times.smallest_window.min(window);
            while sent < batches.len() && (sent == acked || bytes(&batches[acked..sent]) < window) {
                let next = (sent + REQUEST_BATCHES).min(batches.len());
                let request = batches[sent..next].iter().cloned().map(Kind::Batch);
                call.send(request.collect()).await;
                sent = next;
            }
            let Response::Ack(ack) = call.answer().await? else {
                panic!("nothing else is due");
            };
            (acked, window) = (durable(ack.durable_through), ack.window_bytes);
            times.first = times.first.min(self.start.elapsed());
            let gap = last.replace(Instant::now()).map(|last| last.elapsed());
            times.gap = times.gap.max(gap.unwrap_or_default());
        }
        Ok(())
    }
}

fn bytes(batches: &[Batch]) -> u64 {
    let lengths = batches.iter().map(|batch| batch.payload.len() as u64);
    lengths.sum()
}

impl Times {
    fn none() -> Self {
        Self {
            first: Duration::MAX,
            gap: Duration::ZERO,
            done: Duration::MAX,
            attempts: 0,
            told: 0,
            smallest_window: u64::MAX,
        }
    }
}

/// Most memory the process ever had.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.expect("a figure") / 1024
}

fn report(times: &[Times], peak_mib: u64) {
    let spread = |of: fn(&Times) -> Duration| {
        let mut all: Vec<Duration> = times.iter().map(of).collect();
        all.sort_unstable();
        (all[0], all[all.len() / 2], all[all.len() - 1])
    };
    let sum = |of: fn(&Times) -> u32| times.iter().map(of).sum::<u32>();
    let window = times.iter().map(|times| times.smallest_window).min();
    let _ = writeln!(
        std::io::stderr(),
        "{} agents (least, half, most): first ack {:?}; longest wait for one {:?}; done {:?}; attempts {}, told to wait {}; smallest window {window:?}; sink at most {peak_mib} MiB",
        times.len(),
        spread(|times| times.first),
        spread(|times| times.gap),
        spread(|times| times.done),
        sum(|times| times.attempts),
        sum(|times| times.told),
    );
}
