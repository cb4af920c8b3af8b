//! The way to the sink: its name, a connection, what is spoken there, and what time it is there.

mod transport;

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use weir_proto::v1::delivery_service_server::SERVICE_NAME;

use super::{Line, Verdict};
use crate::config::Config;
use crate::sender::transport::Transport;
use crate::sender::{ended_tls, reason_of};

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found on the way.
pub(super) struct Reached {
    pub(super) lines: Vec<Line>,
    /// By how many seconds this machine's clock is ahead of the sink's.
    pub(super) ahead: Option<i64>,
}

pub(super) async fn examine(config: &Config) -> Reached {
    let url = &config.sink_url;
    let (host, port) = (
        url.host_str().unwrap_or_default(),
        url.port_or_known_default().unwrap_or_default(),
    );
    let mut lines = Vec::new();
    let mut ahead = None;
    match resolve(host, port).await {
        Err(line) => {
            lines.push(line);
            let why = "the sink's host has no address";
            lines.push(Line::skip("connect", why));
            lines.push(transport::unreached(config, why));
            lines.extend(transport::identity(config));
            lines.push(Line::skip("protocol", why));
        }
        Ok((line, addresses)) => {
            lines.push(line);
            let (line, connected) = connect(&addresses).await;
            lines.push(line);
            let mut found = vec![transport::examine(config, &addresses, connected).await];
            found.extend(transport::identity(config));
            let encrypted = found.iter().all(|line| line.verdict != Verdict::Fail);
            lines.extend(found);
            let (line, found) = match (connected, encrypted) {
                (true, true) => speak(config).await,
                (true, false) => (
                    Line::skip("protocol", "there is no TLS to speak it in"),
                    None,
                ),
                _ => (Line::skip("protocol", "nothing accepts a connection"), None),
            };
            lines.push(line);
            ahead = found;
        }
    }
    Reached { lines, ahead }
}

async fn resolve(host: &str, port: u16) -> Result<(Line, Vec<SocketAddr>), Line> {
    // The brackets of an IPv6 address are the URL's.
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let began = Instant::now();
    let remedy = "check WEIR_AGENT_SINK_URL, and this machine's DNS (/etc/resolv.conf)";
    let found = match timeout(PATIENCE, lookup_host((bare, port))).await {
        Ok(Ok(found)) => found.collect::<Vec<_>>(),
        Ok(Err(error)) => return Err(Line::fail("name", format!("{host}: {error}"), remedy)),
        Err(_) => {
            let found = format!("{host}: no answer within {} s", PATIENCE.as_secs());
            return Err(Line::fail("name", found, remedy));
        }
    };
    if found.is_empty() {
        return Err(Line::fail("name", format!("{host} has no address"), remedy));
    }
    let shown: Vec<String> = found
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    let took = began.elapsed().as_millis();
    let line = Line::ok(
        "name",
        format!("{host} is {} ({took} ms)", shown.join(", ")),
    );
    Ok((line, found))
}

/// The first address that accepts, as the agent would try them.
async fn connect(addresses: &[SocketAddr]) -> (Line, bool) {
    let mut refused = Vec::new();
    for address in addresses {
        let began = Instant::now();
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                let took = began.elapsed().as_millis();
                return (
                    Line::ok("connect", format!("{address} accepts ({took} ms)")),
                    true,
                );
            }
            Ok(Err(error)) => refused.push(format!("{address}: {error}")),
            Err(_) => refused.push(format!(
                "{address}: no answer within {} s",
                PATIENCE.as_secs()
            )),
        }
    }
    let remedy = "start the sink there, or open the way: a firewall that drops packets gives no answer, one that rejects, or no sink, \"refused\"";
    (Line::fail("connect", refused.join("; "), remedy), false)
}

/// Host and port of the sink: the URL's authority may hold a password.
fn place(config: &Config) -> String {
    let (host, port) = (
        config.sink_url.host_str(),
        config.sink_url.port_or_known_default(),
    );
    format!("{}:{}", host.unwrap_or_default(), port.unwrap_or_default())
}

