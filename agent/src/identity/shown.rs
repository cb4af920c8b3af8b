//! The certificate that an agent shows, for people.

use weir_process::tls::Facts;

/// Whom a certificate of an agent stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The agent's name; of a long one its beginning.
    pub(crate) agent: String,
    /// Its tenant, where a sink enrolled it.
    pub(crate) tenant: Option<String>,
    /// When it ends, RFC 3339.
    pub(crate) not_after: String,
}

impl Shown {
    /// What a certificate says: a sink writes `weir://TENANT/AGENT` into those that it signs.
    pub(crate) fn of(facts: &Facts) -> Self {
        let named = facts.uris.iter().find_map(|uri| {
            let (tenant, agent) = uri.strip_prefix("weir://")?.split_once('/')?;
            Some((tenant.to_owned(), agent.to_owned()))
        });
        let (tenant, in_uri) = named.unzip();
        let agent = if facts.subject.is_empty() {
            in_uri.unwrap_or_default()
        } else {
            facts.subject.clone()
        };
        Self {
            agent,
            tenant,
            not_after: humantime::format_rfc3339_seconds(facts.not_after).to_string(),
        }
    }
}
