//! Data files are read only where they are what was written.
//!
//! Parquet pages carry no checksum of ours: a byte that a disk has changed would be answered as data. So the first
//! statement that reads a file reads it whole before, in pieces, and holds it against the catalog's checksum; what was
//! found good stays so for this process ([`Checked`]). A statement that does not read a damaged file is not concerned by
//! it; one that does is told its name ([`Trouble`]), whatever the error had become on its way through the engine. Counts
//! and ranges are answered from the catalog only while all files concerned are there with their size, and counted in
//! the files while one of them is known to be damaged.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::OnceCell;
use tokio_stream::StreamExt;

use crate::tables::DataFile;

/// Read at a time while a file is summed.
const PIECE_BYTES: u64 = 1 << 20;

/// So many files of a directory are cheaper to list than to ask for.
const WORTH_LISTING: usize = 4;

/// Files forgotten by the catalog that may stay in the list before it is cleared of them.
const FORGOTTEN: usize = 1024;

/// Set once a file was found good.
type Found = Arc<OnceCell<()>>;

/// What an asynchronous reader answers.
type Answer<'a, T> = Pin<Box<dyn Future<Output = ParquetResult<T>> + Send + 'a>>;

/// The files of one store that were found to be what was written, by path and checksum. Two
/// statements that come to a file at the same time read it once.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    files: Mutex<HashMap<(String, u32), Found>>,
    /// Files that could not be read the last time.
    damaged: Mutex<HashSet<String>>,
}

impl Checked {
    fn cell(&self, path: &str, crc: u32) -> Found {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(files.entry((path.to_owned(), crc)).or_default())
    }

    /// The file is another one now: the next statement that reads it looks at it again.
    pub(super) fn forget(&self, file: &DataFile) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(crc) = file.crc {
            files.remove(&(file.path.clone(), crc));
        }
    }

    /// Whether the file could not be read the last time.
    pub(super) fn is_damaged(&self, path: &str) -> bool {
        self.lock_damaged().contains(path)
    }

    fn lock_damaged(&self) -> MutexGuard<'_, HashSet<String>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets files that are not among these, once they are many.
    pub(super) fn keep(&self, known: &[DataFile]) {
        let mut damaged = self.lock_damaged();
        if !damaged.is_empty() {
            damaged.retain(|path| known.iter().any(|file| file.path == *path));
        }
        drop(damaged);
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() > known.len() + FORGOTTEN {
            let known = known
                .iter()
                .filter_map(|file| Some((&file.path, file.crc?)));
            let known: HashSet<_> = known.collect();
            files.retain(|(path, crc), _| known.contains(&(path, *crc)));
        }
    }
}

/// A file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) path: String,
    /// What is wrong with it, after its name.
    pub(crate) what: String,
    pub(crate) min_ns: i64,
    pub(crate) max_ns: i64,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.what)
    }
}

impl std::error::Error for Trouble {}

/// The first file that a statement could not read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Troubles(Arc<Mutex<Option<Trouble>>>);

impl Troubles {
    /// The first, if there was any.
    pub(crate) fn first(&self) -> Option<Trouble> {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.clone()
    }

    /// Notes what is wrong with a file.
    pub(super) fn of(&self, file: &DataFile, what: String) -> Trouble {
        let trouble = Trouble {
            path: file.path.clone(),
            what,
            min_ns: file.min_ns,
            max_ns: file.max_ns,
        };
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| trouble.clone());
        trouble
    }
}

/// Sizes of objects in directories that hold many of `files`, as the store lists them: one question instead of one
/// for each. Of what is not in the answer nothing is known.
pub(super) async fn listed(store: &dyn ObjectStore, files: &[&DataFile]) -> HashMap<String, u64> {
    let mut directories: HashMap<&str, usize> = HashMap::new();
    for file in files {
        let (directory, _) = file.path.rsplit_once('/').unwrap_or_default();
        *directories.entry(directory).or_default() += 1;
    }
    let mut sizes = HashMap::new();
    for (directory, files) in directories {
        if files < WORTH_LISTING {
            continue;
        }
        let mut objects = store.list(Some(&Path::from(directory)));
        // What cannot be listed is asked for one by one, and named.
        while let Some(Ok(object)) = objects.next().await {
            sizes.insert(object.location.into(), object.size);
        }
    }
    sizes
}

