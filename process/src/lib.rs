//! How a program behaves towards its operator, the same for every program of the workspace.
//!
//! In the order in which a start-up goes through it: the environment and `.env` ([`mod@env`]), settings out of one table
//! ([`config`]), log lines ([`logging`]), the one place that reads a clock ([`clock`]) and the one that draws lots
//! ([`random`]), what runs where ([`work`]), what memory it keeps ([`memory`]) and how it stops ([`shutdown`]), what is wrong right now ([`health`], [`progress`], [`place`], [`metrics`]), how that is asked for ([`http`], [`probes`]) and kept from other ears ([`tls`]), and
//! what a person sees ([`output`], [`exit`], [`version`]).
//!
//! Knows nothing of readings, batches or sinks: no other crate of the workspace is imported here.

pub mod clock;
pub mod config;
pub mod env;
pub mod exit;
pub mod health;
pub mod http;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod output;
pub mod place;
pub mod probes;
pub mod progress;
pub mod random;
pub mod secret;
pub mod shutdown;
pub mod tls;
pub mod version;
pub mod work;
