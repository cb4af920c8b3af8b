//! What each may send and have: the keys `limits.*` for all tenants, and `limits.overrides` for some.
//!
//! ```text
//! limits.overrides = plant: tenant_bytes_per_second=1MiB, tenant_series=5000; lab: agent_series=0
//! ```
//!
//! A tenant, a colon, and limits as the keys call them without `limits.`; what is not named is as for all, 0 is no limit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use weir_process::config::{Reader, bytes, count, rate};

use crate::ingest::{Allowed, Limits, Quota, SeriesLimits};
use crate::model::is_tenant;

const MAX_BYTES: u64 = 1 << 40;
const MAX_REQUESTS: f64 = 1e9;
const MAX_COUNT: u64 = 1 << 32;

const OVERRIDES: &str = "limits.overrides";

/// The limits of all tenants.
pub(super) fn read(reader: &mut Reader) -> Allowed {
    let all = of_all(reader);
    let (own, faults) = overrides(all, &reader.text(OVERRIDES));
    for fault in faults {
        reader.fault(OVERRIDES, fault);
    }
    Allowed::new(all, own)
}

fn of_all(reader: &mut Reader) -> Limits {
    let mut quota = |bytes, requests| Quota {
        bytes_per_second: reader.bytes_within(bytes, 0..=MAX_BYTES),
        requests_per_second: reader.rate_within(requests, 0.0..=MAX_REQUESTS),
    };
    Limits {
        agent: quota(
            "limits.agent_bytes_per_second",
            "limits.agent_requests_per_second",
        ),
        tenant: quota(
            "limits.tenant_bytes_per_second",
            "limits.tenant_requests_per_second",
        ),
        series: SeriesLimits {
            agent_series: reader.count_within("limits.agent_series", 0..=MAX_COUNT),
            tenant_series: reader.count_within("limits.tenant_series", 0..=MAX_COUNT),
            tenant_devices: reader.count_within("limits.tenant_devices", 0..=MAX_COUNT),
        },
    }
}

/// The limits of those that have their own, and what is wrong with what is written.
fn overrides(all: Limits, text: &str) -> (HashMap<Arc<str>, Limits>, Vec<String>) {
    let mut own = HashMap::new();
    let mut faults = Vec::new();
    for part in text
        .split(';')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let Some((tenant, settings)) = part.split_once(':') else {
            faults.push(format!(
                "{part:?} names no limit: write tenant:limit=value,limit=value"
            ));
            continue;
        };
        let tenant = tenant.trim();
        if !is_tenant(tenant) {
            faults.push(format!(
                "{tenant:?} is no tenant: write lower-case letters, digits and dashes"
            ));
        }
        let mut limits = all;
        let mut named = HashSet::new();
        for setting in settings.split(',') {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            let name = name.trim();
            if let Err(fault) = set(&mut limits, name, value.trim()) {
                faults.push(format!("tenant {tenant}: {name}: {fault}"));
            }
            if !named.insert(name) {
                faults.push(format!(
                    "tenant {tenant}: {name} is there twice: write it once"
                ));
            }
        }
        if own.insert(Arc::from(tenant), limits).is_some() {
            faults.push(format!(
                "tenant {tenant} is there twice: write all its limits in one place"
            ));
        }
    }
    (own, faults)
}

/// Changes one limit.
fn set(limits: &mut Limits, name: &str, value: &str) -> Result<(), String> {
    let Limits {
        agent,
        tenant,
        series,
    } = limits;
    match name {
        "agent_bytes_per_second" => agent.bytes_per_second = within(bytes(value)?, MAX_BYTES)?,
        "agent_requests_per_second" => {
            agent.requests_per_second = within(rate(value)?, MAX_REQUESTS)?
        }
        "tenant_bytes_per_second" => tenant.bytes_per_second = within(bytes(value)?, MAX_BYTES)?,
        "tenant_requests_per_second" => {
            tenant.requests_per_second = within(rate(value)?, MAX_REQUESTS)?
        }
        "agent_series" => series.agent_series = within(count(value)?, MAX_COUNT)?,
        "tenant_series" => series.tenant_series = within(count(value)?, MAX_COUNT)?,
        "tenant_devices" => series.tenant_devices = within(count(value)?, MAX_COUNT)?,
        _ => {
            return Err(
                "is not a limit: write agent_ or tenant_ with bytes_per_second, requests_per_second or series, \
                 or tenant_devices"
                    .to_owned(),
            );
        }
    }
    Ok(())
}

fn within<T: PartialOrd + std::fmt::Display>(value: T, most: T) -> Result<T, String> {
    if value > most {
        return Err(format!("{value} is out of range: write at most {most}"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mutation: what is not named begins at none in place of what holds for all.
    #[test]
    fn a_tenant_has_what_is_written_and_the_rest_as_all_have_it() {
        let mut all = Limits::default();
        all.series.agent_series = 7;
        let text = "plant: tenant_bytes_per_second=1MiB, agent_requests_per_second=0.5 ;lab:agent_series=0,tenant_devices=3;";
        let (own, faults) = overrides(all, text);
        assert_eq!(faults, Vec::<String>::new());
        let allowed = Allowed::new(all, own);
        let plant = allowed.of("plant");
        assert_eq!(plant.tenant.bytes_per_second, 1 << 20);
        assert_eq!(plant.agent.requests_per_second, 0.5);
        assert_eq!(plant.series.agent_series, 7);
        let lab = allowed.of("lab").series;
        assert_eq!((lab.agent_series, lab.tenant_devices), (0, 3));
        assert_eq!(allowed.of("another"), all);
    }

    /// All at once, each with the tenant and the key. Every name of the table is one, and no other.
    #[test]
    fn faults_name_the_tenant_and_the_limit() {
        let text = "plant:agent_seris=1,tenant_series=many;Lab:agent_series=1;dock;plant:tenant_devices=1e3,agent_requests_per_second=2e9";
        let (_, faults) = overrides(Limits::default(), text);
        let faults = faults.join("\n");
        for words in [
            "tenant plant: agent_seris: is not a limit",
            "tenant plant: tenant_series: cannot read \"many\"",
            "\"Lab\" is no tenant",
            "\"dock\" names no limit",
            "tenant plant: tenant_devices: cannot read",
            "tenant plant: agent_requests_per_second: 2000000000 is out of range",
            "tenant plant is there twice",
        ] {
            assert!(faults.contains(words), "{words} is missing in:\n{faults}");
        }
        for key in crate::config::TABLE.keys() {
            if let Some(name) = key
                .name
                .strip_prefix("limits.")
                .filter(|_| key.name != OVERRIDES)
            {
                assert_eq!(set(&mut Limits::default(), name, "1"), Ok(()), "{name}");
            }
        }
    }
}
