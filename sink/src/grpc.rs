//! The gRPC port: delivery, enrolment, health and reflection.
//!
//! Every call passes `gate`, which knows who makes it. Generated types come in here and stop at `ingest`. A connection is kept alive by pings, so
//! that an agent that vanished does not hold its stream; what one message may make the sink hold
//! is [`MAX_MESSAGE_BYTES`].

mod connection;
mod delivery;
mod enrollment;
mod gate;
mod messages;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic_health::ServingStatus;
use tonic_types::{ErrorDetails, StatusExt as _};
use weir_process::random;
use weir_process::tls::Listener;
use weir_proto::FILE_DESCRIPTOR_SET;
use weir_proto::limits::MAX_MESSAGE_BYTES;
use weir_proto::v1::delivery_service_server::{DeliveryServiceServer, SERVICE_NAME};
use weir_proto::v1::enrollment_service_server::EnrollmentServiceServer;

use crate::access::Access;
use crate::ingest::{Fault, Ingest};

use connection::{Connection, Incoming};
use delivery::Delivery;
use enrollment::Enrollment;
use gate::Gate;
use messages::Own;

/// Pings go out this often, and are answered within [`PING_TIMEOUT`].
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// HTTP/2 windows: what a connection may have in flight before the sink has read it. Fewer, larger
/// frames cost the sending side a quarter of the CPU.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const FRAME_BYTES: u32 = 256 << 10;

/// What a question about the protocol may take: names of ours are far shorter, and headers cannot hold more.
const MAX_SYMBOL_BYTES: usize = 4 << 10;

/// Those who are turned away at one moment come back spread over at most this.
const MOST_SPREAD: Duration = Duration::from_secs(5);

/// Why the port could not be served.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// The address.
    #[error("cannot listen on {address} for gRPC: {source}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The server.
    #[error("gRPC server failed: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// Reflection.
    #[error("gRPC reflection cannot be built: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Takes the address; port 0 takes a free one.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, GrpcError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| GrpcError::Listen { address, source })
}

/// The connections that come in at a port, encrypted or not. Each call has a [`Peer`](weir_process::tls::Peer) in its
/// extensions.
pub fn incoming(listener: Listener) -> impl Stream<Item = Result<Connection, Infallible>> + Send {
    Incoming::from(listener)
}

/// Serves until `token`, then ends every call with what is durable acknowledged, and returns when
/// all connections are closed. Who may call what, `access` says. The connections may be any that tonic can serve: those of
/// [`incoming`], or of a simulated network.
pub async fn serve<I, C, E>(
    incoming: I,
    ingest: Ingest,
    access: Access,
    token: CancellationToken,
) -> Result<(), GrpcError>
where
    I: Stream<Item = Result<C, E>>,
    C: AsyncRead + AsyncWrite + Connected + Send + Unpin + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let (reporter, health) = tonic_health::server::health_reporter();
    let serving = [SERVICE_NAME, ""];
    for service in serving {
        reporter
            .set_service_status(service, ServingStatus::Serving)
            .await;
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?
        // Its answers name what was asked for, in a header.
        .max_decoding_message_size(MAX_SYMBOL_BYTES);
    let calls = TaskTracker::new();
    let delivery = Delivery::new(ingest, access.clone(), calls.clone(), token.clone());
    let delivery =
        DeliveryServiceServer::new(delivery).max_encoding_message_size(MAX_MESSAGE_BYTES);
    let draining = {
        let (token, calls) = (token.clone(), calls.clone());
        async move {
            token.cancelled().await;
            for service in serving {
                reporter
                    .set_service_status(service, ServingStatus::NotServing)
                    .await;
            }
            // The calls end by themselves, each with its own last acknowledgement; only then are
            // the connections closed.
            calls.close();
            calls.wait().await;
        }
    };
    let enrollment = EnrollmentServiceServer::new(Enrollment::new(access.clone()))
        .max_decoding_message_size(enrollment::MAX_REQUEST_BYTES);
    let gate = tower::layer::layer_fn(move |inner| Gate::new(inner, access.clone()));
    Server::builder()
        .layer(gate)
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .add_service(Own(delivery))
        .add_service(enrollment)
        .add_service(health)
        .add_service(reflection)
        .serve_with_incoming_shutdown(incoming, draining)
        .await?;
    Ok(())
}

/// A fault as the agent sees it: code by the one table, and how long to wait where waiting helps.
fn status_of(fault: &Fault) -> Status {
    let code = fault.kind().code();
    match fault.retry_after() {
        Some(delay) => {
            // A thousand that are turned away at one moment must not come back at one moment.
            let spread = delay + random::below(delay.min(MOST_SPREAD));
            let details = ErrorDetails::with_retry_info(Some(spread));
            Status::with_error_details(code, fault.to_string(), details)
        }
        None => Status::new(code, fault.to_string()),
    }
}
