//! Why a statement was not answered: a kind for the wire's tables of codes, and one line for a person.
//!
//! The line never holds addresses, paths of the host or the names of internal types: what a person cannot act on is
//! logged here and answered as "internal error". A data file that cannot be read is named as the catalog does.

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;

use crate::answer::text_of_ns;
use crate::engine::share;
use crate::samples::Trouble;

/// What kind of failure; the caller maps it to a status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The statement is wrong: syntax, unknown name, types that do not fit, division by zero.
    BadSql,
    /// The statement is right and not allowed here.
    Forbidden,
    /// The statement or its answer is too large.
    TooLarge,
    /// It took longer than `Limits::timeout`.
    Timeout,
    /// It needed more than `Limits::memory_bytes`.
    Memory,
    /// With the other statements of its owner it needed more than `Limits::owner_bytes`.
    OwnersMemory,
    /// A data file that the statement reads is missing or is not what was written.
    Damaged,
    /// Not the caller's fault: most likely a bug.
    Internal,
}

/// A statement that was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct QueryError {
    kind: ErrorKind,
    text: String,
    /// The data file that is damaged.
    file: Option<String>,
}

/// Longest text of an error, so that it fits a status line or header.
const MAX_TEXT: usize = 600;

impl QueryError {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            file: None,
        }
    }

    /// The path of the data file that is missing or damaged, if that is why.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Logs what a person cannot act on, and answers without it.
    pub(crate) fn internal(what: &str, detail: &dyn std::fmt::Display) -> Self {
        tracing::error!(%detail, "query failed: {what}");
        Self::new(
            ErrorKind::Internal,
            format!("internal error: {what}; the log says more"),
        )
    }

    /// A file is to be restored; statements that do not read it are not concerned.
    pub(crate) fn damaged(trouble: Trouble) -> Self {
        let (from, to) = (text_of_ns(trouble.min_ns), text_of_ns(trouble.max_ns));
        let text = format!(
            "{trouble}: restore it from a backup, or ask for a time outside {from} to {to}; \
             `weir-sink ledger --audit` names every such file, `weir-sink files accept-loss` gives one up"
        );
        Self {
            file: Some(trouble.path),
            ..Self::new(ErrorKind::Damaged, text)
        }
    }

    pub(crate) fn memory(limit: usize) -> Self {
        Self::new(
            ErrorKind::Memory,
            format!(
                "the statement needs more than the {} it may use: narrow the time range, select fewer columns or group \
                 into fewer groups",
                bytes(limit)
            ),
        )
    }

    pub(crate) fn owners_memory(limit: usize) -> Self {
        Self::new(
            ErrorKind::OwnersMemory,
            format!(
                "this tenant's statements need more than the {} they may use together: narrow the time range, select \
                 fewer columns, group into fewer groups or run fewer at a time",
                bytes(limit)
            ),
        )
    }

    pub(crate) fn answer_too_large(limit: usize) -> Self {
        Self::new(
            ErrorKind::TooLarge,
            format!(
                "the answer is larger than {}: select fewer columns, or aggregate, or add a limit",
                bytes(limit)
            ),
        )
    }

    /// Translates DataFusion's error; `memory_bytes` is the limit to name.
    pub(crate) fn from_datafusion(error: &DataFusionError, memory_bytes: usize) -> Self {
        use DataFusionError as E;
        match error {
            E::Context(_, inner) | E::Diagnostic(_, inner) => {
                Self::from_datafusion(inner, memory_bytes)
            }
            E::Shared(inner) => Self::from_datafusion(inner, memory_bytes),
            E::Collection(all) => match all.first() {
                Some(first) => Self::from_datafusion(first, memory_bytes),
                None => Self::internal("the engine failed without a reason", error),
            },
            E::SQL(inner, _) => Self::bad_sql(&inner.to_string()),
            E::Plan(text) | E::NotImplemented(text) | E::Execution(text) => Self::bad_sql(text),
            E::Configuration(text) => Self::bad_sql(text),
            E::SchemaError(inner, _) => Self::bad_sql(&inner.to_string()),
            E::ArrowError(inner, _) => Self::from_arrow(inner),
            E::ResourcesExhausted(text) => match share::of_owner(text) {
                Some(limit) => Self::owners_memory(limit),
                None => Self::memory(memory_bytes),
            },
            E::External(inner) => match inner.downcast_ref::<DataFusionError>() {
                Some(inner) => Self::from_datafusion(inner, memory_bytes),
                None => Self::internal("the statement could not be run", error),
            },
            E::ParquetError(_) | E::ObjectStore(_) | E::IoError(_) => {
                Self::internal("a data file could not be read", error)
            }
            _ => Self::internal("the statement could not be run", error),
        }
    }

    fn from_arrow(error: &ArrowError) -> Self {
        match error {
            ArrowError::DivideByZero => Self::bad_sql("division by zero"),
            ArrowError::CastError(text)
            | ArrowError::ComputeError(text)
            | ArrowError::ParseError(text)
            | ArrowError::ArithmeticOverflow(text)
            | ArrowError::InvalidArgumentError(text) => Self::bad_sql(text),
            ArrowError::ExternalError(inner) => match inner.downcast_ref::<DataFusionError>() {
                Some(inner) => Self::from_datafusion(inner, 0),
                None => Self::internal("a data file could not be read", error),
            },
            _ => Self::internal("the statement could not be run", error),
        }
    }

    fn bad_sql(text: &str) -> Self {
        Self::new(ErrorKind::BadSql, one_line(text))
    }
}

/// A size as a person writes it.
fn bytes(n: usize) -> String {
    const MIB: usize = 1 << 20;
    if n >= MIB && n.is_multiple_of(MIB) {
        format!("{} MiB", n / MIB)
    } else {
        format!("{n} bytes")
    }
}

/// What the engine writes around and into its reasons.
const NOISE: [&str; 7] = [
    "sql parser error: ",
    "Error during planning: ",
    "Schema error: ",
    "Execution error: ",
    "Internal error: ",
    "internal error: ",
    "This issue was likely caused by a bug in DataFusion's code. Please help us to resolve this by filing a bug report \
     in our issue tracker: https://github.com/apache/datafusion/issues.",
];

/// One short line: no backtrace, no names of internal types, lower case at the start.
fn one_line(text: &str) -> String {
    let text = text.split("\n\nbacktrace:").next().unwrap_or(text);
    let mut text = text.trim().to_owned();
    for noise in NOISE {
        text = text.replace(noise, "");
    }
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > MAX_TEXT {
        let mut end = MAX_TEXT;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push_str(" ...");
    }
    let mut chars = line.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            let rest = &line[first.len_utf8()..];
            format!("{}{rest}", first.to_lowercase())
        }
        _ => line,
    }
}
