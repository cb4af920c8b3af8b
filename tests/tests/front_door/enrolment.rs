//! An agent gets a certificate of its own and delivers with it, by the commands that README.md shows.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use weir_fault::Point;
use weir_tests::wait::until;
use weir_tests::world::{Agent, Faults, Sink};

use crate::access::readyz;
use crate::stored::{LIMIT, counting, own, wait_own};

/// Rows of the agent as whoever is at home sees them: how many, how many different ones, and the largest number.
async fn stored(sink: &Sink, agent: &str) -> (u64, u64, u64) {
    let query = format!(
        "select count(*), count(distinct value), coalesce(max(value), 0) from samples where agent = '{agent}'"
    );
    let answer = sink.command(&["sql", &query, "--format", "json"]);
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
    let number = |at: usize| answer["rows"][0][at].as_f64().unwrap_or(0.0) as u64;
    (number(0), number(1), number(2))
}

/// Every number from 1 on is there once.
async fn counted(sink: &Sink, agent: &str, at_least: u64) {
    until("what was delivered to be folded", LIMIT, || async {
        let (rows, different, last) = stored(sink, agent).await;
        (rows == different && different == last && last >= at_least).then_some(())
    })
    .await;
}

async fn start(place: &Path, sink: &Sink, token: &Path, more: &[(&str, &str)]) -> Agent {
    let ca = sink.ca();
    let (token, ca) = (token.to_str().expect("UTF-8"), ca.to_str().expect("UTF-8"));
    let mut settings = counting(&[
        ("ENROLL_TOKEN_FILE", token),
        ("TLS_CA", ca),
        ("SAMPLE_INTERVAL", "20ms"),
    ]);
    settings.extend(more);
    Agent::start(place, "press-7", &sink.url(), &settings).await
}

async fn link(agent: &Agent) -> String {
    let status = agent.status().await;
    status["sink"]["state"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// The block of README.md that begins with this line.
fn documented(first: &str) -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(readme).expect("README.md");
    let from = readme.find(first).expect("the commands stand in README.md");
    let lines = readme[from..].lines().map(str::trim);
    let block: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    block.join("\n")
}

/// Red when the three commands of README.md do not make an agent deliver over mTLS, or deliver without a certificate.
#[tokio::test]
async fn three_documented_commands_enrol_an_agent_that_delivers() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start_tls(place.path(), &[]).await;
    let commands = documented("weir-sink enroll-token create --agent-pattern 'press-*'");
    assert_eq!(commands.lines().count(), 3, "{commands}");
    let port = sink.grpc.port().to_string();
    let data = std::path::absolute(sink.data()).expect("a path");
    let script = commands
        .replace("data/sink", data.to_str().expect("UTF-8"))
        .replace("4317", &port)
        .replace("weir-agent run", "exec weir-agent run");
    let programs = weir_tests::programs::sink();
    let path = format!(
        "{}:{}",
        programs.parent().expect("a directory").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let fresh = tempfile::tempdir().expect("a directory");
    let mut agent = std::process::Command::new("sh")
        .args(["-ec", &script])
        .current_dir(fresh.path())
        .env("PATH", path)
        .env("WEIR_SINK_DATA_DIR", &data)
        .env("WEIR_AGENT_STATUS_LISTEN", "127.0.0.1:0")
        .spawn()
        .expect("a shell");
    until("readings of press-7", LIMIT, || async {
        (stored(&sink, "press-7").await.0 > 0).then_some(())
    })
    .await;
    let list = sink.command(&["certs", "list", "--json"]);
    let list: Value = serde_json::from_slice(&list.stdout).expect("JSON");
    assert_eq!(
        (&list[0]["agent"], &list[0]["state"]),
        (&"press-7".into(), &"valid".into())
    );
    let identity = fresh.path().join("data/agent/identity/identity.pem");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(identity)
            .expect("an identity")
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let _ = agent.kill();
    let _ = agent.wait();
    // Without a certificate nobody delivers here.
    let url = sink.url();
    let ca = sink.ca();
    let settings = counting(&[("TLS_CA", ca.to_str().expect("UTF-8"))]);
    let bare = Agent::start(place.path(), "bare", &url, &settings).await;
    until("the agent to be turned away", LIMIT, || async {
        link(&bare)
            .await
            .contains("a credential is needed")
            .then_some(())
    })
    .await;
}

/// Red when a kill at any point of getting an identity leaves an agent that cannot go on, or costs a second use.
#[tokio::test]
async fn an_agent_killed_while_it_enrols_goes_on_with_the_one_use_it_had() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start_tls(place.path(), &[]).await;
    for (number, point) in [
        Point::IdentityKey,
        Point::IdentityWritten,
        Point::IdentityKept,
    ]
    .into_iter()
    .enumerate()
    {
        for times in 1..=2 {
            if times == 2 && point != Point::IdentityWritten {
                continue;
            }
            let home = place.path().join(format!("{number}-{times}"));
            let token = home.join("token");
            std::fs::create_dir_all(&home).expect("a directory");
            let secret = sink.enroll_token("--agent-pattern press-7 --uses 1");
            std::fs::write(&token, secret).expect("written");
            // Its first life reaches no sink.
            let nowhere = [("SINK_URL", "https://localhost:1")];
            let mut agent = start(&home, &sink, &token, &nowhere).await;
            agent.kill();
            // The key it may have drawn by then: the next life draws one.
            let _ = std::fs::remove_dir_all(agent.data().join("identity"));
            agent.set("SINK_URL", &sink.url());
            agent.faults = Faults::kill(point, times);
            agent.launch().await;
            agent.ended("the agent to be killed").await;
            agent.faults = Faults::none();
            agent.restart().await;
            wait_own(&agent, "acked", 10).await;
            assert!(agent.terminate().await.success());
        }
    }
}

