//! What is written down: deeds of callers, and refusals as far as the audit log can take them. Each is a line of the
//! program's log, too.

use std::net::SocketAddr;
use std::sync::PoisonError;

use super::refusals::Like;
use super::shown::bearer;
use super::token::Shown;
use super::{Access, Caller, Denied, Reason, Request};
use crate::catalog::{CatalogError, Deed};

impl Access {
    /// Notes what a caller did. It has happened already: where the catalog is away the log of the program has it.
    pub async fn note(&self, caller: &Caller, action: &str, object: &str, outcome: &str) {
        let deed = Deed {
            at_ns: self.inner.clock.wall_ns(),
            tenant: caller.tenant().to_string(),
            who: caller.who().to_string(),
            action: action.to_owned(),
            object: object.to_owned(),
            outcome: outcome.to_owned(),
            address: shown_address(caller.address()),
        };
        say(&deed);
        if let Err(error) = self.write(vec![deed]).await {
            tracing::error!(%error, action, object, "this is not in the audit log");
        }
    }

    pub(super) async fn write(&self, deeds: Vec<Deed>) -> Result<(), CatalogError> {
        match &self.inner.catalog {
            Some(catalog) if !deeds.is_empty() => catalog.record(&deeds).await,
            _ => Ok(()),
        }
    }

    /// Counts a refusal, and notes it unless one like it was noted a moment ago.
    pub(crate) fn refuse(&self, denied: &Denied, caller: Option<&Caller>, request: Request<'_>) {
        let inner = &self.inner;
        let reason = denied.reason();
        inner.refused.get_or_create(&Reason { reason }).inc();
        let known = self.known();
        let shown = bearer(request.headers)
            .ok()
            .flatten()
            .and_then(Shown::parse);
        let token = match shown {
            Some(Shown::Made { id, .. }) => known.get(id),
            _ => None,
        };
        let like = Like {
            id: token.map(|token| token.id.clone()),
            from: request.address.map(|address| address.ip()),
            reason,
        };
        let refusals = inner.refusals.lock();
        let mut refusals = refusals.unwrap_or_else(PoisonError::into_inner);
        if !refusals.is_news(like, inner.clock.monotonic_ns()) {
            return;
        }
        drop(refusals);
        let who = match (caller, token) {
            (Some(caller), _) => caller.who().to_string(),
            // Its secret may have been wrong.
            (None, Some(token)) => format!("whoever showed token {} ({})", token.id, token.name),
            (None, None) => "unknown".to_owned(),
        };
        let deed = Deed {
            at_ns: inner.clock.wall_ns(),
            tenant: token
                .map(|token| token.tenant.to_string())
                .unwrap_or_default(),
            who,
            action: "access".to_owned(),
            object: request
                .object
                .chars()
                .filter(|c| !c.is_control())
                .take(200)
                .collect(),
            outcome: format!("refused: {reason}"),
            address: shown_address(request.address),
        };
        say(&deed);
        if inner.waiting.try_send(deed).is_err() {
            tracing::warn!("the catalog is slow: a refusal is not in the audit log");
        }
    }
}

pub(super) fn shown_address(address: Option<SocketAddr>) -> String {
    address
        .map(|address| address.to_string())
        .unwrap_or_default()
}

/// The audit log for whoever reads the program's log.
pub(crate) fn say(deed: &Deed) {
    let Deed {
        tenant,
        who,
        action,
        object,
        outcome,
        address,
        ..
    } = deed;
    tracing::info!(target: "audit", tenant, who, action, object, outcome, address, "noted");
}
