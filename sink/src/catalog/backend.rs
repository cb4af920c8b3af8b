//! What stands behind a [`Catalog`](super::Catalog): the promises that every kind of database keeps.
//!
//! One suite (`catalog/tests.rs`) holds each of them to it. A method that changes something is one
//! transaction: it happens whole and is durable when it answers, or not at all. After an error its
//! outcome may be unknown, but for [`CatalogError::Moved`] and [`CatalogError::NotLive`], which say
//! that nothing has happened.

use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use weir_proto::v1;

use super::{
    CatalogError, Certificate, Commit, DataFile, DeadLetter, Deed, Deeds, EnrollToken, Enrolled,
    JournalLoss, Loaded, LostFile, Position, Sqlite, StreamLedger, Sums, Token,
};
use crate::model::StreamKey;

/// A database that holds one catalog.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug {
    /// Ends what is open; what is committed stays.
    async fn close(&self);

    /// Where the fold of the journal stands; `None` before the first sink.
    async fn position(&self) -> Result<Option<Position>, CatalogError>;

    /// Takes the fold over under a new lease epoch. A journal other than the last one starts
    /// at 0, and what the old one may still have held is recorded as lost.
    async fn take_over(&self, journal_id: [u8; 16]) -> Result<Position, CatalogError>;

    /// Says that an object may come to exist at `paths`, before it does.
    async fn intend(
        &self,
        paths: &[String],
        lease_epoch: i64,
        expires_ns: i64,
    ) -> Result<(), CatalogError>;

    /// One flush of the fold. After any error but [`CatalogError::Moved`] the outcome may be
    /// unknown: read [`Backend::position`] before trying again.
    async fn commit(&self, commit: &Commit) -> Result<(), CatalogError>;

    /// Everything the fold needs to go on from the committed position.
    async fn load(&self) -> Result<Loaded, CatalogError>;

    /// Every stream at the committed position, by number.
    async fn streams(&self) -> Result<Vec<StreamLedger>, CatalogError>;

    /// What the refs of one stream mean at the committed position, in order of ref.
    async fn series_of(&self, stream: &StreamKey) -> Result<Vec<v1::Series>, CatalogError>;

    /// Records set aside, by journal and number, at most `limit`.
    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, CatalogError>;

    /// Ranges of the journal that could not be folded, by journal and first number.
    async fn journal_losses(&self) -> Result<Vec<JournalLoss>, CatalogError>;

    /// Declares that records of `journal_id` through `through` will never be folded, so that a
    /// fold that found them missing can go on behind them. For the operator's recovery only.
    async fn give_up(&self, journal_id: [u8; 16], through: u64) -> Result<(), CatalogError>;

    /// Files that queries read, in order of path.
    async fn live_files(&self) -> Result<Vec<DataFile>, CatalogError>;

    /// Puts merged files in the place of their inputs, only if all of those are still live.
    async fn replace_files(
        &self,
        inputs: &[DataFile],
        outputs: &[DataFile],
        now_ns: i64,
    ) -> Result<(), CatalogError>;

    /// Takes files out of sight for good and counts their rows as expired. Files that are no
    /// longer live are left alone. Answers those that were taken.
    async fn expire_files(
        &self,
        files: &[DataFile],
        now_ns: i64,
    ) -> Result<Vec<DataFile>, CatalogError>;

    /// Takes a file out of sight whose object is lost, and counts its rows as lost. Answers nothing where it
    /// is not live.
    async fn accept_loss(&self, path: &str, now_ns: i64) -> Result<Option<LostFile>, CatalogError>;

    /// Files whose loss was accepted, in order of path.
    async fn lost_files(&self) -> Result<Vec<LostFile>, CatalogError>;

    /// Paths of files that have been out of sight since before `before_ns`.
    async fn removed_before(&self, before_ns: i64) -> Result<Vec<String>, CatalogError>;

    /// Forgets removed files whose objects are gone.
    async fn forget_files(&self, paths: &[String]) -> Result<(), CatalogError>;

    /// Objects whose writer lost its lease and had time enough to notice, in order of path.
    async fn orphans(&self, lease_epoch: i64, now_ns: i64) -> Result<Vec<String>, CatalogError>;

    /// Ends intents whose objects are known to be gone.
    async fn forget_intents(&self, paths: &[String]) -> Result<(), CatalogError>;

    /// Every path the catalog has a row for, live or not, intended or not.
    async fn known_paths(&self) -> Result<BTreeSet<String>, CatalogError>;

    /// What an audit compares, as of one moment: per tenant the rows its streams stored and
    /// those that expired, and all live files.
    async fn audit_data(&self) -> Result<(Vec<Sums>, Vec<DataFile>), CatalogError>;

    /// Grows with every change of what is allowed.
    async fn access_generation(&self) -> Result<i64, CatalogError>;

    /// Every token, in the order in which they were made.
    async fn tokens(&self) -> Result<Vec<Token>, CatalogError>;

    /// Takes a new token, and notes who made it.
    async fn add_token(&self, token: &Token, deed: &Deed) -> Result<(), CatalogError>;

    /// Ends a token at the time of the deed, and notes it. Answers false, and changes nothing, where there is
    /// none of this id that is not revoked.
    async fn revoke_token(&self, id: &str, deed: &Deed) -> Result<bool, CatalogError>;

    /// Adds to the audit log.
    async fn record(&self, deeds: &[Deed]) -> Result<(), CatalogError>;

    /// The audit log, oldest first.
    async fn deeds(&self, wanted: &Deeds) -> Result<Vec<Deed>, CatalogError>;

    /// Every token that becomes certificates, in the order in which they were made.
    async fn enroll_tokens(&self) -> Result<Vec<EnrollToken>, CatalogError>;

    /// Takes a new one, and notes who made it.
    async fn add_enroll_token(&self, token: &EnrollToken, deed: &Deed) -> Result<(), CatalogError>;

    /// Ends one, as [`Backend::revoke_token`].
    async fn revoke_enroll_token(&self, id: &str, deed: &Deed) -> Result<bool, CatalogError>;

    /// Counts a use of a token and notes what it became, if it stands and a use is left. The same agent with the
    /// same key again costs none: its answer was lost.
    async fn enroll(
        &self,
        id: &str,
        certificate: &Certificate,
        deed: &Deed,
    ) -> Result<Enrolled, CatalogError>;

    /// Notes a certificate that follows another, and answers how many have followed that one before.
    async fn renew_certificate(
        &self,
        certificate: &Certificate,
        deed: &Deed,
    ) -> Result<u64, CatalogError>;

    /// Every certificate of an agent, by tenant and agent.
    async fn certificates(&self) -> Result<Vec<Certificate>, CatalogError>;

    /// Ends all certificates of an agent of a tenant, and answers how many stood.
    async fn revoke_certificates(
        &self,
        whose: (&str, &str),
        deed: &Deed,
    ) -> Result<u64, CatalogError>;
}

