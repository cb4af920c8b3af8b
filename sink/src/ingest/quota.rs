//! How much an agent and a tenant may send: bytes and requests per second.
//!
//! Time is given, so that a simulation can give its own. A request that has come is booked whole, whatever its
//! size; who is over the limit by that waits until it is made up for. So no request is too large to ever pass,
//! and what is sent on the average is the limit. A second's worth may be ahead of it.

use std::collections::HashMap;
use std::fmt;
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

impl Quota {
    fn is_none(&self) -> bool {
        self.bytes_per_second == 0 && self.requests_per_second <= 0.0
    }
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
    bytes_ns: u64,
    requests_ns: u64,
}

impl Paid {
    fn book(&mut self, quota: &Quota, bytes: u64, now_ns: u64) {
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

    fn over(&self, quota: &Quota, scope: Scope, who: &Arc<str>, now_ns: u64) -> Option<Over> {
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
    quotas: (Quota, Quota),
    agent: (Arc<str>, Mutex<Paid>),
    tenant: Arc<(Arc<str>, Mutex<Paid>)>,
}

impl Account {
    /// A request of so many bytes has come.
    pub(super) fn book(&self, bytes: u64, now_ns: u64) {
        hold(&self.agent.1).book(&self.quotas.0, bytes, now_ns);
        hold(&self.tenant.1).book(&self.quotas.1, bytes, now_ns);
    }

    /// Who has to wait before the next one; the longer of the two waits.
    pub(super) fn over(&self, now_ns: u64) -> Option<Over> {
        let agent = hold(&self.agent.1).over(&self.quotas.0, Scope::Agent, &self.agent.0, now_ns);
        let (name, paid) = &*self.tenant;
        let tenant = hold(paid).over(&self.quotas.1, Scope::Tenant, name, now_ns);
        match (agent, tenant) {
            (Some(agent), Some(tenant)) if agent.wait < tenant.wait => Some(tenant),
            (agent, tenant) => agent.or(tenant),
        }
    }

    /// Bytes that pass within a second: more need not be on the way.
    pub(super) fn second_bytes(&self) -> u64 {
        let limits = [self.quotas.0, self.quotas.1].map(|quota| quota.bytes_per_second);
        let least = limits.into_iter().filter(|limit| *limit > 0).min();
        least.unwrap_or(u64::MAX)
    }
}

/// The accounts of everybody who sends.
#[derive(Debug)]
pub(super) struct Quotas {
    limits: Allowed,
    open: Mutex<Open>,
}

type Tenant = Arc<(Arc<str>, Mutex<Paid>)>;

#[derive(Debug, Default)]
struct Open {
    tenants: HashMap<Arc<str>, Tenant>,
    agents: HashMap<(Arc<str>, Arc<str>), Arc<Account>>,
    /// Looked through when there are so many.
    look_at: usize,
}

impl Quotas {
    pub(super) fn new(limits: Allowed) -> Self {
        Self {
            limits,
            open: Mutex::default(),
        }
    }

    /// The account of an agent; none where nothing is limited. It outlives connections while something is owed.
    pub(super) fn account(&self, tenant: &str, agent: &str, now_ns: u64) -> Option<Arc<Account>> {
        let limits = self.limits.of(tenant);
        if limits.agent.is_none() && limits.tenant.is_none() {
            return None;
        }
        let mut open = hold(&self.open);
        if open.agents.len() >= open.look_at {
            open.forget(now_ns);
        }
        let shared = match open.tenants.get(tenant) {
            Some(shared) => Arc::clone(shared),
            None => {
                let name: Arc<str> = tenant.into();
                let shared = Arc::new((Arc::clone(&name), Mutex::default()));
                open.tenants.insert(name, Arc::clone(&shared));
                shared
            }
        };
        let key = (Arc::clone(&shared.0), Arc::from(agent));
        let account = open.agents.entry(key).or_insert_with_key(|(_, agent)| {
            Arc::new(Account {
                quotas: (limits.agent, limits.tenant),
                agent: (Arc::clone(agent), Mutex::default()),
                tenant: shared,
            })
        });
        Some(Arc::clone(account))
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
mod tests {
    use super::*;
    use crate::ingest::Limits;

    const SECOND: u64 = 1_000_000_000;

    fn quotas(agent: u64, tenant: u64) -> Quotas {
        let quota = |bytes_per_second| Quota {
            bytes_per_second,
            requests_per_second: 0.0,
        };
        Quotas::new(limits(quota(agent), quota(tenant)).into())
    }

    fn limits(agent: Quota, tenant: Quota) -> Limits {
        Limits {
            agent,
            tenant,
            ..Limits::default()
        }
    }

    /// Mutation: the limits of all for every tenant.
    #[test]
    fn a_tenant_may_have_a_limit_of_its_own_or_none() {
        let bytes = |bytes_per_second| Quota {
            bytes_per_second,
            ..Quota::default()
        };
        let own = [
            ("wide", limits(Quota::default(), bytes(9000))),
            ("free", Limits::default()),
        ];
        let own = own.map(|(name, limits)| (Arc::from(name), limits)).into();
        let all = limits(Quota::default(), bytes(1000));
        let quotas = Quotas::new(Allowed::new(all, own));
        let of = |tenant| quotas.account(tenant, "a", 0);
        for (tenant, seconds) in [("narrow", 8), ("wide", 0)] {
            let account = of(tenant).expect("there is a limit");
            account.book(9000, 2 * SECOND);
            let wait = account
                .over(2 * SECOND)
                .map_or(0, |over| over.wait.as_secs());
            assert_eq!(wait, seconds, "{tenant}");
        }
        assert!(of("free").is_none());
    }

    /// Mutation: without the cap on what may be ahead, an agent that was silent for an hour sends an hour's worth.
    #[test]
    fn what_passes_on_the_average_is_the_limit() {
        for (bytes, silence) in [(10, 0), (1000, 0), (250_000, 0), (1000, 3600 * SECOND)] {
            let account = quotas(10_000, 0)
                .account("t", "a", 0)
                .expect("there is a limit");
            let begin = 10_000 * SECOND + silence;
            let (mut now, mut sent) = (begin, 0);
            while now < begin + 100 * SECOND {
                match account.over(now) {
                    Some(over) => now += u64::try_from(over.wait.as_nanos()).expect("short"),
                    None => {
                        account.book(bytes, now);
                        sent += bytes;
                    }
                }
            }
            // A second's worth ahead, and one request beyond.
            assert!(
                (1_000_000..=1_010_000 + bytes).contains(&sent),
                "{sent} by {bytes}"
            );
        }
    }

    /// Mutation: an account per connection forgets the debt with the connection.
    #[test]
    fn a_debt_outlives_its_connection() {
        let quotas = quotas(1000, 0);
        let account = quotas.account("t", "a", 0).expect("there is a limit");
        account.book(1_000_000, 2 * SECOND);
        drop(account);
        for other in 0..200 {
            quotas.account("t", &format!("other-{other}"), 3 * SECOND);
        }
        let again = quotas
            .account("t", "a", 3 * SECOND)
            .expect("there is a limit");
        let over = again.over(3 * SECOND).expect("it owes a thousand seconds");
        assert_eq!(over.wait.as_secs(), 998);
        assert!(
            hold(&quotas.open).agents.len() < 200,
            "who owes nothing is forgotten"
        );
    }

    /// Mutation: accounts by the agent's name alone let two tenants pay for each other.
    #[test]
    fn each_pays_for_itself_and_for_its_tenant() {
        let quotas = quotas(0, 1000);
        let of = |tenant, agent| quotas.account(tenant, agent, 0).expect("there is a limit");
        of("x", "a").book(10_000, 2 * SECOND);
        let over = of("x", "b").over(2 * SECOND).expect("its tenant is over");
        assert_eq!((over.scope, &*over.who), (Scope::Tenant, "x"));
        assert!(
            over.to_string().contains("limits.tenant_bytes_per_second"),
            "{over}"
        );
        assert_eq!(of("y", "a").over(2 * SECOND), None);
    }

    #[test]
    fn requests_are_counted_beside_bytes() {
        let quota = Quota {
            bytes_per_second: 1_000_000,
            requests_per_second: 0.5,
        };
        let quotas = Quotas::new(limits(quota, Quota::default()).into());
        let account = quotas.account("t", "a", 0).expect("there is a limit");
        account.book(10, 5 * SECOND);
        let over = account.over(5 * SECOND).expect("one in two seconds");
        assert_eq!((over.measure, over.wait.as_secs()), (Measure::Requests, 1));
        assert!(
            Quotas::new(Allowed::default())
                .account("t", "a", 0)
                .is_none()
        );
    }
}
