//! Accounts on a clock that the test gives.

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
