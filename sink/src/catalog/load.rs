//! Reading the catalog: what a restart begins with, and what operators ask for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use prost::Message;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use weir_proto::v1;

use crate::model::{StreamId, StreamKey};

use super::sqlite::{Sqlite, int, uint};
use super::{CatalogError, DeadLetter, JournalLoss, Loaded, PARTITION, SeriesKey, StreamLedger};

impl Sqlite {
    pub(super) async fn load(&self) -> Result<Loaded, CatalogError> {
        let snapshot = sqlx::query("SELECT format, body FROM snapshots WHERE part = ?")
            .bind(PARTITION)
            .fetch_optional(self.pool())
            .await?;
        Ok(Loaded {
            streams: self.numbered_streams().await?,
            series: self.series().await?,
            definitions: self.definitions().await?,
            snapshot: match snapshot {
                Some(row) => Some((row.try_get(0)?, row.try_get(1)?)),
                None => None,
            },
            files: self.live_files().await?,
        })
    }

    pub(super) async fn streams(&self) -> Result<Vec<StreamLedger>, CatalogError> {
        Ok(self
            .numbered_streams()
            .await?
            .into_iter()
            .map(|(_, stream)| stream)
            .collect())
    }

    pub(super) async fn series_of(
        &self,
        stream: &StreamKey,
    ) -> Result<Vec<v1::Series>, CatalogError> {
        let rows = sqlx::query(
            "SELECT d.ref, s.device, s.metric, s.unit, s.kind, s.source, s.attributes
             FROM streams t JOIN stream_series d ON d.stream = t.id JOIN series s ON s.id = d.series
             WHERE t.tenant = ? AND t.stream_id = ? ORDER BY d.ref",
        )
        .bind(&*stream.tenant)
        .bind(&stream.id.0[..])
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(read_definition).collect()
    }

    async fn numbered_streams(&self) -> Result<Vec<(u32, StreamLedger)>, CatalogError> {
        let mut drops: HashMap<u32, BTreeMap<String, u64>> = HashMap::new();
        for row in sqlx::query("SELECT stream, reason, readings FROM drops")
            .fetch_all(self.pool())
            .await?
        {
            drops
                .entry(number(row.try_get(0)?))
                .or_default()
                .insert(row.try_get(1)?, uint(row.try_get(2)?));
        }
        let rows = sqlx::query(
            "SELECT id, tenant, stream_id, agent, watermark, last_crc, readings_through, stored,
               duplicates, closed, report, report_at_ns, first_seen_ns, last_seen_ns,
               clock_offset_ns, lost_at_ns FROM streams ORDER BY id",
        )
        .fetch_all(self.pool())
        .await?;
        let mut streams = Vec::with_capacity(rows.len());
        for row in &rows {
            let (id, mut stream) = read_stream(row)?;
            stream.dropped = drops.remove(&id).unwrap_or_default();
            streams.push((id, stream));
        }
        Ok(streams)
    }

