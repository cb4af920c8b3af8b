//! Counting rows from both ends: what the streams say was stored, and what the files hold.
//!
//! In: the catalog as of one moment, and every live file, read whole, one at a time; of all tenants or of one. Out: per
//! tenant the two counts, and the files that are not what was written, by name.

use std::collections::BTreeMap;

use parquet::file::metadata::ParquetMetaDataReader;
use weir_process::work;

use crate::catalog::{AuditLine, Catalog, CatalogError, DataFile};
use crate::store::Store;

/// One line per tenant. Takes as long as reading every live file.
pub async fn audit(catalog: &Catalog, store: &Store) -> Result<Vec<AuditLine>, CatalogError> {
    audit_of(catalog, store, None).await
}

/// The same of one tenant, or of all. Files of others are not read.
pub async fn audit_of(
    catalog: &Catalog,
    store: &Store,
    tenant: Option<&str>,
) -> Result<Vec<AuditLine>, CatalogError> {
    let (mut sums, mut files) = catalog.audit_data().await?;
    sums.retain(|sum| tenant.is_none_or(|tenant| sum.tenant == tenant));
    files.retain(|file| tenant.is_none_or(|tenant| *file.tenant == *tenant));
    let mut lines: BTreeMap<String, AuditLine> = BTreeMap::new();
    for sum in sums {
        let line = AuditLine {
            tenant: sum.tenant.clone(),
            stored: sum.stored,
            in_files: 0,
            expired: sum.expired,
            lost: sum.lost,
            faults: Vec::new(),
        };
        lines.insert(sum.tenant, line);
    }
    for file in files {
        let line = lines
            .entry(file.tenant.to_string())
            .or_insert_with(|| AuditLine {
                tenant: file.tenant.to_string(),
                stored: 0,
                in_files: 0,
                expired: 0,
                lost: 0,
                faults: Vec::new(),
            });
        match count(store, &file).await {
            Ok(rows) => {
                line.in_files += rows;
                if rows != file.rows {
                    let text = format!("{} holds {rows} rows, not {}", file.path, file.rows);
                    line.faults.push(text);
                }
            }
            // Merged or expired since the sums were taken, and its object deleted.
            Err(_) if !is_live(catalog, &file.path).await? => line.in_files += file.rows,
            Err(why) => {
                line.faults.push(format!(
                    "{why}: restore the file from a backup, it held {} rows",
                    file.rows
                ));
                store.damaged().note(&file, why);
            }
        }
    }
    Ok(lines.into_values().collect())
}

async fn is_live(catalog: &Catalog, path: &str) -> Result<bool, CatalogError> {
    let live = catalog.live_files().await?;
    Ok(live.iter().any(|file| file.path == path))
}

async fn count(store: &Store, file: &DataFile) -> Result<u64, String> {
    let bytes = store.read_whole(file).await.map_err(|e| e.to_string())?;
    let read = move || ParquetMetaDataReader::new().parse_and_finish(&bytes);
    let metadata = work::run(read)
        .await
        .map_err(|e| format!("cannot read {}: {e}", file.path))?;
    let metadata = metadata.map_err(|e| format!("cannot read {}: {e}", file.path))?;
    Ok(u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0))
}
