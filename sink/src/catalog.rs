//! What the sink knows beside the files: how far the journal is folded, every stream with
//! its counts, every series, every file, what could not be folded, who may speak, and what was done.
//!
//! In: one [`Commit`] per flush of the fold, written as one transaction that moves the
//! position by compare-and-set or does nothing at all. Out: the state a restart begins with,
//! the live files, and the two sums of an audit.
//!
//! Promise: a commit is durable when it returns, happens once or not at all, and is refused
//! when another process has taken over or the position is not where the caller left it.

mod access;
mod backend;
mod credentials;
mod enrolment;
mod extent;
mod files;
mod load;
mod memory;
mod migrate;
mod sqlite;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use weir_proto::v1;

use crate::model::StreamId;

pub use backend::Backend;
pub use credentials::{Certificate, Deed, Deeds, EnrollToken, Enrolled, Token};
pub use extent::{Extent, Place};
pub use memory::{Faults, Memory};
pub use sqlite::Sqlite;

/// The one partition there is while one sink folds the whole journal.
pub(crate) const PARTITION: i64 = 0;

/// A handle; clones share what stands behind it. Its methods are those of [`Backend`].
#[derive(Debug, Clone)]
pub struct Catalog {
    backend: Arc<dyn Backend>,
}

impl Catalog {
    /// The catalog in this database.
    pub fn new(backend: impl Backend + 'static) -> Self {
        Self {
            backend: Arc::new(backend),
        }
    }

    /// The catalog in one SQLite file, which is made if it is not there.
    pub async fn open(path: &Path) -> Result<Self, CatalogError> {
        Ok(Self::new(Sqlite::open(path).await?))
    }
}

impl Deref for Catalog {
    type Target = dyn Backend;

    fn deref(&self) -> &Self::Target {
        &*self.backend
    }
}

/// What can be told of one stream at one position of the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamLedger {
    /// Whose stream it is.
    pub tenant: Arc<str>,
    /// Who sends it.
    pub agent: Arc<str>,
    /// Drawn by the agent when it opened its spool.
    pub stream_id: StreamId,
    /// Every sequence through this one is folded; 0 before the first.
    pub watermark: u64,
    /// Checksum of the batch at the watermark; 0 when a skip stands there.
    pub last_crc: u32,
    /// Readings the agent had produced by the watermark, by the count in its headers.
    pub readings_through: u64,
    /// Rows folded, in files or still in memory, ever.
    pub stored: u64,
    /// Readings that will never be stored, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Readings that arrived again and were not stored again.
    pub duplicates: u64,
    /// The agent said that nothing follows.
    pub closed: bool,
    /// What the agent last said of this stream.
    pub report: Option<v1::Report>,
    /// When it said so, by the sink's clock; 0 when never.
    pub report_at_ns: i64,
    /// When the first record was received.
    pub first_seen_ns: i64,
    /// When the last record was received.
    pub last_seen_ns: i64,
    /// Sink time minus agent time at the last record.
    pub clock_offset_ns: i64,
    /// When the sink decided that the agent holds this stream no more; 0 while it may.
    pub lost_at_ns: i64,
}

impl StreamLedger {
    /// A stream nothing is known of yet.
    pub fn new(tenant: Arc<str>, agent: Arc<str>, stream_id: StreamId, seen_ns: i64) -> Self {
        Self {
            tenant,
            agent,
            stream_id,
            watermark: 0,
            last_crc: 0,
            readings_through: 0,
            stored: 0,
            dropped: BTreeMap::new(),
            duplicates: 0,
            closed: false,
            report: None,
            report_at_ns: 0,
            first_seen_ns: seen_ns,
            last_seen_ns: seen_ns,
            clock_offset_ns: 0,
            lost_at_ns: 0,
        }
    }

    /// Readings with a known reason why they are not stored.
    pub fn dropped_total(&self) -> u64 {
        self.dropped
            .values()
            .fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Readings through the watermark that are neither stored nor dropped for a reason.
    /// Zero unless something was lost (positive) or stored twice (negative).
    pub fn unexplained(&self) -> i64 {
        let rest = i128::from(self.readings_through)
            - i128::from(self.stored)
            - i128::from(self.dropped_total());
        i64::try_from(rest).unwrap_or(if rest < 0 { i64::MIN } else { i64::MAX })
    }
}

/// What makes a series the same series. The order of the fields is the order rows are
/// stored in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    /// Whose it is; stored in the path, not in a column.
    pub tenant: Arc<str>,
    /// A dotted name.
    pub metric: Arc<str>,
    /// What was measured.
    pub device: Arc<str>,
    /// Canonical JSON: one object, keys sorted, `{}` when there are none.
    pub attributes: Arc<str>,
    /// UCUM, empty where there is none.
    pub unit: Arc<str>,
    /// `gauge`, `counter`, `bool` or `text`.
    pub kind: Arc<str>,
    /// The configured input of the agent.
    pub source: Arc<str>,
    /// Who sent it.
    pub agent: Arc<str>,
}

