//! Why the fold cannot begin or go on.

use crate::catalog::CatalogError;
use crate::model::Kind;
use crate::store::StoreError;
use crate::writer::WriteError;

/// Why the fold cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// The catalog failed, or belongs to another sink by now.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file could not be made.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// What the catalog holds does not fit together.
    #[error("catalog is damaged: {0}: restore it from a backup")]
    Damaged(String),
    /// Records between catalog and journal are missing.
    #[error(
        "catalog stands at journal record {position}, the journal begins at {oldest}: restore the \
         catalog or the journal that belong together"
    )]
    Missing {
        /// Where the catalog stands.
        position: u64,
        /// The first record there is.
        oldest: u64,
    },
    /// The journal is older than the catalog.
    #[error(
        "catalog stands at journal record {position}, the journal ends before {next}: it was \
         restored from a backup; move it away, so that a new one begins"
    )]
    RolledBack {
        /// Where the catalog stands.
        position: u64,
        /// The number the journal would give next.
        next: u64,
    },
    /// Told to stop before the flush was done; the journal still has it.
    #[error("stopped before the flush was done")]
    Stopped,
}

impl FoldError {
    /// What it asks of whoever sees it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Catalog(CatalogError::Database(_)) | Self::Store(_) | Self::Stopped => {
                Kind::Unavailable
            }
            Self::Missing { .. } | Self::RolledBack { .. } => Kind::Precondition,
            Self::Catalog(_) | Self::Write(_) | Self::Damaged(_) => Kind::Internal,
        }
    }
}
