//! The connection: one channel to one sink, and the handshake of a call.
//!
//! In: the sink's URL, and a Hello. Out: a [`Call`] with the sink's Welcome. Promises: every step has
//! a deadline; nothing is retried here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use weir_process::clock::Clock;
use weir_process::tls::ClientSettings;
use weir_proto::limits::{MAX_ANSWER_BYTES, MAX_MESSAGE_BYTES, PROTOCOL_VERSION};
use weir_proto::v1;
use weir_proto::v1::deliver_response::Response;
use weir_proto::v1::delivery_service_client::DeliveryServiceClient;

use super::failure::Failure;
use super::time::sample;
use super::traffic::Traffic;
use super::transport::Transport;
pub use super::transport::{Dial, Dialling, Wire};
use crate::identity::Credential;

/// Requests between the session and the transport: one being sent, one ready.
const REQUEST_QUEUE: usize = 1;
/// Measured: with these the client's CPU falls to a quarter of what the defaults cost.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const FRAME_BYTES: u32 = 256 << 10;
/// Balancers reap a connection that is idle for 60 s; our own sink allows pings while idle.
pub(super) const KEEPALIVE_EVERY: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// An open call after its handshake.
pub(crate) struct Call {
    /// Dropping it half-closes the call.
    pub(crate) requests: mpsc::Sender<v1::DeliverRequest>,
    pub(crate) responses: Streaming<v1::DeliverResponse>,
    pub(crate) welcome: v1::Welcome,
    /// What Hello said of the clocks.
    pub(crate) clock: v1::Clock,
}

/// Where the sink is, and the channel to it while there is one.
pub(crate) struct Link {
    endpoint: Endpoint,
    credential: Credential,
    transport: Transport,
    connect_timeout: Duration,
    answer_timeout: Duration,
    /// Held while connecting, so that two calls share one connection.
    channel: tokio::sync::Mutex<Shared>,
    /// Whether a sink has ever answered there: a broken connection is then just that.
    welcomed: AtomicBool,
}

/// The connection, and how often there was a new one.
#[derive(Default)]
struct Shared {
    channel: Option<Channel>,
    connections: u64,
}

impl Link {
    /// `url` is checked by the configuration; the error is for a caller that did not.
    pub(crate) fn new(
        url: &str,
        tls: &ClientSettings,
        connect_timeout: Duration,
        answer_timeout: Duration,
    ) -> Result<Link, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(url.to_owned())?
            .connect_timeout(connect_timeout)
            .http2_keep_alive_interval(KEEPALIVE_EVERY)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(STREAM_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES);
        Ok(Link {
            transport: Transport::new(endpoint.uri(), tls, connect_timeout),
            endpoint,
            credential: Credential::None,
            connect_timeout,
            answer_timeout,
            channel: tokio::sync::Mutex::default(),
            welcomed: AtomicBool::new(false),
        })
    }

    /// Connects by these means from the next connection on.
    pub(crate) fn over(&mut self, dial: Dial) {
        self.transport.over(dial);
    }

    /// Every call shows this from now on.
    pub(crate) fn show(&mut self, credential: Credential) {
        self.credential = credential;
    }

    /// What went over the wire so far.
    pub(crate) fn traffic(&self) -> Arc<Traffic> {
        self.transport.traffic()
    }

    /// The bytes' way.
    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Opens a call for one stream and waits for the sink's Welcome. Hello says what `clock` does once there is a
    /// connection.
    pub(crate) async fn call(
        &self,
        mut hello: v1::Hello,
        clock: &dyn Clock,
    ) -> Result<Call, Failure> {
        let channel = self.channel().await?;
        let clock = sample(clock);
        hello.clock = Some(clock);
        let (requests, outgoing) = mpsc::channel(REQUEST_QUEUE);
        let first = v1::DeliverRequest {
            hello: Some(hello),
            ..v1::DeliverRequest::default()
        };
        requests
            .try_send(first)
            .map_err(|_| Failure::Unreachable("the request queue is closed".to_owned()))?;
        let mut client = DeliveryServiceClient::new(channel)
            .max_decoding_message_size(MAX_ANSWER_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let welcomed = self.welcomed.load(Ordering::Relaxed);
        let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
        self.credential.show(request.metadata_mut())?;
        let handshake = async move {
            let calling = client.deliver(request).await;
            let mut responses = calling
                .map_err(|status| Failure::from_status(&status, welcomed))?
                .into_inner();
            let answer = responses.message().await;
            match answer.map_err(|status| Failure::from_status(&status, welcomed))? {
                Some(v1::DeliverResponse {
                    response: Some(Response::Welcome(welcome)),
                }) => Ok((responses, welcome)),
                Some(_) => Err(Failure::NotASink(
                    "it did not begin with a welcome".to_owned(),
                )),
                None => Err(Failure::Ended),
            }
        };
        let answered = tokio::time::timeout(self.answer_timeout, handshake).await;
        let (responses, welcome) = match answered {
            Ok(answer) => answer?,
            Err(_) if welcomed => return Err(Failure::Silent(self.answer_timeout)),
            Err(_) => {
                let text = format!("no welcome within {} s", self.answer_timeout.as_secs());
                return Err(Failure::NotASink(text));
            }
        };
        if welcome.protocol != 0 && welcome.protocol != PROTOCOL_VERSION {
            let text = format!("it speaks protocol version {}", welcome.protocol);
            return Err(Failure::NotASink(text));
        }
        self.welcomed.store(true, Ordering::Relaxed);
        Ok(Call {
            requests,
            responses,
            welcome,
            clock,
        })
    }

    /// How many connections there have been: what a call that failed was made over.
    pub(crate) async fn connections(&self) -> u64 {
        self.channel.lock().await.connections
    }

    /// Lets go of a connection: the next call connects anew. A newer one stays.
    pub(crate) async fn drop_channel(&self, connections: u64) {
        let mut shared = self.channel.lock().await;
        if shared.connections == connections {
            shared.channel = None;
        }
    }

    async fn channel(&self) -> Result<Channel, Failure> {
        let mut shared = self.channel.lock().await;
        if let Some(channel) = &shared.channel {
            return Ok(channel.clone());
        }
        let connecting = self.transport.connect(&self.endpoint);
        let channel = match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(connected) => connected?,
            Err(_) => {
                let text = format!("no connection within {} s", self.connect_timeout.as_secs());
                return Err(Failure::Unreachable(text));
            }
        };
        shared.connections += 1;
        Ok(shared.channel.insert(channel).clone())
    }
}
