//! SQL over Parquet files and the rows that are not in a file yet. The only crate that names DataFusion.
//!
//! In: one SQL statement and a [`Tables`] snapshot (the data files of one tenant, the fresh batches beyond them, and
//! small in-memory views). Out: an [`Answer`] that encodes itself as JSON, CSV or an Arrow stream, or a [`QueryError`].
//!
//! What it promises:
//! - **Reach.** A statement sees the tables of its snapshot and nothing else: no file, no URL, no other tenant. One
//!   SELECT, WITH, VALUES, EXPLAIN or SHOW per request; whatever changes data or settings is refused.
//! - **Bounds.** Time, operator memory, rows and bytes of an answer are limited by [`Limits`]; nothing spills to disk.
//!   Statements run on threads of the engine's own, so that they cannot hold up the caller's runtime.
//! - **One snapshot.** Files and fresh rows come from the caller as one value: a reading is seen once.
//! - **Columns are only added.** Files and batches are merged by name; a nullable column that one lacks reads as null.
//!
//! One [`Engine`] serves one object store: the footers of its files are kept in memory by object path.

mod answer;
mod engine;
mod error;
mod samples;
mod statement;
mod tables;

pub use answer::Answer;
pub use engine::{Engine, Limits};
pub use error::{ErrorKind, QueryError};
pub use statement::mentions;
pub use tables::{DataFile, Names, Tables, View};
