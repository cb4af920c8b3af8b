//! The list of files: what is live, what replaces what, what may be deleted, what is an
//! orphan.

use std::collections::BTreeSet;
use std::sync::Arc;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Transaction};

use super::sqlite::{Sqlite, insert_file, int, uint};
use super::{CatalogError, DataFile, Extent, LostFile, Place, Sums};

impl Sqlite {
    pub(super) async fn live_files(&self) -> Result<Vec<DataFile>, CatalogError> {
        let rows = sqlx::query(LIVE).fetch_all(self.pool()).await?;
        rows.iter().map(read_file).collect()
    }

    pub(super) async fn replace_files(
        &self,
        inputs: &[DataFile],
        outputs: &[DataFile],
        now_ns: i64,
    ) -> Result<(), CatalogError> {
        let mut transaction = self.write().await?;
        for input in inputs {
            if !remove_file(&mut transaction, &input.path, now_ns).await? {
                return Err(CatalogError::NotLive(input.path.clone()));
            }
        }
        for output in outputs {
            insert_file(&mut transaction, output, now_ns).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    pub(super) async fn expire_files(
        &self,
        files: &[DataFile],
        now_ns: i64,
    ) -> Result<Vec<DataFile>, CatalogError> {
        let mut transaction = self.write().await?;
        let mut taken = Vec::new();
        for file in files {
            if !remove_file(&mut transaction, &file.path, now_ns).await? {
                continue;
            }
            sqlx::query(
                "INSERT INTO expired (tenant, readings) VALUES (?, ?)
                 ON CONFLICT (tenant) DO UPDATE SET readings = readings + excluded.readings",
            )
            .bind(&*file.tenant)
            .bind(int(file.rows))
            .execute(&mut *transaction)
            .await?;
            taken.push(file.clone());
        }
        transaction.commit().await?;
        Ok(taken)
    }

    pub(super) async fn accept_loss(
        &self,
        path: &str,
        now_ns: i64,
    ) -> Result<Option<LostFile>, CatalogError> {
        let mut transaction = self.write().await?;
        if !remove_file(&mut transaction, path, now_ns).await? {
            return Ok(None);
        }
        let row = sqlx::query(
            "INSERT INTO lost_files (path, tenant, rows, accepted_at_ns)
             SELECT path, tenant, rows, ? FROM files WHERE path = ?
             RETURNING path, tenant, rows, accepted_at_ns",
        )
        .bind(now_ns)
        .bind(path)
        .fetch_one(&mut *transaction)
        .await?;
        let lost = read_lost(&row)?;
        transaction.commit().await?;
        Ok(Some(lost))
    }

    pub(super) async fn lost_files(&self) -> Result<Vec<LostFile>, CatalogError> {
        let rows =
            sqlx::query("SELECT path, tenant, rows, accepted_at_ns FROM lost_files ORDER BY path")
                .fetch_all(self.pool())
                .await?;
        rows.iter().map(read_lost).collect()
    }

    pub(super) async fn removed_before(&self, before_ns: i64) -> Result<Vec<String>, CatalogError> {
        let rows = sqlx::query("SELECT path FROM files WHERE removed_at_ns < ? ORDER BY path")
            .bind(before_ns)
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    pub(super) async fn forget_files(&self, paths: &[String]) -> Result<(), CatalogError> {
        let mut transaction = self.write().await?;
        for path in paths {
            sqlx::query("DELETE FROM files WHERE path = ? AND removed_at_ns IS NOT NULL")
                .bind(path)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    pub(super) async fn orphans(
        &self,
        lease_epoch: i64,
        now_ns: i64,
    ) -> Result<Vec<String>, CatalogError> {
        let rows = sqlx::query(
            "SELECT path FROM intents WHERE lease_epoch < ? AND expires_ns <= ?
                 AND path NOT IN (SELECT path FROM files) ORDER BY path",
        )
        .bind(lease_epoch)
        .bind(now_ns)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    pub(super) async fn forget_intents(&self, paths: &[String]) -> Result<(), CatalogError> {
        let mut transaction = self.write().await?;
        for path in paths {
            sqlx::query("DELETE FROM intents WHERE path = ?")
                .bind(path)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    pub(super) async fn known_paths(&self) -> Result<BTreeSet<String>, CatalogError> {
        let rows = sqlx::query("SELECT path FROM files UNION SELECT path FROM intents")
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    pub(super) async fn audit_data(&self) -> Result<(Vec<Sums>, Vec<DataFile>), CatalogError> {
        let mut transaction = self.pool().begin().await?;
        let rows = sqlx::query(
            "SELECT s.tenant, SUM(s.stored), COALESCE(MAX(e.readings), 0),
               COALESCE((SELECT SUM(l.rows) FROM lost_files l WHERE l.tenant = s.tenant), 0)
             FROM streams s LEFT JOIN expired e ON e.tenant = s.tenant
             GROUP BY s.tenant ORDER BY s.tenant",
        )
        .fetch_all(&mut *transaction)
        .await?;
        let read = |row: &SqliteRow| -> Result<Sums, CatalogError> {
            Ok(Sums {
                tenant: row.try_get(0)?,
                stored: uint(row.try_get(1)?),
                expired: uint(row.try_get(2)?),
                lost: uint(row.try_get(3)?),
            })
        };
        let sums = rows.iter().map(read).collect::<Result<_, _>>()?;
        let rows = sqlx::query(LIVE).fetch_all(&mut *transaction).await?;
        let files = rows.iter().map(read_file).collect::<Result<_, _>>()?;
        transaction.commit().await?;
        Ok((sums, files))
    }
}

const LIVE: &str = "SELECT path, tenant, date, bytes, rows, min_ns, max_ns, max_received_ns,
    from_position, through, crc, first_metric, first_device, last_metric, last_device, min_device,
    max_device FROM files WHERE removed_at_ns IS NULL ORDER BY path";

async fn remove_file(
    transaction: &mut Transaction<'static, sqlx::Sqlite>,
    path: &str,
    now_ns: i64,
) -> Result<bool, CatalogError> {
    let changed =
        sqlx::query("UPDATE files SET removed_at_ns = ? WHERE path = ? AND removed_at_ns IS NULL")
            .bind(now_ns)
            .bind(path)
            .execute(&mut **transaction)
            .await?
            .rows_affected();
    Ok(changed == 1)
}

fn read_lost(row: &SqliteRow) -> Result<LostFile, CatalogError> {
    Ok(LostFile {
        path: row.try_get(0)?,
        tenant: row.try_get::<String, _>(1)?.into(),
        rows: uint(row.try_get(2)?),
        accepted_at_ns: row.try_get(3)?,
    })
}

fn read_file(row: &SqliteRow) -> Result<DataFile, CatalogError> {
    let crc: Option<i64> = row.try_get(10)?;
    let damaged = |_| CatalogError::Damaged {
        table: "files",
        what: format!("crc is {crc:?}"),
    };
    Ok(DataFile {
        path: row.try_get(0)?,
        tenant: row.try_get::<String, _>(1)?.into(),
        date: row.try_get(2)?,
        bytes: uint(row.try_get(3)?),
        rows: uint(row.try_get(4)?),
        min_ns: row.try_get(5)?,
        max_ns: row.try_get(6)?,
        max_received_ns: row.try_get(7)?,
        from: uint(row.try_get(8)?),
        through: uint(row.try_get(9)?),
        crc: crc.map(u32::try_from).transpose().map_err(damaged)?,
        extent: read_extent(row)?,
    })
}

/// Known whole or not at all.
fn read_extent(row: &SqliteRow) -> Result<Option<Extent>, CatalogError> {
    let mut words = Vec::with_capacity(6);
    for column in 11..17 {
        let word: Option<String> = row.try_get(column)?;
        words.extend(word.map(Arc::<str>::from));
    }
    let Ok([metric, device, last_metric, last_device, least, most]) = <[_; 6]>::try_from(words)
    else {
        return Ok(None);
    };
    Ok(Some(Extent {
        first: Place { metric, device },
        last: Place {
            metric: last_metric,
            device: last_device,
        },
        devices: (least, most),
    }))
}
