//! The dead-letter store: batches the sink will never take, kept where an operator can list them.
//!
//! In: the encoded record of a refused batch, and why. Out: two files per batch in
//! `<data_dir>/dead-letter`, written whole and synced before the sequence is given up:
//!
//! | file | content |
//! |---|---|
//! | `<stream id hex>-<sequence>.batch` | the encoded `weir.v1.Record`, as it stood in the spool |
//! | `<stream id hex>-<sequence>.json` | [`Note`]: code, reason, times, readings |
//!
//! Promises: keeping the same batch twice leaves one copy; a crash leaves a letter whole or absent
//! (the note is the last to appear, and only noted letters are listed).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_journal::{Disk, Storage};

#[cfg(test)]
mod tests;

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
    pub(crate) fn keep(&self, note: &Note, record: &[u8]) -> io::Result<PathBuf> {
        self.storage.create_dir(&self.dir)?;
        let name = format!("{}-{}", note.stream_id, note.sequence);
        let batch = self.dir.join(format!("{name}.batch"));
        self.write_whole(&batch, record)?;
        let text = serde_json::to_vec_pretty(note).map_err(io::Error::other)?;
        self.write_whole(&self.dir.join(format!("{name}.json")), &text)?;
        self.storage.sync_dir(&self.dir)?;
        Ok(batch)
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
                let note = self.read(&path).ok();
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

    /// Writes under another name, syncs, renames: the name holds all of it or nothing.
    fn write_whole(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let half = path.with_extension("tmp");
        let file = self.storage.create(&half)?;
        file.write_at(content, 0)?;
        file.sync_all()?;
        self.storage.rename(&half, path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.storage.open(path)?;
        let mut content = vec![0; usize::try_from(file.length()?).unwrap_or(0)];
        let read = file.read_at(&mut content, 0)?;
        content.truncate(read);
        Ok(content)
    }
}
