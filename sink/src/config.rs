//! What an operator can set, checked and fixed for the run.
//!
//! In: the table below through the command line, the environment and an optional file. Out: a
//! [`Config`], or every fault in one report.

mod again;
mod check;
mod keys;
mod limits;
#[cfg(test)]
mod tests;
mod tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;
use weir_process::config::{Effective, Faults, Reader, Sources};
use weir_process::env::Environment;
use weir_process::logging::Logging;
use weir_process::secret::Secret;
use weir_process::tls::ServerFiles;
use weir_proto::limits::MAX_BATCH_BYTES;

use crate::ingest::IngestConfig;

pub use again::Again;
pub use keys::TABLE;
pub(crate) use tls::out_of_time;

/// Tenths of `journal.max_bytes` from which nothing more is accepted.
const HIGH_WATER_TENTHS: u64 = 9;

/// Everything a run of the sink needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where everything lies that has no place of its own.
    pub data_dir: PathBuf,
    /// Where agents deliver.
    pub grpc_listen: SocketAddr,
    /// Where questions are answered.
    pub http_listen: SocketAddr,
    /// What both ports are encrypted with; plain where there is nothing.
    pub tls: Option<ServerFiles>,
    /// Whether what is not encrypted may go beyond this machine.
    pub allow_plaintext: bool,
    /// The key of the CA in `tls.ca`, where agents may enrol.
    pub tls_ca_key: Option<PathBuf>,
    /// How long certificates of agents are good, and how long after that they can be renewed.
    pub enroll: (Duration, Duration),
    /// Directory of the journal.
    pub journal_dir: PathBuf,
    /// File of the catalog.
    pub catalog_file: PathBuf,
    /// Directory of the Parquet files.
    pub store_dir: PathBuf,
    /// The journal's sizes.
    pub journal: JournalConfig,
    /// What bounds ingest.
    pub ingest: IngestConfig,
    /// How the fold writes.
    pub store: StoreConfig,
    /// What statements may use.
    pub query: QueryConfig,
    /// What the commands of this program show to a running sink.
    pub token: Option<Secret>,
    /// How long a stop may take.
    pub shutdown_grace: Duration,
    /// What is logged and how.
    pub logging: Logging,
}

/// Sizes of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalConfig {
    /// Most bytes on disk.
    pub max_bytes: u64,
    /// Bytes of one segment.
    pub segment_bytes: u64,
    /// Most bytes that wait for their commit.
    pub queue_bytes: u64,
}

/// How readings become files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreConfig {
    /// Rows in memory from which files are written.
    pub flush_rows: u64,
    /// Longest time between two writes.
    pub flush_interval: Duration,
    /// Bytes of decoded batches that wait for the fold.
    pub intake_bytes: u64,
    /// Bytes of readings that are not in files yet.
    pub buffer_bytes: u64,
    /// How often there is a look at what can be merged or removed.
    pub compaction_interval: Duration,
    /// Small files of one day from which they are merged.
    pub compaction_min_files: u64,
    /// Rows that one merge may take into memory.
    pub compaction_max_rows: u64,
    /// Days after which readings go; 0 keeps them.
    pub retention_days: u64,
}

/// What statements may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryConfig {
    /// Rows of an answer.
    pub max_rows: u64,
    /// Time of a statement.
    pub timeout: Duration,
    /// Memory of all statements together.
    pub memory_bytes: u64,
    /// Of it, the memory of one tenant's statements.
    pub tenant_memory_bytes: u64,
    /// Threads that compute; 0 is one per core.
    pub threads: u64,
    /// Statements at one time; more are turned away.
    pub concurrency: u64,
    /// Of these, statements of one tenant; 0 is no limit of its own.
    pub tenant_concurrency: u64,
}

/// What settings are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To listen from now on, or to say whether that would do: what is opened for it is looked at.
    Start,
    /// To see what is written while the sink listens.
    Serve,
    /// To ask, or to look: where one would listen does not matter.
    Ask,
}

impl Config {
    /// Reads every key. All faults come together.
    pub fn read(reader: Reader, environment: &Environment) -> Result<(Self, Effective), Faults> {
        Self::read_for(Purpose::Serve, reader, environment)
    }

    /// The same for a purpose.
    pub(crate) fn read_for(
        purpose: Purpose,
        mut reader: Reader,
        environment: &Environment,
    ) -> Result<(Self, Effective), Faults> {
        let config = Self::from_reader(purpose, &mut reader, environment);
        let effective = reader.finish()?;
        Ok((config, effective))
    }

