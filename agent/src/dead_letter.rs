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

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// Where refused batches are kept.
#[derive(Clone, Debug)]
pub struct DeadLetters {
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
        DeadLetters {
            dir: data_dir.join("dead-letter"),
        }
    }

    /// Keeps one batch. When this returns, it survives a power loss.
    pub(crate) fn keep(&self, note: &Note, record: &[u8]) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.dir)?;
        if let Some(parent) = self.dir.parent() {
            File::open(parent)?.sync_all()?;
        }
        let name = format!("{}-{}", note.stream_id, note.sequence);
        let batch = self.dir.join(format!("{name}.batch"));
        write_whole(&batch, record)?;
        let text = serde_json::to_vec_pretty(note).map_err(io::Error::other)?;
        write_whole(&self.dir.join(format!("{name}.json")), &text)?;
        File::open(&self.dir)?.sync_all()?;
        Ok(batch)
    }

    /// The notes of everything kept, oldest first. Notes that cannot be read are left out.
    pub fn list(&self) -> io::Result<Vec<Note>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut notes: Vec<Note> = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                let note = fs::read(&path).ok();
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
}

/// Writes under another name, syncs, renames: the name holds all of it or nothing.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let half = path.with_extension("tmp");
    let mut file = File::create(&half)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&half, path)
}
