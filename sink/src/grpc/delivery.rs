//! One call of Deliver: reads requests, lets [`Session`] take them, sends what it says.
//!
//! The call runs in a task of its own: tonic drops a handler's future when the client goes away,
//! and what was appended must be settled all the same. Requests are read while former ones wait
//! for their commit, as far as the window allows.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;
use weir_fault::{Point, point};
use weir_proto::limits::MAX_MESSAGE_BYTES;
use weir_proto::v1;
use weir_proto::v1::deliver_response::Response as Answer;
use weir_proto::v1::delivery_service_server::DeliveryService;

use super::messages::{Messages, Received};
use super::{gate, status_of};
use crate::access::{Access, Caller, Denied, Request as Asked, table};
use crate::ingest::{Fault, Ingest, Opener, Over, PATIENCE, Session};

/// How long a new call may stay silent.
const HELLO_TIME: Duration = Duration::from_secs(15);

/// How long a call that ends may take to hand over its last answers.
const GOODBYE_TIME: Duration = Duration::from_secs(10);

/// Answers that wait for the client to read; requests are not read beyond it.
const MAX_ANSWERS: usize = 16;

/// The service.
pub(super) struct Delivery {
    ingest: Ingest,
    access: Access,
    calls: TaskTracker,
    draining: CancellationToken,
}

impl Delivery {
    pub(super) fn new(
        ingest: Ingest,
        access: Access,
        calls: TaskTracker,
        draining: CancellationToken,
    ) -> Self {
        Self {
            ingest,
            access,
            calls,
            draining,
        }
    }
}

type Sender = mpsc::Sender<Result<v1::DeliverResponse, Status>>;

#[tonic::async_trait]
impl DeliveryService for Delivery {
    type DeliverStream = ReceiverStream<Result<v1::DeliverResponse, Status>>;

    async fn deliver(
        &self,
        request: Request<Streaming<v1::DeliverRequest>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        if self.draining.is_cancelled() {
            return Err(status_of(&Fault::Draining));
        }
        let caller = request.extensions().get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| Status::internal("nobody asked who calls"))?;
        let peer = caller.address();
        let span = tracing::info_span!("deliver", peer = peer.map(tracing::field::display));
        let (sender, receiver) = mpsc::channel(1);
        let call = Call {
            ingest: self.ingest.clone(),
            access: self.access.clone(),
            caller,
            draining: self.draining.clone(),
            requests: Messages::of(&request, MAX_MESSAGE_BYTES)?,
            sender,
        };
        self.calls.spawn(call.run().instrument(span));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

struct Call {
    ingest: Ingest,
    access: Access,
    caller: Caller,
    draining: CancellationToken,
    requests: Messages<v1::DeliverRequest>,
    sender: Sender,
}

/// How a call goes on, or ended.
enum End {
    /// Nobody reads the answers any more.
    ClientGone,
    /// The agent ended its side, or closed the stream.
    Done,
    /// The sink ends it.
    Fault(Fault),
    /// A message could not be read: too large, or not one of ours.
    Status(Status),
    /// What the agent showed is for others, or stands no more.
    Denied(Denied),
}

impl Call {
    async fn run(mut self) {
        let end = match self.begin().await {
            Ok(session) => self.deliver(session).await,
            Err(end) => end,
        };
        let status = match end {
            End::ClientGone | End::Done => return,
            End::Status(status) => status,
            End::Denied(denied) => {
                self.ingest.metrics().ended(denied.kind().name());
                let headers = http::HeaderMap::new();
                let object = denied.object();
                let asked = Asked {
                    address: self.caller.address(),
                    certificate: None,
                    headers: &headers,
                    object: object.as_deref().unwrap_or(table::DELIVER),
                };
                self.access.refuse(&denied, Some(&self.caller), asked);
                gate::status_of(&denied)
            }
            End::Fault(fault) => {
                self.ingest.metrics().ended(fault.kind().name());
                match fault {
                    // Said once by whoever stops, took over or watches the journal.
                    Fault::Draining
                    | Fault::Displaced(_)
                    | Fault::Overloaded(_)
                    | Fault::OverQuota(_) => {
                        tracing::debug!(reason = %fault, "call ended");
                    }
                    _ => tracing::warn!(reason = %fault, "call ended"),
                }
                status_of(&fault)
            }
        };
        // Where nobody reads it, there is nobody to tell.
        let _ = timeout(GOODBYE_TIME, self.sender.send(Err(status))).await;
    }

