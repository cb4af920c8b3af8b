//! The audit log, after everything that it is for was done once.

use std::path::{Path, PathBuf};

use serde_json::Value;
use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink};

use crate::stored::LIMIT;

/// Makes and revokes a token, is refused with it, settles what a dead agent held, accepts the loss of a file; then looks for each
/// in the log, and for what the agent did before: that it enrolled and renewed. Mutation: a `note` that is left out.
pub(crate) async fn shows_it_all(sink: &Sink, agent: &mut Agent) {
    let token = refused_and_revoked(sink);
    let stream = settled(sink, agent).await;
    let file = given_up(sink).await;
    let log = sink.audit_log();
    let find = |action: &str, outcome: &str, object: &str| {
        let like = |line: &&Value| {
            let holds = line["object"].as_str();
            let holds = holds.is_some_and(|text| text.contains(object));
            line["action"] == action && line["outcome"] == outcome && holds
        };
        let found = log.iter().find(like);
        found.unwrap_or_else(|| panic!("no {action} {outcome} {object} in {log:#?}"))
    };
    find("enroll_token.create", "ok", "");
    find("certificate.enroll", "ok", "press-7");
    find("certificate.renew", "ok", "press-7");
    find("token.create", "ok", &token);
    find("token.revoke", "ok", &token);
    let refusal = find("access", "refused: role", "/v1/ledger/settle");
    let who = refusal["who"].as_str();
    assert!(who.is_some_and(|who| who.contains(&token)), "{refusal}");
    find("ledger.settle", "ok", &stream);
    find("files.accept_loss", "ok", &file);
    // What the sink itself did is in its own log, too.
    for action in [
        "certificate.renew",
        "ledger.settle",
        "files.accept_loss",
        "refused: role",
    ] {
        assert!(sink.log().contains(action), "{action}");
    }
}

/// The id of a token that was made, used for what it is not for, and revoked.
fn refused_and_revoked(sink: &Sink) -> String {
    let reader = sink.token_file("auditor", "--role reader --name auditor");
    let url = format!("https://localhost:{}", sink.http.port());
    let ca = sink.ca();
    let door = [
        "--url",
        &url,
        "--ca",
        text(&ca),
        "--token-file",
        text(&reader),
    ];
    let refused = sink.command(&[&["ledger", "settle"][..], &door].concat());
    assert!(!refused.status.success(), "{refused:?}");
    let secret = std::fs::read_to_string(&reader).expect("a token");
    let id = secret.split('_').nth(2).expect("an id").to_owned();
    let revoked = sink.command(&["token", "revoke", &id]);
    assert!(revoked.status.success(), "{revoked:?}");
    id
}

/// The stream of an agent that said that it has more than it could send, and is gone.
async fn settled(sink: &Sink, agent: &mut Agent) -> String {
    for (name, value) in [
        ("RATE_REQUESTS_PER_SECOND", "2"),
        ("BATCH_MAX_READINGS", "1"),
        ("REQUEST_MAX_BYTES", "1KiB"),
    ] {
        agent.set(name, value);
    }
    agent.restart().await;
    until("the sink to know what the agent holds", LIMIT, || async {
        let ledger = sink.command(&["ledger", "--json"]);
        let ledger: Value = serde_json::from_slice(&ledger.stdout).ok()?;
        let mut lines = ledger["streams"].as_array()?.iter();
        let holds = lines.any(|line| line["spooled"].as_u64() > Some(30));
        holds.then_some(())
    })
    .await;
    agent.kill();
    until("the agent to be settled", LIMIT, || async {
        let settled = sink.command(&["ledger", "settle", "--agent", "press-7"]);
        let text = String::from_utf8_lossy(&settled.stdout).into_owned();
        let (_, rest) = text.split_once(" readings of stream ")?;
        rest.split_whitespace().next().map(str::to_owned)
    })
    .await
}

/// A data file that is gone, and given up.
async fn given_up(sink: &Sink) -> String {
    until("a file to be given up", LIMIT, || async {
        let file = data_file(&sink.data().join("store/samples"))?;
        std::fs::remove_file(&file).ok()?;
        let path = text(&file);
        let name = path[path.find("samples/")?..].to_owned();
        let accepted = sink.command(&["files", "accept-loss", &name]);
        accepted.status.success().then_some(name)
    })
    .await
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn data_file(directory: &Path) -> Option<PathBuf> {
    std::fs::read_dir(directory)
        .ok()?
        .flatten()
        .find_map(|entry| {
            let path = entry.path();
            match path.is_dir() {
                true => data_file(&path),
                false => path
                    .extension()
                    .is_some_and(|end| end == "parquet")
                    .then_some(path),
            }
        })
}
