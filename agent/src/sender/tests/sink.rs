//! A small real sink for the sender's tests: keeps every rule of the protocol, in memory, and does
//! wrong exactly what a test tells it to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weir_proto::v1::deliver_response::Response as Answer;
use weir_proto::v1::delivery_service_server::{DeliveryService, DeliveryServiceServer};
use weir_proto::v1::record::Record as Content;
use weir_proto::{batch, v1};

/// What goes wrong, once, with the next call.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The call ends with this status instead of a Welcome.
    Turned(Status),
    /// The call ends with this status instead of storing the next batch.
    OnBatch(Status),
    /// The next request is stored, and the call ends before the ack.
    StoredNotAcked,
    /// The next request is stored and acknowledged, and then this sequence is refused.
    AlsoRefused(u64),
    /// From the next batch on nothing is read and nothing is answered.
    Silent,
}

/// What the sink has of one stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) durable_through: u64,
    pub(crate) durable_crc: u32,
    pub(crate) readings_through: u64,
    /// Readings of each stored batch, by sequence.
    pub(crate) stored: BTreeMap<u64, u64>,
    pub(crate) skips: Vec<v1::Skip>,
    pub(crate) defined: BTreeSet<u32>,
    pub(crate) closed: bool,
    pub(crate) report: v1::Report,
}

impl Kept {
    pub(crate) fn stored_readings(&self) -> u64 {
        self.stored.values().sum()
    }

    pub(crate) fn books(&self) -> v1::Books {
        let mut dropped: BTreeMap<i32, u64> = BTreeMap::new();
        for skip in &self.skips {
            *dropped.entry(skip.reason).or_default() += skip.readings;
        }
        let dropped = dropped.into_iter();
        v1::Books {
            dropped: dropped
                .map(|(reason, readings)| v1::Dropped { reason, readings })
                .collect(),
        }
    }

    pub(crate) fn dropped(&self, reason: v1::DropReason) -> u64 {
        let skips = self
            .skips
            .iter()
            .filter(|skip| skip.reason == i32::from(reason));
        skips.map(|skip| skip.readings).sum()
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) streams: BTreeMap<Vec<u8>, Kept>,
    /// In the order of their first Hello.
    pub(crate) order: Vec<Vec<u8>>,
    pub(crate) faults: VecDeque<Fault>,
    /// Sequences that are refused.
    pub(crate) refuse: BTreeSet<u64>,
    /// Sequences that end the call, every time, with this status.
    pub(crate) poison: BTreeMap<u64, Status>,
    /// Every call for this stream ends with this status.
    pub(crate) barred: Option<([u8; 16], Status)>,
    /// How often it did.
    pub(crate) barred_calls: u64,
    pub(crate) window_bytes: u64,
    pub(crate) calls: u64,
    /// Batches in each request that had any.
    pub(crate) requests: Vec<usize>,
    /// The most bytes of payload seen between two acks.
    pub(crate) hold_acks: bool,
    /// First moments of every batch stored, over all streams.
    pub(crate) moments: BTreeSet<i64>,
    /// What broke a rule of the protocol.
    pub(crate) complaints: Vec<String>,
}

/// The sink and its server.
pub(crate) struct Sink {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) address: SocketAddr,
    running: CancellationToken,
}

