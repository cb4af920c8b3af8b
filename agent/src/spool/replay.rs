//! Putting dead letters back: their batches enter the spool again, under new sequences.
//!
//! In: the letters of one or more streams. Out: for each of these streams a new one that defines
//! the same series and holds the same payloads, delivered behind what is live now, which is ended for
//! that. Promises: a letter goes back only once its stream is acknowledged past it (until then the sink
//! may yet get its batch); a letter goes only once its copy is durable, and a crash at any moment leaves
//! the letter or the copy, never both and never neither:
//!
//! | step | a crash behind it |
//! |---|---|
//! | a copy is written, marked as not whole | the next start removes the copy |
//! | the letters are noted to be in it | ... and the note |
//! | the books move the readings from dropped to replayed | ... and moves them back |
//! | the copy is whole | the next start removes the letters, before anything is delivered |
//! | the letters are removed | - |
//!
//! Only where a letter cannot be removed and the agent ends after its copy was delivered can a later
//! replay send it twice; the log says so.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_fault::{Point, point};
use weir_proto::v1;

use super::directory::hex;
use super::retire::append_waiting;
use super::{Spool, SpoolError, Stream};
use crate::dead_letter::request::Answer;
use crate::dead_letter::{DeadLetters, Note};

/// A full disk may hold a copy up for ever: half of one does not count.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was put back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replayed {
    /// Letters put back and removed.
    pub(crate) letters: u64,
    /// Readings in them.
    pub(crate) readings: u64,
    /// Letters that could not be put back, and why.
    pub(crate) faults: Vec<String>,
}

impl Spool {
    /// Puts letters back: the named ones, or all. Those that cannot be read stay.
    ///
    /// # Errors
    /// The letters cannot be listed, or the spool takes nothing now.
    pub(crate) async fn replay(&self, names: Option<&[String]>) -> Result<Replayed, SpoolError> {
        let letters = self.dead_letters();
        let mut replayed = Replayed::default();
        let mut groups: BTreeMap<String, Vec<Note>> = BTreeMap::new();
        let mut missing = names.map(<[String]>::to_vec).unwrap_or_default();
        for note in letters.list().map_err(|source| self.letter_fault(source))? {
            let name = note.name();
            missing.retain(|missing| *missing != name);
            if names.is_some_and(|names| !names.contains(&name)) {
                continue;
            }
            match &note.replayed_in {
                Some(stream) => replayed
                    .faults
                    .push(format!("{name} is in stream {stream} already")),
                None if !self.is_settled(&note) => replayed.faults.push(format!(
                    "{name} is not settled: put it back once the sink has heard that it was set aside"
                )),
                None => groups.entry(note.stream_id.clone()).or_default().push(note),
            }
        }
        let unknown = missing
            .iter()
            .map(|name| format!("there is no letter {name}"));
        replayed.faults.extend(unknown);
        let mut copies = Vec::new();
        let mut outcome = Ok(());
        for notes in groups.into_values() {
            match self.replay_stream(&letters, notes, &mut replayed).await {
                Ok(copy) => copies.extend(copy),
                // The copies made before are whole and go out.
                Err(error) if copies.is_empty() => outcome = Err(error),
                Err(error) => replayed.faults.push(error.to_string()),
            }
        }
        if !copies.is_empty() {
            outcome = Ok(());
            self.enter(copies);
            let (letters, readings) = (replayed.letters, replayed.readings);
            tracing::info!(letters, readings, "dead letters were put back");
        }
        outcome.map(|()| replayed)
    }

