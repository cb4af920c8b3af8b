//! The sink: makes readings durable, stores them as columns and answers SQL.
//!
//! Modules in the order in which data flows: `access` says who may speak, `grpc` hands requests to `ingest`, which journals
//! envelopes and acknowledges; `fold` takes them in journal order into files, `latest` and the
//! ledger; `http` answers questions about both. `assembly` puts the parts together and takes them
//! apart again, `run` gives it those of this machine, `cli` is what an operator types; `certs` makes what
//! its ports are encrypted with.

pub mod assembly;
pub mod certs;
pub mod cli;
pub mod config;
pub mod run;

pub mod access;
pub mod grpc;
pub mod ingest;

pub mod envelope;
pub mod model;
mod refs;

pub mod audit;
pub mod catalog;
mod compaction;
pub mod fold;
pub mod maintenance;
mod pulse;
mod retention;
pub mod store;
pub mod writer;

pub mod ledger;

pub mod http;
pub mod metrics;

#[cfg(test)]
#[path = "../../proto/tests/support/cases.rs"]
mod cases;
