//! What is shown, against what may be done with it: on a catalog in memory, with clocks that are set by hand.

use std::time::Duration;

use http::{HeaderValue, header};
use tokio_util::sync::CancellationToken;
use weir_process::clock::ManualClock;

use super::follow::LOOK_EVERY;
use super::table::{METHODS, ROUTES};
use super::token::{Wanted, make, make_local};
use super::*;
use crate::catalog::{Deeds, Memory};
use crate::model::DEFAULT_TENANT;

mod enrolment;

const SECOND: i64 = 1_000_000_000;

struct World {
    catalog: Catalog,
    clock: Arc<ManualClock>,
    local: Secret,
    access: Access,
}

impl World {
    async fn new(required: bool) -> Self {
        let catalog = Catalog::new(Memory::new());
        let clock = Arc::new(ManualClock::new(100 * SECOND));
        let local = make_local().unwrap();
        let asking = Asking {
            required,
            local: Some(local.clone()),
            enrolment: None,
        };
        let shared = Arc::<ManualClock>::clone(&clock);
        let access = Access::load(&catalog, shared, asking).await.unwrap();
        Self {
            catalog,
            clock,
            local,
            access,
        }
    }

    /// A token that the catalog has, not necessarily what is known.
    async fn token(&self, role: Role, name: &str, expires_at_ns: Option<i64>) -> (String, Secret) {
        let wanted = Wanted {
            role,
            tenant: "plant".into(),
            name: name.into(),
            expires_at_ns,
        };
        let (token, secret) = make(&wanted, self.clock.wall_ns()).unwrap();
        self.catalog.add_token(&token, &deed()).await.unwrap();
        (token.id, secret)
    }

    async fn ask(&self, headers: &HeaderMap, need: Need) -> Result<Caller, Denied> {
        let request = Request {
            address: "192.0.2.7:5000".parse().ok(),
            certificate: None,
            headers,
            object: "/somewhere",
        };
        self.access.ask(request, need).await
    }

    async fn show(&self, secret: &Secret, need: Need) -> Result<Caller, Denied> {
        self.ask(&bearing(secret.expose()), need).await
    }
}

fn deed() -> Deed {
    Deed {
        at_ns: 1,
        tenant: "plant".into(),
        who: "test".into(),
        action: "token".into(),
        object: String::new(),
        outcome: "ok".into(),
        address: String::new(),
    }
}

fn bearing(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let value = format!("Bearer {token}").parse().unwrap();
    headers.insert(header::AUTHORIZATION, value);
    headers
}

/// What each role may, written down a second time.
fn may(role: Option<Role>, need: Need) -> bool {
    match need {
        Need::Nothing => true,
        Need::Known => role.is_some(),
        Need::Deliver => role == Some(Role::Agent),
        Need::Read => matches!(role, Some(Role::Reader | Role::Operator | Role::Admin)),
        Need::Operate => matches!(role, Some(Role::Operator | Role::Admin)),
        Need::Administer => role == Some(Role::Admin),
    }
}

/// Every door times every role. Red when a role may more or less than is written down here.
#[tokio::test]
async fn every_door_is_open_to_those_it_is_for_and_to_nobody_else() {
    let world = World::new(true).await;
    let doors = ROUTES.iter().map(|route| (route.path, route.need));
    let doors: Vec<(&str, Need)> = doors.chain(METHODS).collect();
    for role in Role::ALL {
        let (_, secret) = world.token(role, "*", None).await;
        for (path, need) in &doors {
            let asked = world.show(&secret, *need).await;
            assert_eq!(asked.is_ok(), may(Some(role), *need), "{role:?} {path}");
            match asked {
                Ok(caller) => assert_eq!(&**caller.tenant(), "plant"),
                Err(denied) => assert_eq!(denied.kind().name(), "forbidden"),
            }
        }
    }
    for (path, need) in &doors {
        let asked = world.ask(&HeaderMap::new(), *need).await;
        assert_eq!(asked.is_ok(), may(None, *need), "nobody {path}");
    }
}

