//! The dead-letter store: batches the sink will never take, kept where an operator can list them.
//!
//! In: the encoded record of a refused batch, and why. Out: two files per batch and one per stream in
//! `<data_dir>/dead-letter`, written whole and synced before the sequence is given up:
//!
//! | file | content |
//! |---|---|
//! | `<stream id hex>.series` | an encoded `weir.v1.Record` with the `Definitions` of the stream's series so far |
//! | `<stream id hex>-<sequence>.batch` | the encoded `weir.v1.Record`, as it stood in the spool |
//! | `<stream id hex>-<sequence>.json` | [`Note`]: code, reason, times, readings |
//!
//! Letters of earlier versions have definitions of their own, `<stream id hex>-<sequence>.series`.
//!
//! Promises: keeping the same batch twice leaves one copy; a crash leaves a letter whole or absent
//! (the note is the last to appear, and only noted letters are listed); together they take no more than
//! `spool.dead_letter_max_bytes`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_journal::{Disk, Storage};
use weir_proto::{record, v1};

pub(crate) mod request;
mod room;
#[cfg(test)]
mod tests;

pub(crate) use room::Full;
use room::Room;

/// Series by ref.
pub(crate) type Dictionary = BTreeMap<u32, v1::Series>;

/// Where refused batches are kept.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    room: Arc<Room>,
}

