//! Tokens and the audit log in memory.

use std::collections::BTreeMap;

use super::failed;
use crate::catalog::{CatalogError, Certificate, Deed, Deeds, EnrollToken, Token};

#[derive(Debug, Clone, Default)]
pub(super) struct Access {
    pub(super) generation: i64,
    /// By id.
    tokens: BTreeMap<String, Token>,
    pub(super) enroll_tokens: Vec<EnrollToken>,
    pub(super) certificates: Vec<Certificate>,
    pub(super) audit: Vec<Deed>,
}

impl Access {
    pub(super) fn tokens(&self) -> Vec<Token> {
        let mut tokens: Vec<Token> = self.tokens.values().cloned().collect();
        tokens.sort_by_key(|token| token.created_at_ns);
        tokens
    }

    pub(super) fn add_token(&mut self, token: &Token, deed: &Deed) -> Result<(), CatalogError> {
        let id = token.id.clone();
        if self.tokens.insert(id, token.clone()).is_some() {
            return Err(failed("a token of this id is there already"));
        }
        self.generation += 1;
        self.audit.push(deed.clone());
        Ok(())
    }

    /// Whether it was there and not revoked.
    pub(super) fn revoke_token(&mut self, id: &str, deed: &Deed) -> bool {
        let found = self.tokens.get_mut(id);
        let Some(token) = found.filter(|token| token.revoked_at_ns.is_none()) else {
            return false;
        };
        token.revoked_at_ns = Some(deed.at_ns);
        self.generation += 1;
        self.audit.push(deed.clone());
        true
    }

    pub(super) fn record(&mut self, deeds: &[Deed]) {
        self.audit.extend_from_slice(deeds);
    }

    pub(super) fn deeds(&self, wanted: &Deeds) -> Vec<Deed> {
        let lets = |deed: &&Deed| {
            let of_tenant = wanted.tenant.as_ref();
            deed.at_ns >= wanted.since_ns && of_tenant.is_none_or(|tenant| *tenant == deed.tenant)
        };
        let limit = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
        let newest = self.audit.iter().rev().filter(lets).take(limit);
        let mut found: Vec<Deed> = newest.cloned().collect();
        found.reverse();
        found
    }
}