/// Red when a service is added and has no row, or a row has no service.
#[test]
fn every_method_of_every_service_has_a_row() {
    use prost::Message as _;
    let sets = [
        weir_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    let mut found = Vec::new();
    for set in sets {
        let set = prost_types::FileDescriptorSet::decode(set).unwrap();
        for file in set.file {
            for service in &file.service {
                let name = |method: &prost_types::MethodDescriptorProto| {
                    format!("/{}.{}/{}", file.package(), service.name(), method.name())
                };
                found.extend(service.method.iter().map(name));
            }
        }
    }
    found.sort();
    let mut rows: Vec<&str> = METHODS.iter().map(|(path, _)| *path).collect();
    rows.sort_unstable();
    assert_eq!(found, rows);
}

#[test]
fn every_path_has_one_row() {
    let mut paths: Vec<&str> = ROUTES.iter().map(|route| route.path).collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), ROUTES.len());
    for path in weir_process::probes::PATHS {
        assert!(table::route(path).is_some(), "{path}");
    }
}

/// Red when what is wrong is taken for nothing where nothing is asked for.
#[tokio::test]
async fn what_is_shown_is_verified_also_where_nothing_is_asked_for() {
    let world = World::new(false).await;
    let anonymous = world
        .ask(&HeaderMap::new(), Need::Administer)
        .await
        .unwrap();
    assert_eq!(
        (&**anonymous.tenant(), anonymous.who()),
        (DEFAULT_TENANT, &Who::Anonymous)
    );
    let (_, secret) = world.token(Role::Reader, "x", None).await;
    let text = secret.expose();
    let last = if text.ends_with('0') { '1' } else { '0' };
    let wrong = format!("{}{last}", &text[..text.len() - 1]);
    let other_role = text.replace("reader", "admin");
    for (headers, expected) in [
        (bearing(&wrong), Denied::Unknown),
        (bearing(&other_role), Denied::Unknown),
        (bearing("hunter2"), Denied::Unreadable),
        (bearing(""), Denied::Unreadable),
    ] {
        for need in [Need::Nothing, Need::Read] {
            assert_eq!(world.ask(&headers, need).await.unwrap_err(), expected);
        }
    }
    let mut twice = bearing(text);
    twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
    let denied = world.ask(&twice, Need::Read).await.unwrap_err();
    assert_eq!(denied, Denied::Unreadable);
    let mut basic = HeaderMap::new();
    basic.insert(
        header::AUTHORIZATION,
        HeaderValue::from_static("Basic eDp5"),
    );
    let denied = world.ask(&basic, Need::Read).await.unwrap_err();
    assert_eq!(denied, Denied::Unreadable);
}

/// Red when a header names the tenant of a token or of nobody.
#[tokio::test]
async fn nobody_but_whoever_is_at_home_chooses_a_tenant() {
    let world = World::new(false).await;
    let (_, secret) = world.token(Role::Admin, "x", None).await;
    for (mut headers, own) in [
        (bearing(secret.expose()), "plant"),
        (HeaderMap::new(), DEFAULT_TENANT),
    ] {
        headers.insert(TENANT_HEADER, HeaderValue::from_static("other"));
        let denied = world.ask(&headers, Need::Read).await.unwrap_err();
        assert_eq!(denied, Denied::Tenant);
        headers.insert(TENANT_HEADER, own.parse().unwrap());
        world.ask(&headers, Need::Read).await.unwrap();
    }
    let mut headers = bearing(world.local.expose());
    let caller = world.ask(&headers, Need::Administer).await.unwrap();
    assert_eq!(&**caller.tenant(), DEFAULT_TENANT);
    headers.insert(TENANT_HEADER, HeaderValue::from_static("other"));
    let caller = world.ask(&headers, Need::Administer).await.unwrap();
    assert_eq!((&**caller.tenant(), caller.who()), ("other", &Who::Local));
    headers.insert(TENANT_HEADER, HeaderValue::from_static("../other"));
    assert_eq!(
        world.ask(&headers, Need::Read).await.unwrap_err(),
        Denied::Tenant
    );
    let other = make_local().unwrap();
    assert_eq!(
        world.show(&other, Need::Read).await.unwrap_err(),
        Denied::Unknown
    );
    let at_home = world.show(&world.local, Need::Deliver).await;
    assert!(matches!(at_home, Err(Denied::Role { .. })), "no agent");
}

