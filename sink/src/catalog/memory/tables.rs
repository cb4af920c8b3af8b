//! What the catalog in memory holds, and what its transactions do to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_proto::v1;

use super::access::Access;
use super::failed;
use crate::catalog::{
    CatalogError, Commit, DataFile, DeadLetter, JournalLoss, Loaded, LostFile, Position, SeriesKey,
    StreamLedger, Sums,
};
use crate::model::StreamKey;

#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    pub(super) position: Option<Position>,
    pub(super) streams: BTreeMap<u32, StreamLedger>,
    pub(super) series: BTreeMap<u32, SeriesKey>,
    /// (stream, ref) to series.
    pub(super) definitions: BTreeMap<(u32, u32), u32>,
    pub(super) snapshot: Option<(i64, Vec<u8>)>,
    pub(super) files: BTreeMap<String, FileRow>,
    /// Lease epoch and expiry by path.
    pub(super) intents: BTreeMap<String, (i64, i64)>,
    /// Readings by tenant.
    pub(super) expired: BTreeMap<String, u64>,
    /// By path.
    pub(super) lost: BTreeMap<String, LostFile>,
    pub(super) dead: BTreeMap<([u8; 16], u64), DeadLetter>,
    pub(super) losses: BTreeMap<([u8; 16], u64), JournalLoss>,
    pub(super) access: Access,
}

#[derive(Debug, Clone)]
pub(super) struct FileRow {
    pub(super) file: DataFile,
    pub(super) removed_at_ns: Option<i64>,
}

impl Tables {
    pub(super) fn take_over(&mut self, journal_id: [u8; 16]) -> Position {
        let mut new = Position {
            journal_id,
            number: 0,
            lease_epoch: 1,
        };
        if let Some(old) = self.position {
            new.lease_epoch = old.lease_epoch + 1;
            if old.journal_id == journal_id {
                new.number = old.number;
            } else {
                self.lose(JournalLoss {
                    journal_id: old.journal_id,
                    from: old.number + 1,
                    through: u64::MAX,
                    reason: "replaced".into(),
                });
            }
        }
        self.position = Some(new);
        new
    }

    pub(super) fn commit(&mut self, commit: &Commit) -> Result<(), CatalogError> {
        let expected = commit.expected;
        if self.position != Some(expected) {
            let found = self.position;
            return Err(CatalogError::Moved { found, expected });
        }
        self.position = Some(Position {
            number: commit.through,
            ..expected
        });
        for file in &commit.files {
            self.insert_file(file)?;
        }
        for (id, series) in &commit.series {
            if self.series.insert(*id, series.clone()).is_some() {
                return Err(failed(&format!("series {id} is there already")));
            }
        }
        for (stream, reference, series) in &commit.definitions {
            self.definitions.insert((*stream, *reference), *series);
        }
        for (id, stream) in &commit.streams {
            self.streams.insert(*id, stream.clone());
            if stream.closed {
                self.definitions.retain(|(of, _), _| of != id);
            }
        }
        self.snapshot = Some(commit.snapshot.clone());
        for letter in &commit.dead {
            let key = (letter.journal_id, letter.number);
            if self.dead.insert(key, letter.clone()).is_some() {
                return Err(failed("a dead letter is there already"));
            }
        }
        commit
            .losses
            .iter()
            .for_each(|loss| self.lose(loss.clone()));
        Ok(())
    }

    pub(super) fn lose(&mut self, loss: JournalLoss) {
        self.losses.insert((loss.journal_id, loss.from), loss);
    }

    pub(super) fn insert_file(&mut self, file: &DataFile) -> Result<(), CatalogError> {
        let row = FileRow {
            file: file.clone(),
            removed_at_ns: None,
        };
        if self.files.insert(file.path.clone(), row).is_some() {
            return Err(failed(&format!("{} is there already", file.path)));
        }
        self.intents.remove(&file.path);
        Ok(())
    }

    /// Whether it was live.
    pub(super) fn remove_file(&mut self, path: &str, now_ns: i64) -> bool {
        let live = self.files.get_mut(path);
        let live = live.filter(|row| row.removed_at_ns.is_none());
        live.map(|row| row.removed_at_ns = Some(now_ns)).is_some()
    }

    pub(super) fn accept_loss(&mut self, path: &str, now_ns: i64) -> Option<LostFile> {
        if !self.remove_file(path, now_ns) {
            return None;
        }
        let file = &self.files[path].file;
        let lost = LostFile {
            path: path.to_owned(),
            tenant: Arc::clone(&file.tenant),
            rows: file.rows,
            accepted_at_ns: now_ns,
        };
        self.lost.insert(path.to_owned(), lost.clone());
        Some(lost)
    }

    pub(super) fn live_files(&self) -> Vec<DataFile> {
        let live = self
            .files
            .values()
            .filter(|row| row.removed_at_ns.is_none());
        live.map(|row| row.file.clone()).collect()
    }

    pub(super) fn load(&self) -> Loaded {
        let pair = |(id, value): (&u32, &StreamLedger)| (*id, value.clone());
        Loaded {
            streams: self.streams.iter().map(pair).collect(),
            series: self
                .series
                .iter()
                .map(|(id, key)| (*id, key.clone()))
                .collect(),
            definitions: self
                .definitions
                .iter()
                .map(|((stream, reference), series)| (*stream, *reference, *series))
                .collect(),
            snapshot: self.snapshot.clone(),
            files: self.live_files(),
        }
    }

    pub(super) fn series_of(&self, key: &StreamKey) -> Result<Vec<v1::Series>, CatalogError> {
        let mut streams = self.streams.iter();
        let found =
            streams.find(|(_, stream)| stream.stream_id == key.id && *stream.tenant == *key.tenant);
        let Some((id, _)) = found else {
            return Ok(Vec::new());
        };
        self.definitions
            .range((*id, 0)..=(*id, u32::MAX))
            .map(|((_, reference), series)| {
                crate::catalog::load::definition(*reference, &self.series[series])
            })
            .collect()
    }

    pub(super) fn give_up(&mut self, journal_id: [u8; 16], through: u64) {
        let Some(position) = &mut self.position else {
            return;
        };
        if position.journal_id != journal_id || position.number >= through {
            return;
        }
        let from = position.number + 1;
        position.number = through;
        self.lose(JournalLoss {
            journal_id,
            from,
            through,
            reason: "given_up".into(),
        });
    }

    pub(super) fn sums(&self) -> Vec<Sums> {
        let mut stored: BTreeMap<&str, u64> = BTreeMap::new();
        for stream in self.streams.values() {
            *stored.entry(&stream.tenant).or_default() += stream.stored;
        }
        let sum = |(tenant, stored): (&str, u64)| Sums {
            tenant: tenant.to_owned(),
            stored,
            expired: self.expired.get(tenant).copied().unwrap_or(0),
            lost: self
                .lost
                .values()
                .filter(|lost| *lost.tenant == *tenant)
                .map(|lost| lost.rows)
                .sum(),
        };
        stored.into_iter().map(sum).collect()
    }
}
