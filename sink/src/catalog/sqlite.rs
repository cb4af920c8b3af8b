//! The catalog in one SQLite file: WAL, `synchronous=FULL`, one writer at a time.

use std::path::Path;

use prost::Message;
use sqlx::sqlite::SqlitePool;
use sqlx::{Row, Transaction};
use weir_fault::{Point, point};

use super::{
    CatalogError, Commit, DataFile, DeadLetter, JournalLoss, PARTITION, Position, StreamLedger,
};

mod connect;
#[cfg(test)]
mod tests;

/// A handle; clones share one pool of connections. What each method promises, [`super::Backend`] says.
#[derive(Debug, Clone)]
pub struct Sqlite {
    pool: SqlitePool,
}

/// SQLite has signed integers only; the same 64 bits come back.
pub(super) fn int(n: u64) -> i64 {
    n.cast_signed()
}

/// The other way.
pub(super) fn uint(n: i64) -> u64 {
    n.cast_unsigned()
}

impl Sqlite {
    /// Opens or creates the file and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self, CatalogError> {
        let pool = connect::connect(path).await?;
        let mut connection = pool.acquire().await?;
        super::migrate::migrate(&mut connection).await?;
        drop(connection);
        Ok(Self { pool })
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    pub(crate) fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    pub(super) async fn write(&self) -> Result<Transaction<'static, sqlx::Sqlite>, CatalogError> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }

