//! The sink: makes readings durable, stores them as columns and answers SQL.
//!
//! Modules in the order in which data flows: `grpc` hands requests to `ingest`, which journals
//! envelopes and acknowledges; `fold` takes them in journal order into files, `latest` and the
//! ledger; `http` answers questions about both.

pub mod envelope;
pub mod model;

pub mod audit;
pub mod catalog;
mod compaction;
pub mod fold;
pub mod maintenance;
mod retention;
pub mod store;
pub mod writer;