/// Makes readers that look at a file before they read from it.
#[derive(Debug)]
pub(super) struct Readers {
    pub(super) inner: CachedParquetFileReaderFactory,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) checked: Arc<Checked>,
    pub(super) troubles: Troubles,
    /// What may be read, by its place in the store.
    pub(super) files: HashMap<Path, DataFile>,
}

impl ParquetFileReaderFactory for Readers {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let at = file.object_meta.location.clone();
        let inner = self.inner.create_reader(partition, file, hint, metrics)?;
        let Some(file) = self.files.get(&at) else {
            let text = format!("{at} is not in the snapshot");
            return Err(DataFusionError::Internal(text));
        };
        let source = Source {
            at,
            cell: file.crc.map(|crc| self.checked.cell(&file.path, crc)),
            file: file.clone(),
            store: Arc::clone(&self.store),
            checked: Arc::clone(&self.checked),
            troubles: self.troubles.clone(),
        };
        Ok(Box::new(Reader { inner, source }))
    }
}

/// The engine's own reader, and the file it reads.
struct Reader {
    inner: Box<dyn AsyncFileReader + Send>,
    source: Source,
}

struct Source {
    at: Path,
    /// None for a file from before there were checksums.
    cell: Option<Found>,
    file: DataFile,
    store: Arc<dyn ObjectStore>,
    checked: Arc<Checked>,
    troubles: Troubles,
}

impl Source {
    /// Sees that the file is whole, unless that is known.
    async fn look(&self) -> ParquetResult<()> {
        let Some(cell) = &self.cell else {
            return Ok(());
        };
        let looked = cell.get_or_try_init(|| self.sum()).await;
        looked.map_err(|what| self.trouble(what))?;
        self.checked.lock_damaged().remove(&self.file.path);
        Ok(())
    }

    async fn sum(&self) -> std::result::Result<(), String> {
        let mut crc = 0;
        let mut at = 0;
        while at < self.file.bytes {
            let end = self.file.bytes.min(at + PIECE_BYTES);
            let piece = self.store.get_range(&self.at, at..end).await;
            let piece = piece.map_err(|error| said(&error))?;
            if piece.len() as u64 != end - at {
                return Err("is shorter than it was written".to_owned());
            }
            crc = crc32c::crc32c_append(crc, &piece);
            at = end;
        }
        match self.file.crc {
            Some(written) if written != crc => Err("is not what was written".to_owned()),
            _ => Ok(()),
        }
    }

    fn trouble(&self, what: String) -> ParquetError {
        let trouble = self.troubles.of(&self.file, what);
        self.checked.lock_damaged().insert(self.file.path.clone());
        ParquetError::External(Box::new(trouble))
    }

    fn told<T>(&self, read: ParquetResult<T>) -> ParquetResult<T> {
        read.map_err(|error| {
            let what = match &error {
                ParquetError::External(inner) => match inner.downcast_ref() {
                    Some(error) => said(error),
                    None => "cannot be read".to_owned(),
                },
                error if error.to_string().contains("not found") => MISSING.to_owned(),
                _ => "cannot be read".to_owned(),
            };
            tracing::error!(path = %self.file.path, %error, "a data file cannot be read");
            self.trouble(what)
        })
    }
}

const MISSING: &str = "is missing";

pub(super) fn said(error: &object_store::Error) -> String {
    match error {
        object_store::Error::NotFound { .. } => MISSING.to_owned(),
        error => {
            tracing::error!(%error, "a data file cannot be read");
            "cannot be read".to_owned()
        }
    }
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> Answer<'_, Bytes> {
        Box::pin(async move {
            self.source.look().await?;
            let read = self.inner.get_bytes(range).await;
            self.source.told(read)
        })
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> Answer<'_, Vec<Bytes>> {
        Box::pin(async move {
            self.source.look().await?;
            let read = self.inner.get_byte_ranges(ranges).await;
            self.source.told(read)
        })
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> Answer<'a, Arc<ParquetMetaData>> {
        Box::pin(async move {
            self.source.look().await?;
            let read = self.inner.get_metadata(options).await;
            self.source.told(read)
        })
    }
}
