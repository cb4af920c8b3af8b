//! How many series and devices an agent and a tenant may have.
//!
//! A label with a request's number in it makes a series of every reading; unbounded, it takes the memory and the
//! catalog of everybody. What is there stays; what is new beyond a limit is named to its agent and to the sink's
//! operator, and its readings are counted as dropped, `series_limit`. Everything else of the same batch is stored.
//!
//! Counted is what the sink has ever stored, by a digest of 64 bits per series: two that share one are counted as one.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use weir_proto::v1;

use super::allowed::Allowed;
use super::hold;
use crate::catalog::SeriesKey;
use crate::fold::series::{OVER_LIMIT, attributes_json, kind_name};

/// The most there may be; zero is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SeriesLimits {
    /// Series of one agent.
    pub agent_series: u64,
    /// Series of all agents of a tenant.
    pub tenant_series: u64,
    /// Devices of a tenant.
    pub tenant_devices: u64,
}

/// The limit that a new series would exceed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beyond {
    setting: &'static str,
    who: String,
    limit: u64,
}

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} has the {} that the sink's setting limits.{}, or the tenant's own in limits.overrides, allows",
            self.who, self.limit, self.setting
        )
    }
}

/// What there is, by tenant.
#[derive(Debug)]
pub(super) struct Cardinality {
    limits: RwLock<Allowed>,
    tenants: Mutex<HashMap<Arc<str>, Tenant>>,
}

#[derive(Debug, Default)]
struct Tenant {
    series: usize,
    devices: HashSet<u64>,
    agents: HashMap<String, HashSet<u64>>,
}

/// Digests of a series and of its device.
#[derive(Clone, Copy)]
struct Digests {
    series: u64,
    device: u64,
}

impl Cardinality {
    pub(super) fn new(limits: Allowed) -> Self {
        Self {
            limits: RwLock::new(limits),
            tenants: Mutex::default(),
        }
    }

    /// Other limits from now on. Where there was none nothing was counted: there none begins, and the tenant is named.
    pub(super) fn set(&self, limits: &Allowed) -> Vec<String> {
        let mut current = self.limits.write().unwrap_or_else(PoisonError::into_inner);
        let (next, later) = current.with_series_counted(limits);
        *current = next;
        later
    }

    fn of(&self, tenant: &str) -> SeriesLimits {
        let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
        limits.of(tenant).series
    }

    /// Takes a series in, unless it is new and there is no room. Known ones always pass.
    pub(super) fn admit(
        &self,
        tenant: &str,
        agent: &str,
        series: &v1::Series,
    ) -> Result<(), Beyond> {
        let limits = self.of(tenant);
        if limits == SeriesLimits::default() {
            return Ok(());
        }
        let digests = Digests::of(series);
        let mut tenants = hold(&self.tenants);
        let entry = Tenant::of(&mut tenants, tenant);
        if !entry.knows(agent, digests)
            && let Some(beyond) = entry.beyond(limits, (tenant, agent), digests)
        {
            return Err(beyond);
        }
        entry.add(agent, digests);
        Ok(())
    }

    fn is_limited(&self, tenant: &str) -> bool {
        self.of(tenant) != SeriesLimits::default()
    }

    /// A series that is stored already, whatever the limits say today.
    pub(super) fn know(&self, key: &SeriesKey) {
        if self.is_limited(&key.tenant) && &*key.kind != OVER_LIMIT {
            let mut tenants = hold(&self.tenants);
            Tenant::of(&mut tenants, &key.tenant).add(&key.agent, Digests::of_key(key));
        }
    }

    /// The same by its definition in the journal.
    pub(super) fn know_defined(&self, tenant: &str, agent: &str, series: &v1::Series) {
        if self.is_limited(tenant) {
            let mut tenants = hold(&self.tenants);
            Tenant::of(&mut tenants, tenant).add(agent, Digests::of(series));
        }
    }
}

impl Tenant {
    fn of<'a>(tenants: &'a mut HashMap<Arc<str>, Tenant>, name: &str) -> &'a mut Tenant {
        if !tenants.contains_key(name) {
            tenants.insert(name.into(), Tenant::default());
        }
        tenants.get_mut(name).expect("it was just put there")
    }

    fn knows(&self, agent: &str, digests: Digests) -> bool {
        self.agents
            .get(agent)
            .is_some_and(|known| known.contains(&digests.series))
    }

    fn beyond(
        &self,
        limits: SeriesLimits,
        (tenant, agent): (&str, &str),
        digests: Digests,
    ) -> Option<Beyond> {
        let of_agent = self.agents.get(agent).map_or(0, HashSet::len);
        let devices = self.devices.len() - usize::from(self.devices.contains(&digests.device));
        let (agent, tenant) = (format!("agent {agent}"), format!("tenant {tenant}"));
        [
            ("agent_series", limits.agent_series, of_agent, agent),
            (
                "tenant_series",
                limits.tenant_series,
                self.series,
                tenant.clone(),
            ),
            ("tenant_devices", limits.tenant_devices, devices, tenant),
        ]
        .into_iter()
        .find(|(_, limit, there, _)| *limit > 0 && *there as u64 >= *limit)
        .map(|(setting, limit, _, who)| Beyond {
            setting,
            who,
            limit,
        })
    }

    fn add(&mut self, agent: &str, digests: Digests) {
        self.devices.insert(digests.device);
        let new = match self.agents.get_mut(agent) {
            Some(known) => known.insert(digests.series),
            None => {
                let known = HashSet::from([digests.series]);
                self.agents.insert(agent.to_owned(), known).is_none()
            }
        };
        self.series += usize::from(new);
    }
}