/// When the certificate ends that the agent says it has, by its metric, once its status names it in the same way.
async fn known_until(agent: &Agent) -> f64 {
    until("the agent to say as whom it is known", LIMIT, || async {
        let identity = &agent.status().await["sink"]["identity"];
        let metrics = agent.metrics().await;
        let until = metrics["weir_agent_tls_cert_not_after_timestamp_seconds"];
        let named = identity["agent"] == "press-7" && identity["tenant"] == "default";
        let seconds = Duration::try_from_secs_f64(until).ok()?;
        let text = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + seconds);
        (named && identity["not_after"] == text.to_string()).then_some(until)
    })
    .await
}

/// Red when a certificate is not renewed before its end, or a renewal costs readings; when status and metric do not say
/// at once as whom the agent is known and until when (the certificate looked at every hour only), or `doctor` does not.
#[tokio::test]
async fn a_certificate_is_renewed_again_and_again_while_readings_flow() {
    let place = tempfile::tempdir().expect("a directory");
    let settings = [
        ("ENROLL_CERT_LIFETIME", "6s"),
        ("STORE_FLUSH_INTERVAL", "100ms"),
    ];
    let sink = Sink::start_tls(place.path(), &settings).await;
    let token = sink.enroll_token_file("token", "--agent-pattern press-7");
    let mut agent = start(place.path(), &sink, &token, &[]).await;
    wait_own(&agent, "acked", 1).await;
    let first = known_until(&agent).await;
    until("three renewals", LIMIT, || async {
        let renewed = agent.log().matches("certificate is renewed").count();
        (renewed >= 3).then_some(())
    })
    .await;
    assert!(known_until(&agent).await > first, "the metric stands still");
    let doctor = agent.command(&["doctor"]);
    let told = String::from_utf8_lossy(&doctor.stdout);
    assert!(
        told.contains("enrolled as press-7 of tenant default"),
        "{told}"
    );
    let acked = own(&agent, "acked").await;
    wait_own(&agent, "acked", acked + 50).await;
    assert!(
        !agent.log().contains("does not let this agent in"),
        "{}",
        agent.log()
    );
    assert!(agent.terminate().await.success());
    counted(&sink, "press-7", acked + 50).await;
    // Away past its end, within the grace.
    tokio::time::sleep(Duration::from_secs(7)).await;
    agent.restart().await;
    wait_own(&agent, "acked", 20).await;
    assert!(agent.log().contains("has ended: asking for the next one"));
    crate::audit::shows_it_all(&sink, &mut agent).await;
}

/// Red when a revoked agent goes on delivering or renews its way back, or a used, foreign or revoked token enrols.
#[tokio::test]
async fn revoked_agents_and_spent_tokens_are_told_why() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start_tls(place.path(), &[]).await;
    let token = sink.enroll_token_file("token", "--agent-pattern press-7 --uses 1");
    let agent = start(place.path(), &sink, &token, &[]).await;
    wait_own(&agent, "acked", 20).await;
    let revoked = sink.command(&["certs", "revoke", "press-7"]);
    assert!(revoked.status.success(), "{revoked:?}");
    let since = std::time::Instant::now();
    until("the call to end", LIMIT, || async {
        link(&agent).await.contains("were revoked").then_some(())
    })
    .await;
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
    // It keeps what it reads, and a restart would not help.
    let (status, ready) = readyz(&agent).await;
    assert!(
        status.is_success() && ready.contains("sink: ") && ready.contains("were revoked"),
        "{status}: {ready}"
    );
    let id = std::fs::read_to_string(&token).expect("read");
    let id = id.split('_').nth(2).expect("an id").to_owned();
    for (name, tokened, said) in [
        (
            "used",
            std::fs::read_to_string(&token).expect("read"),
            "used up",
        ),
        (
            "foreign",
            sink.enroll_token("--agent-pattern mill-*"),
            "mill-*",
        ),
        (
            "short",
            sink.enroll_token("--agent-pattern press-7 --expires 1s"),
            "has expired",
        ),
        ("none", "weir_agent_nothing".to_owned(), "no enrol token"),
    ] {
        let home = place.path().join(name);
        std::fs::create_dir_all(&home).expect("a directory");
        std::fs::write(home.join("token"), tokened).expect("written");
        if name == "short" {
            tokio::time::sleep(Duration::from_millis(1100)).await;
        }
        let agent = start(&home, &sink, &home.join("token"), &[]).await;
        until(said, LIMIT, || async {
            link(&agent).await.contains(said).then_some(())
        })
        .await;
        assert!(sink.log().contains("no certificate for this agent"));
    }
    let log = sink.audit_log();
    let has = |action: &str, outcome: &str| {
        let found = log
            .iter()
            .find(|line| line["action"] == action && line["outcome"] == outcome);
        found.unwrap_or_else(|| panic!("no {action} {outcome} in {log:#?}"));
    };
    has("enroll_token.create", "ok");
    has("certificate.enroll", "ok");
    has("certificate.revoke", "ok");
    has("access", "refused: used_up");
    let list = String::from_utf8(sink.command(&["enroll-token", "list"]).stdout).expect("UTF-8");
    assert!(list.contains(&id) && list.contains("used up"), "{list}");
}
