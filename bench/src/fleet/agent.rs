//! One agent of the fleet: encodes, sends within the window, waits for acknowledgements.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Endpoint, Uri};
use weir_process::tls::{Client, ClientSettings, Trust};
use weir_proto::batch::{self, Block, Column, Values};
use weir_proto::v1::deliver_response::Response;
use weir_proto::v1::delivery_service_client::DeliveryServiceClient;
use weir_proto::v1::record::Record as Kind;
use weir_proto::v1::{
    Batch, BatchHeader, DeliverRequest, DeliverResponse, Hello, Record, Series, Welcome,
};

use super::signal::Signal;
use super::{Args, Tally};

const SECOND_NS: i64 = 1_000_000_000;

/// Readings of one agent, for protocols of others.
pub(crate) struct Readings {
    pub(crate) device: String,
    /// Unix nanoseconds, shared by all columns.
    pub(crate) times: Vec<i64>,
    /// Metrics and their values.
    pub(crate) columns: Vec<(String, Vec<f64>)>,
}

/// Makes the batches of one stream.
pub(crate) struct Source {
    agent: String,
    signals: Vec<Signal>,
    next_sequence: u64,
    readings: u64,
    next_time_ns: i64,
    interval_ns: i64,
}

impl Source {
    pub(crate) fn new(args: &Args, agent: String, index: u32) -> Self {
        let base = args.seed.wrapping_mul(1_000_003) + u64::from(index) * u64::from(args.metrics);
        let seconds = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs().saturating_sub(args.ago));
        Self {
            agent,
            signals: (0..u64::from(args.metrics))
                .map(|metric| Signal::new(base + metric))
                .collect(),
            next_sequence: 1,
            readings: 0,
            next_time_ns: i64::try_from(seconds).unwrap_or(0) * SECOND_NS,
            interval_ns: i64::from(args.interval) * SECOND_NS,
        }
    }

    fn series(&self) -> Vec<Series> {
        (0..self.signals.len())
            .map(|metric| Series {
                r#ref: u32::try_from(metric + 1).unwrap_or(u32::MAX),
                device: self.agent.clone(),
                metric: format!("bench.metric_{metric:03}"),
                unit: "Cel".to_owned(),
                kind: weir_proto::v1::Kind::Gauge.into(),
                source: "bench".to_owned(),
                attributes: Default::default(),
            })
            .collect()
    }

    /// The next readings, of so many samples.
    fn take(&mut self, samples: u32) -> (Vec<i64>, Vec<Vec<f64>>) {
        let times: Vec<i64> = (0..i64::from(samples))
            .map(|sample| self.next_time_ns + sample * self.interval_ns)
            .collect();
        self.next_time_ns += i64::from(samples) * self.interval_ns;
        let columns = self
            .signals
            .iter_mut()
            .map(|signal| (0..samples).map(|_| signal.next()).collect())
            .collect();
        (times, columns)
    }

    /// The next readings, with the names of their series.
    pub(crate) fn readings_of(&mut self, samples: u32) -> Readings {
        let (times, columns) = self.take(samples);
        let named = self.series().into_iter().map(|series| series.metric);
        Readings {
            device: self.agent.clone(),
            times,
            columns: named.zip(columns).collect(),
        }
    }

    /// The next batch, of so many samples.
    pub(crate) fn batch(&mut self, samples: u32) -> Batch {
        let (times, columns) = self.take(samples);
        let columns = columns
            .into_iter()
            .zip(1..)
            .map(|(values, series)| Column {
                series,
                values: Values::Numbers(values),
                present: None,
            })
            .collect();
        let encoded = batch::encode(&[Block { times, columns }]);
        let header = BatchHeader {
            sequence: self.next_sequence,
            readings_before: self.readings,
            readings: encoded.readings,
            encoding: encoded.encoding.into(),
            crc: encoded.crc,
            boot_id: vec![1; 16],
            monotonic_start_ns: 1,
            first_ns: encoded.first_ns,
            last_ns: encoded.last_ns,
            decoded_bytes: encoded.decoded_bytes,
        };
        let series_defined = if self.next_sequence == 1 {
            self.series()
        } else {
            Vec::new()
        };
        self.next_sequence += 1;
        self.readings += encoded.readings;
        Batch {
            header: Some(header),
            series_defined,
            payload: encoded.payload,
        }
    }
}

