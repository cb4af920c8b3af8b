//! From tokens to certificates, on a catalog in SQLite, with a clock that is set by hand.

use weir_process::tls::{Key, certificates_in};

use super::super::token::{WantedEnroll, make_enroll};
use super::super::{Authority, Enroll, Enrolment, EnrolmentError, RENEW, Renew};
use super::*;
use crate::certs::{Certs, local_names};

const LIFETIME: Duration = Duration::from_secs(1000);
const GRACE: Duration = Duration::from_secs(500);

struct Enrolling {
    _dir: tempfile::TempDir,
    catalog: Catalog,
    clock: Arc<ManualClock>,
    access: Access,
}

impl Enrolling {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certs = Certs::at(dir.path());
        certs.init(&local_names()).unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.db")).await.unwrap();
        let clock = Arc::new(ManualClock::new(1_700_000_000 * SECOND));
        let enrolment = Enrolment {
            authority: Authority::open(&certs.ca(), &certs.ca_key()).unwrap(),
            lifetime: LIFETIME,
            grace: GRACE,
        };
        let asking = Asking {
            required: true,
            local: None,
            enrolment: Some(enrolment),
        };
        let shared = Arc::<ManualClock>::clone(&clock);
        let access = Access::load(&catalog, shared, asking).await.unwrap();
        Self {
            _dir: dir,
            catalog,
            clock,
            access,
        }
    }

    async fn token(&self, uses: u64) -> (String, Secret) {
        let wanted = WantedEnroll {
            tenant: "plant".into(),
            pattern: "press-*".into(),
            uses,
            expires_at_ns: Some(self.clock.wall_ns() + 100 * SECOND),
        };
        let (token, secret) = make_enroll(&wanted, self.clock.wall_ns()).unwrap();
        self.catalog
            .add_enroll_token(&token, &deed())
            .await
            .unwrap();
        (token.id, secret)
    }

    async fn enroll(
        &self,
        token: &Secret,
        agent: &str,
        key: &Key,
    ) -> Result<Vec<u8>, EnrolmentError> {
        let csr = key.request().unwrap();
        let asked = Enroll {
            token: token.expose(),
            agent,
            csr: &csr,
        };
        let headers = HeaderMap::new();
        let issued = self.access.enroll(asked, from(&headers)).await?;
        Ok(issued.chain[0].clone())
    }

    async fn renew(&self, old: (&[u8], &Key), next: &Key) -> Result<Vec<u8>, EnrolmentError> {
        let csr = next.request().unwrap();
        let signed = [RENEW, old.0, &csr].concat();
        let signature = old.1.sign(&signed).unwrap();
        let asked = Renew {
            certificate: old.0,
            csr: &csr,
            signature: &signature,
        };
        let headers = HeaderMap::new();
        let issued = self.access.renew(asked, from(&headers)).await?;
        Ok(issued.chain[0].clone())
    }

    /// Who a connection with this certificate is.
    async fn known(&self, certificate: &[u8]) -> Result<Caller, Denied> {
        let headers = HeaderMap::new();
        let request = Request {
            certificate: Some(certificate),
            ..from(&headers)
        };
        self.access.ask(request, Need::Deliver).await
    }
}

fn from(headers: &HeaderMap) -> Request<'_> {
    Request {
        address: None,
        certificate: None,
        headers,
        object: "/enrol",
    }
}

fn denied(asked: Result<Vec<u8>, EnrolmentError>) -> Denied {
    match asked.unwrap_err() {
        EnrolmentError::Denied(denied) => denied,
        other => panic!("{other}"),
    }
}

