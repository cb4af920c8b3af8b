//! The credentials there are, as of one look at the catalog.

use std::collections::HashMap;
use std::sync::Arc;

use super::denied::Denied;
use super::token::Digits;
use crate::catalog::{Certificate, Token};
use crate::model::Role;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Of the catalog, when it was looked at.
    pub(super) generation: i64,
    /// By id.
    tokens: HashMap<String, Token>,
    /// By fingerprint.
    certificates: HashMap<String, Certificate>,
}

/// What somebody is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum By {
    /// A token of this id.
    Token(Arc<str>),
    /// A certificate of this fingerprint.
    Certificate(Arc<str>),
}

impl Known {
    pub(super) fn new(generation: i64, tokens: Vec<Token>, certificates: Vec<Certificate>) -> Self {
        let tokens = tokens.into_iter().map(|token| (token.id.clone(), token));
        let certificates = certificates.into_iter();
        Self {
            generation,
            tokens: tokens.collect(),
            certificates: certificates
                .map(|one| (one.fingerprint.clone(), one))
                .collect(),
        }
    }

    pub(super) fn certificate(&self, fingerprint: &str) -> Option<&Certificate> {
        self.certificates.get(fingerprint)
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
        self.token_stands(id, now_ns)?;
        Ok(token)
    }

    /// Until when it stands, if it does: `i64::MAX` for good.
    pub(super) fn stands(&self, by: &By, now_ns: i64) -> Result<i64, Denied> {
        match by {
            By::Token(id) => self.token_stands(id, now_ns),
            By::Certificate(fingerprint) => self.certificate_stands(fingerprint, now_ns),
        }
    }

    fn certificate_stands(&self, fingerprint: &str, now_ns: i64) -> Result<i64, Denied> {
        let found = self.certificate(fingerprint);
        let one = found.ok_or(Denied::UnknownCertificate)?;
        if one.revoked_at_ns.is_some() {
            return Err(Denied::RevokedCertificate(one.agent.to_string()));
        }
        if one.not_after_ns <= now_ns {
            return Err(Denied::ExpiredCertificate(one.agent.to_string()));
        }
        Ok(one.not_after_ns)
    }

    fn token_stands(&self, id: &str, now_ns: i64) -> Result<i64, Denied> {
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