/// A request that waits for its acknowledgement.
struct Waiting {
    last_sequence: u64,
    bytes: u64,
    sent: Instant,
}

/// A connection within TLS, as an agent makes it.
async fn encrypted(client: Arc<Client>, url: Uri) -> anyhow::Result<TokioIo<impl Wire>> {
    let (host, port) = (url.host().context("a host")?, url.port_u16());
    let tcp = TcpStream::connect((host, port.context("a port")?)).await?;
    tcp.set_nodelay(true)?;
    Ok(TokioIo::new(client.connect(tcp, host, b"h2").await?))
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// The call and what is under way in it.
pub(crate) struct Link {
    requests: mpsc::Sender<DeliverRequest>,
    responses: Streaming<DeliverResponse>,
    window: u64,
    outstanding: u64,
    waiting: VecDeque<Waiting>,
}

impl Link {
    pub(crate) async fn open(args: &Args, agent: &str, index: u32) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(args.sink.clone())?
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(4 << 20)
            .connect_timeout(Duration::from_secs(30));
        let connected = match &args.ca {
            None => endpoint.connect().await,
            Some(ca) => {
                let client = Arc::new(Client::new(ClientSettings {
                    trust: Trust::File(ca.clone()),
                    identity: None,
                    setting: "--ca",
                }));
                let service = tower::service_fn(move |url| encrypted(Arc::clone(&client), url));
                endpoint.connect_with_connector(service).await
            }
        };
        let channel =
            connected.with_context(|| format!("cannot reach the sink at {}", args.sink))?;
        let (requests, waiting) = mpsc::channel(4);
        let mut stream_id = index.to_be_bytes().to_vec();
        stream_id.extend_from_slice(&agent.as_bytes()[agent.len().saturating_sub(12)..]);
        stream_id.resize(16, 0);
        let hello = Hello {
            stream_id: stream_id.clone(),
            agent: agent.to_owned(),
            software: concat!("weir-bench/", env!("CARGO_PKG_VERSION")).to_owned(),
            boot_id: vec![1; 16],
            oldest_sequence: 1,
            next_sequence: 1,
            clock: None,
            held_streams: vec![stream_id],
            protocol_min: 1,
            protocol_max: 1,
        };
        requests
            .send(DeliverRequest {
                hello: Some(hello),
                ..Default::default()
            })
            .await?;
        let mut call = tonic::Request::new(ReceiverStream::new(waiting));
        if let Some(token) = &args.token {
            let shown = format!("Bearer {token}").parse();
            let shown = shown.context("the token has characters that no header may have")?;
            call.metadata_mut().insert("authorization", shown);
        }
        let mut responses = DeliveryServiceClient::new(channel)
            .max_encoding_message_size(weir_proto::limits::MAX_MESSAGE_BYTES)
            .deliver(call)
            .await?
            .into_inner();
        let first = responses.message().await?.and_then(|first| first.response);
        let Some(Response::Welcome(Welcome { window_bytes, .. })) = first else {
            bail!("the sink did not say Welcome");
        };
        Ok(Self {
            requests,
            responses,
            window: window_bytes,
            outstanding: 0,
            waiting: VecDeque::new(),
        })
    }

    pub(crate) async fn send(
        &mut self,
        batches: Vec<Batch>,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let last_sequence = batches
            .last()
            .and_then(|batch| batch.header.as_ref())
            .map_or(0, |header| header.sequence);
        let bytes = batches.iter().map(|batch| batch.payload.len() as u64).sum();
        while self.outstanding > 0 && self.outstanding + bytes > self.window {
            self.answer(tally).await?;
        }
        let records = batches
            .into_iter()
            .map(|batch| Record {
                record: Some(Kind::Batch(batch)),
            })
            .collect();
        let request = DeliverRequest {
            records,
            ..Default::default()
        };
        tally.wire_bytes += request.encoded_len() as u64;
        self.outstanding += bytes;
        self.waiting.push_back(Waiting {
            last_sequence,
            bytes,
            sent: Instant::now(),
        });
        self.requests
            .send(request)
            .await
            .context("the sink ended the call")
    }

    /// Takes answers as they come, so that their time is theirs and not that of the next request.
    async fn answers_until(
        &mut self,
        due: tokio::time::Instant,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => return Ok(()),
                answered = self.answer(tally) => answered?,
            }
        }
    }

    /// Waits for what is under way.
    pub(crate) async fn settle(&mut self, tally: &mut Tally) -> anyhow::Result<()> {
        while !self.waiting.is_empty() {
            self.answer(tally).await?;
        }
        Ok(())
    }

    /// Sends the last batch's number again with a payload of so many bytes, and waits for the answer that the
    /// sink has it.
    pub(crate) async fn send_again(&mut self, source: &Source, bytes: usize) -> anyhow::Result<()> {
        let header = BatchHeader {
            sequence: source.next_sequence - 1,
            ..BatchHeader::default()
        };
        let batch = Batch {
            header: Some(header),
            series_defined: Vec::new(),
            payload: vec![0x5a; bytes].into(),
        };
        let mut tally = Tally::new();
        self.send(vec![batch], &mut tally).await?;
        self.settle(&mut tally).await
    }

    async fn answer(&mut self, tally: &mut Tally) -> anyhow::Result<()> {
        let message = self.responses.message().await?;
        match message.and_then(|message| message.response) {
            Some(Response::Ack(ack)) => {
                while let Some(first) = self.waiting.front()
                    && first.last_sequence <= ack.durable_through
                {
                    let micros = first.sent.elapsed().as_micros();
                    tally
                        .latency
                        .record(u64::try_from(micros).unwrap_or(u64::MAX))?;
                    self.outstanding -= first.bytes;
                    self.waiting.pop_front();
                }
                Ok(())
            }
            Some(Response::Refused(refused)) => bail!("the sink refused a batch: {refused:?}"),
            other => bail!("the sink ended the call or spoke out of turn: {other:?}"),
        }
    }
}