    pub(super) async fn position(&self) -> Result<Option<Position>, CatalogError> {
        let row = sqlx::query(POSITION)
            .bind(PARTITION)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| read_position(&row)).transpose()
    }

    pub(super) async fn take_over(&self, journal_id: [u8; 16]) -> Result<Position, CatalogError> {
        let mut transaction = self.write().await?;
        let row = sqlx::query(POSITION)
            .bind(PARTITION)
            .fetch_optional(&mut *transaction)
            .await?;
        let old = row.map(|row| read_position(&row)).transpose()?;
        let mut new = Position {
            journal_id,
            number: 0,
            lease_epoch: 1,
        };
        if let Some(old) = old {
            new.lease_epoch = old.lease_epoch + 1;
            if old.journal_id == journal_id {
                new.number = old.number;
            } else {
                let loss = JournalLoss {
                    journal_id: old.journal_id,
                    from: old.number + 1,
                    through: u64::MAX,
                    reason: "replaced".into(),
                };
                insert_loss(&mut transaction, &loss).await?;
            }
        }
        sqlx::query(
            "INSERT INTO positions (part, journal_id, position, lease_epoch) VALUES (?, ?, ?, ?)
             ON CONFLICT (part) DO UPDATE SET journal_id = excluded.journal_id,
               position = excluded.position, lease_epoch = excluded.lease_epoch",
        )
        .bind(PARTITION)
        .bind(&new.journal_id[..])
        .bind(int(new.number))
        .bind(new.lease_epoch)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(new)
    }

    pub(super) async fn intend(
        &self,
        paths: &[String],
        lease_epoch: i64,
        expires_ns: i64,
    ) -> Result<(), CatalogError> {
        let mut transaction = self.write().await?;
        for path in paths {
            sqlx::query(
                "INSERT INTO intents (path, lease_epoch, expires_ns) VALUES (?, ?, ?)
                 ON CONFLICT (path) DO UPDATE SET lease_epoch = excluded.lease_epoch,
                   expires_ns = excluded.expires_ns",
            )
            .bind(path)
            .bind(lease_epoch)
            .bind(expires_ns)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    pub(super) async fn commit(&self, commit: &Commit) -> Result<(), CatalogError> {
        let mut transaction = self.write().await?;
        move_position(&mut transaction, commit).await?;
        for file in &commit.files {
            insert_file(&mut transaction, file, commit.now_ns).await?;
        }
        insert_series(&mut transaction, commit).await?;
        for (id, stream) in &commit.streams {
            upsert_stream(&mut transaction, *id, stream).await?;
        }
        sqlx::query(
            "INSERT INTO snapshots (part, format, body) VALUES (?, ?, ?)
             ON CONFLICT (part) DO UPDATE SET format = excluded.format, body = excluded.body",
        )
        .bind(PARTITION)
        .bind(commit.snapshot.0)
        .bind(&commit.snapshot.1[..])
        .execute(&mut *transaction)
        .await?;
        for letter in &commit.dead {
            insert_dead_letter(&mut transaction, letter).await?;
        }
        for loss in &commit.losses {
            insert_loss(&mut transaction, loss).await?;
        }
        point(Point::CatalogCommit);
        transaction.commit().await?;
        point(Point::CatalogCommitted);
        Ok(())
    }
}

const POSITION: &str = "SELECT journal_id, position, lease_epoch FROM positions WHERE part = ?";

fn read_position(row: &sqlx::sqlite::SqliteRow) -> Result<Position, CatalogError> {
    let id: Vec<u8> = row.try_get(0)?;
    Ok(Position {
        journal_id: id.try_into().map_err(|_| CatalogError::Damaged {
            table: "positions",
            what: "journal id is not 16 bytes".into(),
        })?,
        number: uint(row.try_get(1)?),
        lease_epoch: row.try_get(2)?,
    })
}

/// The compare-and-set that makes a commit happen once: exactly one row, or nothing.
async fn move_position(
    transaction: &mut Transaction<'static, sqlx::Sqlite>,
    commit: &Commit,
) -> Result<(), CatalogError> {
    let expected = commit.expected;
    let changed = sqlx::query(
        "UPDATE positions SET position = ?
         WHERE part = ? AND journal_id = ? AND position = ? AND lease_epoch = ?",
    )
    .bind(int(commit.through))
    .bind(PARTITION)
    .bind(&expected.journal_id[..])
    .bind(int(expected.number))
    .bind(expected.lease_epoch)
    .execute(&mut **transaction)
    .await?
    .rows_affected();
    if changed == 1 {
        return Ok(());
    }
    let row = sqlx::query(POSITION)
        .bind(PARTITION)
        .fetch_optional(&mut **transaction)
        .await?;
    let found = row.map(|row| read_position(&row)).transpose()?;
    Err(CatalogError::Moved { found, expected })
}

pub(super) async fn insert_file(
    transaction: &mut Transaction<'static, sqlx::Sqlite>,
    file: &DataFile,
    now_ns: i64,
) -> Result<(), CatalogError> {
    let extent = file.extent.as_ref();
    sqlx::query(
        "INSERT INTO files (path, tenant, date, bytes, rows, min_ns, max_ns, max_received_ns,
           from_position, through, created_ns, crc, first_metric, first_device, last_metric,
           last_device, min_device, max_device)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&file.path)
    .bind(&*file.tenant)
    .bind(&file.date)
    .bind(int(file.bytes))
    .bind(int(file.rows))
    .bind(file.min_ns)
    .bind(file.max_ns)
    .bind(file.max_received_ns)
    .bind(int(file.from))
    .bind(int(file.through))
    .bind(now_ns)
    .bind(file.crc.map(i64::from))
    .bind(extent.map(|extent| &*extent.first.metric))
    .bind(extent.map(|extent| &*extent.first.device))
    .bind(extent.map(|extent| &*extent.last.metric))
    .bind(extent.map(|extent| &*extent.last.device))
    .bind(extent.map(|extent| &*extent.devices.0))
    .bind(extent.map(|extent| &*extent.devices.1))
    .execute(&mut **transaction)
    .await?;
    sqlx::query("DELETE FROM intents WHERE path = ?")
        .bind(&file.path)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

async fn upsert_stream(
    transaction: &mut Transaction<'static, sqlx::Sqlite>,
    id: u32,
    stream: &StreamLedger,
) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT OR REPLACE INTO streams (id, tenant, stream_id, agent, watermark, last_crc,
           readings_through, stored, duplicates, closed, report, report_at_ns, first_seen_ns,
           last_seen_ns, clock_offset_ns, lost_at_ns)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(i64::from(id))
    .bind(&*stream.tenant)
    .bind(&stream.stream_id.0[..])
    .bind(&*stream.agent)
    .bind(int(stream.watermark))
    .bind(i64::from(stream.last_crc))
    .bind(int(stream.readings_through))
    .bind(int(stream.stored))
    .bind(int(stream.duplicates))
    .bind(stream.closed)
    .bind(stream.report.as_ref().map(Message::encode_to_vec))
    .bind(stream.report_at_ns)
    .bind(stream.first_seen_ns)
    .bind(stream.last_seen_ns)
    .bind(stream.clock_offset_ns)
    .bind(stream.lost_at_ns)
    .execute(&mut **transaction)
    .await?;
    for (reason, readings) in &stream.dropped {
        sqlx::query("INSERT OR REPLACE INTO drops (stream, reason, readings) VALUES (?, ?, ?)")
            .bind(i64::from(id))
            .bind(reason)
            .bind(int(*readings))
            .execute(&mut **transaction)
            .await?;
    }
    if stream.closed {
        sqlx::query("DELETE FROM stream_series WHERE stream = ?")
            .bind(i64::from(id))
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

async fn insert_series(
    transaction: &mut Transaction<'static, sqlx::Sqlite>,
    commit: &Commit,
) -> Result<(), CatalogError> {
    for (id, series) in &commit.series {
        sqlx::query(
            "INSERT INTO series (id, tenant, agent, device, metric, attributes, unit, kind, source)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(i64::from(*id))
        .bind(&*series.tenant)
        .bind(&*series.agent)
        .bind(&*series.device)
        .bind(&*series.metric)
        .bind(&*series.attributes)
        .bind(&*series.unit)
        .bind(&*series.kind)
        .bind(&*series.source)
        .execute(&mut **transaction)
        .await?;
    }
    for (stream, reference, series) in &commit.definitions {
        sqlx::query("INSERT OR REPLACE INTO stream_series (stream, ref, series) VALUES (?, ?, ?)")
            .bind(i64::from(*stream))
            .bind(i64::from(*reference))
            .bind(i64::from(*series))
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

async fn insert_dead_letter(
    transaction: &mut Transaction<'static, sqlx::Sqlite>,
    letter: &DeadLetter,
) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT INTO dead_letters (journal_id, number, tenant, stream_id, sequence, readings,
           error, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&letter.journal_id[..])
    .bind(int(letter.number))
    .bind(&letter.tenant)
    .bind(&letter.stream_id[..])
    .bind(int(letter.sequence))
    .bind(int(letter.readings))
    .bind(&letter.error)
    .bind(&letter.body[..])
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn insert_loss(
    transaction: &mut Transaction<'static, sqlx::Sqlite>,
    loss: &JournalLoss,
) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT OR REPLACE INTO journal_losses (journal_id, from_number, through, reason)
         VALUES (?, ?, ?, ?)",
    )
    .bind(&loss.journal_id[..])
    .bind(int(loss.from))
    .bind(int(loss.through))
    .bind(&loss.reason)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
