//! Of which journal the rows of a file are, as far as merges have found out.
//!
//! Positions of two journals cannot be put together, and only its footer says of which journal a file is. So a file is
//! taken for one of the journal at hand until a merge finds that it is not; from then on it is chosen only with its like.
//! Every merge that finds so learns of one file at least, and files stay what they are: it comes to rest.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::catalog::DataFile;

pub(super) type JournalId = [u8; 16];

/// What is known of live files, by path.
#[derive(Debug, Default)]
pub(crate) struct Journals(HashMap<String, JournalId>);

impl Journals {
    /// The files of each journal; those of which nothing is known are of `current`.
    pub(super) fn split(&mut self, live: Vec<DataFile>, current: JournalId) -> Vec<Vec<DataFile>> {
        if self.0.is_empty() {
            return vec![live];
        }
        let paths: HashSet<&str> = live.iter().map(|file| file.path.as_str()).collect();
        self.0.retain(|path, _| paths.contains(path.as_str()));
        let mut journals: BTreeMap<JournalId, Vec<DataFile>> = BTreeMap::new();
        for file in live {
            let journal = self.0.get(&file.path).copied().unwrap_or(current);
            journals.entry(journal).or_default().push(file);
        }
        journals.into_values().collect()
    }

    /// These files were opened.
    pub(super) fn learn(&mut self, found: Vec<(String, JournalId)>) {
        self.0.extend(found);
    }
}
