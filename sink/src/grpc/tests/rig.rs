//! A served ingest without a fold, and a client that speaks the protocol by hand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use weir_journal::{Committer, Disk, Journal, Options};
use weir_process::clock::SystemClock;
use weir_proto::batch::{Block, Column, Values, encode};
use weir_proto::v1;
use weir_proto::v1::deliver_response::Response as Answer;
use weir_proto::v1::delivery_service_client::DeliveryServiceClient;
use weir_proto::v1::record::Record;

use crate::access::Access;
use crate::catalog::Catalog;
use crate::fold::Arrival;
use crate::grpc;
use crate::ingest::{Ingest, IngestConfig, Limits, Opener};
use crate::metrics::IngestMetrics;

const LIMIT: Duration = Duration::from_secs(30);

/// Where nobody is asked who it is.
pub(super) const ANYBODY: Opener<'static> = Opener {
    tenant: "default",
    from: None,
    covers: &|_| true,
};

pub(super) struct Rig {
    pub(super) ingest: Ingest,
    pub(super) token: CancellationToken,
    journal: Journal,
    committer: Option<Committer>,
    committing: Option<std::thread::JoinHandle<()>>,
    arrivals: Arc<Mutex<Vec<Arc<Arrival>>>>,
    address: std::net::SocketAddr,
    serving: JoinHandle<()>,
    place: tempfile::TempDir,
}

impl Rig {
    pub(super) async fn start() -> Self {
        let mut rig = Self::paused().await;
        rig.commit();
        rig
    }

    /// Appends are numbered and not committed until [`Rig::commit`].
    pub(super) async fn paused() -> Self {
        Self::open(tempfile::tempdir().unwrap(), Options::default(), u64::MAX).await
    }

    /// Paused, and the journal is busy once so many bytes wait.
    pub(super) async fn with_queue(queue_bytes: usize) -> Self {
        let options = Options {
            queue_bytes,
            ..Options::default()
        };
        Self::open(tempfile::tempdir().unwrap(), options, u64::MAX).await
    }

    pub(super) async fn with_high_water(bytes: u64) -> Self {
        Self::open(tempfile::tempdir().unwrap(), Options::default(), bytes).await
    }

    /// Committing, and everybody may send so much.
    pub(super) async fn limited(limits: Limits) -> Self {
        let place = tempfile::tempdir().unwrap();
        let mut rig = Self::with(place, Options::default(), u64::MAX, limits).await;
        rig.commit();
        rig
    }

    async fn open(place: tempfile::TempDir, options: Options, high_water_bytes: u64) -> Self {
        Self::with(place, options, high_water_bytes, Limits::default()).await
    }

    async fn with(
        place: tempfile::TempDir,
        options: Options,
        high_water_bytes: u64,
        limits: Limits,
    ) -> Self {
        let options = Options {
            segment_bytes: 1 << 20,
            ..options
        };
        let dir = place.path().join("log");
        let (journal, committer) = Journal::open(Arc::new(Disk), &dir, options).unwrap();
        let arrivals: Arc<Mutex<Vec<Arc<Arrival>>>> = Arc::default();
        let offered = Arc::clone(&arrivals);
        let ingest = Ingest::new(
            journal.clone(),
            Arc::new(move |parcel| {
                let arrivals = parcel.arrivals().into_iter().map(Arc::new);
                offered.lock().unwrap().extend(arrivals);
            }),
            Arc::new(SystemClock),
            IngestConfig {
                window_bytes: 1 << 20,
                budget_bytes: 1 << 30,
                max_connections: 16,
                max_streams: 16,
                high_water_bytes,
                lost_after: std::time::Duration::ZERO,
                limits: limits.into(),
            },
            IngestMetrics::default(),
        );
        let catalog = Catalog::open(&place.path().join("catalog.db"))
            .await
            .unwrap();
        ingest.restore(&catalog, 0).await.unwrap();
        let listener = grpc::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let token = CancellationToken::new();
        let served = grpc::serve(
            grpc::incoming(listener.into()),
            ingest.clone(),
            Access::open_to_all(),
            token.clone(),
        );
        let serving = tokio::spawn(async move { served.await.unwrap() });
        Self {
            ingest,
            token,
            journal,
            committer: Some(committer),
            committing: None,
            arrivals,
            address,
            serving,
            place,
        }
    }

    pub(super) fn commit(&mut self) {
        let committer = self.committer.take().unwrap();
        self.committing = Some(std::thread::spawn(move || {
            committer.run();
        }));
    }

