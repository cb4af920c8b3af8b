//! A sender of our own: speaks `weir.v1` by hand and keeps its own record of what it sent, so
//! that an expected set never comes from the table under test.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use weir_proto::batch::{self, Block, Column, Values};
use weir_proto::limits::{MAX_ATTRIBUTES, MAX_NAME_BYTES};
use weir_proto::v1::Kind as ValueKind;
use weir_proto::v1::deliver_response::Response;
use weir_proto::v1::delivery_service_client::DeliveryServiceClient;
use weir_proto::v1::record::Record as Kind;
use weir_proto::v1::{
    Batch, BatchHeader, Clock, Close, DeliverRequest, DeliverResponse, Hello, Record, Report,
    Series, Skip, Welcome,
};

/// No answer of a sink is waited for longer than this.
const LIMIT: Duration = Duration::from_secs(30);

/// A device's clocks, which move only when told to.
#[derive(Clone, Debug)]
pub struct DeviceClock {
    /// Names the boot.
    pub boot_id: [u8; 16],
    /// Nanoseconds since the boot.
    pub monotonic_ns: u64,
    /// Time of day, unix nanoseconds.
    pub wall_ns: i64,
}

impl DeviceClock {
    /// The clocks of boot `tag`, 100 s after it.
    pub fn new(tag: u8, wall_ns: i64) -> Self {
        Self {
            boot_id: [tag; 16],
            monotonic_ns: 100_000_000_000,
            wall_ns,
        }
    }

    /// Both clocks move on.
    pub fn advance(&mut self, by: Duration) {
        let ns = u64::try_from(by.as_nanos()).expect("a test is short");
        self.monotonic_ns += ns;
        self.wall_ns += ns.cast_signed();
    }

    fn message(&self) -> Clock {
        Clock {
            wall_ns: self.wall_ns,
            monotonic_ns: self.monotonic_ns,
        }
    }
}

/// One stream as its sender knows it: numbers the batches and counts the readings.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Identity of the stream, 16 bytes.
    pub id: Vec<u8>,
    /// Name the stream's agent gives itself.
    pub agent: String,
    /// Speaks in Hello and in every header; without one Hello says nothing of clocks.
    pub clock: Option<DeviceClock>,
    /// Other streams that Hello lists.
    pub also_held: Vec<Vec<u8>>,
    next_sequence: u64,
    readings: u64,
    defined: bool,
    fat: bool,
    /// What its series holds.
    kind: ValueKind,
}

impl Stream {
    /// A stream that has sent nothing yet; `tag` makes its id differ from others.
    pub fn new(agent: &str, tag: u8) -> Self {
        Self {
            id: vec![tag; 16],
            agent: agent.to_owned(),
            clock: None,
            also_held: Vec::new(),
            next_sequence: 1,
            readings: 0,
            defined: false,
            fat: false,
            kind: ValueKind::Gauge,
        }
    }

    /// A stream whose batches each carry 8 KiB of definitions: few readings fill a journal.
    pub fn fat(agent: &str, tag: u8) -> Self {
        Self {
            fat: true,
            ..Self::new(agent, tag)
        }
    }

    /// A stream whose readings are texts: for [`Stream::text_batch`].
    pub fn text(agent: &str, tag: u8) -> Self {
        Self {
            kind: ValueKind::Text,
            ..Self::new(agent, tag)
        }
    }

    /// Sequence of the next record.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Readings in every record so far.
    pub fn readings(&self) -> u64 {
        self.readings
    }

    /// The next batch: one value per given time, of the one series `probe.value`.
    pub fn batch(&mut self, times: &[i64], values: &[f64]) -> Batch {
        self.column(times, Values::Numbers(values.to_vec()))
    }

    /// The same of a stream of texts.
    pub fn text_batch(&mut self, times: &[i64], texts: Vec<String>) -> Batch {
        self.column(times, Values::Texts(texts))
    }

