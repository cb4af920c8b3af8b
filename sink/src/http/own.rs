//! What belongs to one tenant: everything that a request is answered from, and nothing of others. It is made from the
//! caller's tenant, and has no way to another's.

use std::sync::Arc;

use crate::audit::audit_of;
use crate::catalog::LostFile;
use crate::fold::View;
use crate::ingest::{LostStream, StreamView, Wanted};
use crate::ledger::{Audit, DamagedFile, FileLost, Files, Line};
use crate::model::Kind;

use super::{Books, Refusal};

/// See the module.
#[derive(Clone)]
pub struct Own {
    books: Books,
    tenant: Arc<str>,
}

impl Books {
    /// What belongs to this tenant.
    pub fn of(&self, tenant: &Arc<str>) -> Own {
        Own {
            books: self.clone(),
            tenant: Arc::clone(tenant),
        }
    }
}

impl Own {
    /// Whose this is.
    pub fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }

    /// What time it is.
    pub(super) fn now_ns(&self) -> i64 {
        self.books.clock.wall_ns()
    }

    /// One line per stream as of now.
    pub fn lines(&self) -> Vec<Line> {
        self.books.lines_of(&self.tenant)
    }

    /// Every stream as it stands, durably.
    pub(super) fn streams(&self) -> Vec<StreamView> {
        self.books.ingest.streams_of(&self.tenant)
    }

    pub(super) async fn settle(&self, wanted: &Wanted) -> Result<Vec<LostStream>, Refusal> {
        let settled = self.books.ingest.settle_lost(&self.tenant, wanted).await;
        settled.map_err(|fault| Refusal::of(fault.kind(), fault.to_string()))
    }

    pub(super) async fn audit(&self) -> Result<Vec<Audit>, Refusal> {
        let (catalog, store) = (&self.books.catalog, &self.books.store);
        let lines = audit_of(catalog, store, Some(&self.tenant)).await;
        let lines = lines.map_err(|error| {
            tracing::error!(%error, "audit failed");
            Refusal::of(Kind::Internal, "audit failed; the log says more")
        })?;
        Ok(lines
            .into_iter()
            .map(|line| Audit {
                unexplained: line.unexplained(),
                tenant: line.tenant,
                stored: line.stored,
                in_files: line.in_files,
                expired: line.expired,
                lost: line.lost,
                faults: line.faults,
            })
            .collect())
    }

    /// Files, fresh rows and, where they are wanted, latest values of one moment.
    #[cfg_attr(not(feature = "sql"), allow(dead_code, reason = "SQL asks for it"))]
    pub(super) fn view(&self, with_latest: bool) -> Arc<View> {
        match with_latest {
            true => self.books.fold.view(&self.tenant),
            false => self.books.fold.view_of_rows(&self.tenant),
        }
    }

    /// The same where nothing has changed since it was last asked for, without a wait.
    #[cfg_attr(not(feature = "sql"), allow(dead_code, reason = "SQL asks for it"))]
    pub(super) fn view_at_hand(&self, with_latest: bool) -> Option<Arc<View>> {
        self.books.fold.view_at_hand(&self.tenant, with_latest)
    }

    /// What a statement found out of a file everybody should know.
    #[cfg_attr(not(feature = "sql"), allow(dead_code, reason = "SQL asks for it"))]
    pub(super) async fn look_at(&self, path: &str) {
        let files = self.books.fold.files();
        if let Some(file) = files.iter().find(|file| file.path == path) {
            // Notes by itself what comes of it.
            let _ = self.books.store.whole(file).await;
        }
    }

    /// Files that cannot be read as they were written.
    pub(super) fn files(&self) -> Files {
        let known = self.books.store.damaged().known().into_iter();
        Files {
            damaged: known
                .filter(|damage| damage.tenant == self.tenant)
                .map(|damage| DamagedFile {
                    file: damage.path,
                    readings: damage.rows,
                    why: damage.why,
                })
                .collect(),
            lost: self.file_lost(),
        }
    }

    /// What is gone with files, by file.
    pub(super) fn file_lost(&self) -> Vec<FileLost> {
        let lost = self.books.store.damaged().lost().into_iter();
        let own = lost.filter(|lost| lost.tenant == self.tenant);
        own.map(FileLost::from).collect()
    }

    /// Gives up a file that is missing or damaged: queries go on without it, and what it held is counted as
    /// dropped(file_lost). A file that is what was written is left alone.
    pub(super) async fn accept_loss(&self, path: &str) -> Result<FileLost, Refusal> {
        let books = &self.books;
        let files = books.fold.files();
        let none = || {
            let text = format!(
                "there is no data file {path}: `weir-sink files` and `weir-sink ledger --audit` name those that are damaged"
            );
            Refusal::of(Kind::NotFound, text)
        };
        let own =
            |file: &&crate::catalog::DataFile| file.path == path && file.tenant == self.tenant;
        let file = files.iter().find(own).ok_or_else(none)?;
        let Err(why) = books.store.whole(file).await else {
            let text = format!("{path} is what was written: there is no loss to accept");
            return Err(Refusal::of(Kind::Precondition, text));
        };
        let accepted = books.catalog.accept_loss(path, books.clock.wall_ns()).await;
        let accepted = accepted.map_err(|error| {
            tracing::error!(%error, path, "the loss of a file cannot be noted");
            Refusal::of(Kind::Unavailable, format!("cannot be noted: {error}"))
        })?;
        let lost = accepted.ok_or_else(none)?;
        books
            .fold
            .replace_files(std::slice::from_ref(file), Vec::new());
        books.store.damaged().accept(lost.clone());
        tracing::error!(
            path, readings = lost.rows, %why,
            "the loss of a data file was accepted: its readings count as dropped, file_lost"
        );
        Ok(lost.into())
    }

    #[cfg_attr(not(feature = "sql"), allow(dead_code, reason = "SQL asks for it"))]
    pub(super) fn objects(&self) -> Arc<dyn object_store::ObjectStore> {
        self.books.store.objects()
    }
}

impl From<LostFile> for FileLost {
    fn from(lost: LostFile) -> Self {
        Self {
            file: lost.path,
            tenant: lost.tenant.to_string(),
            readings: lost.rows,
            accepted_at_ns: lost.accepted_at_ns,
        }
    }
}
