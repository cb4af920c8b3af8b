//! Tokens that become certificates, and the certificates, in SQLite.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Transaction};

use super::access::insert_deed;
use super::sqlite::{Sqlite, int, uint};
use super::{CatalogError, Certificate, Deed, EnrollToken, Enrolled};

impl Sqlite {
    pub(super) async fn enroll_tokens(&self) -> Result<Vec<EnrollToken>, CatalogError> {
        let rows = sqlx::query(
            "SELECT id, tenant, pattern, key, hash, uses, used, created_at_ns, expires_at_ns,
               revoked_at_ns FROM enroll_tokens ORDER BY created_at_ns, id",
        )
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(read_token).collect()
    }

    pub(super) async fn add_enroll_token(
        &self,
        token: &EnrollToken,
        deed: &Deed,
    ) -> Result<(), CatalogError> {
        let mut transaction = self.write().await?;
        sqlx::query(
            "INSERT INTO enroll_tokens (id, tenant, pattern, key, hash, uses, used, created_at_ns,
               expires_at_ns, revoked_at_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&token.id)
        .bind(&*token.tenant)
        .bind(&*token.pattern)
        .bind(&token.key[..])
        .bind(&token.hash[..])
        .bind(int(token.uses))
        .bind(int(token.used))
        .bind(token.created_at_ns)
        .bind(token.expires_at_ns)
        .bind(token.revoked_at_ns)
        .execute(&mut *transaction)
        .await?;
        insert_deed(&mut transaction, deed).await?;
        transaction.commit().await?;
        Ok(())
    }

    pub(super) async fn revoke_enroll_token(
        &self,
        id: &str,
        deed: &Deed,
    ) -> Result<bool, CatalogError> {
        let update =
            "UPDATE enroll_tokens SET revoked_at_ns = ? WHERE id = ? AND revoked_at_ns IS NULL";
        Ok(self.revoke(update, &[id], deed).await? > 0)
    }

    pub(super) async fn enroll(
        &self,
        id: &str,
        certificate: &Certificate,
        deed: &Deed,
    ) -> Result<Enrolled, CatalogError> {
        let mut transaction = self.write().await?;
        let again = sqlx::query(
            "SELECT 1 FROM certificates WHERE source = ? AND agent = ? AND public_key = ?",
        )
        .bind(id)
        .bind(&*certificate.agent)
        .bind(&certificate.public_key)
        .fetch_optional(&mut *transaction)
        .await?
        .is_some();
        let changed = sqlx::query(
            "UPDATE enroll_tokens SET used = used + ?1 WHERE id = ?2 AND used + ?1 <= uses
               AND revoked_at_ns IS NULL AND (expires_at_ns IS NULL OR expires_at_ns > ?3)",
        )
        .bind(i64::from(!again))
        .bind(id)
        .bind(deed.at_ns)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if changed != 1 {
            return Ok(Enrolled::UsedUp);
        }
        insert_certificate(&mut transaction, certificate).await?;
        insert_deed(&mut transaction, deed).await?;
        transaction.commit().await?;
        Ok(Enrolled::Done)
    }

    pub(super) async fn renew_certificate(
        &self,
        certificate: &Certificate,
        deed: &Deed,
    ) -> Result<u64, CatalogError> {
        let mut transaction = self.write().await?;
        let row = sqlx::query("SELECT COUNT(*) FROM certificates WHERE source = ?")
            .bind(&certificate.source)
            .fetch_one(&mut *transaction)
            .await?;
        insert_certificate(&mut transaction, certificate).await?;
        insert_deed(&mut transaction, deed).await?;
        transaction.commit().await?;
        Ok(uint(row.try_get(0)?))
    }

    pub(super) async fn certificates(&self) -> Result<Vec<Certificate>, CatalogError> {
        let rows = sqlx::query(
            "SELECT fingerprint, tenant, agent, source, public_key, created_at_ns, not_after_ns,
               revoked_at_ns FROM certificates ORDER BY tenant, agent, created_at_ns, fingerprint",
        )
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(read_certificate).collect()
    }

    pub(super) async fn revoke_certificates(
        &self,
        (tenant, agent): (&str, &str),
        deed: &Deed,
    ) -> Result<u64, CatalogError> {
        let update = "UPDATE certificates SET revoked_at_ns = ?
             WHERE tenant = ? AND agent = ? AND revoked_at_ns IS NULL";
        self.revoke(update, &[tenant, agent], deed).await
    }
}

async fn insert_certificate(
    transaction: &mut Transaction<'static, sqlx::Sqlite>,
    certificate: &Certificate,
) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT INTO certificates (fingerprint, tenant, agent, source, public_key, created_at_ns,
           not_after_ns, revoked_at_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&certificate.fingerprint)
    .bind(&*certificate.tenant)
    .bind(&*certificate.agent)
    .bind(&certificate.source)
    .bind(&certificate.public_key)
    .bind(certificate.created_at_ns)
    .bind(certificate.not_after_ns)
    .bind(certificate.revoked_at_ns)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn read_certificate(row: &SqliteRow) -> Result<Certificate, CatalogError> {
    Ok(Certificate {
        fingerprint: row.try_get(0)?,
        tenant: row.try_get::<String, _>(1)?.into(),
        agent: row.try_get::<String, _>(2)?.into(),
        source: row.try_get(3)?,
        public_key: row.try_get(4)?,
        created_at_ns: row.try_get(5)?,
        not_after_ns: row.try_get(6)?,
        revoked_at_ns: row.try_get(7)?,
    })
}

fn read_token(row: &SqliteRow) -> Result<EnrollToken, CatalogError> {
    let bytes = |column: usize| -> Result<[u8; 32], CatalogError> {
        let bytes: Vec<u8> = row.try_get(column)?;
        bytes.try_into().map_err(|_| CatalogError::Damaged {
            table: "enroll_tokens",
            what: "key or hash is not 32 bytes".to_owned(),
        })
    };
    Ok(EnrollToken {
        id: row.try_get(0)?,
        tenant: row.try_get::<String, _>(1)?.into(),
        pattern: row.try_get::<String, _>(2)?.into(),
        key: bytes(3)?,
        hash: bytes(4)?,
        uses: uint(row.try_get(5)?),
        used: uint(row.try_get(6)?),
        created_at_ns: row.try_get(7)?,
        expires_at_ns: row.try_get(8)?,
        revoked_at_ns: row.try_get(9)?,
    })
}
