//! Whose a stream is, and who delivers it.

use tokio_util::sync::CancellationToken;
use weir_proto::v1;
use weir_proto::v1::record::Record;

use super::rig::{Rig, batch, hello};
use crate::ingest::{Fault, Opener, Session};

const ADDRESS: &str = "192.0.2.7:5000";

/// Says Hello for stream 1 under this name, with what is for names that begin with `pattern`.
async fn open(rig: &Rig, agent: &str, pattern: &str) -> Result<(Session, v1::Welcome), Fault> {
    let covers = |name: &str| name.starts_with(pattern);
    let opener = Opener {
        tenant: "default",
        from: ADDRESS.parse().ok(),
        covers: &covers,
    };
    let hello = v1::Hello {
        agent: agent.to_owned(),
        ..hello(1)
    };
    let draining = CancellationToken::new();
    rig.ingest.open(&opener, &hello, &draining).await
}

async fn take(session: &mut Session, record: Record) {
    let request = v1::DeliverRequest {
        records: vec![v1::Record {
            record: Some(record),
        }],
        ..Default::default()
    };
    assert_eq!(session.take(request).await.fault, None);
}

fn is_foreign(opened: Result<(Session, v1::Welcome), Fault>) -> bool {
    matches!(opened, Err(Fault::Foreign { owner, .. }) if owner == "press-7")
}

/// Red when a Hello displaces before it is asked whose the stream is, or when a restart forgets it.
#[tokio::test]
async fn an_agent_that_knows_anothers_stream_neither_gets_nor_disturbs_it() {
    let mut rig = Rig::start().await;
    let (mut owner, _) = open(&rig, "press-7", "press-7").await.unwrap();
    // It has sent nothing yet.
    assert!(is_foreign(open(&rig, "mill-1", "mill-").await));
    take(&mut owner, batch(1, 0)).await;
    assert!(is_foreign(open(&rig, "mill-1", "mill-").await));
    assert!(!owner.displaced().is_cancelled());
    take(&mut owner, batch(2, 3)).await;
    drop(owner);
    assert!(is_foreign(open(&rig, "mill-1", "mill-").await));
    rig = rig.restart().await;
    assert!(is_foreign(open(&rig, "mill-1", "mill-").await));
    let (_, welcome) = open(&rig, "press-7", "press-7").await.unwrap();
    assert_eq!(welcome.durable_through, 2);
}

/// Red when a rename costs an agent what it has of its former name, or lets in one whose credential is for the new name
/// alone; when who is displaced is not told by whom.
#[tokio::test]
async fn who_was_renamed_goes_on_with_a_credential_for_both_names() {
    let rig = Rig::start().await;
    let (mut former, _) = open(&rig, "press-7", "press-7").await.unwrap();
    take(&mut former, batch(1, 0)).await;
    assert!(is_foreign(open(&rig, "press-8", "press-8").await));
    let renamed = open(&rig, "press-8", "press-");
    let leave = async move {
        former.displaced().cancelled().await;
        let fault = former.displacement();
        assert_eq!(fault, Fault::Displaced(ADDRESS.parse().ok()));
        assert!(fault.to_string().ends_with(", from 192.0.2.7:5000"));
    };
    let (renamed, ()) = tokio::join!(renamed, leave);
    let (mut renamed, welcome) = renamed.unwrap();
    assert_eq!(welcome.durable_through, 1);
    take(&mut renamed, batch(2, 3)).await;
    drop(renamed);
    // It stays what it was.
    let (_, welcome) = open(&rig, "press-7", "press-7").await.unwrap();
    assert_eq!(welcome.durable_through, 2);
}

/// Red when a Hello that nothing followed keeps a stream for its name.
#[tokio::test]
async fn a_stream_that_nobody_has_begun_is_nobodys() {
    let rig = Rig::start().await;
    let (squatter, _) = open(&rig, "mill-1", "mill-1").await.unwrap();
    drop(squatter);
    let (mut owner, _) = open(&rig, "press-7", "press-7").await.unwrap();
    take(&mut owner, batch(1, 0)).await;
    assert!(is_foreign(open(&rig, "mill-1", "mill-1").await));
}