    fn column(&mut self, times: &[i64], values: Values) -> Batch {
        let block = Block {
            times: times.to_vec(),
            columns: vec![Column {
                series: 1,
                values,
                present: None,
            }],
        };
        let encoded = batch::encode(&[block]);
        let header = BatchHeader {
            sequence: self.next_sequence,
            readings_before: self.readings,
            readings: encoded.readings,
            encoding: encoded.encoding.into(),
            crc: encoded.crc,
            boot_id: self.boot_id(),
            monotonic_start_ns: self.monotonic_at(encoded.first_ns),
            first_ns: encoded.first_ns,
            last_ns: encoded.last_ns,
            decoded_bytes: encoded.decoded_bytes,
        };
        self.next_sequence += 1;
        self.readings += encoded.readings;
        let series_defined = if self.defined && !self.fat {
            Vec::new()
        } else {
            vec![probe_series(&self.agent, self.fat, self.kind)]
        };
        self.defined = true;
        Batch {
            header: Some(header),
            series_defined,
            payload: encoded.payload,
        }
    }

    /// The next batch: readings one second apart, the values counted on from `first_value`. The stream's
    /// clock moves on with them.
    pub fn read(&mut self, count: u32, first_value: f64) -> Batch {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for i in 0..count {
            let clock = self.clock.as_mut().expect("the test gave it a clock");
            times.push(clock.wall_ns);
            values.push(first_value + f64::from(i));
            clock.advance(Duration::from_secs(1));
        }
        self.batch(&times, &values)
    }

    fn boot_id(&self) -> Vec<u8> {
        let clock = self.clock.as_ref();
        clock.map_or(vec![7; 16], |clock| clock.boot_id.to_vec())
    }

    /// As the clock is set now.
    fn monotonic_at(&self, wall_ns: i64) -> u64 {
        let Some(clock) = &self.clock else { return 1 };
        clock
            .monotonic_ns
            .saturating_add_signed(wall_ns - clock.wall_ns)
    }

    /// Gives up the next sequence without ever sending it: a loss the ledger must show.
    pub fn lose(&mut self, readings: u64) -> u64 {
        let lost = self.next_sequence;
        self.next_sequence += 1;
        self.readings += readings;
        lost
    }

    /// Counts readings as produced that no record will ever carry: a loss the ledger must show.
    pub fn forget(&mut self, readings: u64) {
        self.readings += readings;
    }

    fn hello(&self) -> Hello {
        Hello {
            stream_id: self.id.clone(),
            agent: self.agent.clone(),
            software: "weir-tests".to_owned(),
            boot_id: self.boot_id(),
            oldest_sequence: 1,
            next_sequence: self.next_sequence,
            clock: self.clock.as_ref().map(DeviceClock::message),
            held_streams: [vec![self.id.clone()], self.also_held.clone()].concat(),
            protocol_min: 1,
            protocol_max: 1,
        }
    }
}

/// The one series a [`Stream`] speaks of.
fn probe_series(device: &str, fat: bool, kind: ValueKind) -> Series {
    let attributes = if fat { MAX_ATTRIBUTES } else { 0 };
    let attribute = |number| (format!("attribute.{number}"), "x".repeat(MAX_NAME_BYTES));
    Series {
        r#ref: 1,
        device: device.to_owned(),
        metric: "probe.value".to_owned(),
        unit: "1".to_owned(),
        kind: kind.into(),
        source: "probe".to_owned(),
        attributes: (0..attributes).map(attribute).collect(),
    }
}

/// A call of Deliver that has been welcomed.
pub struct Call {
    requests: mpsc::Sender<DeliverRequest>,
    responses: Streaming<DeliverResponse>,
    /// What the sink said first.
    pub welcome: Welcome,
}

impl Call {
    /// Connects, says Hello and waits for Welcome.
    ///
    /// # Errors
    /// The status the sink ended the call with, or UNAVAILABLE when it cannot be reached.
    pub async fn open(sink: SocketAddr, stream: &Stream) -> Result<Self, Status> {
        let channel = Endpoint::from_shared(format!("http://{sink}"))
            .expect("an address makes a valid URL")
            .connect_timeout(Duration::from_secs(5))
            .connect()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Self::over(channel, None, stream).await
    }

