//! How a command asks the running agent to put letters back: a file for the question, one for the
//! answer, in `<data_dir>/requests`.
//!
//! | file | content |
//! |---|---|
//! | `<id>.request` | [`Request`] as JSON, written by the command, removed by the agent that takes it |
//! | `<id>.answer` | [`Answer`] as JSON, written by the agent, removed by the command |
//!
//! Who may write the agent's data directory may ask; nothing listens for it. What is left from before
//! is removed when an agent starts.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::DeadLetters;
use crate::spool::Replayed;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Names of letters; all when there is no list.
    pub(crate) letters: Option<Vec<String>>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It was done.
    Done(Replayed),
    /// It could not be done, and why.
    Failed(String),
}

impl DeadLetters {
    /// Puts a question.
    pub(crate) fn ask(&self, id: &str, request: &Request) -> io::Result<()> {
        self.put(&format!("{id}.request"), request)
    }

    /// Takes a question that nobody has taken, with its id.
    pub(crate) fn take_request(&self) -> Option<(String, Request)> {
        let names = self.storage.list(&self.requests()).ok()?;
        let (name, id) = names
            .iter()
            .find_map(|name| Some((name, name.strip_suffix(".request")?)))?;
        let path = self.requests().join(name);
        let text = self.bytes(&path);
        self.storage.remove(&path).ok()?;
        let request = serde_json::from_slice(&text.ok()?).ok()?;
        Some((id.to_owned(), request))
    }

    /// Gives an answer.
    pub(crate) fn answer(&self, id: &str, answer: &Answer) -> io::Result<()> {
        self.put(&format!("{id}.answer"), answer)
    }

    /// The answer, once there is one; it is taken away.
    pub(crate) fn take_answer(&self, id: &str) -> Option<Answer> {
        let path = self.requests().join(format!("{id}.answer"));
        let text = self.bytes(&path).ok()?;
        self.storage.remove(&path).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Takes a question back.
    pub(crate) fn withdraw(&self, id: &str) {
        let path = self.requests().join(format!("{id}.request"));
        let _ = self.storage.remove(&path);
    }

    /// Removes what is left from before.
    pub(crate) fn forget_requests(&self) {
        for name in self.storage.list(&self.requests()).unwrap_or_default() {
            let _ = self.storage.remove(&self.requests().join(name));
        }
    }

    fn put(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.storage.create_dir(&self.requests())?;
        let text = serde_json::to_vec(value).map_err(io::Error::other)?;
        self.write_whole(&self.requests().join(name), &text)
    }

    fn requests(&self) -> PathBuf {
        self.dir.with_file_name("requests")
    }
}
