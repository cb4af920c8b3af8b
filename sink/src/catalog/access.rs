//! Tokens and the audit log in SQLite.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Transaction};

use super::sqlite::Sqlite;
use super::{CatalogError, Deed, Deeds, Token};
use crate::model::Role;

impl Sqlite {
    pub(super) async fn access_generation(&self) -> Result<i64, CatalogError> {
        let row = sqlx::query("SELECT number FROM access_generation")
            .fetch_one(self.pool())
            .await?;
        Ok(row.try_get(0)?)
    }

    pub(super) async fn tokens(&self) -> Result<Vec<Token>, CatalogError> {
        let rows = sqlx::query(
            "SELECT id, role, tenant, name, key, hash, created_at_ns, expires_at_ns, revoked_at_ns
             FROM tokens ORDER BY created_at_ns, id",
        )
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(read_token).collect()
    }

    pub(super) async fn add_token(&self, token: &Token, deed: &Deed) -> Result<(), CatalogError> {
        let mut transaction = self.write().await?;
        sqlx::query(
            "INSERT INTO tokens (id, role, tenant, name, key, hash, created_at_ns, expires_at_ns,
               revoked_at_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&token.id)
        .bind(token.role.name())
        .bind(&*token.tenant)
        .bind(&*token.name)
        .bind(&token.key[..])
        .bind(&token.hash[..])
        .bind(token.created_at_ns)
        .bind(token.expires_at_ns)
        .bind(token.revoked_at_ns)
        .execute(&mut *transaction)
        .await?;
        insert_deed(&mut transaction, deed).await?;
        transaction.commit().await?;
        Ok(())
    }

    pub(super) async fn revoke_token(&self, id: &str, deed: &Deed) -> Result<bool, CatalogError> {
        let update = "UPDATE tokens SET revoked_at_ns = ? WHERE id = ? AND revoked_at_ns IS NULL";
        Ok(self.revoke(update, &[id], deed).await? > 0)
    }

    /// Ends what still stands of these names, and says how many: the update takes the time first. Where that is nothing, nothing was
    /// done that could be written down.
    pub(super) async fn revoke(
        &self,
        update: &'static str,
        names: &[&str],
        deed: &Deed,
    ) -> Result<u64, CatalogError> {
        let mut transaction = self.write().await?;
        let update = sqlx::query(update).bind(deed.at_ns);
        let update = names.iter().fold(update, |update, name| update.bind(*name));
        let ended = update.execute(&mut *transaction).await?.rows_affected();
        if ended > 0 {
            insert_deed(&mut transaction, deed).await?;
            transaction.commit().await?;
        }
        Ok(ended)
    }

    pub(super) async fn record(&self, deeds: &[Deed]) -> Result<(), CatalogError> {
        let mut transaction = self.write().await?;
        for deed in deeds {
            insert_deed(&mut transaction, deed).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    pub(super) async fn deeds(&self, wanted: &Deeds) -> Result<Vec<Deed>, CatalogError> {
        let rows = sqlx::query(
            "SELECT at_ns, tenant, who, action, object, outcome, address FROM audit
             WHERE at_ns >= ?1 AND (?2 IS NULL OR tenant = ?2) ORDER BY id DESC LIMIT ?3",
        )
        .bind(wanted.since_ns)
        .bind(&wanted.tenant)
        .bind(wanted.limit)
        .fetch_all(self.pool())
        .await?;
        rows.iter().rev().map(read_deed).collect()
    }
}

pub(super) async fn insert_deed(
    transaction: &mut Transaction<'static, sqlx::Sqlite>,
    deed: &Deed,
) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT INTO audit (at_ns, tenant, who, action, object, outcome, address)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(deed.at_ns)
    .bind(&deed.tenant)
    .bind(&deed.who)
    .bind(&deed.action)
    .bind(&deed.object)
    .bind(&deed.outcome)
    .bind(&deed.address)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn read_deed(row: &SqliteRow) -> Result<Deed, CatalogError> {
    Ok(Deed {
        at_ns: row.try_get(0)?,
        tenant: row.try_get(1)?,
        who: row.try_get(2)?,
        action: row.try_get(3)?,
        object: row.try_get(4)?,
        outcome: row.try_get(5)?,
        address: row.try_get(6)?,
    })
}

fn read_token(row: &SqliteRow) -> Result<Token, CatalogError> {
    let damaged = |what: &str| CatalogError::Damaged {
        table: "tokens",
        what: what.to_owned(),
    };
    let bytes = |column: usize| -> Result<[u8; 32], CatalogError> {
        let bytes: Vec<u8> = row.try_get(column)?;
        bytes
            .try_into()
            .map_err(|_| damaged("key or hash is not 32 bytes"))
    };
    let role: String = row.try_get(1)?;
    Ok(Token {
        id: row.try_get(0)?,
        role: Role::named(&role).ok_or_else(|| damaged("role is not known"))?,
        tenant: row.try_get::<String, _>(2)?.into(),
        name: row.try_get::<String, _>(3)?.into(),
        key: bytes(4)?,
        hash: bytes(5)?,
        created_at_ns: row.try_get(6)?,
        expires_at_ns: row.try_get(7)?,
        revoked_at_ns: row.try_get(8)?,
    })
}
