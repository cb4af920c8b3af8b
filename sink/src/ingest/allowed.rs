//! What each may send and have: the same for all tenants but those that have bounds of their own.

use std::collections::{BTreeSet, HashMap};
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

    /// `next`, but without a bound on series where there is none now; and who that is.
    pub(super) fn with_series_counted(&self, next: &Allowed) -> (Allowed, Vec<String>) {
        let none = SeriesLimits::default();
        let mut later = Vec::new();
        let mut counted = |name: &str, (before, after): (Limits, Limits)| {
            if before.series != none || after.series == none {
                return after;
            }
            later.push(name.to_owned());
            Limits {
                series: none,
                ..after
            }
        };
        let all = counted("all tenants without their own", (self.all, next.all));
        let named: BTreeSet<&Arc<str>> = self.own.keys().chain(next.own.keys()).collect();
        let own = named.into_iter().map(|name| {
            let limits = counted(name, (self.of(name), next.of(name)));
            (Arc::clone(name), limits)
        });
        let own = own.collect();
        (Allowed::new(all, own), later)
    }

    /// Whether there is anybody who may not send as much as they like.
    pub(super) fn limit_rates(&self) -> bool {
        let none = Quota::default();
        let limits = |one: &Limits| one.agent != none || one.tenant != none;
        limits(&self.all) || self.own.values().any(limits)
    }

    /// Those of this tenant.
    pub fn of(&self, tenant: &str) -> Limits {
        self.own.get(tenant).copied().unwrap_or(self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mutation: a bound on series that begins without those there are counts the next one as the first.
    #[test]
    fn series_are_bounded_only_where_they_were_counted() {
        let series = |agent_series| Limits {
            series: SeriesLimits {
                agent_series,
                ..SeriesLimits::default()
            },
            ..Limits::default()
        };
        let allowed = |all, own: &[(&str, u64)]| {
            let own = own
                .iter()
                .map(|(name, most)| (Arc::from(*name), series(*most)));
            Allowed::new(series(all), own.collect())
        };
        let now = allowed(0, &[("counted", 5), ("free", 0)]);
        let next = allowed(9, &[("counted", 7), ("free", 3)]);
        let (next, later) = now.with_series_counted(&next);
        assert_eq!(later, ["all tenants without their own", "free"]);
        let most = |tenant| next.of(tenant).series.agent_series;
        assert_eq!((most("counted"), most("free"), most("another")), (7, 0, 0));
        // One that loses its own bound stays counted, and one that never had any is not.
        let (next, later) = allowed(4, &[("free", 0)]).with_series_counted(&allowed(4, &[]));
        assert_eq!(later, ["free"]);
        assert_eq!(next.of("free").series.agent_series, 0);
        assert_eq!(next.of("another").series.agent_series, 4);
    }
}