impl Sink {
    /// Serves on a free port.
    pub(crate) async fn start() -> Sink {
        let state = State {
            window_bytes: 1 << 20,
            ..State::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Sink::serve(listener, Arc::new(Mutex::new(state)))
    }

    /// Serves at an address that another one had, and knows nothing of what that one said.
    pub(crate) async fn start_at(address: SocketAddr) -> Sink {
        let state = State {
            window_bytes: 1 << 20,
            ..State::default()
        };
        let sink = Sink {
            state: Arc::new(Mutex::new(state)),
            address,
            running: CancellationToken::new(),
        };
        sink.restart().await
    }

    /// Serves what another one has kept, at its address.
    pub(crate) async fn restart(&self) -> Sink {
        loop {
            if let Ok(listener) = TcpListener::bind(self.address).await {
                return Sink::serve(listener, Arc::clone(&self.state));
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    fn serve(listener: TcpListener, state: Arc<Mutex<State>>) -> Sink {
        let address = listener.local_addr().unwrap();
        let running = CancellationToken::new();
        let service = DeliveryServiceServer::new(Service {
            state: Arc::clone(&state),
            running: running.clone(),
        });
        let service = service.max_decoding_message_size(weir_proto::limits::MAX_MESSAGE_BYTES);
        let server = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let stop = running.clone();
        tokio::spawn(async move {
            tokio::select! {
                served = server => served.unwrap(),
                () = stop.cancelled() => {}
            }
        });
        Sink {
            state,
            address,
            running,
        }
    }

    /// Ends the server and every call, as a kill does.
    pub(crate) fn kill(&self) {
        self.running.cancel();
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.lock().faults.push_back(fault);
    }

    /// What it has of one stream.
    pub(crate) fn kept(&self, stream: [u8; 16]) -> Kept {
        self.lock()
            .streams
            .get(stream.as_slice())
            .cloned()
            .unwrap_or_default()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Service {
    state: Arc<Mutex<State>>,
    running: CancellationToken,
}

type Answers = mpsc::Sender<Result<v1::DeliverResponse, Status>>;

#[tonic::async_trait]
impl DeliveryService for Service {
    type DeliverStream = ReceiverStream<Result<v1::DeliverResponse, Status>>;

    async fn deliver(
        &self,
        request: Request<Streaming<v1::DeliverRequest>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let (answers, outgoing) = mpsc::channel(64);
        let state = Arc::clone(&self.state);
        let running = self.running.clone();
        tokio::spawn(async move {
            let call = serve_call(request.into_inner(), Arc::clone(&state), answers.clone());
            tokio::select! {
                ended = call => {
                    if let Err(status) = ended {
                        let _ = answers.send(Err(status)).await;
                    }
                }
                () = running.cancelled() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

async fn serve_call(
    mut requests: Streaming<v1::DeliverRequest>,
    state: Arc<Mutex<State>>,
    answers: Answers,
) -> Result<(), Status> {
    let first = requests
        .message()
        .await?
        .ok_or_else(|| Status::invalid_argument("no hello"))?;
    let hello = first
        .hello
        .ok_or_else(|| Status::invalid_argument("no hello"))?;
    let (welcome, fault) = greet(&state, &hello)?;
    answer(&answers, Answer::Welcome(welcome)).await;
    let mut discard_through = None;
    while let Some(request) = requests.message().await? {
        if matches!(fault, Some(Fault::Silent)) && request.records.iter().any(is_batch) {
            std::future::pending::<()>().await;
        }
        if let (Some(Fault::OnBatch(status)), true) = (&fault, request.records.iter().any(is_batch))
        {
            return Err(status.clone());
        }
        let refused = take(&state, &hello.stream_id, request, &mut discard_through)?;
        if matches!(fault, Some(Fault::StoredNotAcked)) {
            return Err(Status::unavailable("killed between store and ack"));
        }
        let ack = {
            let state = state.lock().unwrap();
            let kept = &state.streams[&hello.stream_id];
            (!state.hold_acks).then_some(v1::Ack {
                durable_through: kept.durable_through,
                window_bytes: state.window_bytes,
                ..v1::Ack::default()
            })
        };
        if let Some(ack) = ack {
            answer(&answers, Answer::Ack(ack)).await;
        }
        let unasked = match fault {
            Some(Fault::AlsoRefused(sequence)) => Some(refusal(sequence)),
            _ => None,
        };
        if let Some(refused) = refused.or(unasked) {
            answer(&answers, Answer::Refused(refused)).await;
        }
    }
    Ok(())
}

fn refusal(sequence: u64) -> v1::Refused {
    v1::Refused {
        sequence,
        code: v1::RefusedCode::Malformed.into(),
        reason: "as the test says".into(),
    }
}

async fn answer(answers: &Answers, response: Answer) {
    let response = Some(response);
    let _ = answers.send(Ok(v1::DeliverResponse { response })).await;
}

fn greet(state: &Mutex<State>, hello: &v1::Hello) -> Result<(v1::Welcome, Option<Fault>), Status> {
    let mut state = state.lock().unwrap();
    state.calls += 1;
    let fault = state.faults.pop_front();
    if let Some(Fault::Turned(status)) = fault {
        return Err(status);
    }
    let barred = state.barred.as_ref();
    if let Some((_, status)) = barred.filter(|(stream, _)| hello.stream_id == stream) {
        let status = status.clone();
        state.barred_calls += 1;
        return Err(status);
    }
    if !state.streams.contains_key(&hello.stream_id) {
        state.order.push(hello.stream_id.clone());
    }
    let window_bytes = state.window_bytes;
    let kept = state.streams.entry(hello.stream_id.clone()).or_default();
    let welcome = v1::Welcome {
        durable_through: kept.durable_through,
        durable_crc: kept.durable_crc,
        window_bytes,
        max_batch_bytes: 1 << 20,
        protocol: 1,
        readings_through: kept.readings_through,
        books: Some(kept.books()),
        closed: kept.closed,
    };
    Ok((welcome, fault))
}

/// Stores a request's records. `discard_through` holds the refused sequence until it is closed.
fn take(
    state: &Mutex<State>,
    stream: &[u8],
    request: v1::DeliverRequest,
    discarding: &mut Option<u64>,
) -> Result<Option<v1::Refused>, Status> {
    let mut state = state.lock().unwrap();
    let batches = request
        .records
        .iter()
        .filter(|record| is_batch(record))
        .count();
    if batches > 0 {
        state.requests.push(batches);
    }
    let mut refused = None;
    for record in request.records {
        let Some(content) = record.record else {
            continue;
        };
        if let Some(answer) = take_record(&mut state, stream, content, discarding)? {
            refused = Some(answer);
        }
    }
    if let (Some(report), Some(kept)) = (request.report, state.streams.get_mut(stream)) {
        kept.report = report;
    }
    Ok(refused)
}

fn take_record(
    state: &mut State,
    stream: &[u8],
    content: Content,
    discarding: &mut Option<u64>,
) -> Result<Option<v1::Refused>, Status> {
    let State {
        streams,
        complaints,
        ..
    } = state;
    let kept = streams.get_mut(stream).expect("it was greeted");
    match content {
        Content::Batch(batch) => return take_batch(state, stream, batch, discarding),
        Content::Skip(skip) => {
            if discarding.is_some_and(|refused| skip.from > refused) {
                return Ok(None);
            }
            *discarding = None;
            if skip.through <= kept.durable_through {
                return Ok(None);
            }
            expect(kept, skip.from, skip.readings_before)?;
            kept.durable_through = skip.through;
            kept.durable_crc = 0;
            kept.readings_through += skip.readings;
            kept.skips.push(skip);
        }
        Content::Definitions(definitions) => {
            if discarding.is_none() {
                kept.defined
                    .extend(definitions.series.iter().map(|series| series.r#ref));
            }
        }
        Content::Close(close) => {
            if close.last_sequence != kept.durable_through {
                complaints.push(format!(
                    "closed at {} but has {}",
                    close.last_sequence, kept.durable_through
                ));
            }
            kept.closed = true;
        }
    }
    Ok(None)
}

fn take_batch(
    state: &mut State,
    stream: &[u8],
    batch: v1::Batch,
    discarding: &mut Option<u64>,
) -> Result<Option<v1::Refused>, Status> {
    let State {
        streams,
        refuse,
        poison,
        complaints,
        moments,
        ..
    } = state;
    let kept = streams.get_mut(stream).expect("it was greeted");
    let header = batch.header.clone().unwrap_or_default();
    if let Some(status) = poison.get(&header.sequence) {
        return Err(status.clone());
    }
    if discarding.is_some_and(|refused| header.sequence > refused) {
        return Ok(None);
    }
    *discarding = None;
    if header.sequence <= kept.durable_through {
        return Ok(None);
    }
    expect(kept, header.sequence, header.readings_before)?;
    if refuse.contains(&header.sequence) {
        *discarding = Some(header.sequence);
        return Ok(Some(refusal(header.sequence)));
    }
    kept.defined
        .extend(batch.series_defined.iter().map(|series| series.r#ref));
    let blocks = batch::decode(&header, &batch.payload).expect("the codec's own");
    let columns = blocks.iter().flat_map(|block| &block.columns);
    for column in columns.filter(|column| !kept.defined.contains(&column.series)) {
        complaints.push(format!(
            "sequence {} uses undefined series {}",
            header.sequence, column.series
        ));
    }
    kept.stored.insert(header.sequence, header.readings);
    moments.insert(header.first_ns);
    kept.durable_through = header.sequence;
    kept.durable_crc = header.crc;
    kept.readings_through += header.readings;
    Ok(None)
}

fn expect(kept: &Kept, sequence: u64, readings_before: u64) -> Result<(), Status> {
    if sequence != kept.durable_through + 1 {
        return Err(Status::failed_precondition(format!(
            "expected sequence {}",
            kept.durable_through + 1
        )));
    }
    if readings_before != kept.readings_through {
        return Err(Status::failed_precondition(format!(
            "expected {} readings before {sequence}, found {readings_before}",
            kept.readings_through
        )));
    }
    Ok(())
}

fn is_batch(record: &v1::Record) -> bool {
    matches!(record.record, Some(Content::Batch(_)))
}
