//! What the sink counts, as `weir_sink_*`. Labels come from closed sets, never from an agent.

use std::fmt;

use weir_journal::Journal;
use weir_process::metrics::Registry;
use weir_process::metrics::prometheus_client::collector::Collector;
use weir_process::metrics::prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric,
};
use weir_process::metrics::prometheus_client::metrics::counter::{ConstCounter, Counter};
use weir_process::metrics::prometheus_client::metrics::family::Family;
use weir_process::metrics::prometheus_client::metrics::gauge::ConstGauge;
use weir_proto::v1;

use crate::fold::FoldHandle;
use crate::ingest::{Ingest, Over, refused_code_name};
use crate::store::Store;

/// The label of refusals and of ended calls.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Code {
    code: &'static str,
}

/// Which limit somebody was over.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Quota {
    scope: &'static str,
    measure: &'static str,
}

/// What ingest counts.
#[derive(Clone, Debug, Default)]
pub struct IngestMetrics {
    /// Requests of Deliver, the first of each call not included.
    pub requests: Counter,
    /// Batches appended to the journal.
    pub batches: Counter,
    /// Readings in them.
    pub readings: Counter,
    /// Records that came again and were not stored again.
    pub duplicates: Counter,
    /// Gaps in the sequences of a stream.
    pub gaps: Counter,
    /// Acknowledgements sent.
    pub acks: Counter,
    /// New series beyond a limit.
    pub series_refused: Counter,
    over_quota: Family<Quota, Counter>,
    refused: Family<Code, Counter>,
    ended: Family<Code, Counter>,
}

impl IngestMetrics {
    /// Registers them all.
    pub fn register(registry: &Registry) -> Self {
        let metrics = Self::default();
        let counter = |name, help, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        counter("requests", "requests of Deliver", &metrics.requests);
        counter("batches", "batches accepted", &metrics.batches);
        counter("readings", "readings accepted", &metrics.readings);
        counter(
            "duplicates",
            "records that came again and were not stored again",
            &metrics.duplicates,
        );
        counter("gaps", "gaps in the sequences of a stream", &metrics.gaps);
        counter("acks", "acknowledgements sent", &metrics.acks);
        counter(
            "limits_refused_series",
            "new series beyond a limit, whose readings are dropped",
            &metrics.series_refused,
        );
        let help = "requests after which an agent had to wait for its quota";
        registry.register("limits_over_quota", help, metrics.over_quota.clone());
        let help = "batches that can never be stored";
        registry.register("refused", help, metrics.refused.clone());
        let help = "calls of Deliver that the sink ended with a status";
        registry.register("calls_ended", help, metrics.ended.clone());
        metrics
    }

    /// One batch was refused.
    pub fn refused(&self, code: v1::RefusedCode) {
        let code = refused_code_name(code);
        self.refused.get_or_create(&Code { code }).inc();
    }

    /// Somebody has to wait.
    pub fn over_quota(&self, over: &Over) {
        let label = Quota {
            scope: over.scope.name(),
            measure: over.measure.name(),
        };
        self.over_quota.get_or_create(&label).inc();
    }

    /// One call was ended by the sink.
    pub fn ended(&self, code: &'static str) {
        self.ended.get_or_create(&Code { code }).inc();
    }
}

/// What questions cost, counted over the files that were there when they were asked.
#[derive(Clone, Debug, Default)]
pub struct QueryMetrics {
    /// Files that can hold rows of what was asked for.
    pub files_read: Counter,
    /// Files that cannot, and were not opened.
    pub files_skipped: Counter,
}

impl QueryMetrics {
    /// Registers them all.
    pub fn register(registry: &Registry) -> Self {
        let metrics = Self::default();
        let help = "data files that statements had to look into";
        registry.register("query_files_read", help, metrics.files_read.clone());
        let help =
            "data files that statements left alone, by the times, metrics and devices in them";
        registry.register("query_files_skipped", help, metrics.files_skipped.clone());
        metrics
    }
}

/// What is asked of the parts when somebody scrapes.
pub struct Parts {
    /// For connections and streams.
    pub ingest: Ingest,
    /// For bytes, records and syncs.
    pub journal: Journal,
    /// For what is behind and what was written.
    pub fold: FoldHandle,
    /// For damaged files.
    pub store: Store,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parts")
    }
}