/// Red when uses are counted outside the transaction that notes the certificate.
#[tokio::test(flavor = "multi_thread")]
async fn of_ten_agents_that_race_for_three_uses_three_win() {
    let world = Arc::new(Enrolling::new().await);
    let (id, token) = world.token(3).await;
    let racing = (0..10).map(|number| {
        let (world, token) = (Arc::clone(&world), token.clone());
        tokio::spawn(async move {
            let key = Key::generate().unwrap();
            let agent = format!("press-{number}");
            world.enroll(&token, &agent, &key).await
        })
    });
    let racing: Vec<_> = racing.collect();
    let mut won = 0;
    for one in racing {
        match one.await.unwrap() {
            Ok(_) => won += 1,
            Err(EnrolmentError::Denied(Denied::UsedUp(token, 3))) => assert_eq!(token, id),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(won, 3);
    assert_eq!(world.catalog.certificates().await.unwrap().len(), 3);
    assert_eq!(world.catalog.enroll_tokens().await.unwrap()[0].used, 3);
}

/// Red when an answer that was lost costs a use, or when another key or name is taken for the same.
#[tokio::test]
async fn the_same_key_and_name_again_is_the_same_use() {
    let world = Enrolling::new().await;
    let (_, token) = world.token(1).await;
    let (key, other) = (Key::generate().unwrap(), Key::generate().unwrap());
    world.enroll(&token, "press-1", &key).await.unwrap();
    let again = world.enroll(&token, "press-1", &key).await.unwrap();
    let caller = world.known(&again).await.unwrap();
    assert_eq!(
        (&**caller.tenant(), caller.who().to_string().as_str()),
        ("plant", "agent press-1")
    );
    caller.check_agent("press-1").unwrap();
    caller.check_agent("press-2").unwrap_err();
    for (agent, key) in [("press-1", &other), ("press-2", &key)] {
        let asked = denied(world.enroll(&token, agent, key).await);
        assert!(matches!(asked, Denied::UsedUp(..)), "{agent}: {asked}");
    }
    let asked = denied(world.enroll(&token, "mill-1", &key).await);
    assert!(matches!(asked, Denied::Agent { .. }), "{asked}");
    world.clock.set_wall(world.clock.wall_ns() + 100 * SECOND);
    let asked = denied(world.enroll(&token, "press-1", &key).await);
    assert!(matches!(asked, Denied::Expired(_)), "{asked}");
}

/// Red when a certificate renews itself for ever, with another's signature, or once it was revoked.
#[tokio::test]
async fn a_certificate_is_renewed_by_its_key_until_the_grace_is_over() {
    let world = Enrolling::new().await;
    let (_, token) = world.token(1).await;
    let (first, second, third) = (
        Key::generate().unwrap(),
        Key::generate().unwrap(),
        Key::generate().unwrap(),
    );
    let begin = world.clock.wall_ns();
    let old = world.enroll(&token, "press-1", &first).await.unwrap();
    let stolen = denied(world.renew((&old, &second), &second).await);
    assert_eq!(stolen, Denied::UnknownCertificate, "another key signed");
    let seconds = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap();
    world.clock.set_wall(begin + seconds(LIFETIME));
    assert!(matches!(
        world.known(&old).await,
        Err(Denied::ExpiredCertificate(_))
    ));
    let new = world.renew((&old, &first), &second).await.unwrap();
    world.known(&new).await.unwrap();
    world.clock.set_wall(begin + seconds(LIFETIME + GRACE));
    let late = denied(world.renew((&old, &first), &third).await);
    assert!(matches!(late, Denied::ExpiredCertificate(_)), "{late}");
    let whose = ("plant", "press-1");
    assert_eq!(
        world
            .catalog
            .revoke_certificates(whose, &deed())
            .await
            .unwrap(),
        2
    );
    let revoked = denied(world.renew((&new, &second), &third).await);
    assert!(
        matches!(revoked, Denied::RevokedCertificate(_)),
        "{revoked}"
    );
}

/// Red when the signature of the CA is enough.
#[tokio::test]
async fn a_certificate_that_the_catalog_does_not_have_is_nobodys() {
    let world = Enrolling::new().await;
    let text = std::fs::read_to_string(world._dir.path().join("server.crt")).unwrap();
    let own = certificates_in(&text).remove(0);
    let asked = world.known(&own).await.unwrap_err();
    assert_eq!(asked, Denied::UnknownCertificate);
}
