//! Numbered migrations, and the check that keeps an older program away from what it would
//! misread.
//!
//! A migration only adds. Each says which program version is the oldest that may still use
//! the catalog after it; that number stands in `meta.min_reader_version`.

use sqlx::{Row, SqliteConnection};

use super::CatalogError;

struct Migration {
    version: u32,
    /// The oldest schema version a program must know to use the catalog after this.
    min_reader: u32,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        min_reader: 1,
        sql: include_str!("schema/0001_start.sql"),
    },
    Migration {
        version: 2,
        min_reader: 1,
        sql: include_str!("schema/0002_file_checksums.sql"),
    },
    Migration {
        version: 3,
        min_reader: 1,
        sql: include_str!("schema/0003_lost_spools.sql"),
    },
    Migration {
        version: 4,
        min_reader: 1,
        sql: include_str!("schema/0004_lost_files.sql"),
    },
    Migration {
        version: 5,
        min_reader: 1,
        sql: include_str!("schema/0005_access.sql"),
    },
    Migration {
        version: 6,
        min_reader: 1,
        sql: include_str!("schema/0006_file_extents.sql"),
    },
    Migration {
        version: 7,
        min_reader: 1,
        sql: include_str!("schema/0007_certificates.sql"),
    },
];

/// Brings the schema up to what this program knows, each step in a transaction of its own.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<(), CatalogError> {
    let ours = MIGRATIONS
        .last()
        .expect("there is a first migration")
        .version;
    let (version, needed) = versions(connection).await?;
    if needed > ours {
        return Err(CatalogError::TooNew { needed, ours });
    }
    for step in MIGRATIONS.iter().filter(|step| step.version > version) {
        apply(connection, step).await?;
    }
    Ok(())
}

/// One step, unless another program on the same file has done it meanwhile.
async fn apply(connection: &mut SqliteConnection, step: &Migration) -> Result<(), CatalogError> {
    use sqlx::Connection;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let (version, _) = versions(&mut transaction).await?;
    if step.version <= version {
        return Ok(transaction.rollback().await?);
    }
    sqlx::raw_sql(step.sql).execute(&mut *transaction).await?;
    for (key, value) in [
        ("schema_version", step.version),
        ("min_reader_version", step.min_reader),
    ] {
        sqlx::query("INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
            .bind(key)
            .bind(value.to_string())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// (schema_version, min_reader_version); zeros for an empty database.
async fn versions(connection: &mut SqliteConnection) -> Result<(u32, u32), CatalogError> {
    let known = sqlx::query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta'")
        .fetch_optional(&mut *connection)
        .await?;
    if known.is_none() {
        return Ok((0, 0));
    }
    let mut found = (0, 0);
    for row in sqlx::query("SELECT key, value FROM meta")
        .fetch_all(connection)
        .await?
    {
        let (key, value): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let slot = match key.as_str() {
            "schema_version" => &mut found.0,
            "min_reader_version" => &mut found.1,
            _ => continue,
        };
        *slot = value.parse().map_err(|_| CatalogError::Damaged {
            table: "meta",
            what: format!("{key} is {value}"),
        })?;
    }
    Ok(found)
}
