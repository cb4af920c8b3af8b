//! What headers say of who sends them.

use http::{HeaderMap, HeaderValue, header};

use super::{Caller, Denied, Request, TENANT_HEADER, Who};
use crate::model::{DEFAULT_TENANT, Role, is_tenant};

/// What the one authorization header holds, if there is one.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Denied> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (first, second) = (all.next(), all.next());
    let Some(first) = first else {
        return Ok(None);
    };
    let text = first.to_str().map_err(|_| Denied::Unreadable)?;
    let (scheme, token) = text.split_once(' ').ok_or(Denied::Unreadable)?;
    if second.is_some() || !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Denied::Unreadable);
    }
    Ok(Some(token.trim()))
}

/// The tenant somebody asks for.
fn wanted(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(TENANT_HEADER)
}

/// A caller has one tenant and may not ask for another.
pub(super) fn confined(caller: Caller, headers: &HeaderMap) -> Result<Caller, Denied> {
    match wanted(headers) {
        Some(other) if other.as_bytes() != caller.tenant.as_bytes() => Err(Denied::Tenant),
        _ => Ok(caller),
    }
}

/// Whoever is at home chooses the tenant.
pub(super) fn at_home(request: Request<'_>) -> Result<Caller, Denied> {
    let tenant = wanted(request.headers).map_or(Some(DEFAULT_TENANT), |value| {
        value.to_str().ok().filter(|slug| is_tenant(slug))
    });
    Ok(Caller {
        tenant: tenant.ok_or(Denied::Tenant)?.into(),
        who: Who::Local,
        role: Role::Admin,
        address: request.address,
        standing: None,
    })
}