impl Digests {
    fn of(series: &v1::Series) -> Self {
        let attributes = attributes_json(&series.attributes);
        let kind = kind_name(series.kind());
        Self::new(
            &series.device,
            [
                &series.metric,
                &attributes,
                &series.unit,
                kind,
                &series.source,
            ],
        )
    }

    fn of_key(key: &SeriesKey) -> Self {
        Self::new(
            &key.device,
            [
                &key.metric,
                &key.attributes,
                &key.unit,
                &key.kind,
                &key.source,
            ],
        )
    }

    fn new(device: &str, rest: [&str; 5]) -> Self {
        let mut hasher = DefaultHasher::new();
        device.hash(&mut hasher);
        let device = hasher.finish();
        rest.hash(&mut hasher);
        Self {
            series: hasher.finish(),
            device,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Limits;

    fn series(device: &str, metric: &str) -> v1::Series {
        v1::Series {
            device: device.into(),
            metric: metric.into(),
            kind: v1::Kind::Gauge.into(),
            attributes: [("a".to_owned(), "b".to_owned())].into(),
            ..v1::Series::default()
        }
    }

    fn limits(agent_series: u64, tenant_series: u64, tenant_devices: u64) -> Cardinality {
        let series = SeriesLimits {
            agent_series,
            tenant_series,
            tenant_devices,
        };
        let all = Limits {
            series,
            ..Limits::default()
        };
        Cardinality::new(all.into())
    }

    fn said(answer: Result<(), Beyond>) -> String {
        answer.map_or_else(|beyond| beyond.to_string(), |()| "admitted".into())
    }

    /// Mutation: limits that are looked at before what is known turn away what is stored already.
    #[test]
    fn an_explosion_ends_at_its_agents_limit_and_takes_nothing_from_others() {
        let all = limits(100, 1000, 0);
        let beyond = (0..500).filter(|n| {
            let metric = format!("request.{n}");
            all.admit("t", "wild", &series("d", &metric)).is_err()
        });
        assert_eq!(beyond.count(), 400);
        assert_eq!(
            said(all.admit("t", "wild", &series("d", "request.400"))),
            "agent wild has the 100 that the sink's setting limits.agent_series, or the tenant's own in limits.overrides, allows"
        );
        assert_eq!(all.admit("t", "wild", &series("d", "request.7")), Ok(()));
        assert_eq!(all.admit("t", "calm", &series("d", "request.400")), Ok(()));
    }

    /// Mutation: counts over all tenants instead of each one's.
    #[test]
    fn a_tenants_series_and_devices_are_its_own() {
        let all = limits(0, 3, 2);
        for (device, metric) in [("a", "m"), ("a", "n"), ("b", "m")] {
            assert_eq!(all.admit("t", device, &series(device, metric)), Ok(()));
        }
        let refused = said(all.admit("t", "z", &series("a", "o")));
        assert!(refused.contains("limits.tenant_series"), "{refused}");
        assert_eq!(all.admit("u", "z", &series("a", "o")), Ok(()));
        assert_eq!(all.admit("u", "z", &series("b", "o")), Ok(()));
        let refused = said(all.admit("u", "z", &series("c", "o")));
        assert!(refused.contains("limits.tenant_devices"), "{refused}");
    }

    /// Mutation: another order of the fields in one of the two digests.
    #[test]
    fn what_the_catalog_has_and_what_an_agent_defines_are_the_same_series() {
        let all = limits(1, 0, 0);
        all.know(&SeriesKey {
            tenant: "t".into(),
            metric: "m".into(),
            device: "d".into(),
            attributes: r#"{"a":"b"}"#.into(),
            unit: "".into(),
            kind: "gauge".into(),
            source: "".into(),
            agent: "x".into(),
        });
        assert_eq!(all.admit("t", "x", &series("d", "m")), Ok(()));
        assert!(all.admit("t", "x", &series("d", "n")).is_err());
    }
}