/// One Parquet file the catalog vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Object path below the store's root.
    pub path: String,
    /// Whose rows.
    pub tenant: Arc<str>,
    /// The day in its path, `YYYY-MM-DD`.
    pub date: String,
    /// Size of the object.
    pub bytes: u64,
    /// Rows in it.
    pub rows: u64,
    /// Observed time of its first and last reading.
    pub min_ns: i64,
    /// See `min_ns`.
    pub max_ns: i64,
    /// When its newest row was received; retention counts from here.
    pub max_received_ns: i64,
    /// Journal records (from, through] are where its rows came from.
    pub from: u64,
    /// See `from`.
    pub through: u64,
    /// crc32c of the whole object; `None` where it was written before there was one.
    pub crc: Option<u32>,
    /// Of which metrics and devices its rows are; `None` where it was written before that was noted.
    pub extent: Option<Extent>,
}

/// A file whose loss an operator has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostFile {
    /// Its path, as it was.
    pub path: String,
    /// Whose rows.
    pub tenant: Arc<str>,
    /// Rows it held.
    pub rows: u64,
    /// When the operator said so.
    pub accepted_at_ns: i64,
}

/// How far the journal is folded, and who may move it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The journal the numbers belong to.
    pub journal_id: [u8; 16],
    /// Everything through this number is in committed files.
    pub number: u64,
    /// Grows with every process that takes the fold over.
    pub lease_epoch: i64,
}

/// A record the fold could not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The journal it stands in.
    pub journal_id: [u8; 16],
    /// Its number there.
    pub number: u64,
    /// Whose it is; empty when that cannot be read.
    pub tenant: String,
    /// Its stream; empty when that cannot be read.
    pub stream_id: Vec<u8>,
    /// Its sequence; 0 when that cannot be read.
    pub sequence: u64,
    /// Readings that went with it.
    pub readings: u64,
    /// Why.
    pub error: String,
    /// The record as it stands in the journal.
    pub body: Bytes,
}

/// Numbers of a journal that can no longer be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalLoss {
    /// The journal.
    pub journal_id: [u8; 16],
    /// First lost number.
    pub from: u64,
    /// Last lost number; `u64::MAX` when unknown.
    pub through: u64,
    /// `damaged` or `replaced`.
    pub reason: String,
}

/// Everything one flush changes, committed together or not at all.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Where the position must be, and whose lease it must be under.
    pub expected: Position,
    /// Where it goes.
    pub through: u64,
    /// Files that become visible; their intents end.
    pub files: Vec<DataFile>,
    /// Streams that changed, by their number.
    pub streams: Vec<(u32, StreamLedger)>,
    /// New series, by their number.
    pub series: Vec<(u32, SeriesKey)>,
    /// New meanings: (stream, ref, series).
    pub definitions: Vec<(u32, u32, u32)>,
    /// Format and bytes of the fold's snapshot.
    pub snapshot: (i64, Vec<u8>),
    /// Records set aside.
    pub dead: Vec<DeadLetter>,
    /// Numbers lost.
    pub losses: Vec<JournalLoss>,
    /// For the rows' `created_ns`.
    pub now_ns: i64,
}

/// The state a restart begins with.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Every stream by its number.
    pub streams: Vec<(u32, StreamLedger)>,
    /// Every series by its number.
    pub series: Vec<(u32, SeriesKey)>,
    /// (stream, ref, series).
    pub definitions: Vec<(u32, u32, u32)>,
    /// The last snapshot, if any.
    pub snapshot: Option<(i64, Vec<u8>)>,
    /// Live files.
    pub files: Vec<DataFile>,
}

/// Rows of one tenant, counted from both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Whose rows.
    pub tenant: String,
    /// Sum over the tenant's streams at the committed position.
    pub stored: u64,
    /// Rows by the footers of the live files that have no fault.
    pub in_files: u64,
    /// Rows that retention removed.
    pub expired: u64,
    /// Rows of files whose loss was accepted.
    pub lost: u64,
    /// Live files that are missing, unreadable or changed, or hold another count than the catalog
    /// says.
    pub faults: Vec<String>,
}

impl AuditLine {
    /// Rows that should be in files and are not (positive), or are there twice (negative).
    pub fn unexplained(&self) -> i64 {
        let gone = i128::from(self.expired) + i128::from(self.lost);
        let rest = i128::from(self.stored) - i128::from(self.in_files) - gone;
        i64::try_from(rest).unwrap_or(i64::MAX)
    }
}

/// The two sums of an audit that the catalog knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// Whose rows.
    pub tenant: String,
    /// Rows its streams stored, ever.
    pub stored: u64,
    /// Rows of them that expired.
    pub expired: u64,
    /// Rows of them in files whose loss was accepted.
    pub lost: u64,
}

/// Why the catalog could not do it.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The database answered with an error; trying again may help.
    #[error("catalog: {0}")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The file was written by a newer program.
    #[error(
        "catalog needs a program that reads schema {needed}, this one reads {ours}: upgrade weir-sink"
    )]
    TooNew {
        /// Smallest version that may read it.
        needed: u32,
        /// What this program knows.
        ours: u32,
    },
    /// The position is not where the caller left it, or the lease is another's.
    #[error(
        "catalog position is {found:?}, expected {expected:?}: another sink works on this catalog"
    )]
    Moved {
        /// What is there.
        found: Option<Position>,
        /// What the caller expected.
        expected: Position,
    },
    /// An input of a compaction is no longer live.
    #[error("file {0} is no longer live")]
    NotLive(String),
    /// Something in the database does not read as it was written.
    #[error("catalog row of {table} is damaged: {what}")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// What is wrong with it.
        what: String,
    },
}

impl From<sqlx::Error> for CatalogError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(Box::new(error))
    }
}
