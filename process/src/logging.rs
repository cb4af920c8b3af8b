//! Log lines: where they go, how they look, and how a line that can repeat is kept from filling a disk.
//!
//! Lines go to standard error, as text or as one JSON object per line. Text has colour only on a terminal and when
//! `NO_COLOR` is not set. `RUST_LOG` wins over the configured level.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Key, Kind, Reader};
use crate::env::Environment;

/// The keys by which an operator steers logging, to be put into a program's table.
pub const KEYS: [Key; 2] = [
    Key::new(
        "log.level",
        Kind::Text,
        "info",
        "what to log: error, warn, info, debug or trace, also per part as in info,hyper=debug; RUST_LOG wins over it",
    ),
    Key::new(
        "log.format",
        Kind::Choice(&["text", "json"]),
        "text",
        "how log lines look",
    ),
];

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line of text per event.
    Text,
    /// One JSON object per line and event.
    Json,
}

/// What to log and how, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// How log lines look.
    pub format: Format,
    /// A level, or a list of `part=level`.
    pub filter: String,
    /// Whether colour is wanted when the output is a terminal.
    pub color: bool,
}

/// Logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error("cannot read {0:?} as a log level: write error, warn, info, debug or trace")]
    Filter(String),
    /// Something else has set up logging before.
    #[error("logging is already set up")]
    Twice,
}

impl Logging {
    /// Reads [`KEYS`], `RUST_LOG` and `NO_COLOR`.
    pub fn read(reader: &mut Reader, environment: &Environment) -> Self {
        let format = match reader.choice("log.format") {
            "json" => Format::Json,
            _ => Format::Text,
        };
        let level = reader.text("log.level");
        if let Err(error) = filter(&level) {
            reader.fault("log.level", error.to_string());
        }
        let filter = match environment.get("RUST_LOG") {
            Some(wanted) if filter(wanted).is_ok() => wanted.to_owned(),
            Some(wanted) => {
                reader.fault(
                    "RUST_LOG",
                    LoggingError::Filter(wanted.to_owned()).to_string(),
                );
                level
            }
            None => level,
        };
        Self {
            format,
            filter,
            color: environment.get("NO_COLOR").is_none(),
        }
    }
}

/// A filter that cannot be misread: a bare word must be a level, not the name of a part to log in full.
fn filter(text: &str) -> Result<Targets, LoggingError> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let fault = || LoggingError::Filter(text.to_owned());
    let bare = |part: &str| !part.contains(['=', '[', ':', '_']);
    let wrong = text
        .split(',')
        .map(str::trim)
        .any(|part| bare(part) && !LEVELS.contains(&part.to_ascii_lowercase().as_str()));
    if wrong {
        return Err(fault());
    }
    text.parse().map_err(|_| fault())
}

/// Starts logging for the whole process. Call it once, after the configuration has been read.
///
/// # Errors
/// When the filter cannot be read or logging was set up before.
pub fn init(logging: &Logging) -> Result<(), LoggingError> {
    let filter = filter(&logging.filter)?;
    let builder = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(std::io::stderr)
        // A closed standard error must not end the program.
        .log_internal_errors(false);
    let done = match logging.format {
        Format::Json => {
            let lines = builder.json().flatten_event(true).finish();
            lines.with(filter).try_init()
        }
        Format::Text => {
            let color = logging.color && std::io::stderr().is_terminal();
            builder.with_ansi(color).finish().with(filter).try_init()
        }
    };
    done.map_err(|_| LoggingError::Twice)
}

/// Lets a line through at most once per interval and counts what it held back.
#[derive(Debug)]
pub struct Throttle {
    every_ns: u64,
    /// Monotonic time from which the next line may pass.
    next_ns: AtomicU64,
    held: AtomicU64,
}

impl Throttle {
    /// At most one line per `every`.
    pub fn new(every: Duration) -> Self {
        Self {
            every_ns: u64::try_from(every.as_nanos()).unwrap_or(u64::MAX),
            next_ns: AtomicU64::new(0),
            held: AtomicU64::new(0),
        }
    }

    /// Whether a line may be written now; if so, how many were held back since the last one.
    pub fn permit(&self, monotonic_ns: u64) -> Option<u64> {
        let next = self.next_ns.load(Ordering::Relaxed);
        let until = monotonic_ns.saturating_add(self.every_ns);
        let mine = monotonic_ns >= next
            && self
                .next_ns
                .compare_exchange(next, until, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine {
            Some(self.held.swap(0, Ordering::Relaxed))
        } else {
            self.held.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests;
