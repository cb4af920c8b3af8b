//! What the catalog keeps of who may speak, and of what was done: rows of `tokens` and of `audit`.

use std::fmt;
use std::sync::Arc;

use crate::model::Role;

/// A token as it is kept: what it allows, and a hash by which it is known again.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// 12 hex digits, part of the token as it was shown.
    pub id: String,
    /// What it allows.
    pub role: Role,
    /// Whose data.
    pub tenant: Arc<str>,
    /// What it is for; of an agent's token the names that may use it, as in `press-*`.
    pub name: Arc<str>,
    /// The key of `hash`.
    pub key: [u8; 32],
    /// BLAKE3 of the secret part, keyed.
    pub hash: [u8; 32],
    /// When it was made.
    pub created_at_ns: i64,
    /// When it ends by itself.
    pub expires_at_ns: Option<i64>,
    /// When it was revoked.
    pub revoked_at_ns: Option<i64>,
}

/// Without key and hash, which are nobody's business.
impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Token")
            .field("id", &self.id)
            .field("role", &self.role)
            .field("tenant", &self.tenant)
            .field("name", &self.name)
            .field("expires_at_ns", &self.expires_at_ns)
            .field("revoked_at_ns", &self.revoked_at_ns)
            .finish_non_exhaustive()
    }
}

/// One line of the audit log. Texts hold no control characters and no secrets.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Deed {
    /// When, by the sink's wall clock.
    pub at_ns: i64,
    /// Whose data; empty where that is not known.
    pub tenant: String,
    /// Who did it, as in `token 0123456789ab (dashboards)`.
    pub who: String,
    /// What was done, as in `ledger.settle`.
    pub action: String,
    /// To what.
    pub object: String,
    /// `ok`, or why not.
    pub outcome: String,
    /// Where the request came from; empty for a command on the sink's own machine.
    pub address: String,
}

/// Which deeds are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deeds {
    /// Only those from then on.
    pub since_ns: i64,
    /// Only of this tenant.
    pub tenant: Option<String>,
    /// The newest ones, at most so many.
    pub limit: u32,
}

/// A token that becomes certificates, as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrollToken {
    /// 12 hex digits, part of the token as it was shown.
    pub id: String,
    /// Whose agents.
    pub tenant: Arc<str>,
    /// The names that may use it, as in `press-*`.
    pub pattern: Arc<str>,
    /// The key of `hash`.
    pub key: [u8; 32],
    /// BLAKE3 of the secret part, keyed.
    pub hash: [u8; 32],
    /// How often it may be used.
    pub uses: u64,
    /// How often it was.
    pub used: u64,
    /// When it was made.
    pub created_at_ns: i64,
    /// When it ends by itself.
    pub expires_at_ns: Option<i64>,
    /// When it was revoked.
    pub revoked_at_ns: Option<i64>,
}

/// Without key and hash.
impl fmt::Debug for EnrollToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EnrollToken")
            .field("id", &self.id)
            .field("tenant", &self.tenant)
            .field("pattern", &self.pattern)
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}

/// A certificate of an agent that the sink has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of its DER, 64 hex digits.
    pub fingerprint: String,
    /// Whose agent.
    pub tenant: Arc<str>,
    /// Its name.
    pub agent: Arc<str>,
    /// The token it was enrolled with, or the fingerprint of the certificate it renewed.
    pub source: String,
    /// The point on the curve, uncompressed.
    pub public_key: Vec<u8>,
    /// When it was signed.
    pub created_at_ns: i64,
    /// When it ends.
    pub not_after_ns: i64,
    /// When it was revoked.
    pub revoked_at_ns: Option<i64>,
}

/// What came of an enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolled {
    /// The certificate is noted.
    Done,
    /// No use of the token is left, or it stands no more.
    UsedUp,
}
