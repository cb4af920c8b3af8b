//! A sink that follows a script, and notes what it was sent and what it may be believed to have.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};
use weir_proto::v1;
use weir_proto::v1::deliver_response::Response as Answer;
use weir_proto::v1::delivery_service_server::{DeliveryService, DeliveryServiceServer};
use weir_proto::v1::record::Record as Content;

/// How long it waits for a request: longer than an agent waits for an answer.
const PATIENCE: Duration = Duration::from_millis(400);

/// A number, by what would be right.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Near(i64),
    Exactly(u64),
}

impl Number {
    fn beside(self, right: u64) -> u64 {
        match self {
            Number::Near(by) => right.saturating_add_signed(by),
            Number::Exactly(number) => number,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Greeting {
    pub(super) durable: Number,
    pub(super) readings: Number,
    pub(super) crc: Option<u32>,
    pub(super) window: u64,
    pub(super) books: Option<Vec<(i32, u64)>>,
}

#[derive(Clone, Debug)]
pub(super) enum Said {
    Welcome(Greeting),
    Ack(Number, u64),
    Refused(Number, i32, usize),
    Nothing,
    Status(i32, Option<u64>),
    End,
}

/// One call: what is said first, and to each request after it.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) first: Said,
    pub(super) then: Vec<Said>,
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        6 => Just(Number::Near(0)),
        3 => (-4..0_i64).prop_map(Number::Near),
        1 => Just(Number::Near(1000)),
        1 => prop_oneof![Just(0), Just(u64::MAX), Just(u64::MAX - 1), Just(1 << 63)].prop_map(Number::Exactly),
    ]
}

fn greeting() -> impl Strategy<Value = Greeting> {
    let window = prop_oneof![Just(0), Just(1 << 20), Just(u64::MAX)];
    let books = vec((0..20_i32, prop_oneof![0..100_u64, Just(u64::MAX)]), 0..3);
    let crc = prop_oneof![3 => Just(None), 1 => any::<u32>().prop_map(Some)];
    (number(), number(), crc, window, proptest::option::of(books)).prop_map(
        |(durable, readings, crc, window, books)| Greeting {
            durable,
            readings,
            crc,
            window,
            books,
        },
    )
}

/// Any code but ABORTED, at which an agent keeps away for minutes: it takes the stream to be another's.
fn status() -> impl Strategy<Value = i32> {
    (0..17_i32).prop_filter("it is not ABORTED", |code| *code != Code::Aborted as i32)
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        6 => (number(), prop_oneof![Just(0), Just(u64::MAX), Just(1 << 20)]).prop_map(|(n, w)| Said::Ack(n, w)),
        2 => (number(), -1..9_i32, 0..60_000_usize).prop_map(|(n, c, l)| Said::Refused(n, c, l)),
        1 => greeting().prop_map(Said::Welcome),
        1 => Just(Said::Nothing),
        1 => (status(), proptest::option::of(Just(0_u64))).prop_map(|(c, h)| Said::Status(c, h)),
        1 => Just(Said::End),
    ]
}

/// Any calls, most of which begin as they should.
pub(super) fn script() -> impl Strategy<Value = Vec<Script>> {
    let first = prop_oneof![8 => greeting().prop_map(Said::Welcome), 1 => said()];
    vec(
        (first, vec(said(), 0..6)).prop_map(|(first, then)| Script { first, then }),
        1..8,
    )
}

/// What it was sent, and what it may be believed to have.
#[derive(Default)]
pub(super) struct State {
    pub(super) script: VecDeque<Script>,
    pub(super) calls: u64,
    /// First moment of each batch that came, by stream and sequence.
    pub(super) came: BTreeMap<(Vec<u8>, u64), i64>,
    /// Streams and the highest sequence through which it claimed what an agent can believe.
    pub(super) claimed: BTreeMap<Vec<u8>, u64>,
}

impl State {
    /// The highest sequence of this stream that ever came.
    fn last(&self, stream: &[u8]) -> u64 {
        let of_stream = self.came.keys().filter(|(id, _)| id == stream);
        of_stream.map(|(_, sequence)| *sequence).max().unwrap_or(0)
    }

    /// First moments of the batches that a believable answer covered.
    pub(super) fn claimed_moments(&self) -> BTreeSet<i64> {
        let covered = self.came.iter().filter(|((stream, sequence), _)| {
            self.claimed
                .get(stream)
                .is_some_and(|through| sequence <= through)
        });
        covered.map(|(_, first_ns)| *first_ns).collect()
    }

    fn claim(&mut self, stream: &[u8], through: u64) {
        let claimed = self.claimed.entry(stream.to_vec()).or_default();
        *claimed = through.max(*claimed);
    }
}

struct Hostile {
    state: Arc<Mutex<State>>,
}