#[async_trait]
impl Backend for Sqlite {
    async fn close(&self) {
        self.close().await;
    }

    async fn position(&self) -> Result<Option<Position>, CatalogError> {
        self.position().await
    }

    async fn take_over(&self, journal_id: [u8; 16]) -> Result<Position, CatalogError> {
        self.take_over(journal_id).await
    }

    async fn intend(
        &self,
        paths: &[String],
        lease_epoch: i64,
        expires_ns: i64,
    ) -> Result<(), CatalogError> {
        self.intend(paths, lease_epoch, expires_ns).await
    }

    async fn commit(&self, commit: &Commit) -> Result<(), CatalogError> {
        self.commit(commit).await
    }

    async fn load(&self) -> Result<Loaded, CatalogError> {
        self.load().await
    }

    async fn streams(&self) -> Result<Vec<StreamLedger>, CatalogError> {
        self.streams().await
    }

    async fn series_of(&self, stream: &StreamKey) -> Result<Vec<v1::Series>, CatalogError> {
        self.series_of(stream).await
    }

    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, CatalogError> {
        self.dead_letters(limit).await
    }

    async fn journal_losses(&self) -> Result<Vec<JournalLoss>, CatalogError> {
        self.journal_losses().await
    }

    async fn give_up(&self, journal_id: [u8; 16], through: u64) -> Result<(), CatalogError> {
        self.give_up(journal_id, through).await
    }