impl Collector for Parts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.gauges(&mut encoder)?;
        self.counters(&mut encoder)
    }
}

impl Parts {
    fn gauges(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let stats = self.journal.stats();
        let (rows, bytes) = self.fold.buffered();
        let unexplained: i64 = self.fold.streams().iter().fold(0, |sum, stream| {
            sum.saturating_add(stream.unexplained().saturating_abs())
        });
        let gauges: [(&str, &str, i64); 9] = [
            (
                "connections",
                "calls of Deliver that run now",
                whole(self.ingest.connections() as u64),
            ),
            (
                "journal_bytes",
                "bytes of the journal on disk",
                whole(stats.bytes),
            ),
            (
                "journal_segments",
                "files of the journal",
                whole(stats.segments),
            ),
            (
                "journal_accepting",
                "1 while anything can be accepted",
                i64::from(self.ingest.gate().check().is_ok()),
            ),
            (
                "fold_behind_records",
                "journal records that are not folded yet",
                whole(self.fold.behind()),
            ),
            (
                "fold_buffered_readings",
                "readings that are not in files yet",
                whole(rows as u64),
            ),
            (
                "fold_buffered_bytes",
                "memory they take",
                whole(bytes as u64),
            ),
            (
                "store_damaged_files",
                "data files that are known to be missing or damaged",
                whole(self.store.damaged().count() as u64),
            ),
            (
                "ledger_unexplained_readings",
                "readings that are neither stored nor dropped for a reason, summed over streams without sign",
                unexplained,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }

    fn counters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let stats = self.journal.stats();
        let counts = self.fold.counts();
        let flushes = self.fold.flushes();
        let counters: [(&str, &str, u64); 15] = [
            ("flushes", "flushes committed", flushes.flushes),
            (
                "flush_failures",
                "flushes that failed and were tried again",
                flushes.failures,
            ),
            ("store_files", "files committed", flushes.files),
            ("store_readings", "readings in them", flushes.rows),
            ("store_written_bytes", "bytes of them", flushes.bytes),
            ("journal_records", "records committed", stats.records),
            (
                "journal_syncs",
                "syncs of the journal: one per group",
                stats.syncs,
            ),
            (
                "journal_written_bytes",
                "bytes written to the journal",
                stats.bytes_written,
            ),
            ("fold_records", "journal records folded", counts.records),
            ("fold_readings", "readings folded", counts.rows),
            (
                "fold_duplicates",
                "records the fold dropped as already folded",
                counts.duplicates,
            ),
            (
                "fold_dead_letters",
                "records the fold could not take and set aside",
                counts.dead_letters,
            ),
            (
                "fold_gaps",
                "records whose counts did not follow the one before",
                counts.gaps,
            ),
            (
                "journal_lost_records",
                "journal records that could not be read",
                counts.journal_lost,
            ),
            (
                "fold_intake_refused",
                "records the fold reads from the journal because they did not fit in memory",
                self.fold.intake_refused(),
            ),
        ];
        count(encoder, &counters)?;
        self.time_qualities(encoder)?;
        let seconds = ConstCounter::new(stats.sync_nanos_total as f64 / 1e9);
        let help = "time spent in syncs of the journal";
        let name = "journal_sync_seconds";
        seconds.encode(encoder.encode_descriptor(name, help, None, seconds.metric_type())?)
    }

    /// Readings folded that are not `ok`, by what their times are worth.
    fn time_qualities(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.fold.counts();
        let counters = [
            (
                "fold_rebased_readings",
                "readings whose times were moved because the agent's clock was wrong",
                counts.rebased,
            ),
            (
                "fold_suspect_readings",
                "readings whose clock disagrees with the sink's, stored as observed",
                counts.suspect,
            ),
            (
                "fold_unknown_time_readings",
                "readings of whose clock nothing is known, stored as observed",
                counts.unknown,
            ),
        ];
        count(encoder, &counters)
    }
}

fn count(
    encoder: &mut DescriptorEncoder<'_>,
    counters: &[(&'static str, &'static str, u64)],
) -> fmt::Result {
    for &(name, help, value) in counters {
        let counter = ConstCounter::new(value);
        counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
    }
    Ok(())
}

fn whole(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