/// Red when a pattern is compared as a name, or not at all.
#[tokio::test]
async fn an_agents_token_is_for_its_names_alone() {
    let world = World::new(true).await;
    let (_, secret) = world.token(Role::Agent, "press-*", None).await;
    let caller = world.show(&secret, Need::Deliver).await.unwrap();
    caller.check_agent("press-7").unwrap();
    let denied = caller.check_agent("mill-1").unwrap_err();
    assert_eq!(denied.kind().code(), tonic::Code::PermissionDenied);
    let text = denied.to_string();
    assert!(
        text.contains("press-*") && text.contains("mill-1"),
        "{text}"
    );
}

/// Red when a revocation or the end of its time does not reach what already runs.
#[tokio::test(start_paused = true)]
async fn what_runs_ends_when_its_token_is_revoked_or_expires() {
    let world = World::new(true).await;
    let stop = CancellationToken::new();
    tokio::spawn(world.access.clone().follow(stop.clone()));
    let (id, secret) = world.token(Role::Agent, "a", None).await;
    let expires = 130 * SECOND;
    let (short, timed) = world.token(Role::Agent, "b", Some(expires)).await;
    let running = world.show(&secret, Need::Deliver).await.unwrap().ended();
    let timed_running = world.show(&timed, Need::Deliver).await.unwrap().ended();
    let (mut running, mut timed_running) = (Box::pin(running), Box::pin(timed_running));
    let wait = Duration::from_secs(5);
    tokio::time::timeout(wait, &mut running).await.unwrap_err();

    assert!(world.catalog.revoke_token(&id, &deed()).await.unwrap());
    let ended = tokio::time::timeout(2 * LOOK_EVERY, &mut running).await;
    assert_eq!(ended.unwrap(), Denied::Revoked(id.clone()));
    let denied = world.show(&secret, Need::Deliver).await.unwrap_err();
    assert_eq!(denied, Denied::Revoked(id));

    tokio::time::timeout(wait, &mut timed_running)
        .await
        .unwrap_err();
    world.clock.set_wall(expires);
    let minute = Duration::from_secs(61);
    let ended = tokio::time::timeout(minute, &mut timed_running).await;
    assert_eq!(ended.unwrap(), Denied::Expired(short));
    stop.cancel();
}

/// Red when refusals are not counted, or are noted with what was shown.
#[tokio::test(start_paused = true)]
async fn refusals_are_counted_and_noted_without_what_was_shown() {
    let world = World::new(true).await;
    let registry = Registry::new("weir_test");
    world.access.register(&registry);
    let stop = CancellationToken::new();
    tokio::spawn(world.access.clone().follow(stop.clone()));
    let (id, secret) = world.token(Role::Reader, "dashboards", None).await;
    for _ in 0..3 {
        world.show(&secret, Need::Operate).await.unwrap_err();
        world
            .show(&Secret::new("weir_hunter2"), Need::Read)
            .await
            .unwrap_err();
    }
    let text = registry.encode();
    assert!(
        text.contains("access_refused_total{reason=\"role\"} 3"),
        "{text}"
    );
    tokio::time::sleep(Duration::from_millis(10)).await;
    let everything = Deeds {
        since_ns: 2,
        tenant: None,
        limit: 100,
    };
    let noted = world.catalog.deeds(&everything).await.unwrap();
    let lines: Vec<_> = noted
        .iter()
        .map(|deed| {
            (
                deed.tenant.as_str(),
                deed.who.as_str(),
                deed.outcome.as_str(),
            )
        })
        .collect();
    let who = format!("token {id} (dashboards)");
    assert_eq!(
        lines,
        [
            ("plant", who.as_str(), "refused: role"),
            ("", "unknown", "refused: unreadable")
        ]
    );
    let all = format!("{noted:?}");
    assert!(
        !all.contains("hunter2") && !all.contains(&secret.expose()[30..]),
        "{all}"
    );
    stop.cancel();
}