/// Sends this agent's share and waits for the last acknowledgement.
pub(crate) async fn run(args: Args, agent: String, index: u32) -> anyhow::Result<Tally> {
    let mut tally = Tally::new();
    let mut source = Source::new(&args, agent.clone(), index);
    let mut link = Link::open(&args, &agent, index).await?;
    let per_batch = u64::from(args.metrics) * u64::from(args.samples_per_batch);
    let mut batches = (args.points / u64::from(args.agents)).div_ceil(per_batch);
    let rate = args.rate / f64::from(args.agents);
    let per_request = per_batch as f64 * args.batches_per_request as f64;
    // Agents that began together would send together.
    let phase = f64::from(index) / f64::from(args.agents) * per_request;
    let begun = tokio::time::Instant::now();
    while batches > 0 {
        if rate > 0.0 {
            let due = (phase + source.readings as f64) / rate;
            link.answers_until(begun + Duration::from_secs_f64(due), &mut tally)
                .await?;
        }
        let count = batches.min(args.batches_per_request as u64);
        let request = (0..count)
            .map(|_| source.batch(args.samples_per_batch))
            .collect();
        link.send(request, &mut tally).await?;
        batches -= count;
    }
    link.settle(&mut tally).await?;
    tally.points = source.readings;
    Ok(tally)
}
