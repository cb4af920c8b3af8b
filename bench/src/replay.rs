//! The standard work as others take it: Prometheus remote write, OTLP over HTTP and over gRPC, to a given URL, so that
//! anyone can put another server beside Weir in one run.
//!
//! The same seeded values, series and times as `fleet`; one request carries one batch of one agent (all samples of all
//! its metrics), and an agent sends the next one when the former was answered. CPU and disk of the other server are for
//! the caller to read: this program cannot see them.

mod otlp;
mod remote_write;

use std::time::Instant;

use anyhow::{Context, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::Method;
use prost::Message;
use serde::Serialize;
use tokio::task::JoinSet;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use crate::fleet::agent::Readings;
use crate::fleet::{self, agent::Source};
use crate::http::Connection;

/// Where gRPC finds OTLP's metrics.
const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// In which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Remote write 1.0: protobuf, snappy, `POST`.
    RemoteWrite,
    /// OTLP metrics, protobuf over HTTP.
    OtlpHttp,
    /// OTLP metrics over gRPC.
    OtlpGrpc,
}

/// How it is run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The protocol.
    #[arg(long, value_enum)]
    pub(crate) format: Format,
    /// `http://host:port/path`; for gRPC without a path.
    #[arg(long)]
    pub(crate) url: String,
    /// Senders, each with one connection.
    #[arg(long, default_value_t = 10)]
    pub(crate) agents: u32,
    /// Metrics of each.
    #[arg(long, default_value_t = 100)]
    pub(crate) metrics: u32,
    /// Samples of every metric in one request.
    #[arg(long, default_value_t = 100)]
    pub(crate) samples_per_batch: u32,
    /// Points over all senders.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) points: u64,
    /// Seed of the values.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    format: String,
    /// Points in requests that were answered with success.
    pub(crate) points: u64,
    seconds: f64,
    points_per_second: f64,
    wire_bytes: u64,
    pub(crate) wire_bytes_per_point: f64,
    pub(crate) answer_p50_ms: f64,
    pub(crate) answer_p99_ms: f64,
}

struct Sums {
    points: u64,
    bytes: u64,
    took: Histogram<u64>,
}

/// Sends everything and waits for every answer.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    let mut senders = JoinSet::new();
    for index in 0..args.agents {
        senders.spawn(send(args.clone(), index));
    }
    let mut all = Sums {
        points: 0,
        bytes: 0,
        took: Histogram::new(3)?,
    };
    while let Some(sent) = senders.join_next().await {
        let sent = sent?.context("a sender stopped")?;
        all.points += sent.points;
        all.bytes += sent.bytes;
        all.took.add(sent.took)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Outcome {
        format: format!("{:?}", args.format),
        points: all.points,
        seconds,
        points_per_second: all.points as f64 / seconds,
        wire_bytes: all.bytes,
        wire_bytes_per_point: all.bytes as f64 / all.points as f64,
        answer_p50_ms: all.took.value_at_quantile(0.5) as f64 / 1e3,
        answer_p99_ms: all.took.value_at_quantile(0.99) as f64 / 1e3,
    })
}

async fn send(args: Args, index: u32) -> anyhow::Result<Sums> {
    let fleet = fleet::Args {
        metrics: args.metrics,
        samples_per_batch: args.samples_per_batch,
        seed: args.seed,
        ..fleet::Args::standard()
    };
    let mut source = Source::new(&fleet, format!("bench-{index}"), index);
    let mut way = Way::open(&args).await?;
    let mut sums = Sums {
        points: 0,
        bytes: 0,
        took: Histogram::new(3)?,
    };
    let per_batch = u64::from(args.metrics) * u64::from(args.samples_per_batch);
    let batches = (args.points / u64::from(args.agents)).div_ceil(per_batch);
    for _ in 0..batches {
        let readings = source.readings_of(args.samples_per_batch);
        let begun = Instant::now();
        sums.bytes += way.send(&readings).await? as u64;
        sums.took
            .record(u64::try_from(begun.elapsed().as_micros())?)?;
        sums.points += per_batch;
    }
    Ok(sums)
}

/// A connection in one of the formats.
enum Way {
    Http {
        connection: Connection,
        path: String,
        format: Format,
    },
    Grpc(Box<tonic::client::Grpc<tonic::transport::Channel>>),
}

impl Way {
    async fn open(args: &Args) -> anyhow::Result<Self> {
        let url: http::Uri = args.url.parse().context("the URL")?;
        if args.format == Format::OtlpGrpc {
            let channel = Endpoint::from_shared(args.url.clone())?.connect().await;
            let channel = channel.with_context(|| format!("cannot reach {url}"))?;
            return Ok(Self::Grpc(Box::new(tonic::client::Grpc::new(channel))));
        }
        let authority = url.authority().context("the URL has no host")?.as_str();
        Ok(Self::Http {
            connection: Connection::open(authority).await?,
            path: url
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            format: args.format,
        })
    }

    /// Answers the bytes of the body.
    async fn send(&mut self, readings: &Readings) -> anyhow::Result<usize> {
        match self {
            Self::Grpc(client) => {
                let request = otlp::request(readings);
                let bytes = request.encoded_len();
                client.ready().await?;
                let codec: ProstCodec<otlp::ExportRequest, otlp::ExportResponse> =
                    ProstCodec::default();
                let path = http::uri::PathAndQuery::from_static(EXPORT);
                let answer = client
                    .unary(tonic::Request::new(request), path, codec)
                    .await?;
                rejected(answer.get_ref())?;
                Ok(bytes)
            }
            Self::Http {
                connection,
                path,
                format,
            } => {
                let (headers, body): (&[(&str, &str)], Vec<u8>) = match format {
                    Format::RemoteWrite => (&remote_write::HEADERS, remote_write::body(readings)?),
                    _ => (&otlp::HEADERS, otlp::request(readings).encode_to_vec()),
                };
                let bytes = body.len();
                let answer = connection
                    .request(Method::POST, path, headers, Bytes::from(body))
                    .await?;
                if *format == Format::OtlpHttp {
                    rejected(&otlp::ExportResponse::decode(answer)?)?;
                }
                Ok(bytes)
            }
        }
    }
}

/// A success of OTLP may have refused a part.
fn rejected(answer: &otlp::ExportResponse) -> anyhow::Result<()> {
    match &answer.partial_success {
        Some(partial) if partial.rejected_data_points > 0 => {
            bail!(
                "{} points were rejected: {}",
                partial.rejected_data_points,
                partial.error_message
            )
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