    /// The defaults and these keys, by their names in the table: for a sink that runs inside another
    /// program, which neither command line nor environment reaches.
    pub fn from_keys(keys: &[(&'static str, &str)]) -> Result<Self, Faults> {
        let sources = Sources {
            flags: keys
                .iter()
                .map(|(key, value)| (*key, (*value).into()))
                .collect(),
            ..Sources::default()
        };
        let reader = Reader::new(&TABLE, &sources);
        Ok(Self::read(reader, &Environment::default())?.0)
    }

    fn from_reader(purpose: Purpose, reader: &mut Reader, environment: &Environment) -> Self {
        let data_dir = reader.path("data_dir");
        let grpc_listen = reader.address("grpc.listen");
        let http_listen = reader.address("http.listen");
        let (tls, tls_ca_key) = tls::read(reader);
        let journal = read_journal(reader);
        let config = Self {
            journal_dir: place(reader, "log.url", "file", &data_dir.join("log")),
            catalog_file: place(
                reader,
                "catalog.url",
                "sqlite",
                &data_dir.join("catalog.db"),
            ),
            store_dir: place(reader, "store.url", "file", &data_dir.join("store")),
            ingest: read_ingest(reader, journal.max_bytes),
            store: read_store(reader),
            query: read_query(reader),
            token: Some(reader.secret("token").0).filter(|token| !token.is_empty()),
            shutdown_grace: reader.duration("shutdown.grace"),
            logging: Logging::read(reader, environment),
            data_dir,
            grpc_listen,
            http_listen,
            tls,
            allow_plaintext: reader.bool("allow_plaintext"),
            tls_ca_key,
            enroll: (
                reader.duration_within(
                    "enroll.cert_lifetime",
                    Duration::from_secs(5)..=Duration::from_secs(825 * 86_400),
                ),
                reader.duration_within(
                    "enroll.grace",
                    Duration::ZERO..=Duration::from_secs(3650 * 86_400),
                ),
            ),
            journal,
        };
        check::contradictions(reader, &config);
        if purpose != Purpose::Ask {
            check::listening(reader, &config);
        }
        if let (Purpose::Start, Some(files)) = (purpose, &config.tls) {
            tls::open(reader, files, config.tls_ca_key.as_deref());
        }
        config
    }
}

fn read_journal(reader: &mut Reader) -> JournalConfig {
    // A segment must hold the largest record; the whole journal several segments.
    let largest = 4 * MAX_BATCH_BYTES as u64;
    JournalConfig {
        max_bytes: reader.bytes_within("journal.max_bytes", 4 * largest..=1 << 50),
        segment_bytes: reader.bytes_within("journal.segment_bytes", 1 << 20..=4 << 30),
        queue_bytes: reader.bytes_within("journal.queue_bytes", largest..=4 << 30),
    }
}

fn read_ingest(reader: &mut Reader, journal_bytes: u64) -> IngestConfig {
    let window = reader.bytes_within("ingest.window_bytes", 64 << 10..=1 << 30);
    let connections = reader.count_within("ingest.max_connections", 1..=1_000_000);
    let streams = reader.count_within("ingest.max_streams", 1..=100_000_000);
    IngestConfig {
        window_bytes: window,
        budget_bytes: reader.bytes_within("ingest.budget_bytes", 1 << 20..=1 << 40),
        max_connections: size(connections),
        max_streams: size(streams),
        high_water_bytes: journal_bytes / 10 * HIGH_WATER_TENTHS,
        lost_after: reader.duration("ledger.lost_after"),
        limits: limits::read(reader),
    }
}

fn read_store(reader: &mut Reader) -> StoreConfig {
    let seconds = Duration::from_secs;
    StoreConfig {
        flush_rows: reader.count_within("store.flush_rows", 1..=100_000_000),
        flush_interval: reader
            .duration_within("store.flush_interval", seconds(0)..=seconds(86_400)),
        intake_bytes: reader.bytes_within("store.intake_bytes", 0..=64 << 30),
        buffer_bytes: reader.bytes_within("store.buffer_bytes", 1 << 20..=1 << 40),
        compaction_interval: reader
            .duration_within("compaction.interval", seconds(1)..=seconds(86_400)),
        compaction_min_files: reader.count_within("compaction.min_files", 2..=100_000),
        compaction_max_rows: reader.count_within("compaction.max_rows", 1000..=100_000_000),
        retention_days: reader.count_within("retention.days", 0..=36_500),
    }
}

fn read_query(reader: &mut Reader) -> QueryConfig {
    let seconds = Duration::from_secs;
    let memory_bytes = reader.bytes_within("query.memory", 16 << 20..=1 << 40);
    let tenant_memory_bytes = match reader.bytes_within("query.tenant_memory", 0..=1 << 40) {
        0 => memory_bytes / 4 * 3,
        bytes => bytes,
    };
    QueryConfig {
        max_rows: reader.count_within("query.max_rows", 1..=10_000_000),
        timeout: reader.duration_within("query.timeout", Duration::from_millis(1)..=seconds(3600)),
        memory_bytes,
        tenant_memory_bytes,
        threads: reader.count_within("query.threads", 0..=1024),
        concurrency: reader.count_within("query.concurrency", 1..=10_000),
        tenant_concurrency: reader.count_within("query.tenant_concurrency", 0..=10_000),
    }
}

/// The path of a URL whose scheme is built, or the default. Others are refused by name.
fn place(reader: &mut Reader, name: &str, scheme: &str, default: &Path) -> PathBuf {
    let Some(url) = reader.optional_url(name) else {
        return default.to_path_buf();
    };
    match path_of(&url, scheme) {
        Ok(path) => path,
        Err(fault) => {
            reader.fault(name, fault);
            default.to_path_buf()
        }
    }
}

fn path_of(url: &Url, scheme: &str) -> Result<PathBuf, String> {
    let found = url.scheme();
    if found != scheme {
        let planned = matches!(found, "nats" | "postgres" | "postgresql" | "s3");
        let why = if planned {
            "is not built yet"
        } else {
            "is not known"
        };
        return Err(format!("scheme {found} {why}: write {scheme}:///path"));
    }
    if url.host_str().is_some_and(|host| !host.is_empty()) {
        return Err(format!(
            "a path on this machine has no host: write {scheme}:///path"
        ));
    }
    let bytes = url.path().to_owned();
    if bytes.len() < 2 {
        return Err(format!("no path is given: write {scheme}:///path"));
    }
    percent_decoded(&bytes).ok_or_else(|| "path is not UTF-8".to_owned())
}

fn percent_decoded(path: &str) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
    }
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
