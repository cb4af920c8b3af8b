//! How much an agent and a tenant may send: bytes and requests per second.
//!
//! Time is given, so that a simulation can give its own. A request that has come is booked whole, whatever its
//! size; who is over the limit by that waits until it is made up for. So no request is too large to ever pass,
//! and what is sent on the average is the limit. A second's worth may be ahead of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::allowed::Allowed;
use super::hold;

/// What may be sent at once after a silence: so much of the limit's time.
const AHEAD_NS: u64 = 1_000_000_000;

/// A wait up to this is waited by the sink, which reads no further; beyond it the agent is told.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// A limit on what is sent; zero is none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quota {
    /// Bytes of messages.
    pub bytes_per_second: u64,
    /// Requests of Deliver.
    pub requests_per_second: f64,
}

/// Whose limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One agent's.
    Agent,
    /// That of all agents of a tenant together.
    Tenant,
}

/// What it limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Bytes of messages.
    Bytes,
    /// Requests.
    Requests,
}

/// Why somebody has to wait, and for how long. Names the setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Over {
    /// Whose limit.
    pub scope: Scope,
    /// Of what.
    pub measure: Measure,
    /// Name of the agent or the tenant.
    pub who: Arc<str>,
    /// The limit, per second.
    pub limit: f64,
    /// Until it is made up for.
    pub wait: Duration,
}

impl Scope {
    /// As metrics and settings spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Tenant => "tenant",
        }
    }
}

impl Measure {
    /// As metrics and settings spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Requests => "requests",
        }
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scope, measure) = (self.scope.name(), self.measure.name());
        write!(
            f,
            "{scope} {} sends more than its {} {measure} per second: the sink's setting \
             limits.{scope}_{measure}_per_second, or the tenant's own in limits.overrides; nothing is lost, the rest follows at that rate",
            self.who, self.limit
        )
    }
}

/// From when on each limit is made up for, by the monotonic clock.
#[derive(Debug, Default)]
struct Paid {
    quota: Quota,
    bytes_ns: u64,
    requests_ns: u64,
}

impl Paid {
    fn new(quota: Quota) -> Self {
        Self {
            quota,
            ..Self::default()
        }
    }

    /// Another limit from now on. What is owed stays owed, and what may be ahead is not filled up: the same bytes and
    /// requests, made up for at the new rate.
    fn set(&mut self, quota: Quota, now_ns: u64) {
        let begin = now_ns.saturating_sub(AHEAD_NS);
        let again = |at: u64, before: f64, after: f64| {
            if before <= 0.0 || after <= 0.0 {
                // Where there was none nothing was booked; where there is none nothing is owed.
                return 0;
            }
            let owed_ns = at.max(begin) as f64 - now_ns as f64;
            (now_ns as f64 + owed_ns * before / after).max(0.0) as u64
        };
        let before = std::mem::replace(&mut self.quota, quota);
        if before.bytes_per_second != quota.bytes_per_second {
            let rates = (before.bytes_per_second, quota.bytes_per_second);
            self.bytes_ns = again(self.bytes_ns, rates.0 as f64, rates.1 as f64);
        }
        if before.requests_per_second != quota.requests_per_second {
            let rates = (before.requests_per_second, quota.requests_per_second);
            self.requests_ns = again(self.requests_ns, rates.0, rates.1);
        }
    }

    fn book(&mut self, bytes: u64, now_ns: u64) {
        let quota = &self.quota;
        let begin = now_ns.saturating_sub(AHEAD_NS);
        let later = |at: u64, amount: f64, per_second: f64| {
            if per_second <= 0.0 {
                return at;
            }
            // Above 2^53 ns, a hundred days, a debt need not be exact.
            at.max(begin)
                .saturating_add((amount / per_second * 1e9) as u64)
        };
        self.bytes_ns = later(self.bytes_ns, bytes as f64, quota.bytes_per_second as f64);
        self.requests_ns = later(self.requests_ns, 1.0, quota.requests_per_second);
    }

    fn is_paid(&self, now_ns: u64) -> bool {
        self.bytes_ns.max(self.requests_ns) <= now_ns
    }

    fn over(&self, scope: Scope, who: &Arc<str>, now_ns: u64) -> Option<Over> {
        let quota = &self.quota;
        let (at_ns, measure, limit) = if self.bytes_ns >= self.requests_ns {
            let limit = quota.bytes_per_second as f64;
            (self.bytes_ns, Measure::Bytes, limit)
        } else {
            let limit = quota.requests_per_second;
            (self.requests_ns, Measure::Requests, limit)
        };
        let wait = at_ns.checked_sub(now_ns).filter(|wait| *wait > 0)?;
        Some(Over {
            scope,
            measure,
            who: Arc::clone(who),
            limit,
            wait: Duration::from_nanos(wait),
        })
    }
}

