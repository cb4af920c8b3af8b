//! What each may send and have: the same for all tenants but those that have bounds of their own.

use std::collections::HashMap;
use std::sync::Arc;

use super::cardinality::SeriesLimits;
use super::quota::Quota;

/// What one agent, and all agents of one tenant together, may send and have. None by default.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// What an agent may send.
    pub agent: Quota,
    /// What all agents of a tenant may send.
    pub tenant: Quota,
    /// What they may define.
    pub series: SeriesLimits,
}

/// The limits of every tenant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Allowed {
    all: Limits,
    own: Arc<HashMap<Arc<str>, Limits>>,
}

impl From<Limits> for Allowed {
    /// The same for all.
    fn from(all: Limits) -> Self {
        Self {
            all,
            own: Arc::default(),
        }
    }
}

impl Allowed {
    /// The same for all but these.
    pub fn new(all: Limits, own: HashMap<Arc<str>, Limits>) -> Self {
        Self {
            all,
            own: Arc::new(own),
        }
    }

    /// Those of this tenant.
    pub fn of(&self, tenant: &str) -> Limits {
        self.own.get(tenant).copied().unwrap_or(self.all)
    }
}
