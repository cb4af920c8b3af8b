//! The catalog in memory, for simulations: a database in which only committed transactions exist.
//!
//! Clones share the tables, which outlive the sink that used them as a file does: drop the sink,
//! give a clone to the next one, and it finds what was committed. A transaction that its caller
//! dropped while it was slow has not happened. What goes wrong is ordered by [`Memory::set_faults`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use weir_fault::{Point, point};
use weir_proto::v1;

use super::{
    Backend, CatalogError, Commit, DataFile, DeadLetter, JournalLoss, Loaded, Position, SeriesKey,
    StreamLedger, Sums,
};
use crate::model::StreamKey;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    inner: Arc<Mutex<Inner>>,
}

/// What is to go wrong from now on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Nothing is answered but with an error, and nothing happens.
    pub away: bool,
    /// So many of the next transactions fail and change nothing.
    pub refused: u32,
    /// So many of the next transactions after those are committed and answered with an error.
    pub unanswered: u32,
    /// How long a transaction takes before it is committed, and its answer after that.
    pub latency: Duration,
}

#[derive(Debug, Default)]
struct Inner {
    tables: Tables,
    faults: Faults,
}

/// How one transaction will end.
enum Fate {
    Refused,
    Unanswered,
    Answered,
}

#[derive(Debug, Clone, Default)]
struct Tables {
    position: Option<Position>,
    streams: BTreeMap<u32, StreamLedger>,
    series: BTreeMap<u32, SeriesKey>,
    /// (stream, ref) to series.
    definitions: BTreeMap<(u32, u32), u32>,
    snapshot: Option<(i64, Vec<u8>)>,
    files: BTreeMap<String, FileRow>,
    /// Lease epoch and expiry by path.
    intents: BTreeMap<String, (i64, i64)>,
    /// Readings by tenant.
    expired: BTreeMap<String, u64>,
    dead: BTreeMap<([u8; 16], u64), DeadLetter>,
    losses: BTreeMap<([u8; 16], u64), JournalLoss>,
}

#[derive(Debug, Clone)]
struct FileRow {
    file: DataFile,
    removed_at_ns: Option<i64>,
}

impl Memory {
    /// Empty, and nothing goes wrong.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is to go wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.inner().faults = faults;
    }

    /// A panic while it is held leaves it whole: tables change by one assignment.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, look: impl FnOnce(&Tables) -> T) -> Result<T, CatalogError> {
        let inner = self.inner();
        if inner.faults.away {
            return Err(failed("it is away"));
        }
        Ok(look(&inner.tables))
    }

    /// One transaction: `change` sees a copy, which takes the place of the tables only if it ends
    /// well.
    async fn write<T>(
        &self,
        change: impl FnOnce(&mut Tables) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let latency = self.inner().faults.latency;
        pause(latency).await;
        point(Point::CatalogCommit);
        let (fate, answer) = {
            let mut inner = self.inner();
            let fate = inner.faults.next();
            if matches!(fate, Fate::Refused) {
                return Err(failed("the transaction failed"));
            }
            let mut tables = inner.tables.clone();
            let answer = change(&mut tables)?;
            inner.tables = tables;
            (fate, answer)
        };
        point(Point::CatalogCommitted);
        pause(latency).await;
        match fate {
            Fate::Unanswered => Err(failed("the connection was lost")),
            _ => Ok(answer),
        }
    }
}

async fn pause(latency: Duration) {
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
}

fn failed(text: &str) -> CatalogError {
    CatalogError::Database(text.into())
}

impl Faults {
    fn next(&mut self) -> Fate {
        if self.away {
            return Fate::Refused;
        }
        if self.refused > 0 {
            self.refused -= 1;
            return Fate::Refused;
        }
        if self.unanswered > 0 {
            self.unanswered -= 1;
            return Fate::Unanswered;
        }
        Fate::Answered
    }
}