    async fn live_files(&self) -> Result<Vec<DataFile>, CatalogError> {
        self.live_files().await
    }

    async fn replace_files(
        &self,
        inputs: &[DataFile],
        outputs: &[DataFile],
        now_ns: i64,
    ) -> Result<(), CatalogError> {
        self.replace_files(inputs, outputs, now_ns).await
    }

    async fn expire_files(
        &self,
        files: &[DataFile],
        now_ns: i64,
    ) -> Result<Vec<DataFile>, CatalogError> {
        self.expire_files(files, now_ns).await
    }

    async fn accept_loss(&self, path: &str, now_ns: i64) -> Result<Option<LostFile>, CatalogError> {
        self.accept_loss(path, now_ns).await
    }

    async fn lost_files(&self) -> Result<Vec<LostFile>, CatalogError> {
        self.lost_files().await
    }

    async fn removed_before(&self, before_ns: i64) -> Result<Vec<String>, CatalogError> {
        self.removed_before(before_ns).await
    }

    async fn forget_files(&self, paths: &[String]) -> Result<(), CatalogError> {
        self.forget_files(paths).await
    }

    async fn orphans(&self, lease_epoch: i64, now_ns: i64) -> Result<Vec<String>, CatalogError> {
        self.orphans(lease_epoch, now_ns).await
    }

    async fn forget_intents(&self, paths: &[String]) -> Result<(), CatalogError> {
        self.forget_intents(paths).await
    }

    async fn known_paths(&self) -> Result<BTreeSet<String>, CatalogError> {
        self.known_paths().await
    }

    async fn audit_data(&self) -> Result<(Vec<Sums>, Vec<DataFile>), CatalogError> {
        self.audit_data().await
    }

    async fn access_generation(&self) -> Result<i64, CatalogError> {
        self.access_generation().await
    }

    async fn tokens(&self) -> Result<Vec<Token>, CatalogError> {
        self.tokens().await
    }

    async fn add_token(&self, token: &Token, deed: &Deed) -> Result<(), CatalogError> {
        self.add_token(token, deed).await
    }

    async fn revoke_token(&self, id: &str, deed: &Deed) -> Result<bool, CatalogError> {
        self.revoke_token(id, deed).await
    }

    async fn record(&self, deeds: &[Deed]) -> Result<(), CatalogError> {
        self.record(deeds).await
    }

    async fn deeds(&self, wanted: &Deeds) -> Result<Vec<Deed>, CatalogError> {
        self.deeds(wanted).await
    }

    async fn enroll_tokens(&self) -> Result<Vec<EnrollToken>, CatalogError> {
        self.enroll_tokens().await
    }

    async fn add_enroll_token(&self, token: &EnrollToken, deed: &Deed) -> Result<(), CatalogError> {
        self.add_enroll_token(token, deed).await
    }

    async fn revoke_enroll_token(&self, id: &str, deed: &Deed) -> Result<bool, CatalogError> {
        self.revoke_enroll_token(id, deed).await
    }

    async fn enroll(
        &self,
        id: &str,
        certificate: &Certificate,
        deed: &Deed,
    ) -> Result<Enrolled, CatalogError> {
        self.enroll(id, certificate, deed).await
    }

    async fn renew_certificate(
        &self,
        certificate: &Certificate,
        deed: &Deed,
    ) -> Result<u64, CatalogError> {
        self.renew_certificate(certificate, deed).await
    }

    async fn certificates(&self) -> Result<Vec<Certificate>, CatalogError> {
        self.certificates().await
    }

    async fn revoke_certificates(
        &self,
        whose: (&str, &str),
        deed: &Deed,
    ) -> Result<u64, CatalogError> {
        self.revoke_certificates(whose, deed).await
    }
}