    /// The same over a connection there is, showing this token.
    ///
    /// # Errors
    /// The status the sink ended the call with.
    ///
    /// # Panics
    /// The token is none that a header could hold.
    pub async fn over(
        channel: Channel,
        token: Option<&str>,
        stream: &Stream,
    ) -> Result<Self, Status> {
        let (requests, waiting) = mpsc::channel(64);
        let hello = DeliverRequest {
            hello: Some(stream.hello()),
            ..Default::default()
        };
        requests
            .send(hello)
            .await
            .expect("the receiver is held below");
        let mut request = Request::new(ReceiverStream::new(waiting));
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().expect("a token");
            request.metadata_mut().insert("authorization", value);
        }
        let mut client = DeliveryServiceClient::new(channel)
            .max_decoding_message_size(weir_proto::limits::MAX_MESSAGE_BYTES);
        let mut responses = client.deliver(request).await?.into_inner();
        let first = timed(responses.message()).await?;
        let Some(Response::Welcome(welcome)) = first.and_then(|message| message.response) else {
            return Err(Status::internal("the first answer is not a Welcome"));
        };
        Ok(Self {
            requests,
            responses,
            welcome,
        })
    }

    /// Sends records in one request.
    pub async fn send(&mut self, records: Vec<Kind>) {
        let records = records
            .into_iter()
            .map(|record| Record {
                record: Some(record),
            })
            .collect();
        let request = DeliverRequest {
            records,
            ..Default::default()
        };
        // A call the sink has ended says so at the next `answer`.
        let _ = self.requests.send(request).await;
    }

    /// Sends one batch in a request of its own.
    pub async fn batch(&mut self, batch: Batch) {
        self.send(vec![Kind::Batch(batch)]).await;
    }

    /// Sends one batch in a request that says what the agent knows of its stream.
    pub async fn batch_and_report(&mut self, batch: Batch, report: Report) {
        let request = DeliverRequest {
            records: vec![Record {
                record: Some(Kind::Batch(batch)),
            }],
            report: Some(report),
            ..Default::default()
        };
        let _ = self.requests.send(request).await;
    }

    /// Sends one batch in a request that says what the stream's clock says now.
    pub async fn batch_and_clock(&mut self, batch: Batch, stream: &Stream) {
        let request = DeliverRequest {
            records: vec![Record {
                record: Some(Kind::Batch(batch)),
            }],
            clock: stream.clock.as_ref().map(DeviceClock::message),
            ..Default::default()
        };
        let _ = self.requests.send(request).await;
    }

    /// Sends one Skip in a request of its own.
    pub async fn skip(&mut self, skip: Skip) {
        self.send(vec![Kind::Skip(skip)]).await;
    }

    /// Closes the stream and waits until the sink has ended the call well: everything is durable.
    ///
    /// # Errors
    /// The status the sink ended the call with.
    pub async fn close(mut self, last_sequence: u64) -> Result<(), Status> {
        self.send(vec![Kind::Close(Close { last_sequence })]).await;
        drop(self.requests);
        while timed(self.responses.message()).await?.is_some() {}
        Ok(())
    }

    /// The sink's next answer.
    ///
    /// # Errors
    /// The status the sink ended the call with; OK when it ended without one.
    pub async fn answer(&mut self) -> Result<Response, Status> {
        timed(self.responses.message())
            .await?
            .and_then(|message| message.response)
            .ok_or_else(|| Status::ok("the call has ended"))
    }

    /// Waits until everything through `sequence` is acknowledged.
    ///
    /// # Errors
    /// The status the sink ended the call with.
    pub async fn acked(&mut self, sequence: u64) -> Result<u64, Status> {
        loop {
            if let Response::Ack(ack) = self.answer().await?
                && ack.durable_through >= sequence
            {
                return Ok(ack.durable_through);
            }
        }
    }
}

async fn timed<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(LIMIT, answer)
        .await
        .map_err(|_| Status::deadline_exceeded("no answer within the test's limit"))?
}