impl Tables {
    fn take_over(&mut self, journal_id: [u8; 16]) -> Position {
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

    fn commit(&mut self, commit: &Commit) -> Result<(), CatalogError> {
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

    fn lose(&mut self, loss: JournalLoss) {
        self.losses.insert((loss.journal_id, loss.from), loss);
    }

    fn insert_file(&mut self, file: &DataFile) -> Result<(), CatalogError> {
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
    fn remove_file(&mut self, path: &str, now_ns: i64) -> bool {
        let live = self.files.get_mut(path);
        let live = live.filter(|row| row.removed_at_ns.is_none());
        live.map(|row| row.removed_at_ns = Some(now_ns)).is_some()
    }

    fn live_files(&self) -> Vec<DataFile> {
        let live = self
            .files
            .values()
            .filter(|row| row.removed_at_ns.is_none());
        live.map(|row| row.file.clone()).collect()
    }

    fn load(&self) -> Loaded {
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

    fn series_of(&self, key: &StreamKey) -> Result<Vec<v1::Series>, CatalogError> {
        let mut streams = self.streams.iter();
        let found =
            streams.find(|(_, stream)| stream.stream_id == key.id && *stream.tenant == *key.tenant);
        let Some((id, _)) = found else {
            return Ok(Vec::new());
        };
        self.definitions
            .range((*id, 0)..=(*id, u32::MAX))
            .map(|((_, reference), series)| {
                super::load::definition(*reference, &self.series[series])
            })
            .collect()
    }

    fn give_up(&mut self, journal_id: [u8; 16], through: u64) {
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

    fn sums(&self) -> Vec<Sums> {
        let mut stored: BTreeMap<&str, u64> = BTreeMap::new();
        for stream in self.streams.values() {
            *stored.entry(&stream.tenant).or_default() += stream.stored;
        }
        let sum = |(tenant, stored): (&str, u64)| Sums {
            tenant: tenant.to_owned(),
            stored,
            expired: self.expired.get(tenant).copied().unwrap_or(0),
        };
        stored.into_iter().map(sum).collect()
    }
}

#[async_trait]
impl Backend for Memory {
    async fn close(&self) {}

    async fn position(&self) -> Result<Option<Position>, CatalogError> {
        self.read(|tables| tables.position)
    }

    async fn take_over(&self, journal_id: [u8; 16]) -> Result<Position, CatalogError> {
        self.write(|tables| Ok(tables.take_over(journal_id))).await
    }

    async fn intend(
        &self,
        paths: &[String],
        lease_epoch: i64,
        expires_ns: i64,
    ) -> Result<(), CatalogError> {
        self.write(|tables| {
            let intents = paths
                .iter()
                .map(|path| (path.clone(), (lease_epoch, expires_ns)));
            tables.intents.extend(intents);
            Ok(())
        })
        .await
    }

    async fn commit(&self, commit: &Commit) -> Result<(), CatalogError> {
        self.write(|tables| tables.commit(commit)).await
    }

    async fn load(&self) -> Result<Loaded, CatalogError> {
        self.read(Tables::load)
    }

    async fn streams(&self) -> Result<Vec<StreamLedger>, CatalogError> {
        self.read(|tables| tables.streams.values().cloned().collect())
    }

    async fn series_of(&self, stream: &StreamKey) -> Result<Vec<v1::Series>, CatalogError> {
        self.read(|tables| tables.series_of(stream))?
    }

    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, CatalogError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.read(|tables| tables.dead.values().take(limit).cloned().collect())
    }

    async fn journal_losses(&self) -> Result<Vec<JournalLoss>, CatalogError> {
        self.read(|tables| tables.losses.values().cloned().collect())
    }

    async fn give_up(&self, journal_id: [u8; 16], through: u64) -> Result<(), CatalogError> {
        self.write(|tables| {
            tables.give_up(journal_id, through);
            Ok(())
        })
        .await
    }

    async fn live_files(&self) -> Result<Vec<DataFile>, CatalogError> {
        self.read(Tables::live_files)
    }

    async fn replace_files(
        &self,
        inputs: &[DataFile],
        output: &DataFile,
        now_ns: i64,
    ) -> Result<(), CatalogError> {
        self.write(|tables| {
            for input in inputs {
                if !tables.remove_file(&input.path, now_ns) {
                    return Err(CatalogError::NotLive(input.path.clone()));
                }
            }
            tables.insert_file(output)
        })
        .await
    }

    async fn expire_files(
        &self,
        files: &[DataFile],
        now_ns: i64,
    ) -> Result<Vec<DataFile>, CatalogError> {
        self.write(|tables| {
            let mut taken = files.to_vec();
            taken.retain(|file| tables.remove_file(&file.path, now_ns));
            for file in &taken {
                *tables.expired.entry(file.tenant.to_string()).or_default() += file.rows;
            }
            Ok(taken)
        })
        .await
    }

    async fn removed_before(&self, before_ns: i64) -> Result<Vec<String>, CatalogError> {
        let before = |row: &&FileRow| row.removed_at_ns.is_some_and(|at| at < before_ns);
        let path = |row: &FileRow| row.file.path.clone();
        self.read(|tables| tables.files.values().filter(before).map(path).collect())
    }

    async fn forget_files(&self, paths: &[String]) -> Result<(), CatalogError> {
        self.write(|tables| {
            let gone =
                |path: &String, row: &FileRow| row.removed_at_ns.is_some() && paths.contains(path);
            tables.files.retain(|path, row| !gone(path, row));
            Ok(())
        })
        .await
    }

    async fn orphans(&self, lease_epoch: i64, now_ns: i64) -> Result<Vec<String>, CatalogError> {
        self.read(|tables| {
            let intents = tables.intents.iter();
            let orphan = |path: &String, (epoch, expires_ns): (i64, i64)| {
                epoch < lease_epoch && expires_ns <= now_ns && !tables.files.contains_key(path)
            };
            let orphans = intents.filter(|(path, intent)| orphan(path, **intent));
            orphans.map(|(path, _)| path.clone()).collect()
        })
    }

    async fn forget_intents(&self, paths: &[String]) -> Result<(), CatalogError> {
        self.write(|tables| {
            tables.intents.retain(|path, _| !paths.contains(path));
            Ok(())
        })
        .await
    }

    async fn known_paths(&self) -> Result<BTreeSet<String>, CatalogError> {
        let known = |tables: &Tables| {
            let paths = tables.files.keys().chain(tables.intents.keys());
            paths.cloned().collect()
        };
        self.read(known)
    }

    async fn audit_data(&self) -> Result<(Vec<Sums>, Vec<DataFile>), CatalogError> {
        self.read(|tables| (tables.sums(), tables.live_files()))
    }
}
