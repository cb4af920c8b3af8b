//! Files that cannot be read as they were written: which they are, and that an operator gives one up.

use http::StatusCode;
use weir_process::http::Response;

use super::{Books, Front, Refusal, json};
use crate::catalog::LostFile;
use crate::ledger::{DamagedFile, FileLost, Files};
use crate::model::Kind;

impl Front {
    pub(super) fn files(&self) -> Response {
        let known = self.books.store.damaged().known().into_iter();
        let files = Files {
            damaged: known
                .map(|damage| DamagedFile {
                    file: damage.path,
                    readings: damage.rows,
                    why: damage.why,
                })
                .collect(),
            lost: self.books.file_lost(),
        };
        json(StatusCode::OK, &files)
    }

    pub(super) async fn accept_loss(&self, query: &str) -> Result<Response, Refusal> {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        match (pairs.next(), pairs.next()) {
            (Some((name, path)), None) if name == "file" => {
                let lost = self.books.accept_loss(&path).await?;
                Ok(json(StatusCode::OK, &lost))
            }
            _ => Err(Refusal::of(Kind::Invalid, "name one file: ?file=PATH")),
        }
    }
}

impl Books {
    /// What is gone with files, by file.
    pub fn file_lost(&self) -> Vec<FileLost> {
        let lost = self.store.damaged().lost();
        lost.into_iter().map(FileLost::from).collect()
    }

    /// Gives up a file that is missing or damaged: queries go on without it, and what it held is counted as
    /// dropped(file_lost). A file that is what was written is left alone.
    async fn accept_loss(&self, path: &str) -> Result<FileLost, Refusal> {
        let files = self.fold.files();
        let none = || {
            let text = format!(
                "there is no data file {path}: `weir-sink files` and `weir-sink ledger --audit` name those that are damaged"
            );
            Refusal::of(Kind::NotFound, text)
        };
        let file = files.iter().find(|file| file.path == path);
        let file = file.ok_or_else(none)?;
        let Err(why) = self.store.whole(file).await else {
            let text = format!("{path} is what was written: there is no loss to accept");
            return Err(Refusal::of(Kind::Precondition, text));
        };
        let accepted = self.catalog.accept_loss(path, self.clock.wall_ns()).await;
        let accepted = accepted.map_err(|error| {
            tracing::error!(%error, path, "the loss of a file cannot be noted");
            Refusal::of(Kind::Unavailable, format!("cannot be noted: {error}"))
        })?;
        let lost = accepted.ok_or_else(none)?;
        self.fold.replace_files(std::slice::from_ref(file), None);
        self.store.damaged().accept(lost.clone());
        tracing::error!(
            path, readings = lost.rows, %why,
            "the loss of a data file was accepted: its readings count as dropped, file_lost"
        );
        Ok(lost.into())
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
