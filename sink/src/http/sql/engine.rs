//! From the sink's parts to what a statement may see, and back to bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use tokio::task::block_in_place;
use weir_query::{DataFile, Engine, ErrorKind, Limits, Names, QueryError, Tables, View};

use super::{Encoded, Form};
use crate::catalog::DataFile as Listed;
use crate::config::QueryConfig;
use crate::http::Refusal;
use crate::http::own::Own;
use crate::ledger::Line;
use crate::metrics::QueryMetrics;
use crate::model::Kind;
use crate::writer::columns;

/// So many lists of files are kept: more tenants that take turns make theirs anew.
const LISTS: usize = 8;

/// One list of files twice: as the view has it, and as the engine does.
type Shared = (Arc<Vec<Listed>>, Arc<Vec<DataFile>>);

/// An answer of more rows takes so long to write out that other statements should not wait for it.
const MANY_ROWS: usize = 1000;

/// Names of tables.
const LATEST: &str = "latest";
const STREAMS: &str = "streams";

pub(super) struct Runner {
    engine: Engine,
    metrics: QueryMetrics,
    files: Arc<Lists>,
}

/// Files of the last views, the last used first.
#[derive(Default)]
struct Lists(Mutex<VecDeque<Shared>>);

impl Runner {
    pub(super) fn new(config: &QueryConfig, metrics: QueryMetrics) -> std::io::Result<Self> {
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let engine = Engine::new(Limits {
            max_rows: size(config.max_rows),
            timeout: config.timeout,
            memory_bytes: size(config.memory_bytes),
            owner_bytes: size(config.tenant_memory_bytes),
            threads: if config.threads == 0 {
                cores
            } else {
                size(config.threads)
            },
        })?;
        Ok(Self {
            engine,
            metrics,
            files: Arc::default(),
        })
    }

    pub(super) async fn run(&self, own: &Own, query: &str, form: Form) -> Result<Encoded, Refusal> {
        let ran = self
            .engine
            .run_as(query, self.tables(own, query), move |answer| {
                let encode = || match form {
                    Form::Json => answer.to_json(),
                    Form::Csv => answer.to_csv(),
                    Form::Arrow => answer.to_arrow_ipc(),
                };
                let bytes = match answer.rows() > MANY_ROWS {
                    true => block_in_place(encode),
                    false => encode(),
                };
                let encoded = Encoded {
                    bytes: bytes?,
                    truncated: answer.truncated,
                };
                Ok((encoded, answer.files_known, answer.files_scanned))
            });
        let (encoded, known, read) = match ran.await {
            Ok(ran) => ran,
            Err(error) => {
                if let Some(path) = error.file() {
                    own.look_at(path).await;
                }
                return Err(refusal(error));
            }
        };
        self.metrics.files_read.inc_by(read as u64);
        let skipped = known.saturating_sub(read);
        self.metrics.files_skipped.inc_by(skipped as u64);
        Ok(encoded)
    }

    /// Makes one snapshot: files, fresh rows and latest values of the same moment. Tables that the statement does not
    /// name are there without rows: what they take grows with every series and stream.
    fn tables(&self, own: &Own, query: &str) -> impl FnOnce() -> Tables + Send + 'static {
        let wanted = |table| weir_query::mentions(query, table);
        let (latest, lines) = (wanted(LATEST), wanted(STREAMS));
        let (own, lists) = (own.clone(), Arc::clone(&self.files));
        move || {
            // What has to be made first waits for the fold: the other statements of this thread go to another meanwhile.
            let lines = if lines {
                block_in_place(|| own.lines())
            } else {
                Vec::new()
            };
            let view = own.view_at_hand(latest);
            let view = view.unwrap_or_else(|| block_in_place(|| own.view(latest)));
            let streams = streams(&lines);
            Tables {
                owner: Arc::clone(own.tenant()),
                store: own.objects(),
                samples_schema: columns::schema(),
                files: lists.files(&view.files),
                fresh: view.fresh.clone(),
                views: vec![
                    View {
                        name: LATEST.into(),
                        schema: columns::latest_schema(),
                        batches: view.latest.clone(),
                    },
                    View {
                        name: STREAMS.into(),
                        schema: streams.schema(),
                        batches: vec![streams],
                    },
                ],
            }
        }
    }
}

impl Lists {
    /// The same list for as long as the view has the same.
    fn files(&self, listed: &Arc<Vec<Listed>>) -> Arc<Vec<DataFile>> {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lists.iter().position(|(of, _)| Arc::ptr_eq(of, listed));
        let known = known.and_then(|at| lists.remove(at));
        let list = known.unwrap_or_else(|| {
            let files = listed.iter().map(DataFile::from).collect();
            (Arc::clone(listed), Arc::new(files))
        });
        let files = Arc::clone(&list.1);
        lists.truncate(LISTS - 1);
        lists.push_front(list);
        files
    }
}

impl From<&Listed> for DataFile {
    fn from(file: &Listed) -> Self {
        let part = Arc::clone;
        let names = file.extent.as_ref().map(|extent| Names {
            metrics: (part(&extent.first.metric), part(&extent.last.metric)),
            devices: (part(&extent.devices.0), part(&extent.devices.1)),
        });
        Self {
            path: file.path.clone(),
            bytes: file.bytes,
            rows: file.rows,
            min_ns: file.min_ns,
            max_ns: file.max_ns,
            crc: file.crc,
            names,
        }
    }
}

/// The ledger of one tenant as a table.
fn streams(lines: &[Line]) -> RecordBatch {
    let text = |get: fn(&Line) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(lines.iter().map(get)))
    };
    let count = |get: fn(&Line) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(lines.iter().map(get)))
    };
    let unexplained = lines.iter().map(|line| line.unexplained);
    let closed: Vec<bool> = lines.iter().map(|line| line.closed).collect();
    let columns: [(&str, ArrayRef); 12] = [
        ("agent", text(|line| &line.agent)),
        ("stream_id", text(|line| &line.stream_id)),
        ("produced", count(|line| line.produced)),
        ("stored", count(|line| line.stored)),
        ("spooled", count(|line| line.spooled)),
        ("dropped", count(Line::dropped_total)),
        (
            "unexplained",
            Arc::new(Int64Array::from_iter_values(unexplained)),
        ),
        ("pending_fold", count(|line| line.pending_fold)),
        ("durable_through", count(|line| line.durable_through)),
        ("missed_ticks", count(|line| line.missed_ticks)),
        ("closed", Arc::new(BooleanArray::from(closed))),
        ("spool_lost", count(Line::spool_lost)),
    ];
    RecordBatch::try_from_iter(columns).expect("every column has one value per line")
}

fn refusal(error: QueryError) -> Refusal {
    let (kind, name) = match error.kind() {
        ErrorKind::BadSql => (Kind::Invalid, "bad_sql"),
        ErrorKind::Forbidden => (Kind::Forbidden, "forbidden"),
        ErrorKind::TooLarge => (Kind::TooLarge, "too_large"),
        ErrorKind::Memory | ErrorKind::OwnersMemory => (Kind::TooLarge, "memory"),
        ErrorKind::Timeout => (Kind::Timeout, "timeout"),
        ErrorKind::Damaged => (Kind::Internal, "damaged_file"),
        ErrorKind::Internal => (Kind::Internal, "internal"),
    };
    let setting = match error.kind() {
        ErrorKind::Memory => ", or raise the sink's query.memory",
        ErrorKind::OwnersMemory => ", or raise the sink's query.tenant_memory",
        _ => "",
    };
    Refusal {
        kind: name,
        ..Refusal::of(kind, format!("{error}{setting}"))
    }
}
