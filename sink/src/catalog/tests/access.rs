//! Tokens and the audit log, on every kind of catalog.

use super::*;
use crate::catalog::{Deed, Deeds, Token};
use crate::model::Role;

fn token(id: &str, created_at_ns: i64) -> Token {
    Token {
        id: id.to_owned(),
        role: Role::Operator,
        tenant: "plant".into(),
        name: "dashboards \"2\"".into(),
        key: [7; 32],
        hash: [255; 32],
        created_at_ns,
        expires_at_ns: Some(i64::MAX),
        revoked_at_ns: None,
    }
}

fn deed(at_ns: i64, tenant: &str) -> Deed {
    Deed {
        at_ns,
        tenant: tenant.to_owned(),
        who: "somebody".to_owned(),
        action: "token.create".to_owned(),
        object: "a".to_owned(),
        outcome: "ok".to_owned(),
        address: String::new(),
    }
}

fn everything() -> Deeds {
    Deeds {
        since_ns: i64::MIN,
        tenant: None,
        limit: 100,
    }
}

/// Red when a revocation is not noted, can be done twice, or does not move the generation.
#[tokio::test]
async fn tokens_are_kept_as_they_were_made_and_revoked_once() {
    for place in Place::every() {
        let catalog = place.open().await;
        let generation = catalog.access_generation().await.expect("read");
        let made = [token("b", 1), token("a", 2)];
        for token in &made {
            let deed = deed(token.created_at_ns, "plant");
            catalog.add_token(token, &deed).await.expect("added");
        }
        catalog
            .add_token(&made[0], &deed(3, "plant"))
            .await
            .expect_err("it is there");
        catalog.close().await;

        let catalog = place.open().await;
        assert_eq!(catalog.tokens().await.expect("read"), made);
        let after = catalog.access_generation().await.expect("read");
        assert_eq!(after, generation + 2);
        let revoke = async |id, at_ns| catalog.revoke_token(id, &deed(at_ns, "plant")).await;
        assert!(revoke("a", 50).await.expect("revoked"));
        assert!(!revoke("a", 51).await.expect("again"));
        assert!(!revoke("x", 52).await.expect("unknown"));
        let tokens = catalog.tokens().await.expect("read");
        assert_eq!(tokens[1].revoked_at_ns, Some(50));
        assert_eq!(tokens[0], made[0]);
        let last = catalog.access_generation().await.expect("read");
        assert_eq!(last, after + 1);
        let deeds = catalog.deeds(&everything()).await.expect("read");
        let times: Vec<i64> = deeds.iter().map(|deed| deed.at_ns).collect();
        assert_eq!(times, [1, 2, 50], "what failed is not noted");
    }
}

/// Red when another tenant's lines are answered, or the oldest in place of the newest.
#[tokio::test]
async fn the_audit_log_is_answered_by_time_tenant_and_number() {
    for place in Place::every() {
        let catalog = place.open().await;
        let noted = [deed(1, "a"), deed(2, "b"), deed(3, "a"), deed(4, "a")];
        catalog.record(&noted).await.expect("noted");
        let asked = async |since_ns, tenant: Option<&str>, limit| {
            let tenant = tenant.map(str::to_owned);
            let wanted = Deeds {
                since_ns,
                tenant,
                limit,
            };
            catalog.deeds(&wanted).await.expect("read")
        };
        assert_eq!(asked(0, None, 10).await, noted);
        assert_eq!(asked(2, None, 10).await, noted[1..]);
        assert_eq!(asked(0, Some("a"), 2).await, noted[2..]);
        assert_eq!(asked(0, Some("b"), 10).await, noted[1..2]);
    }
}