    /// Ends this life and begins the next on the same directory.
    pub(super) async fn restart(self) -> Self {
        self.token.cancel();
        timely(self.serving).await.unwrap();
        self.journal.close();
        self.committing.unwrap().join().unwrap();
        drop((self.ingest, self.journal));
        let mut rig = Self::open(self.place, Options::default(), u64::MAX).await;
        rig.commit();
        rig
    }

    pub(super) async fn served(self) {
        timely(self.serving).await.unwrap();
    }

    pub(super) fn arrivals(&self) -> Vec<Arc<Arrival>> {
        self.arrivals.lock().unwrap().clone()
    }

    pub(super) async fn channel(&self) -> Channel {
        let url = format!("http://{}", self.address);
        Endpoint::from_shared(url).unwrap().connect().await.unwrap()
    }

    pub(super) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        timely(async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

async fn timely<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .expect("it came within the limit")
}

pub(super) struct Client {
    pub(super) channel: Channel,
    pub(super) welcome: v1::Welcome,
    pub(super) answers: Streaming<v1::DeliverResponse>,
    pub(super) last_ack: u64,
    requests: mpsc::Sender<v1::DeliverRequest>,
}

impl Client {
    pub(super) async fn open(rig: &Rig, hello: v1::Hello) -> Result<Self, Status> {
        Self::on(rig.channel().await, hello).await
    }

    pub(super) async fn on(channel: Channel, hello: v1::Hello) -> Result<Self, Status> {
        let (requests, waiting) = mpsc::channel(16);
        let first = v1::DeliverRequest {
            hello: Some(hello),
            ..Default::default()
        };
        requests.send(first).await.unwrap();
        let answers = DeliveryServiceClient::new(channel.clone())
            .deliver(ReceiverStream::new(waiting))
            .await?;
        let mut answers = answers.into_inner();
        let answer = timely(answers.message())
            .await?
            .and_then(|answer| answer.response);
        let Some(Answer::Welcome(welcome)) = answer else {
            panic!("the first answer is {answer:?}");
        };
        Ok(Self {
            channel,
            welcome,
            answers,
            last_ack: 0,
            requests,
        })
    }

    pub(super) async fn request(&mut self, request: v1::DeliverRequest) {
        self.requests.send(request).await.unwrap();
    }

    pub(super) async fn send(&mut self, records: Vec<Record>) {
        let records = records.into_iter().map(|record| v1::Record {
            record: Some(record),
        });
        let request = v1::DeliverRequest {
            records: records.collect(),
            ..Default::default()
        };
        self.request(request).await;
    }

    pub(super) async fn answer(&mut self) -> Result<Option<Answer>, Status> {
        let answer = timely(self.answers.message()).await?;
        let answer = answer.and_then(|answer| answer.response);
        if let Some(Answer::Ack(ack)) = &answer {
            self.last_ack = ack.durable_through;
        }
        Ok(answer)
    }

    pub(super) async fn acked(&mut self, sequence: u64) -> u64 {
        loop {
            match self.answer().await.unwrap().expect("the call goes on") {
                Answer::Ack(ack) if ack.durable_through >= sequence => return ack.durable_through,
                _ => {}
            }
        }
    }

    /// How the call ends.
    pub(super) async fn ended(&mut self) -> Status {
        loop {
            match self.answer().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("ended"),
                Err(status) => return status,
            }
        }
    }
}

pub(super) fn hello(tag: u8) -> v1::Hello {
    v1::Hello {
        stream_id: vec![tag; 16],
        agent: "tester".into(),
        protocol_min: 1,
        protocol_max: 1,
        ..Default::default()
    }
}

pub(super) fn series() -> v1::Series {
    v1::Series {
        r#ref: 1,
        device: "press".into(),
        metric: "press.force".into(),
        kind: v1::Kind::Gauge.into(),
        ..Default::default()
    }
}

/// Three readings of series 1, which batch 1 defines.
pub(super) fn batch(sequence: u64, readings_before: u64) -> Record {
    let encoded = encode(&[Block {
        times: vec![1, 2, 3],
        columns: vec![Column {
            series: 1,
            values: Values::Numbers(vec![1.0, 2.0, 3.5]),
            present: None,
        }],
    }]);
    let series_defined = if sequence == 1 {
        vec![series()]
    } else {
        Vec::new()
    };
    Record::Batch(v1::Batch {
        header: Some(v1::BatchHeader {
            sequence,
            readings_before,
            ..encoded.header()
        }),
        series_defined,
        payload: encoded.payload,
    })
}
