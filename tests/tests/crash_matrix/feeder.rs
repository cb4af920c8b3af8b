//! A sender that never gives up and keeps its own record: what it made, what was acknowledged.
//!
//! In: the address of a link that may fail at any time. Out: the record, and every breach of the
//! protocol it saw: an acknowledged sequence that a later Welcome does not know any more.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Status;
use weir_proto::v1::Batch;
use weir_proto::v1::deliver_response::Response;
use weir_tests::sender::{Call, Stream};

/// Nanoseconds of the first reading.
const BASE: i64 = 1_700_000_000_000_000_000;
const READINGS_PER_BATCH: u64 = 5;
/// Batches that may be unacknowledged.
const WINDOW: u64 = 16;
/// Between two batches: the disk of the sink is not what is tried.
const PACE: Duration = Duration::from_millis(2);
const RETRY: Duration = Duration::from_millis(20);

/// What the sender knows in the end.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// (observed ns, value) of everything made, in order.
    pub(crate) readings: Vec<(i64, u64)>,
    /// What the sink did that it must not.
    pub(crate) breaches: Vec<String>,
}

/// The running sender.
pub(crate) struct Feeder {
    finish: watch::Sender<bool>,
    acked: watch::Receiver<u64>,
    task: JoinHandle<Record>,
}

impl Feeder {
    /// Delivers through `link` from now on; `fat` batches fill a journal quickly.
    pub(crate) fn start(link: SocketAddr, agent: &str, fat: bool) -> Self {
        let stream = if fat {
            Stream::fat(agent, 1)
        } else {
            Stream::new(agent, 1)
        };
        let (finish, finishing) = watch::channel(false);
        let (acking, acked) = watch::channel(0);
        let work = Work {
            link,
            stream,
            sent: BTreeMap::new(),
            record: Record::default(),
            acking,
            finishing,
        };
        Self {
            finish,
            acked,
            task: tokio::spawn(work.run()),
        }
    }

    /// Waits until everything through this sequence is acknowledged.
    pub(crate) async fn acked(&mut self, sequence: u64) {
        let reached = self.acked.wait_for(|acked| *acked >= sequence).await;
        reached.expect("the sender runs until it is told to finish");
    }

    /// Makes nothing more, delivers all there is, closes the stream; then the record.
    pub(crate) async fn finish(self) -> Record {
        self.finish.send_replace(true);
        self.task.await.expect("the sender does not panic")
    }
}

struct Work {
    link: SocketAddr,
    stream: Stream,
    sent: BTreeMap<u64, Batch>,
    record: Record,
    acking: watch::Sender<u64>,
    finishing: watch::Receiver<bool>,
}

impl Work {
    async fn run(mut self) -> Record {
        while self.call().await.is_err() {
            tokio::time::sleep(RETRY).await;
        }
        self.record
    }

    /// One call; well only when the stream is closed.
    async fn call(&mut self) -> Result<(), Status> {
        let mut call = Call::open(self.link, &self.stream).await?;
        let durable = call.welcome.durable_through;
        self.check_welcome(durable);
        for (_, batch) in self.sent.range(durable + 1..) {
            call.batch(batch.clone()).await;
        }
        let mut acked = durable;
        loop {
            let last = self.stream.next_sequence() - 1;
            let finishing = *self.finishing.borrow();
            if finishing && acked == last {
                return call.close(last).await;
            }
            if !finishing && last - acked < WINDOW {
                let batch = self.make();
                call.batch(batch).await;
                tokio::time::sleep(PACE).await;
            }
            // The window is open, or not: an answer is waited for only where it is full.
            let full = finishing || self.stream.next_sequence() - 1 - acked >= WINDOW;
            let patience = if full { None } else { Some(Duration::ZERO) };
            if let Some(through) = answer(&mut call, patience).await? {
                acked = through;
                self.acking.send_replace(through);
            }
        }
    }

    fn check_welcome(&mut self, durable: u64) {
        let acked = *self.acking.borrow();
        if durable < acked {
            self.record.breaches.push(format!(
                "acknowledged through {acked}, then welcomed at {durable}: what was acknowledged is lost"
            ));
        }
        let last = self.stream.next_sequence() - 1;
        if durable > last {
            self.record
                .breaches
                .push(format!("welcomed at {durable}, sent through {last}"));
        }
        // What the Welcome says is as good as an acknowledgement.
        self.acking.send_if_modified(|acked| {
            let moved = durable > *acked;
            *acked = durable.max(*acked);
            moved
        });
    }

    fn make(&mut self) -> Batch {
        let count = self.stream.readings();
        let numbers: Vec<u64> = (count + 1..=count + READINGS_PER_BATCH).collect();
        let time = |number: &u64| BASE + number.cast_signed() * 1_000_000;
        let times: Vec<i64> = numbers.iter().map(time).collect();
        let values: Vec<f64> = numbers.iter().map(|number| *number as f64).collect();
        let sequence = self.stream.next_sequence();
        let batch = self.stream.batch(&times, &values);
        self.sent.insert(sequence, batch.clone());
        self.record.readings.extend(times.into_iter().zip(numbers));
        batch
    }
}

/// The next acknowledgement, if one comes within this time.
async fn answer(call: &mut Call, patience: Option<Duration>) -> Result<Option<u64>, Status> {
    let answer = match patience {
        None => call.answer().await?,
        Some(patience) => match tokio::time::timeout(patience, call.answer()).await {
            Ok(answer) => answer?,
            Err(_) => return Ok(None),
        },
    };
    match answer {
        Response::Ack(ack) => Ok(Some(ack.durable_through)),
        other => Err(Status::internal(format!("unexpected: {other:?}"))),
    }
}
