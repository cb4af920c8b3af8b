//! The catalog in memory, for simulations: a database in which only committed transactions exist.
//!
//! Clones share the tables, which outlive the sink that used them as a file does: drop the sink,
//! give a clone to the next one, and it finds what was committed. A transaction that its caller
//! dropped while it was slow has not happened. What goes wrong is ordered by [`Memory::set_faults`].

mod access;
mod enrolment;
mod tables;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use weir_fault::{Point, point};
use weir_proto::v1;

use super::{
    Backend, CatalogError, Certificate, Commit, DataFile, DeadLetter, Deed, Deeds, EnrollToken,
    Enrolled, JournalLoss, Loaded, LostFile, Position, StreamLedger, Sums, Token,
};
use crate::model::StreamKey;
use tables::{FileRow, Tables};

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
        outputs: &[DataFile],
        now_ns: i64,
    ) -> Result<(), CatalogError> {
        self.write(|tables| {
            for input in inputs {
                if !tables.remove_file(&input.path, now_ns) {
                    return Err(CatalogError::NotLive(input.path.clone()));
                }
            }
            outputs
                .iter()
                .try_for_each(|output| tables.insert_file(output))
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

    async fn accept_loss(&self, path: &str, now_ns: i64) -> Result<Option<LostFile>, CatalogError> {
        self.write(|tables| Ok(tables.accept_loss(path, now_ns)))
            .await
    }

    async fn lost_files(&self) -> Result<Vec<LostFile>, CatalogError> {
        self.read(|tables| tables.lost.values().cloned().collect())
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

    async fn access_generation(&self) -> Result<i64, CatalogError> {
        self.read(|tables| tables.access.generation)
    }

    async fn tokens(&self) -> Result<Vec<Token>, CatalogError> {
        self.read(|tables| tables.access.tokens())
    }

    async fn add_token(&self, token: &Token, deed: &Deed) -> Result<(), CatalogError> {
        self.write(|tables| tables.access.add_token(token, deed))
            .await
    }

    async fn revoke_token(&self, id: &str, deed: &Deed) -> Result<bool, CatalogError> {
        self.write(|tables| Ok(tables.access.revoke_token(id, deed)))
            .await
    }

    async fn record(&self, deeds: &[Deed]) -> Result<(), CatalogError> {
        self.write(|tables| {
            tables.access.record(deeds);
            Ok(())
        })
        .await
    }

    async fn deeds(&self, wanted: &Deeds) -> Result<Vec<Deed>, CatalogError> {
        self.read(|tables| tables.access.deeds(wanted))
    }

    async fn enroll_tokens(&self) -> Result<Vec<EnrollToken>, CatalogError> {
        self.read(|tables| tables.access.enroll_tokens.clone())
    }

    async fn add_enroll_token(&self, token: &EnrollToken, deed: &Deed) -> Result<(), CatalogError> {
        self.write(|tables| tables.access.add_enroll_token(token, deed))
            .await
    }

    async fn revoke_enroll_token(&self, id: &str, deed: &Deed) -> Result<bool, CatalogError> {
        self.write(|tables| Ok(tables.access.revoke_enroll_token(id, deed)))
            .await
    }

    async fn enroll(
        &self,
        id: &str,
        certificate: &Certificate,
        deed: &Deed,
    ) -> Result<Enrolled, CatalogError> {
        self.write(|tables| tables.access.enroll(id, certificate, deed))
            .await
    }

    async fn renew_certificate(
        &self,
        certificate: &Certificate,
        deed: &Deed,
    ) -> Result<u64, CatalogError> {
        self.write(|tables| tables.access.renew_certificate(certificate, deed))
            .await
    }

    async fn certificates(&self) -> Result<Vec<Certificate>, CatalogError> {
        self.read(|tables| tables.access.certificates())
    }

    async fn revoke_certificates(
        &self,
        whose: (&str, &str),
        deed: &Deed,
    ) -> Result<u64, CatalogError> {
        self.write(|tables| Ok(tables.access.revoke_certificates(whose, deed)))
            .await
    }
}
