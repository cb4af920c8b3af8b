//! A link that fails on request: a TCP proxy that can be cut, closed to new connections, pointed at
//! another port, and made to lose acknowledgements.
//!
//! Losing acknowledgements needs the frames of HTTP/2: everything a sink says passes, the first
//! DATA frame of a call (its Welcome) too; every later one, an acknowledgement, is thrown away, and
//! soon after the first of them the connection is cut. So the sink has stored what its sender must
//! hold to be unacknowledged.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// From the first acknowledgement that is lost until the connection is cut.
const LOSING: Duration = Duration::from_millis(50);

/// Length, kind, flags and stream of an HTTP/2 frame.
const FRAME_HEADER: usize = 9;
const KIND_DATA: u8 = 0;

/// A running proxy; it ends, and cuts, with this value.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens, for as long as it lives.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    plan: Mutex<Plan>,
    /// Connections of an earlier round end.
    round: watch::Sender<u64>,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Plan {
    /// Where connections go; nowhere when there is none.
    to: Option<SocketAddr>,
    /// So many of the next connections lose their acknowledgements.
    losing: u32,
    /// Whether the two sides are parted: nothing passes, wherever it would go.
    parted: bool,
}

impl Proxy {
    /// Listens on a free port of loopback; every connection is refused until [`Proxy::to`].
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound listener");
        let shared = Arc::new(Shared {
            plan: Mutex::default(),
            round: watch::Sender::new(0),
            lost: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            accepting,
        }
    }

    /// The URL agents are given.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// New connections go there from now on.
    pub fn to(&self, upstream: SocketAddr) {
        self.shared.plan().to = Some(upstream);
    }

    /// Cuts every connection and refuses new ones until [`Proxy::to`].
    pub fn close(&self) {
        self.shared.plan().to = None;
        self.cut();
    }

    /// Cuts every connection and lets nothing through until [`Proxy::heal`].
    pub fn part(&self) {
        self.shared.plan().parted = true;
        self.cut();
    }

    /// The end of [`Proxy::part`].
    pub fn heal(&self) {
        self.shared.plan().parted = false;
    }

    /// Cuts every connection; new ones are let through.
    pub fn cut(&self) {
        self.shared.round.send_modify(|round| *round += 1);
    }

    /// So many of the next connections lose their acknowledgements and are cut.
    pub fn lose_acks(&self, connections: u32) {
        self.shared.plan().losing = connections;
    }

    /// Answers thrown away so far.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        let (upstream, loses) = {
            let mut plan = shared.plan();
            let Some(upstream) = plan.to.filter(|_| !plan.parted) else {
                continue;
            };
            let loses = plan.losing > 0;
            plan.losing = plan.losing.saturating_sub(1);
            (upstream, loses)
        };
        let shared = Arc::clone(&shared);
        let mut round = shared.round.subscribe();
        round.mark_unchanged();
        tokio::spawn(async move {
            tokio::select! {
                // How a connection ends is of no interest: both sides notice.
                _ = carry(client, upstream, loses, &shared) => {}
                _ = round.changed() => {}
            }
        });
    }
}

async fn carry(
    client: TcpStream,
    upstream: SocketAddr,
    loses: bool,
    shared: &Shared,
) -> io::Result<()> {
    let server = TcpStream::connect(upstream).await?;
    for one in [&client, &server] {
        one.set_nodelay(true)?;
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = async {
        if !loses {
            return copy(&mut from_server, &mut to_client).await.map(|_| ());
        }
        let mut losing = Losing::default();
        loop {
            let frame = Frame::read(&mut from_server);
            let frame = match losing.until {
                // Whatever was read of a frame goes down with the connection.
                Some(until) => tokio::time::timeout_at(until, frame).await??,
                None => frame.await?,
            };
            if losing.takes(&frame) {
                shared.lost.fetch_add(1, Ordering::SeqCst);
            } else {
                to_client.write_all(&frame.bytes).await?;
            }
        }
    };
    tokio::select! {
        // Whichever side ends first ends both: a half-closed connection is not what is tried here.
        answered = answers => answered,
        asked = copy(&mut from_client, &mut to_server) => asked.map(|_| ()),
    }
}

/// One frame of HTTP/2, whole.
struct Frame {
    kind: u8,
    stream: u32,
    bytes: Vec<u8>,
}

impl Frame {
    async fn read(from: &mut OwnedReadHalf) -> io::Result<Self> {
        let mut bytes = vec![0; FRAME_HEADER];
        from.read_exact(&mut bytes).await?;
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        let kind = bytes[3];
        let stream = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]);
        bytes.resize(FRAME_HEADER + length as usize, 0);
        from.read_exact(&mut bytes[FRAME_HEADER..]).await?;
        Ok(Self {
            kind,
            stream,
            bytes,
        })
    }
}

/// Which frames of a connection are lost.
#[derive(Default)]
struct Losing {
    welcomed: BTreeSet<u32>,
    /// When the connection is cut.
    until: Option<Instant>,
}

impl Losing {
    /// Whether this one is: data of a call that has had its Welcome.
    fn takes(&mut self, frame: &Frame) -> bool {
        let lost = frame.kind == KIND_DATA && !self.welcomed.insert(frame.stream);
        if lost {
            self.until.get_or_insert_with(|| Instant::now() + LOSING);
        }
        lost
    }
}