    /// Puts the letters of one stream into one copy, and answers it.
    async fn replay_stream(
        &self,
        letters: &DeadLetters,
        mut notes: Vec<Note>,
        replayed: &mut Replayed,
    ) -> Result<Option<Arc<Stream>>, SpoolError> {
        notes.sort_by_key(|note| note.sequence);
        let mut batches = Vec::new();
        let mut series = BTreeMap::new();
        let mut readable = Vec::new();
        for note in notes {
            match letters.read(&note) {
                Ok(Some((batch, dictionary))) => {
                    batches.push(batch);
                    series.extend(dictionary);
                    readable.push(note);
                }
                Ok(None) => replayed.faults.push(format!("{} is damaged", note.name())),
                Err(error) => replayed.faults.push(format!("{}: {error}", note.name())),
            }
        }
        if batches.is_empty() {
            return Ok(None);
        }
        let copy = self.begin_copy()?;
        let written = tokio::time::timeout(PATIENCE, fill(&copy, batches, series)).await;
        let noted = match written {
            Ok(Ok(())) => self.note(letters, &copy, &mut readable),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SpoolError::Io {
                doing: "put letters back into",
                path: copy.dir.clone(),
                source: io::ErrorKind::StorageFull.into(),
            }),
        };
        if let Err(error) = noted {
            self.discard_copy(&copy).await;
            self.take_back(letters, &hex(&copy.id), &readable);
            return Err(error);
        }
        for note in &readable {
            replayed.letters += 1;
            replayed.readings += note.readings;
            if let Err(error) = letters.remove(&note.stream_id, note.sequence) {
                tracing::error!(letter = note.name(), %error, "cannot remove a letter that was put back: remove it by hand before the next replay, or its readings are sent twice");
            }
        }
        if let Err(error) = letters.remove_series() {
            tracing::warn!(%error, "cannot remove the definitions of letters that were put back");
        }
        Ok(Some(copy))
    }

    /// From here on the copy counts, and the letters do not.
    fn note(
        &self,
        letters: &DeadLetters,
        copy: &Stream,
        notes: &mut [Note],
    ) -> Result<(), SpoolError> {
        for note in notes.iter_mut() {
            note.replayed_in = Some(hex(&copy.id));
            letters
                .write_note(note)
                .map_err(|source| self.letter_fault(source))?;
        }
        point(Point::AgentReplayNoted);
        let readings = notes.iter().map(|note| note.readings).sum();
        let source = notes.first().and_then(|note| self.held(&note.stream_id));
        if let Some(source) = &source {
            source.book_replay(copy.id, readings)?;
        }
        point(Point::AgentReplayBooked);
        copy.end_copy()?;
        if source.is_none() {
            self.lock().retired.replay(readings);
        }
        point(Point::AgentReplayed);
        Ok(())
    }

    /// What a replay that came to nothing had noted.
    fn take_back(&self, letters: &DeadLetters, copy: &str, notes: &[Note]) {
        let readings = notes.iter().map(|note| note.readings).sum();
        for note in notes {
            let unmarked = Note {
                replayed_in: None,
                ..note.clone()
            };
            if let Err(error) = letters.write_note(&unmarked) {
                tracing::warn!(letter = note.name(), %error, "cannot take back that this letter was put back");
            }
        }
        let source = notes.first().and_then(|note| self.held(&note.stream_id));
        if let Some(Err(error)) = source.map(|source| source.unbook_replay(copy, readings)) {
            tracing::warn!(%error, "cannot take back what was booked as replayed");
        }
    }

    /// Finishes, or takes back, what an earlier run had begun. Nothing has been delivered yet.
    pub(super) fn settle_replays(&self) {
        let letters = self.dead_letters();
        letters.forget_requests();
        let mut undone: BTreeMap<(String, String), Vec<Note>> = BTreeMap::new();
        for note in letters.list().unwrap_or_default() {
            let Some(copy) = note.replayed_in.clone() else {
                continue;
            };
            if self.held(&copy).is_none() {
                let key = (note.stream_id.clone(), copy);
                undone.entry(key).or_default().push(note);
            } else if let Err(error) = letters.remove(&note.stream_id, note.sequence) {
                tracing::error!(letter = note.name(), %error, "cannot remove a letter that was put back");
            }
        }
        for ((_, copy), notes) in undone {
            self.take_back(&letters, &copy, &notes);
        }
        if let Err(error) = letters.remove_series().and_then(|()| letters.look()) {
            tracing::warn!(%error, "cannot look through the dead letters");
        }
    }

    /// Does what a command has asked for, if one has.
    pub(super) async fn serve_request(&self) {
        let letters = self.dead_letters();
        let Some((id, request)) = letters.take_request() else {
            return;
        };
        let answer = match self.replay(request.letters.as_deref()).await {
            Ok(replayed) => Answer::Done(replayed),
            Err(error) => Answer::Failed(error.to_string()),
        };
        if let Err(error) = letters.answer(&id, &answer) {
            tracing::warn!(%error, "cannot answer the command that asked for a replay");
        }
    }

    /// Has the copies follow the live stream, which is ended for that, in front of a new one.
    fn enter(&self, copies: Vec<Arc<Stream>>) {
        let mut inner = self.lock();
        for copy in &copies {
            inner.forget_copy(copy);
        }
        let mut behind = None;
        if let Some(live) = inner.live() {
            // Where another cannot be begun it stays, and the copies go before it.
            if !inner.finished
                && let Err(error) = self.begin_next(&mut inner, &live)
            {
                tracing::warn!(%error, "cannot begin a stream behind the letters that were put back");
            }
            behind = inner.streams.pop_back();
        }
        inner.streams.extend(copies);
        inner.streams.extend(behind);
        drop(inner);
        self.bump_news();
    }

    /// Whether the stream goes on without the letter's batch for good.
    fn is_settled(&self, note: &Note) -> bool {
        self.held(&note.stream_id)
            .is_none_or(|source| source.account().acked_through >= note.sequence)
    }

    fn held(&self, id: &str) -> Option<Arc<Stream>> {
        let inner = self.lock();
        inner
            .streams
            .iter()
            .find(|stream| hex(&stream.id) == id)
            .cloned()
    }

    pub(super) fn letter_fault(&self, source: io::Error) -> SpoolError {
        SpoolError::Io {
            doing: "use the dead letters in",
            path: self.shared.config.data_dir.clone(),
            source,
        }
    }
}

/// The batches, durable and marked as not whole; the first one defines every series.
async fn fill(
    copy: &Stream,
    batches: Vec<v1::Batch>,
    series: BTreeMap<u32, v1::Series>,
) -> Result<(), SpoolError> {
    copy.begin_copy(None)?;
    let mut definitions: Vec<v1::Series> = series.into_values().collect();
    for mut batch in batches {
        batch.series_defined = std::mem::take(&mut definitions);
        append_waiting(copy, |copy| copy.append_again(batch.clone())).await?;
    }
    copy.complete().await?;
    point(Point::AgentReplayCopied);
    Ok(())
}
