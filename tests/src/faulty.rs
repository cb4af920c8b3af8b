//! A small sink in memory that speaks the real service, records every request and misbehaves on
//! request: ends calls with a status, refuses one batch, or says nothing at all.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Status, Streaming};
use weir_proto::batch;
use weir_proto::v1::deliver_response::Response;
use weir_proto::v1::delivery_service_server::{DeliveryService, DeliveryServiceServer};
use weir_proto::v1::record::Record as Kind;
use weir_proto::v1::{
    Ack, Batch, DeliverRequest, DeliverResponse, Hello, Refused, RefusedCode, Skip, Welcome,
};

/// How much an agent may have unacknowledged here.
const WINDOW_BYTES: u64 = 4 << 20;

/// What went wrong on purpose.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Statuses that end the next calls, one each, when their first records come.
    pub end_calls: VecDeque<Code>,
    /// Refuse this sequence of every stream for good.
    pub refuse: Option<u64>,
    /// End the call with INVALID_ARGUMENT whenever this sequence comes.
    pub invalid: Option<u64>,
    /// Welcome every agent, and then take and answer nothing.
    pub silent: bool,
}

/// Which batch: stream and sequence.
pub type BatchKey = (Vec<u8>, u64);

/// What the sink saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// When each request with at least one record came.
    pub requests: Vec<Instant>,
    /// Calls begun.
    pub calls: usize,
    /// Numeric readings by (stream, sequence): (observed ns, value), stored once each.
    pub stored: BTreeMap<BatchKey, Vec<(i64, f64)>>,
    /// Batches that came although they were stored already.
    pub doubled: usize,
    /// Skips in the order they came.
    pub skips: Vec<Skip>,
}

impl Seen {
    /// All stored readings in the order of their streams and sequences.
    pub fn readings(&self) -> Vec<(i64, f64)> {
        self.stored.values().flatten().copied().collect()
    }
}

#[derive(Default)]
struct State {
    plan: Plan,
    seen: Seen,
    durable: BTreeMap<Vec<u8>, Durable>,
}

/// How far one stream has come.
#[derive(Clone, Copy, Default)]
struct Durable {
    through: u64,
    crc: u32,
    readings: u64,
}

/// A running faulty sink; it ends with this value.
pub struct FaultySink {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

impl FaultySink {
    /// Listens on a free port of the loopback.
    pub async fn start(plan: Plan) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound listener");
        let state = Arc::new(Mutex::new(State {
            plan,
            ..State::default()
        }));
        let service = DeliveryServiceServer::new(Service {
            state: Arc::clone(&state),
        })
        .max_decoding_message_size(weir_proto::limits::MAX_MESSAGE_BYTES);
        let server = tokio::spawn(async move {
            // Ends only with the test.
            let _ = tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await;
        });
        Self {
            address,
            state,
            server,
        }
    }

    /// Another plan from now on.
    pub fn plan(&self, plan: Plan) {
        lock(&self.state).plan = plan;
    }

    /// A copy of what was seen so far.
    pub fn seen(&self) -> Seen {
        lock(&self.state).seen.clone()
    }
}

impl Drop for FaultySink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no test panics inside the lock")
}

struct Service {
    state: Arc<Mutex<State>>,
}

type Responses = Pin<Box<dyn Stream<Item = Result<DeliverResponse, Status>> + Send>>;

#[tonic::async_trait]
impl DeliveryService for Service {
    type DeliverStream = Responses;

