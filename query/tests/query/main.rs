//! The engine through its front door: real Parquet files in a directory, statements in, answers out.

mod bounds;
mod encoding;
mod fixture;
mod reach;
mod scan;
