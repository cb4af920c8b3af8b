//! The table `samples`: the Parquet files that can hold rows of what is asked for, and the fresh batches.
//!
//! No sort order is declared although every file is written in one: with fresh rows beside the files the union has
//! none, and declaring it would keep a file from being read by several threads. Within a file the order does its work
//! through the statistics of row groups and pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics, project_schema};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::tables::{DataFile, fit};

mod prune;
mod whole;

pub(crate) use whole::{Checked, Trouble};
use whole::{Readers, Troubles, said};

/// The column whose range the catalog knows for every file.
const TIME: &str = "time";

/// What the scans of one statement tell.
#[derive(Debug, Default)]
pub(crate) struct Scans {
    /// How many files they had before them.
    pub(crate) known: AtomicUsize,
    /// How many they kept.
    pub(crate) scanned: AtomicUsize,
    checked: Arc<Checked>,
    troubles: Troubles,
}

impl Scans {
    /// Of a statement over a store of which so much is known.
    pub(crate) fn new(checked: Arc<Checked>) -> Self {
        Self {
            checked,
            ..Self::default()
        }
    }

    /// The first file that could not be read.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.troubles.first()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Samples {
    schema: SchemaRef,
    store_url: ObjectStoreUrl,
    files: Arc<Vec<DataFile>>,
    fresh: Vec<RecordBatch>,
    scans: Arc<Scans>,
}

impl Samples {
    /// Merges the fresh batches into `schema`.
    pub(crate) fn try_new(
        schema: SchemaRef,
        store_url: ObjectStoreUrl,
        files: Arc<Vec<DataFile>>,
        fresh: &[RecordBatch],
        scans: Arc<Scans>,
    ) -> Result<Self> {
        let fresh = fresh
            .iter()
            .filter(|batch| batch.num_rows() > 0)
            .map(|batch| fit(batch, &schema))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        scans.checked.keep(&files);
        Ok(Self {
            schema,
            store_url,
            files,
            fresh,
            scans,
        })
    }

    /// Whether what the catalog says of the files can be answered without reading them: none is known to be
    /// damaged. One that is not there with its size is named.
    async fn are_sound(&self, store: &dyn ObjectStore, kept: &[&DataFile]) -> Result<bool> {
        let listed = whole::listed(store, kept).await;
        for file in kept {
            if listed.get(file.path.as_str()) == Some(&file.bytes) {
                continue;
            }
            let head = store.head(&Path::from(file.path.as_str())).await;
            let what = match head {
                Ok(found) if found.size == file.bytes => continue,
                Ok(_) => "is not as long as it was written".to_owned(),
                Err(error) => said(&error),
            };
            self.scans.checked.forget(file);
            let trouble = self.scans.troubles.of(file, what);
            return Err(DataFusionError::External(Box::new(trouble)));
        }
        let damaged = |file: &&DataFile| self.scans.checked.is_damaged(&file.path);
        Ok(!kept.iter().any(damaged))
    }

    fn scan_files(
        &self,
        state: &dyn Session,
        kept: &[&DataFile],
        (projection, limit): (Option<&Vec<usize>>, Option<usize>),
        known: Known,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut options = TableParquetOptions::new();
        options.global = state.config_options().execution.parquet.clone();
        let runtime = state.runtime_env();
        let store = runtime.object_store(&self.store_url)?;
        let cache = runtime.cache_manager.get_file_metadata_cache();
        let readers = Readers {
            inner: CachedParquetFileReaderFactory::new(Arc::clone(&store), cache),
            store,
            checked: Arc::clone(&self.scans.checked),
            troubles: self.scans.troubles.clone(),
            files: kept
                .iter()
                .map(|file| (Path::from(file.path.as_str()), (*file).clone()))
                .collect(),
        };
        let source = ParquetSource::new(Arc::clone(&self.schema))
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(readers));
        let files = kept.iter().map(|file| {
            let statistics = Arc::new(self.statistics(std::slice::from_ref(file), known.sound));
            PartitionedFile::new(file.path.as_str(), file.bytes).with_statistics(statistics)
        });
        let groups =
            FileGroup::new(files.collect()).split_files(state.config().target_partitions());
        // To divide a file is to open it once for each thread: of one run of rows only one of them finds any. A scan with a
        // partitioning of its own is left as it is.
        let undivided = Partitioning::UnknownPartitioning(groups.len());
        let scan = FileScanConfigBuilder::new(self.store_url.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_output_partitioning(known.one_run.then_some(undivided))
            .with_statistics(self.statistics(kept, known.sound))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }

    /// What may be answered of the files without reading them.
    fn statistics(&self, files: &[&DataFile], sound: bool) -> Statistics {
        match sound {
            true => statistics(&self.schema, files),
            false => Statistics::new_unknown(&self.schema),
        }
    }

    fn scan_fresh(
        &self,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = MemorySourceConfig::try_new(
            std::slice::from_ref(&self.fresh),
            Arc::clone(&self.schema),
            projection.cloned(),
        )?;
        Ok(DataSourceExec::from_data_source(rows.with_limit(limit)))
    }
}

/// What is known of the files of a scan.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// What the catalog says of them can be answered without reading them.
    sound: bool,
    /// Of each, one run of rows is wanted.
    one_run: bool,
}

#[async_trait]
impl TableProvider for Samples {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let kept = prune::keep(&self.files, filters, state, &self.schema)?;
        self.scans
            .known
            .fetch_add(self.files.len(), Ordering::Relaxed);
        self.scans.scanned.fetch_add(kept.len(), Ordering::Relaxed);
        let mut inputs = Vec::with_capacity(2);
        if !kept.is_empty() {
            // With a condition nothing is answered from the catalog, and with a limit not all files may be read.
            let sound = filters.is_empty() && limit.is_none() && {
                let store = state.runtime_env().object_store(&self.store_url)?;
                self.are_sound(&*store, &kept).await?
            };
            let known = Known {
                sound,
                one_run: prune::leave_one_run(filters),
            };
            inputs.push(self.scan_files(state, &kept, (projection, limit), known)?);
        }
        if !self.fresh.is_empty() {
            inputs.push(self.scan_fresh(projection, limit)?);
        }
        if inputs.is_empty() {
            let schema = project_schema(&self.schema, projection)?;
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        UnionExec::try_new(inputs)
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

/// What the catalog knows of `files` together: rows and the range of `time`.
fn statistics(schema: &SchemaRef, files: &[&DataFile]) -> Statistics {
    let rows: u64 = files.iter().map(|file| file.rows).sum();
    let min = files.iter().map(|file| file.min_ns).min();
    let max = files.iter().map(|file| file.max_ns).max();
    let mut statistics = Statistics::new_unknown(schema);
    statistics.num_rows = Precision::Exact(usize::try_from(rows).unwrap_or(usize::MAX));
    let time = schema.column_with_name(TIME);
    if let (Some((at, field)), Some(min), Some(max)) = (time, min, max)
        && let DataType::Timestamp(_, zone) = field.data_type()
    {
        let exact = |ns| Precision::Exact(ScalarValue::TimestampNanosecond(Some(ns), zone.clone()));
        statistics.column_statistics[at] = ColumnStatistics {
            null_count: Precision::Exact(0),
            min_value: exact(min),
            max_value: exact(max),
            ..ColumnStatistics::new_unknown()
        };
    }
    statistics
}
