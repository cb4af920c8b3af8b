//! `weir-agent`: samples sensors, keeps readings through outages, and streams them to a sink.
//!
//! Modules in the order in which a reading passes through them:
//!
//! ```text
//! sensors -> sampler -> buffer -> queue -> batch -> spool -> sender ==> sink
//! ```
//!
//! The agent is one runtime thread and one thread for the spool's disk. Everything between is bounded in bytes, and what
//! does not fit is handled as the operator chose and counted.

pub mod assembly;
pub mod cli;
pub mod config;
mod doctor;
mod interruption;
mod run;

mod batch;
mod budget;
mod buffer;
pub mod dead_letter;
pub mod identity;
pub mod ledger;
mod pulse;
mod queue;
mod sampler;
pub mod sender;
pub mod sensors;
pub mod spool;
mod sync;

mod metrics;
mod status;

#[cfg(test)]
#[path = "queue/tests.rs"]
mod queue_tests;

#[cfg(test)]
#[path = "../../proto/tests/support/cases.rs"]
mod cases;
