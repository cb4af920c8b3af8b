//! Samples sensors, keeps readings through outages, and streams them to a sink.

pub mod dead_letter;
pub mod ledger;
pub mod sender;
pub mod spool;
