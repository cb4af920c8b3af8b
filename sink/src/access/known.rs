//! The credentials there are, as of one look at the catalog.

use std::collections::HashMap;

use super::denied::Denied;
use super::token::Digits;
use crate::catalog::Token;
use crate::model::Role;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Of the catalog, when it was looked at.
    pub(super) generation: i64,
    /// By id.
    tokens: HashMap<String, Token>,
}

impl Known {
    pub(super) fn new(generation: i64, tokens: Vec<Token>) -> Self {
        let tokens = tokens.into_iter().map(|token| (token.id.clone(), token));
        Self {
            generation,
            tokens: tokens.collect(),
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&Token> {
        self.tokens.get(id)
    }

    /// The token this is, if it stands. That it was revoked is told only to whoever has its secret.
    pub(super) fn verify(
        &self,
        (role, id, secret): (Role, &str, &Digits<'_>),
        now_ns: i64,
    ) -> Result<&Token, Denied> {
        let token = self.tokens.get(id).filter(|token| token.role == role);
        let token = token.filter(|token| secret.is_of(token));
        let token = token.ok_or(Denied::Unknown)?;
        self.stands(id, now_ns)?;
        Ok(token)
    }

    /// Until when a token stands, if it does: `i64::MAX` for good.
    pub(super) fn stands(&self, id: &str, now_ns: i64) -> Result<i64, Denied> {
        let token = self.tokens.get(id).ok_or(Denied::Unknown)?;
        let expires = token.expires_at_ns.unwrap_or(i64::MAX);
        if token.revoked_at_ns.is_some() {
            return Err(Denied::Revoked(id.to_owned()));
        }
        if expires <= now_ns {
            return Err(Denied::Expired(id.to_owned()));
        }
        Ok(expires)
    }
}