    /// Hello and Welcome.
    async fn begin(&mut self) -> Result<Session, End> {
        let first = tokio::select! {
            biased;
            first = timeout(HELLO_TIME, self.requests.next()) => first,
            () = self.draining.cancelled() => return Err(End::Fault(Fault::Draining)),
        };
        let invalid = |text: &str| End::Fault(Fault::Invalid(text.into()));
        let request = match first {
            Err(_) => return Err(invalid("no hello came in time")),
            Ok(Err(status)) => return Err(End::Status(status)),
            Ok(Ok(None)) => return Err(End::ClientGone),
            Ok(Ok(Some(received))) => received.unfold().await.map_err(End::Status)?,
        };
        let hello = request
            .hello
            .ok_or_else(|| invalid("the first request must carry hello"))?;
        if !request.records.is_empty() {
            return Err(invalid("records may follow only after welcome"));
        }
        let checked = self.caller.check_agent(&hello.agent);
        checked.map_err(End::Denied)?;
        let caller = &self.caller;
        let opener = Opener {
            tenant: caller.tenant(),
            from: caller.address(),
            covers: &|name| caller.check_agent(name).is_ok(),
        };
        let mut opened = self.ingest.open(&opener, &hello, &self.draining).await;
        if let Err(Fault::OverQuota(over)) = &mut opened {
            let gone = self.sender.closed();
            hold_up(over, gone, &self.draining).await;
        }
        let (session, welcome) = opened.map_err(|fault| match fault {
            Fault::Foreign { stream, owner } => {
                End::Denied(caller.not_its_stream((&hello.agent, &owner), &stream.to_string()))
            }
            fault => End::Fault(fault),
        })?;
        tracing::debug!(
            agent = hello.agent,
            software = hello.software,
            durable_through = welcome.durable_through,
            "stream opened"
        );
        let sent = self
            .sender
            .send(Ok(response(Answer::Welcome(welcome))))
            .await;
        sent.map_err(|_| End::ClientGone)?;
        Ok(session)
    }

