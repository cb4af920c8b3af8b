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
    agent: (Arc<str>, Mutex<Paid>),
    tenant: Arc<(Arc<str>, Mutex<Paid>)>,
}

impl Account {
    /// A request of so many bytes has come.
    pub(super) fn book(&self, bytes: u64, now_ns: u64) {
        hold(&self.agent.1).book(bytes, now_ns);
        hold(&self.tenant.1).book(bytes, now_ns);
    }

    /// Who has to wait before the next one; the longer of the two waits.
    pub(super) fn over(&self, now_ns: u64) -> Option<Over> {
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
        let limit = |paid: &Mutex<Paid>| hold(paid).quota.bytes_per_second;
        let limits = [limit(&self.agent.1), limit(&self.tenant.1)];
        let least = limits.into_iter().filter(|limit| *limit > 0).min();
        least.unwrap_or(u64::MAX)
    }
}

/// The accounts of everybody who sends.
#[derive(Debug)]
pub(super) struct Quotas {
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
            open: Mutex::new(Open {
                limits,
                ..Open::default()
            }),
        }
    }

    /// Other limits from now on, also for those that are connected. An account is neither made up for nor filled by it.
    pub(super) fn set(&self, limits: Allowed, now_ns: u64) {
        let mut open = hold(&self.open);
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
            let account = of(tenant);
            account.book(9000, 2 * SECOND);
            let wait = account
                .over(2 * SECOND)
                .map_or(0, |over| over.wait.as_secs());
            assert_eq!(wait, seconds, "{tenant}");
        }
        let free = of("free");
        free.book(1 << 40, 2 * SECOND);
        assert_eq!(free.over(2 * SECOND), None);
        assert_eq!(free.second_bytes(), u64::MAX);
    }

    /// Mutation: without the cap on what may be ahead, an agent that was silent for an hour sends an hour's worth.
    #[test]
    fn what_passes_on_the_average_is_the_limit() {
        for (bytes, silence) in [(10, 0), (1000, 0), (250_000, 0), (1000, 3600 * SECOND)] {
            let account = quotas(10_000, 0).account("t", "a", 0);
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
        let account = quotas.account("t", "a", 0);
        account.book(1_000_000, 2 * SECOND);
        drop(account);
        for other in 0..200 {
            quotas.account("t", &format!("other-{other}"), 3 * SECOND);
        }
        let again = quotas.account("t", "a", 3 * SECOND);
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
        let of = |tenant, agent| quotas.account(tenant, agent, 0);
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
        let account = quotas.account("t", "a", 0);
        account.book(10, 5 * SECOND);
        let over = account.over(5 * SECOND).expect("one in two seconds");
        assert_eq!((over.measure, over.wait.as_secs()), (Measure::Requests, 1));
    }

    /// Mutations: accounts that a change fills or clears; one that those who are connected do not notice; a debt that keeps its
    /// time in place of its bytes.
    #[test]
    fn other_limits_are_for_those_connected_too_and_forgive_nothing() {
        let quota = |bytes_per_second| Quota {
            bytes_per_second,
            ..Quota::default()
        };
        let all = |agent, tenant| Allowed::from(limits(quota(agent), quota(tenant)));
        let quotas = Quotas::new(all(1000, 0));
        let now = 100 * SECOND;
        let account = quotas.account("t", "a", now);
        let owed = |at| account.over(at).map_or(0, |over| over.wait.as_millis());
        // A second's worth is ahead.
        account.book(21_000, now);
        assert_eq!(owed(now), 20_000);
        for (limit, wait) in [
            (1000, 20_000),
            (10_000, 2000),
            (1000, 20_000),
            (500, 40_000),
        ] {
            quotas.set(all(limit, 0), now);
            assert_eq!(owed(now), wait, "at {limit}");
        }
        // What is used up stays so: the same limit, and one that is ten times as high.
        quotas.set(all(1000, 0), now);
        let later = now + 20 * SECOND;
        assert_eq!(owed(later), 0);
        for limit in [1000, 10_000] {
            quotas.set(all(limit, 0), later);
        }
        account.book(10_000, later);
        assert_eq!(owed(later), 1000, "nothing is ahead");
        // None, and one where there was none.
        quotas.set(all(0, 0), later);
        account.book(1 << 40, later);
        assert_eq!(owed(later), 0);
        quotas.set(all(0, 1000), later);
        account.book(3000, later);
        assert_eq!(owed(later), 2000);
        assert_eq!(account.second_bytes(), 1000);
    }
}