/// One agent's account, with that of its tenant.
#[derive(Debug)]
pub(super) struct Account {
    /// Whether anybody is limited: most sinks limit nobody, and their requests need not look.
    any: Arc<AtomicBool>,
    agent: (Arc<str>, Mutex<Paid>),
    tenant: Arc<(Arc<str>, Mutex<Paid>)>,
}

impl Account {
    /// A request of so many bytes has come.
    pub(super) fn book(&self, bytes: u64, now_ns: u64) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        hold(&self.agent.1).book(bytes, now_ns);
        hold(&self.tenant.1).book(bytes, now_ns);
    }

    /// Who has to wait before the next one; the longer of the two waits.
    pub(super) fn over(&self, now_ns: u64) -> Option<Over> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let agent = hold(&self.agent.1).over(Scope::Agent, &self.agent.0, now_ns);
        let (name, paid) = &*self.tenant;
        let tenant = hold(paid).over(Scope::Tenant, name, now_ns);
        match (agent, tenant) {
            (Some(agent), Some(tenant)) if agent.wait < tenant.wait => Some(tenant),
            (agent, tenant) => agent.or(tenant),
        }
    }

    /// Bytes that pass within a second: more need not be on the way.
    pub(super) fn second_bytes(&self) -> u64 {
        if !self.any.load(Ordering::Relaxed) {
            return u64::MAX;
        }
        let limit = |paid: &Mutex<Paid>| hold(paid).quota.bytes_per_second;
        let limits = [limit(&self.agent.1), limit(&self.tenant.1)];
        let least = limits.into_iter().filter(|limit| *limit > 0).min();
        least.unwrap_or(u64::MAX)
    }
}

/// The accounts of everybody who sends.
#[derive(Debug)]
pub(super) struct Quotas {
    any: Arc<AtomicBool>,
    open: Mutex<Open>,
}

type Tenant = Arc<(Arc<str>, Mutex<Paid>)>;

#[derive(Debug, Default)]
struct Open {
    limits: Allowed,
    tenants: HashMap<Arc<str>, Tenant>,
    agents: HashMap<(Arc<str>, Arc<str>), Arc<Account>>,
    /// Looked through when there are so many.
    look_at: usize,
}

impl Quotas {
    pub(super) fn new(limits: Allowed) -> Self {
        Self {
            any: Arc::new(AtomicBool::new(limits.limit_rates())),
            open: Mutex::new(Open {
                limits,
                ..Open::default()
            }),
        }
    }

    /// Other limits from now on, also for those that are connected. An account is neither made up for nor filled by it.
    pub(super) fn set(&self, limits: Allowed, now_ns: u64) {
        let mut open = hold(&self.open);
        self.any.store(limits.limit_rates(), Ordering::Relaxed);
        for (name, shared) in &open.tenants {
            hold(&shared.1).set(limits.of(name).tenant, now_ns);
        }
        for ((tenant, _), account) in &open.agents {
            hold(&account.agent.1).set(limits.of(tenant).agent, now_ns);
        }
        open.limits = limits;
    }

    /// The account of an agent. It outlives connections while something is owed.
    pub(super) fn account(&self, tenant: &str, agent: &str, now_ns: u64) -> Arc<Account> {
        let mut open = hold(&self.open);
        let limits = open.limits.of(tenant);
        if open.agents.len() >= open.look_at {
            open.forget(now_ns);
        }
        let shared = match open.tenants.get(tenant) {
            Some(shared) => Arc::clone(shared),
            None => {
                let name: Arc<str> = tenant.into();
                let paid = Mutex::new(Paid::new(limits.tenant));
                let shared = Arc::new((Arc::clone(&name), paid));
                open.tenants.insert(name, Arc::clone(&shared));
                shared
            }
        };
        let key = (Arc::clone(&shared.0), Arc::from(agent));
        let account = open.agents.entry(key).or_insert_with_key(|(_, agent)| {
            Arc::new(Account {
                any: Arc::clone(&self.any),
                agent: (Arc::clone(agent), Mutex::new(Paid::new(limits.agent))),
                tenant: shared,
            })
        });
        Arc::clone(account)
    }
}

impl Open {
    /// Lets go of who is away and owes nothing.
    fn forget(&mut self, now_ns: u64) {
        self.agents.retain(|_, account| {
            Arc::strong_count(account) > 1 || !hold(&account.agent.1).is_paid(now_ns)
        });
        self.tenants
            .retain(|_, shared| Arc::strong_count(shared) > 1 || !hold(&shared.1).is_paid(now_ns));
        self.look_at = (2 * self.agents.len()).max(64);
    }
}

#[cfg(test)]
mod tests;