    async fn deliver(&mut self, mut session: Session) -> End {
        let mut progress = self.ingest.progress();
        let mut paid: Option<tokio::time::Instant> = None;
        let mut answers: VecDeque<Answer> = VecDeque::new();
        let mut ending: Option<End> = None;
        let mut standing = std::pin::pin!(self.caller.clone().ended());
        loop {
            let stopped = {
                let now = progress.borrow_and_update();
                if let Some(ack) = session.settle(now.durable_through) {
                    answers.push_back(Answer::Ack(ack));
                }
                now.poisoned
                    .clone()
                    .map(|reason| Fault::JournalFailed(reason.to_string()))
                    .or(now.closed.then_some(Fault::Draining))
            };
            if let Some(fault) = stopped.filter(|_| session.is_pending()) {
                return End::Fault(fault);
            }
            if ending.is_some() && !session.is_pending() && answers.is_empty() {
                return ending.unwrap_or(End::Done);
            }
            let open = ending.is_none();
            let room = answers.len() < MAX_ANSWERS && session.has_room();
            let reads = open && paid.is_none() && room;
            tokio::select! {
                biased;
                permit = self.sender.reserve(), if !answers.is_empty() => match permit {
                    Ok(permit) => {
                        permit.send(Ok(response(
                            answers.pop_front().expect("the branch asks for an answer that waits"),
                        )));
                        point(Point::SinkAnswered);
                    }
                    Err(_) => return End::ClientGone,
                },
                changed = progress.changed(), if session.is_pending() => {
                    if changed.is_err() {
                        return End::Fault(Fault::Draining);
                    }
                }
                () = self.draining.cancelled(), if open => ending = Some(End::Fault(Fault::Draining)),
                () = session.displaced().cancelled(), if open => {
                    ending = Some(End::Fault(session.displacement()));
                }
                denied = standing.as_mut(), if open => ending = Some(End::Denied(denied)),
                () = tokio::time::sleep(GOODBYE_TIME), if !open => {
                    return overdue(ending, session.is_pending());
                }
                () = until(paid), if paid.is_some() => paid = None,
                message = self.requests.next(), if reads => match message {
                    Ok(Some(received)) => {
                        ending = match take(&mut session, received, &mut answers).await {
                            Ok(over) => over.and_then(|over| pause(over, &mut paid)),
                            Err(end) => Some(end),
                        };
                    }
                    Ok(None) => ending = Some(End::Done),
                    Err(status) => ending = Some(End::Status(status)),
                },
            }
        }
    }
}

/// Reads a request and takes it, a large one when its turn has come; answers whether that was too much, or how the call
/// ends. Nobody drops this, so a turn is kept for no client that does not read.
async fn take(
    session: &mut Session,
    received: Received<v1::DeliverRequest>,
    answers: &mut VecDeque<Answer>,
) -> Result<Option<Over>, End> {
    let over = session.book(received.bytes());
    let turn = session.turn(received.effort()).await.map_err(End::Fault)?;
    let request = received.unfold().await.map_err(End::Status)?;
    let taken = session.take(request).await;
    drop(turn);
    answers.extend(taken.refused.into_iter().map(Answer::Refused));
    match taken.fault {
        Some(fault) => Err(End::Fault(fault)),
        None if taken.closed => Err(End::Done),
        None => Ok(over),
    }
}

/// Who is over a limit by little is read on from a little later; who is so by more is told to come back.
fn pause(over: Over, paid: &mut Option<tokio::time::Instant>) -> Option<End> {
    if over.wait > PATIENCE {
        return Some(End::Fault(Fault::OverQuota(over)));
    }
    *paid = Some(tokio::time::Instant::now() + over.wait);
    None
}

/// Who comes while they owe hears so a little later: those who come back at once, whatever they are told, would otherwise
/// cost the others more than what they send.
async fn hold_up(over: &mut Over, gone: impl Future<Output = ()>, draining: &CancellationToken) {
    let held = over.wait.min(PATIENCE);
    tokio::select! {
        () = tokio::time::sleep(held) => over.wait -= held,
        () = gone => {}
        () = draining.cancelled() => {}
    }
}

async fn until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// How a call ends that is over and could not say everything in time. While something waits for
/// its commit that is never a good end, which would say of a Close that it is durable.
fn overdue(ending: Option<End>, pending: bool) -> End {
    match ending {
        _ if !pending => End::ClientGone,
        None | Some(End::Done | End::ClientGone) => End::Fault(Fault::Overloaded(
            "what was sent last is not durable yet".into(),
        )),
        Some(said) => said,
    }
}

fn response(answer: Answer) -> v1::DeliverResponse {
    v1::DeliverResponse {
        response: Some(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::{Measure, Scope};

    #[test]
    fn a_call_that_is_over_never_ends_well_while_something_waits_for_its_commit() {
        for ending in [None, Some(End::Done)] {
            let End::Fault(fault) = overdue(ending, true) else {
                panic!("the agent would take it for a durable Close");
            };
            let status = status_of(&fault);
            assert_eq!(status.code(), tonic::Code::Unavailable);
            assert!(fault.retry_after().is_some());
        }
        let drained = overdue(Some(End::Fault(Fault::Draining)), true);
        assert!(matches!(drained, End::Fault(Fault::Draining)));
        assert!(matches!(overdue(Some(End::Done), false), End::ClientGone));
    }

    /// Mutations, red: the whole wait is told after a part of it; a stop that has to wait; one who left is waited for.
    #[tokio::test(start_paused = true)]
    async fn who_owes_is_held_up_for_a_moment_and_told_the_rest() {
        let owes = Over {
            scope: Scope::Agent,
            measure: Measure::Bytes,
            who: "press".into(),
            limit: 1.0,
            wait: Duration::from_secs(9),
        };
        let draining = CancellationToken::new();
        let began = tokio::time::Instant::now();
        let mut over = owes.clone();
        hold_up(&mut over, std::future::pending(), &draining).await;
        assert_eq!(began.elapsed(), PATIENCE);
        assert_eq!(over.wait + PATIENCE, owes.wait);
        hold_up(&mut over, std::future::ready(()), &draining).await;
        draining.cancel();
        hold_up(&mut over, std::future::pending(), &draining).await;
        assert_eq!(began.elapsed(), PATIENCE);
    }

    /// Mutation: a hint that is the same for all brings all back at one moment.
    #[test]
    fn those_turned_away_together_are_told_different_times() {
        let told = |_| {
            let status = status_of(&Fault::Overloaded("full".into()));
            let info = tonic_types::StatusExt::get_details_retry_info(&status);
            info.and_then(|info| info.retry_delay).expect("a time")
        };
        let times: std::collections::BTreeSet<Duration> = (0..100).map(told).collect();
        let least = Fault::Overloaded("full".into()).retry_after();
        assert!(times.first() >= least.as_ref(), "{times:?}");
        assert!(times.len() > 50, "{times:?}");
    }
}
