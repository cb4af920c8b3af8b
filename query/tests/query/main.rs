//! The engine through its front door: real Parquet files in a directory, statements in, answers out.

#![allow(clippy::unwrap_used, reason = "a test")]

mod bounds;
mod encoding;
mod fixture;
mod hostile;
mod narrow;
mod reach;
mod scan;