type Answers = mpsc::Sender<Result<v1::DeliverResponse, Status>>;

#[tonic::async_trait]
impl DeliveryService for Hostile {
    type DeliverStream = ReceiverStream<Result<v1::DeliverResponse, Status>>;

    async fn deliver(
        &self,
        request: Request<Streaming<v1::DeliverRequest>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let (answers, outgoing) = mpsc::channel(64);
        let script = {
            let mut state = self.state.lock().unwrap();
            state.calls += 1;
            state
                .script
                .pop_front()
                .ok_or_else(|| Status::unavailable("it has said it all"))?
        };
        let state = Arc::clone(&self.state);
        tokio::spawn(async move {
            if let Err(status) = follow(request.into_inner(), script, &state, &answers).await {
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

async fn follow(
    mut requests: Streaming<v1::DeliverRequest>,
    script: Script,
    state: &Mutex<State>,
    answers: &Answers,
) -> Result<(), Status> {
    let Some(first) = requests.message().await? else {
        return Ok(());
    };
    let hello = first.hello.expect("an agent begins with hello");
    if !answer(&script.first, &hello, state, answers).await? {
        return Ok(());
    }
    for said in &script.then {
        // An agent that was told all is stored has nothing to say: the call ends then.
        let Ok(request) = tokio::time::timeout(PATIENCE, requests.message()).await else {
            return Ok(());
        };
        let Some(request) = request? else {
            return Ok(());
        };
        note(state, &hello.stream_id, &request);
        if !answer(said, &hello, state, answers).await? {
            return Ok(());
        }
    }
    Ok(())
}

fn note(state: &Mutex<State>, stream: &[u8], request: &v1::DeliverRequest) {
    let mut state = state.lock().unwrap();
    for record in &request.records {
        match &record.record {
            Some(Content::Batch(batch)) => {
                let header = batch.header.as_ref().unwrap();
                state
                    .came
                    .insert((stream.to_vec(), header.sequence), header.first_ns);
            }
            // An agent may say of what it gave back no more than what was claimed.
            Some(Content::Skip(_) | Content::Definitions(_) | Content::Close(_)) | None => {}
        }
    }
}

/// Says it; false when the call is to end.
async fn answer(
    said: &Said,
    hello: &v1::Hello,
    state: &Mutex<State>,
    answers: &Answers,
) -> Result<bool, Status> {
    let stream = &hello.stream_id;
    let last = state.lock().unwrap().last(stream);
    let response = match said {
        Said::Welcome(greeting) => {
            let durable_through = greeting.durable.beside(last);
            if durable_through <= last {
                state.lock().unwrap().claim(stream, durable_through);
            }
            let books = greeting.books.as_ref().map(|dropped| v1::Books {
                dropped: dropped
                    .iter()
                    .map(|(reason, readings)| v1::Dropped {
                        reason: *reason,
                        readings: *readings,
                    })
                    .collect(),
            });
            Some(Answer::Welcome(v1::Welcome {
                durable_through,
                durable_crc: greeting.crc.unwrap_or(0),
                window_bytes: greeting.window,
                max_batch_bytes: greeting.window,
                protocol: 1,
                readings_through: greeting.readings.beside(durable_through.saturating_mul(10)),
                books,
                closed: greeting.crc.is_some_and(|crc| crc % 4 == 1),
            }))
        }
        Said::Ack(through, window_bytes) => {
            let durable_through = through.beside(last);
            if durable_through <= last {
                state.lock().unwrap().claim(stream, durable_through);
            }
            Some(Answer::Ack(v1::Ack {
                durable_through,
                window_bytes: *window_bytes,
                ..v1::Ack::default()
            }))
        }
        Said::Refused(sequence, code, length) => Some(Answer::Refused(v1::Refused {
            sequence: sequence.beside(last),
            code: *code,
            reason: "no".repeat(*length / 2),
        })),
        Said::Nothing => None,
        Said::Status(code, hint) => {
            let hint = hint.map(Duration::from_secs);
            let details = ErrorDetails::with_retry_info(hint);
            return Err(Status::with_error_details(
                Code::from(*code),
                "so it says",
                details,
            ));
        }
        Said::End => return Ok(false),
    };
    let sent = answers.send(Ok(v1::DeliverResponse { response })).await;
    Ok(sent.is_ok())
}

/// Serves on a free port until told to stop, calls and all.
pub(super) async fn serve(state: Arc<Mutex<State>>) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = DeliveryServiceServer::new(Hostile { state });
    let server = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(TcpListenerStream::new(listener));
    let running = CancellationToken::new();
    let stop = running.clone();
    tokio::spawn(async move {
        tokio::select! {
            served = server => served.unwrap(),
            () = stop.cancelled() => {}
        }
    });
    (address, running)
}