    async fn series(&self) -> Result<Vec<(u32, SeriesKey)>, CatalogError> {
        let rows = sqlx::query(
            "SELECT id, tenant, agent, device, metric, attributes, unit, kind, source
             FROM series ORDER BY id",
        )
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                let text = |i: usize| row.try_get::<String, _>(i).map(Arc::from);
                Ok((
                    number(row.try_get(0)?),
                    SeriesKey {
                        tenant: text(1)?,
                        agent: text(2)?,
                        device: text(3)?,
                        metric: text(4)?,
                        attributes: text(5)?,
                        unit: text(6)?,
                        kind: text(7)?,
                        source: text(8)?,
                    },
                ))
            })
            .collect()
    }

    async fn definitions(&self) -> Result<Vec<(u32, u32, u32)>, CatalogError> {
        let rows =
            sqlx::query("SELECT stream, ref, series FROM stream_series ORDER BY stream, ref")
                .fetch_all(self.pool())
                .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    number(row.try_get(0)?),
                    number(row.try_get(1)?),
                    number(row.try_get(2)?),
                ))
            })
            .collect()
    }

    pub(super) async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, CatalogError> {
        let rows = sqlx::query(
            "SELECT journal_id, number, tenant, stream_id, sequence, readings, error, body
             FROM dead_letters ORDER BY journal_id, number LIMIT ?",
        )
        .bind(i64::from(limit))
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(DeadLetter {
                    journal_id: sixteen("dead_letters", row.try_get(0)?)?,
                    number: uint(row.try_get(1)?),
                    tenant: row.try_get(2)?,
                    stream_id: row.try_get(3)?,
                    sequence: uint(row.try_get(4)?),
                    readings: uint(row.try_get(5)?),
                    error: row.try_get(6)?,
                    body: row.try_get::<Vec<u8>, _>(7)?.into(),
                })
            })
            .collect()
    }

    pub(super) async fn journal_losses(&self) -> Result<Vec<JournalLoss>, CatalogError> {
        let rows = sqlx::query(
            "SELECT journal_id, from_number, through, reason FROM journal_losses
             ORDER BY journal_id, from_number",
        )
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(JournalLoss {
                    journal_id: sixteen("journal_losses", row.try_get(0)?)?,
                    from: uint(row.try_get(1)?),
                    through: uint(row.try_get(2)?),
                    reason: row.try_get(3)?,
                })
            })
            .collect()
    }

    pub(super) async fn give_up(
        &self,
        journal_id: [u8; 16],
        through: u64,
    ) -> Result<(), CatalogError> {
        let mut transaction = self.write().await?;
        sqlx::query(
            "INSERT OR REPLACE INTO journal_losses (journal_id, from_number, through, reason)
             SELECT journal_id, position + 1, ?, 'given_up' FROM positions
             WHERE part = ? AND journal_id = ? AND position < ?",
        )
        .bind(int(through))
        .bind(PARTITION)
        .bind(&journal_id[..])
        .bind(int(through))
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "UPDATE positions SET position = ? WHERE part = ? AND journal_id = ? AND position < ?",
        )
        .bind(int(through))
        .bind(PARTITION)
        .bind(&journal_id[..])
        .bind(int(through))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Our own small numbers; a damaged one cannot index anything.
fn number(n: i64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn sixteen(table: &'static str, bytes: Vec<u8>) -> Result<[u8; 16], CatalogError> {
    bytes.try_into().map_err(|_| CatalogError::Damaged {
        table,
        what: "an id is not 16 bytes".into(),
    })
}

fn read_stream(row: &SqliteRow) -> Result<(u32, StreamLedger), CatalogError> {
    let report: Option<Vec<u8>> = row.try_get(10)?;
    let report = report
        .map(|bytes| v1::Report::decode(&bytes[..]))
        .transpose();
    let stream = StreamLedger {
        tenant: row.try_get::<String, _>(1)?.into(),
        stream_id: StreamId(sixteen("streams", row.try_get(2)?)?),
        agent: row.try_get::<String, _>(3)?.into(),
        watermark: uint(row.try_get(4)?),
        last_crc: number(row.try_get(5)?),
        readings_through: uint(row.try_get(6)?),
        stored: uint(row.try_get(7)?),
        dropped: BTreeMap::new(),
        duplicates: uint(row.try_get(8)?),
        closed: row.try_get(9)?,
        report: report.map_err(|e| CatalogError::Damaged {
            table: "streams",
            what: format!("report: {e}"),
        })?,
        report_at_ns: row.try_get(11)?,
        first_seen_ns: row.try_get(12)?,
        last_seen_ns: row.try_get(13)?,
        clock_offset_ns: row.try_get(14)?,
        lost_at_ns: row.try_get(15)?,
    };
    Ok((number(row.try_get(0)?), stream))
}

fn read_definition(row: &SqliteRow) -> Result<v1::Series, CatalogError> {
    let text = |i: usize| row.try_get::<String, _>(i).map(Arc::from);
    let key = SeriesKey {
        tenant: Arc::default(),
        agent: Arc::default(),
        device: text(1)?,
        metric: text(2)?,
        unit: text(3)?,
        kind: text(4)?,
        source: text(5)?,
        attributes: text(6)?,
    };
    definition(number(row.try_get(0)?), &key)
}

/// A series as its agent defined it under `reference`.
pub(super) fn definition(reference: u32, key: &SeriesKey) -> Result<v1::Series, CatalogError> {
    let attributes = serde_json::from_str(&key.attributes).map_err(|e| CatalogError::Damaged {
        table: "series",
        what: format!("attributes: {e}"),
    })?;
    Ok(v1::Series {
        r#ref: reference,
        device: key.device.to_string(),
        metric: key.metric.to_string(),
        unit: key.unit.to_string(),
        kind: crate::fold::series::kind_of(&key.kind) as i32,
        source: key.source.to_string(),
        attributes,
    })
}