    async fn deliver(
        &self,
        request: Request<Streaming<DeliverRequest>>,
    ) -> Result<tonic::Response<Responses>, Status> {
        let (answers, waiting) = mpsc::channel(64);
        lock(&self.state).seen.calls += 1;
        let state = Arc::clone(&self.state);
        tokio::spawn(async move {
            if let Err(status) = serve(state, request.into_inner(), &answers).await {
                // The agent may be gone already.
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(tonic::Response::new(Box::pin(ReceiverStream::new(waiting))))
    }
}

type Answers = mpsc::Sender<Result<DeliverResponse, Status>>;

async fn answer(answers: &Answers, response: Response) -> Result<(), Status> {
    let message = DeliverResponse {
        response: Some(response),
    };
    answers
        .send(Ok(message))
        .await
        .map_err(|_| Status::cancelled("the agent is gone"))
}

async fn serve(
    state: Arc<Mutex<State>>,
    mut requests: Streaming<DeliverRequest>,
    answers: &Answers,
) -> Result<(), Status> {
    let mut hello: Option<Hello> = None;
    let mut discard_after: Option<u64> = None;
    while let Some(request) = requests.next().await {
        let request = request?;
        if let Some(first) = request.hello {
            let durable = lock(&state)
                .durable
                .get(&first.stream_id)
                .copied()
                .unwrap_or_default();
            let welcome = Welcome {
                durable_through: durable.through,
                durable_crc: durable.crc,
                readings_through: durable.readings,
                books: None,
                closed: false,
                window_bytes: WINDOW_BYTES,
                max_batch_bytes: 1 << 20,
                protocol: 1,
            };
            hello = Some(first);
            answer(answers, Response::Welcome(welcome)).await?;
        }
        let stream = &hello
            .as_ref()
            .ok_or_else(|| Status::invalid_argument("no Hello"))?
            .stream_id;
        if request.records.is_empty() || lock(&state).plan.silent {
            continue;
        }
        let refused = accept(&state, stream, request.records, &mut discard_after)?;
        if let Some(refused) = refused {
            answer(answers, Response::Refused(refused)).await?;
        }
        let durable_through = lock(&state)
            .durable
            .get(stream)
            .map_or(0, |durable| durable.through);
        let ack = Ack {
            durable_through,
            window_bytes: WINDOW_BYTES,
            notice: String::new(),
        };
        answer(answers, Response::Ack(ack)).await?;
    }
    Ok(())
}

/// Takes the records of one request as the plan says.
fn accept(
    state: &Mutex<State>,
    stream: &[u8],
    records: Vec<weir_proto::v1::Record>,
    discard_after: &mut Option<u64>,
) -> Result<Option<Refused>, Status> {
    let mut state = lock(state);
    state.seen.requests.push(Instant::now());
    if let Some(code) = state.plan.end_calls.pop_front() {
        return Err(Status::new(code, "as planned"));
    }
    for record in records {
        match record.record {
            Some(Kind::Batch(batch)) => {
                let sequence = batch.header.as_ref().map_or(0, |header| header.sequence);
                if state.plan.invalid == Some(sequence) {
                    return Err(Status::invalid_argument("as planned"));
                }
                if discard_after.is_some_and(|refused| sequence > refused) {
                    continue;
                }
                if state.plan.refuse == Some(sequence) {
                    *discard_after = Some(sequence);
                    return Ok(Some(Refused {
                        sequence,
                        code: RefusedCode::Invalid.into(),
                        reason: "as planned".to_owned(),
                    }));
                }
                store(&mut state, stream, sequence, &batch)?;
            }
            Some(Kind::Skip(skip)) => {
                if *discard_after == Some(skip.through) {
                    *discard_after = None;
                }
                let durable = state.durable.entry(stream.to_vec()).or_default();
                if skip.through > durable.through {
                    *durable = Durable {
                        through: skip.through,
                        crc: 0,
                        readings: skip.readings_before + skip.readings,
                    };
                }
                state.seen.skips.push(skip);
            }
            Some(Kind::Definitions(_) | Kind::Close(_)) | None => {}
        }
    }
    Ok(None)
}

fn store(state: &mut State, stream: &[u8], sequence: u64, batch: &Batch) -> Result<(), Status> {
    let durable = state.durable.entry(stream.to_vec()).or_default();
    if sequence <= durable.through {
        state.seen.doubled += 1;
        return Ok(());
    }
    if sequence != durable.through + 1 {
        let expected = durable.through + 1;
        return Err(Status::failed_precondition(format!(
            "expected sequence {expected}, got {sequence}"
        )));
    }
    let header = batch
        .header
        .as_ref()
        .ok_or_else(|| Status::invalid_argument("no header"))?;
    *durable = Durable {
        through: sequence,
        crc: header.crc,
        readings: header.readings_before + header.readings,
    };
    let blocks = batch::decode(header, &batch.payload)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let mut readings = Vec::new();
    for block in &blocks {
        for column in &block.columns {
            if let batch::Values::Numbers(values) = &column.values {
                let present =
                    block.times.iter().enumerate().filter(|(at, _)| {
                        column.present.as_ref().is_none_or(|present| present[*at])
                    });
                readings.extend(present.map(|(_, time)| *time).zip(values.iter().copied()));
            }
        }
    }
    state
        .seen
        .stored
        .insert((stream.to_vec(), sequence), readings);
    Ok(())
}
