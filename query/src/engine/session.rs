//! The settings of DataFusion that statements are planned and run with, and nothing of the host's within reach.

use std::sync::Arc;

use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemTable, MemoryCatalogProvider,
    MemoryCatalogProviderList, MemorySchemaProvider, SchemaProvider,
};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::object_store::{ObjectStoreRegistry, ObjectStoreUrl};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;
use object_store::ObjectStore;
use url::Url;

use crate::samples::{Samples, Scans};
use crate::tables::{Tables, fit};

const CATALOG: &str = "weir";
const SCHEMA: &str = "public";

/// The one address under which the snapshot's store is known.
const STORE: &str = "weir://store";

/// Functions that make a value of any size from a few characters. What one value takes is not in
/// the memory pool's account, and one call cannot be ended half-way: they would pass every limit.
const UNBOUNDED: &[&str] = &[
    "repeat",
    "lpad",
    "rpad",
    "array_repeat",
    "array_resize",
    "range",
    "generate_series",
];

/// Everything but the tables.
pub(super) fn base(
    store: &Arc<dyn ObjectStore>,
    memory: &Arc<dyn MemoryPool>,
    threads: usize,
) -> Result<SessionState> {
    let mut config = SessionConfig::new()
        .with_target_partitions(threads)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true);
    let options = config.options_mut();
    // So that now() has the type of the column time and folds into a constant that prunes files.
    options.execution.time_zone = Some("UTC".to_owned());
    options.execution.parquet.pushdown_filters = true;
    options.execution.parquet.reorder_filters = true;
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::clone(memory))
        .with_disk_manager_builder(
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
        )
        .with_object_store_registry(Arc::new(OnlyStore(Arc::clone(store))))
        .build_arc()?;
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .build();
    for name in UNBOUNDED {
        // As a table, generate_series gives rows and stays.
        state.deregister_udf(name)?;
    }
    Ok(state)
}

/// Puts the snapshot's tables into `state`, and nothing else.
pub(super) fn bind(state: &mut SessionState, tables: Tables, scans: Arc<Scans>) -> Result<()> {
    let schema = MemorySchemaProvider::new();
    let samples = Samples::try_new(
        tables.samples_schema,
        ObjectStoreUrl::parse(STORE)?,
        tables.files,
        &tables.fresh,
        scans,
    )?;
    schema.register_table("samples".to_owned(), Arc::new(samples))?;
    for view in tables.views {
        let batches = view.batches.iter().map(|batch| fit(batch, &view.schema));
        let batches = batches.collect::<std::result::Result<Vec<_>, _>>()?;
        let table = MemTable::try_new(view.schema, vec![batches])?;
        schema.register_table(view.name, Arc::new(table))?;
    }
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema(SCHEMA, Arc::new(schema))?;
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
    state.register_catalog_list(Arc::new(catalogs));
    Ok(())
}

/// Knows the snapshot's store and no other; in particular not the host's file system, which is there by default.
#[derive(Debug)]
struct OnlyStore(Arc<dyn ObjectStore>);

impl ObjectStoreRegistry for OnlyStore {
    fn register_store(
        &self,
        _url: &Url,
        _store: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        if url.as_str().trim_end_matches('/') == STORE {
            return Ok(Arc::clone(&self.0));
        }
        Err(DataFusionError::Plan(
            "files and URLs cannot be read here".to_owned(),
        ))
    }
}
