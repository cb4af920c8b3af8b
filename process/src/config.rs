//! Settings: one table of keys per program is the single source of everything an operator can set.
//!
//! A [`Key`] named `batch.max_readings` of a program whose prefix is `WEIR_AGENT` is, without being written twice:
//!
//! | where | form |
//! |---|---|
//! | command line | `--batch-max-readings 500` |
//! | environment | `WEIR_AGENT_BATCH_MAX_READINGS=500` |
//! | file (TOML) | `[batch]` `max_readings = 500` |
//! | `.env.example` | `#WEIR_AGENT_BATCH_MAX_READINGS=1000`, with its help text above |
//!
//! The first of these that says something wins, then the default. A secret key may also be given as the path of a file
//! that holds it, in the variable with `_FILE` appended. An empty value means "not set".
//!
//! In: a [`Table`], the parsed command line, an [`Environment`](crate::env::Environment). Out: typed values through a
//! [`Reader`], then either the [`Effective`] settings or all [`Faults`] in one report. Names that nobody knows are
//! faults with a suggestion. No value of a secret key is ever shown.

mod effective;
mod faults;
mod file;
mod reader;
mod resolve;
mod table;
mod values;

#[cfg(test)]
mod tests;

pub use effective::{Effective, Setting, Source};
pub use faults::{Fault, Faults};
pub use reader::Reader;
pub use resolve::Sources;
pub use table::{Group, Key, Kind, Table};
pub use toml;
pub use values::{bytes, count, rate};