/// Why a batch was not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// There is no room for another letter.
    #[error(transparent)]
    Full(#[from] Full),
    /// The disk.
    #[error("cannot set a refused batch aside: {0}")]
    Io(#[from] io::Error),
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
        DeadLetters::on(Arc::new(Disk), data_dir, u64::MAX)
    }

    /// [`DeadLetters::new`] on another storage, for so many bytes at most.
    pub fn on(storage: Arc<dyn Storage>, data_dir: &Path, max_bytes: u64) -> DeadLetters {
        DeadLetters {
            storage,
            dir: data_dir.join("dead-letter"),
            room: Arc::new(Room::new(max_bytes)),
        }
    }

    /// Keeps one batch. When this returns, it survives a power loss.
    /// `series` defines what the batch refers to: the stream may be gone when someone reads it.
    pub(crate) fn keep(
        &self,
        note: &Note,
        record: &[u8],
        series: &[u8],
    ) -> Result<PathBuf, KeepError> {
        if self.room.bytes().is_none() {
            self.look()?;
        }
        let (series_path, series) = self.all_series(&note.stream_id, series)?;
        let mut more = 0;
        if !self.holds(&note.stream_id, note.sequence) {
            let grows = (series.len() as u64).saturating_sub(self.length(&series_path));
            more = record.len() as u64 + text(note)?.len() as u64 + grows;
            self.room.admits(more)?;
        }
        self.storage.create_dir(&self.dir)?;
        let batch = self.dir.join(format!("{}.batch", note.name()));
        self.write_whole(&batch, record)?;
        if !series.is_empty() {
            self.write_whole(&series_path, &series)?;
        }
        self.write_note(note)?;
        self.room.add(more);
        Ok(batch)
    }

    /// Where the definitions of a stream are, and what is to be written there: nothing where they are there.
    fn all_series(&self, stream_id: &str, series: &[u8]) -> io::Result<(PathBuf, Vec<u8>)> {
        let path = self.dir.join(format!("{stream_id}.series"));
        let kept = match self.bytes(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            kept => kept?,
        };
        if kept == series {
            return Ok((path, Vec::new()));
        }
        let mut all = definitions(kept);
        if all.is_empty() {
            return Ok((path, series.to_vec()));
        }
        all.extend(definitions(series.to_vec()));
        let series = all.into_values().collect();
        let record = v1::record::Record::Definitions(v1::Definitions { series });
        let record = record::encode(&v1::Record {
            record: Some(record),
        });
        Ok((path, record.to_vec()))
    }

    /// Why no letter may come, where one was turned away and there is no room since.
    pub(crate) fn full(&self) -> Option<Full> {
        self.room.full()
    }

    /// What they take on disk, as far as is known.
    pub(crate) fn known_bytes(&self) -> u64 {
        self.room.bytes().unwrap_or(0)
    }

    /// Counts what they take: letters are removed by hand, too.
    pub(crate) fn look(&self) -> io::Result<()> {
        let names = self.names()?;
        let bytes = names.iter().map(|name| self.length(&self.dir.join(name)));
        self.room.found(bytes.sum());
        Ok(())
    }

    /// Whether there is a letter of this batch; also where that cannot be told now.
    pub(crate) fn holds(&self, stream_id: &str, sequence: u64) -> bool {
        let note = self.dir.join(format!("{stream_id}-{sequence}.json"));
        let found = self.storage.open_to_read(&note);
        found.map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |_| true)
    }

    /// Writes the note anew. When this returns, it survives a power loss.
    pub(crate) fn write_note(&self, note: &Note) -> io::Result<()> {
        let path = self.dir.join(format!("{}.json", note.name()));
        self.write_whole(&path, &text(note)?)?;
        self.storage.sync_dir(&self.dir)
    }

    /// Removes a letter, the note first: a crash leaves it listed or gone. What it refers to stays until
    /// [`DeadLetters::remove_series`].
    pub(crate) fn remove(&self, stream_id: &str, sequence: u64) -> io::Result<()> {
        for end in ["json", "batch", "series"] {
            self.remove_file(&format!("{stream_id}-{sequence}.{end}"))?;
            if end == "json" {
                self.storage.sync_dir(&self.dir)?;
            }
        }
        self.storage.sync_dir(&self.dir)
    }

    /// Removes the definitions of streams of which there is no letter any more.
    pub(crate) fn remove_series(&self) -> io::Result<()> {
        let names = self.names()?;
        let stream = |name: &String| Some(name.split_once('-')?.0.to_owned());
        let in_use: BTreeSet<String> = names.iter().filter_map(stream).collect();
        for name in &names {
            let stream = name.strip_suffix(".series");
            if stream.is_some_and(|stream| !stream.contains('-') && !in_use.contains(stream)) {
                self.remove_file(name)?;
            }
        }
        Ok(())
    }

    fn remove_file(&self, name: &str) -> io::Result<()> {
        let path = self.dir.join(name);
        let bytes = self.length(&path);
        match self.storage.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed?,
        }
        self.room.remove(bytes);
        Ok(())
    }

    /// A letter's batch and the series it may refer to; `None` where its files are gone or damaged.
    pub(crate) fn read(&self, note: &Note) -> io::Result<Option<(v1::Batch, Dictionary)>> {
        let name = note.name();
        let body = self.bytes(&self.dir.join(format!("{name}.batch")));
        let Some(v1::record::Record::Batch(batch)) = absent(body)?.and_then(content) else {
            return Ok(None);
        };
        let mut dictionary = Dictionary::new();
        for name in [&note.stream_id, &name] {
            let series = self.bytes(&self.dir.join(format!("{name}.series")));
            dictionary.extend(definitions(absent(series)?.unwrap_or_default()));
        }
        let own = batch.series_defined.iter();
        dictionary.extend(own.map(|one| (one.r#ref, one.clone())));
        Ok(Some((batch, dictionary)))
    }

    /// The notes of everything kept, oldest first. Notes that cannot be read are left out.
    pub fn list(&self) -> io::Result<Vec<Note>> {
        let mut notes: Vec<Note> = Vec::new();
        for name in self.names()? {
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
        let sequence = |name: &String| {
            let of_stream = name.strip_prefix(stream_id)?.strip_prefix('-')?;
            of_stream.strip_suffix(".json")?.parse().ok()
        };
        Ok(self.names()?.iter().filter_map(sequence).collect())
    }

    /// Names in the directory, which need not be there.
    fn names(&self) -> io::Result<Vec<String>> {
        match self.storage.list(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => names,
        }
    }

    /// Bytes of a file; none where it cannot be told.
    fn length(&self, path: &Path) -> u64 {
        let file = self.storage.open_to_read(path);
        file.and_then(|file| file.length()).unwrap_or(0)
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

fn text(note: &Note) -> io::Result<Vec<u8>> {
    serde_json::to_vec_pretty(note).map_err(io::Error::other)
}

fn absent(read: io::Result<Vec<u8>>) -> io::Result<Option<Vec<u8>>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// The series of an encoded `Definitions`.
fn definitions(bytes: Vec<u8>) -> Dictionary {
    let Some(v1::record::Record::Definitions(kept)) = content(bytes) else {
        return Dictionary::new();
    };
    let series = kept.series.into_iter();
    series.map(|one| (one.r#ref, one)).collect()
}

fn content(bytes: Vec<u8>) -> Option<v1::record::Record> {
    record::decode(bytes.into()).ok()?.record
}
