//! The dead-letter store: batches the sink will never take, kept where an operator can list them.
//!
//! In: the encoded record of a refused batch, and why. Out: three files per batch in
//! `<data_dir>/dead-letter`, written whole and synced before the sequence is given up:
//!
//! | file | content |
//! |---|---|
//! | `<stream id hex>-<sequence>.batch` | the encoded `weir.v1.Record`, as it stood in the spool |
//! | `<stream id hex>-<sequence>.series` | an encoded `weir.v1.Record` with the `Definitions` of the stream's series |
//! | `<stream id hex>-<sequence>.json` | [`Note`]: code, reason, times, readings |
//!
//! Promises: keeping the same batch twice leaves one copy; a crash leaves a letter whole or absent
//! (the note is the last to appear, and only noted letters are listed).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_journal::{Disk, Storage};
use weir_proto::{record, v1};

pub(crate) mod request;
#[cfg(test)]
mod tests;

/// Series by ref.
pub(crate) type Dictionary = BTreeMap<u32, v1::Series>;

/// Where refused batches are kept.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
}

/// What is noted beside a refused batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The stream, in hex.
    pub stream_id: String,
    /// The batch's sequence in that stream.
    pub sequence: u64,
    /// The sink's code: a refusal (`malformed`) or a status (`invalid_argument`).
    pub code: String,
    /// The sink's words.
    pub reason: String,
    /// Readings in the batch.
    pub readings: u64,
    /// Bytes of the payload.
    pub payload_bytes: u64,
    /// Wall clock of the first reading, unix nanoseconds.
    pub first_ns: i64,
    /// Wall clock of the last reading, unix nanoseconds.
    pub last_ns: i64,
    /// When it was set aside, unix nanoseconds.
    pub set_aside_ns: i64,
    /// The stream it was put back into, in hex, while that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed_in: Option<String>,
}

impl Note {
    /// What the letter is called: `<stream id>-<sequence>`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.stream_id, self.sequence)
    }
}

impl DeadLetters {
    /// The store in `<data_dir>/dead-letter`; the directory is made when the first letter comes.
    pub fn new(data_dir: &Path) -> DeadLetters {
        DeadLetters::on(Arc::new(Disk), data_dir)
    }

    /// [`DeadLetters::new`] on another storage.
    pub fn on(storage: Arc<dyn Storage>, data_dir: &Path) -> DeadLetters {
        DeadLetters {
            storage,
            dir: data_dir.join("dead-letter"),
        }
    }

    /// Keeps one batch. When this returns, it survives a power loss.
    /// `series` defines what the batch refers to: the stream may be gone when someone reads it.
    pub(crate) fn keep(&self, note: &Note, record: &[u8], series: &[u8]) -> io::Result<PathBuf> {
        self.storage.create_dir(&self.dir)?;
        let name = note.name();
        let batch = self.dir.join(format!("{name}.batch"));
        self.write_whole(&batch, record)?;
        self.write_whole(&self.dir.join(format!("{name}.series")), series)?;
        self.write_note(note)?;
        Ok(batch)
    }

    /// Whether there is a letter of this batch; also where that cannot be told now.
    pub(crate) fn holds(&self, stream_id: &str, sequence: u64) -> bool {
        let note = self.dir.join(format!("{stream_id}-{sequence}.json"));
        let found = self.storage.open_to_read(&note);
        found.map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |_| true)
    }

    /// Writes the note anew. When this returns, it survives a power loss.
    pub(crate) fn write_note(&self, note: &Note) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(note).map_err(io::Error::other)?;
        let path = self.dir.join(format!("{}.json", note.name()));
        self.write_whole(&path, &text)?;
        self.storage.sync_dir(&self.dir)
    }

    /// Removes a letter, the note first: a crash leaves it listed or gone.
    pub(crate) fn remove(&self, note: &Note) -> io::Result<()> {
        for end in ["json", "batch", "series"] {
            let path = self.dir.join(format!("{}.{end}", note.name()));
            match self.storage.remove(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
            if end == "json" {
                self.storage.sync_dir(&self.dir)?;
            }
        }
        self.storage.sync_dir(&self.dir)
    }

    /// A letter's batch and the series it may refer to; `None` where its files are gone or damaged.
    pub(crate) fn read(&self, note: &Note) -> io::Result<Option<(v1::Batch, Dictionary)>> {
        let name = note.name();
        let body = self.bytes(&self.dir.join(format!("{name}.batch")));
        let series = self.bytes(&self.dir.join(format!("{name}.series")));
        let Some(v1::record::Record::Batch(batch)) = absent(body)?.and_then(content) else {
            return Ok(None);
        };
        let mut dictionary = Dictionary::new();
        if let Some(v1::record::Record::Definitions(kept)) = absent(series)?.and_then(content) {
            dictionary.extend(kept.series.into_iter().map(|one| (one.r#ref, one)));
        }
        let own = batch.series_defined.iter();
        dictionary.extend(own.map(|one| (one.r#ref, one.clone())));
        Ok(Some((batch, dictionary)))
    }

    /// The notes of everything kept, oldest first. Notes that cannot be read are left out.
    pub fn list(&self) -> io::Result<Vec<Note>> {
        let names = match self.storage.list(&self.dir) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut notes: Vec<Note> = Vec::new();
        for name in names {
            let path = self.dir.join(name);
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                let note = self.bytes(&path).ok();
                notes.extend(note.and_then(|text| serde_json::from_slice(&text).ok()));
            }
        }
        notes.sort_by(|a, b| {
            let place = |note: &Note| (note.set_aside_ns, note.sequence);
            place(a)
                .cmp(&place(b))
                .then_with(|| a.stream_id.cmp(&b.stream_id))
        });
        Ok(notes)
    }

    /// The sequences of one stream's letters; `stream_id` in hex.
    pub(crate) fn sequences(&self, stream_id: &str) -> io::Result<BTreeSet<u64>> {
        let names = match self.storage.list(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            names => names?,
        };
        let sequence = |name: &String| {
            let of_stream = name.strip_prefix(stream_id)?.strip_prefix('-')?;
            of_stream.strip_suffix(".json")?.parse().ok()
        };
        Ok(names.iter().filter_map(sequence).collect())
    }

    /// Writes under another name, syncs, renames: the name holds all of it or nothing.
    fn write_whole(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let half = path.with_extension("tmp");
        let file = self.storage.create(&half)?;
        file.write_at(content, 0)?;
        file.sync_all()?;
        self.storage.rename(&half, path)
    }

    fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.storage.open_to_read(path)?;
        let mut content = vec![0; usize::try_from(file.length()?).unwrap_or(0)];
        let read = file.read_at(&mut content, 0)?;
        content.truncate(read);
        Ok(content)
    }
}

fn absent(read: io::Result<Vec<u8>>) -> io::Result<Option<Vec<u8>>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn content(bytes: Vec<u8>) -> Option<v1::record::Record> {
    record::decode(bytes.into()).ok()?.record
}