/// Asks for the health of the service that agents call: no stream is opened. Answers by how much this clock is ahead, too.
async fn speak(config: &Config) -> (Line, Option<i64>) {
    let remedy = "WEIR_AGENT_SINK_URL must name the sink's gRPC port (4317 unless configured otherwise), and a proxy between must pass HTTP/2";
    let shown = &place(config);
    let endpoint = match Endpoint::from_shared(config.sink_url.to_string()) {
        Ok(endpoint) => endpoint.connect_timeout(PATIENCE).timeout(PATIENCE),
        Err(error) => return (Line::fail("protocol", reason_of(&error), remedy), None),
    };
    let began = Instant::now();
    let transport = Transport::new(endpoint.uri(), &config.sender.tls, PATIENCE);
    let asking = async {
        let channel = transport
            .connect(&endpoint)
            .await
            .map_err(|failure| failure.to_string())?;
        let mut request = Request::new(HealthCheckRequest {
            service: SERVICE_NAME.to_owned(),
        });
        // A sink looks at what is shown also where it asks for nothing.
        config
            .sender
            .credential
            .show(request.metadata_mut())
            .map_err(|error| error.to_string())?;
        Ok::<_, String>(HealthClient::new(channel).check(request).await)
    };
    let answer = match timeout(PATIENCE, asking).await {
        Err(_) => Err(format!(
            "{shown} did not answer within {} s",
            PATIENCE.as_secs()
        )),
        Ok(answer) => answer,
    };
    let answer = match answer {
        Err(reason) => {
            let found = format!("what listens at {shown} does not speak gRPC: {reason}");
            return (Line::fail("protocol", found, remedy), None);
        }
        Ok(answer) => answer,
    };
    let took = began.elapsed().as_millis();
    match answer {
        Ok(answer) => {
            let ahead = answer
                .metadata()
                .get("date")
                .and_then(|date| ahead(date.to_str().ok()?));
            let line = match answer.into_inner().status() {
                ServingStatus::Serving => Line::ok(
                    "protocol",
                    format!("a sink serves {SERVICE_NAME} ({took} ms)"),
                ),
                _ => Line::fail(
                    "protocol",
                    "the sink is there and does not serve: it is starting or stopping",
                    "wait; `weir-sink health` there says what it waits for",
                ),
            };
            (line, ahead)
        }
        Err(status) => (foreign(shown, &status, remedy), None),
    }
}

fn foreign(shown: &str, status: &Status, remedy: &str) -> Line {
    if let Some(found) = ended_tls(status) {
        let remedy = "the sink's log says the same from its side";
        return Line::fail("protocol", found, remedy);
    }
    let found = match status.code() {
        Code::NotFound | Code::Unimplemented => {
            format!(
                "what listens at {shown} speaks gRPC and does not know {SERVICE_NAME}: it is no sink"
            )
        }
        Code::Unauthenticated | Code::PermissionDenied => {
            let found = format!("the sink does not let this agent in: {}", status.message());
            return Line::fail(
                "protocol",
                found,
                "WEIR_AGENT_SINK_TOKEN_FILE names the file of its token",
            );
        }
        _ if status.source().is_some() => {
            let reason = reason_of(status);
            format!("what listens at {shown} does not speak gRPC: {reason}")
        }
        _ => format!(
            "what listens at {shown} answers {:?}: {}",
            status.code(),
            status.message()
        ),
    };
    Line::fail("protocol", found, remedy)
}

/// The sink's time as its HTTP date says, which is whole seconds.
fn ahead(date: &str) -> Option<i64> {
    let there = httpdate::parse_http_date(date).ok()?;
    let now = SystemTime::now();
    match now.duration_since(there) {
        Ok(ahead) => i64::try_from(ahead.as_secs()).ok(),
        Err(behind) => i64::try_from(behind.duration().as_secs())
            .ok()
            .map(|seconds| -seconds),
    }
}
