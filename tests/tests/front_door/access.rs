//! Who may speak, and whose data they see: tokens, tenants, roles, the audit log.

use std::collections::BTreeSet;
use std::path::Path;

use http::StatusCode;
use serde_json::Value;
use weir_sink::catalog::Catalog;
use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink};

use crate::stored::{LIMIT, assert_counted, counting, own, wait_own};

/// Starts an agent that counts and shows the token of this file.
async fn counting_agent(place: &std::path::Path, name: &str, sink: &Sink, token: &str) -> Agent {
    let settings = counting(&[("SINK_TOKEN_FILE", token), ("SAMPLE_INTERVAL", "20ms")]);
    Agent::start(place, name, &sink.url(), &settings).await
}

/// What the agent says of its link.
async fn link(agent: &Agent) -> String {
    let status = agent.status().await;
    status["sink"]["state"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

pub(crate) async fn readyz(agent: &Agent) -> (StatusCode, String) {
    let (status, body) = weir_tests::http::get(agent.status, "/readyz")
        .await
        .expect("an answer");
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// The numbers of an agent's readings that whoever has this token sees.
async fn numbers(sink: &Sink, token: &str, agent: &str) -> Vec<(i64, u64)> {
    let query = format!(
        "select cast(time as bigint), value from samples where agent = '{agent}' order by 2, 1"
    );
    let rows = sink.sql_as(token, &query).await;
    let number = |row: &Vec<Value>| {
        (
            row[0].as_i64().expect("ns"),
            row[1].as_f64().expect("n") as u64,
        )
    };
    rows.iter().map(number).collect()
}

async fn folded(sink: &Sink, token: &str) {
    until("the fold to catch up", LIMIT, || async {
        let ledger = sink.ledger_as(token).await;
        let all = |stream: &Value| stream["pending_fold"] == 0;
        (!ledger.is_empty() && ledger.iter().all(all)).then_some(())
    })
    .await;
}

/// Nothing of the agent press-7 of the tenant north, and of its stream.
async fn sees_nothing(sink: &Sink, token: &str, stream: &str) {
    assert!(sink.ledger_as(token).await.is_empty());
    for table in ["samples", "latest", "streams"] {
        let rows = sink
            .sql_as(token, &format!("select count(*) from {table}"))
            .await;
        assert_eq!(rows[0][0], 0, "{table}");
    }
    let foreign = format!("/v1/ledger/settle?stream={stream}");
    let nowhere = format!("/v1/ledger/settle?stream={}", "ab".repeat(16));
    let mut answers = BTreeSet::new();
    for path in [foreign, nowhere] {
        let (status, body) = sink.show(token, &path, Some("")).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let text = String::from_utf8_lossy(&body).into_owned();
        answers.insert(text.replace(stream, "ID").replace(&"ab".repeat(16), "ID"));
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    for path in ["/v1/files", "/v1/ledger?audit=true", "/metrics", "/readyz"] {
        let (status, body) = sink.show(token, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        let text = String::from_utf8_lossy(&body).into_owned();
        for word in ["north", "press-7", "simulated", stream] {
            assert!(!text.contains(word), "{path} tells {word}: {text}");
        }
    }
}

/// Not even by its true name.
async fn reaches_no_file(sink: &Sink, token: &str) {
    // What is folded is written a moment later.
    let days = sink.data().join("store/samples/tenant=north");
    let first = |path: &Path| std::fs::read_dir(path).ok()?.next()?.ok();
    let day = until("a file of the tenant", LIMIT, || async {
        let day = first(&days)?.path();
        let file = first(&day)?;
        let is_whole = file.file_name().to_str()?.ends_with(".parquet");
        is_whole.then_some(day)
    })
    .await;
    let parquet = std::fs::read_dir(&day)
        .expect("files")
        .next()
        .expect("a file")
        .expect("a file");
    let (day, parquet) = (
        day.file_name().expect("a name").to_owned(),
        parquet.file_name(),
    );
    let path = format!(
        "samples/tenant=north/{}/{}",
        day.to_str().expect("UTF-8"),
        parquet.to_str().expect("UTF-8")
    );
    let accept = format!("/v1/files/accept-loss?file={path}");
    let (status, _) = sink.show(token, &accept, Some("")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let query = serde_json::json!({ "query": format!("select * from '{path}'") }).to_string();
    let (status, _) = sink.show(token, "/v1/sql", Some(&query)).await;
    assert!(status.is_client_error());
}

/// Red when a tenant comes from Hello or is the default, when a list, a query or a command of one tenant looks
/// into another, or when a foreign stream is told from one that does not exist.
#[tokio::test]
async fn a_tenant_sees_what_is_its_own_and_nothing_of_others() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[("STORE_FLUSH_INTERVAL", "1s")]).await;
    let file = sink.token_file(
        "north-agent",
        "--role agent --tenant north --agent-pattern press-*",
    );
    let file = file.to_str().expect("UTF-8");
    let mut agent = counting_agent(place.path(), "press-7", &sink, file).await;
    wait_own(&agent, "acked", 50).await;
    assert!(agent.terminate().await.success());

    let north = sink.token("--role reader --tenant north --name n");
    let south = sink.token("--role admin --tenant south --name s");
    folded(&sink, &north).await;
    let stored = numbers(&sink, &north, "press-7").await;
    assert_counted(&stored, stored.len() as u64);
    assert!(stored.len() >= 50);
    let ledger = sink.ledger_as(&north).await;
    assert!(
        ledger
            .iter()
            .all(|line| line["tenant"] == "north" && line["unexplained"] == 0)
    );
    let stream = ledger[0]["stream_id"].as_str().expect("an id").to_owned();

    // The other tenant, and whoever shows nothing, which is the tenant `default`.
    for token in [south.as_str(), ""] {
        sees_nothing(&sink, token, &stream).await;
    }
    reaches_no_file(&sink, &south).await;
    // The sink's own machine sees whom it asks for.
    let ledger = sink.command(&["ledger", "--tenant", "north", "--json"]);
    let shown: Value = serde_json::from_slice(&ledger.stdout).expect("JSON");
    assert_eq!(shown["streams"][0]["agent"], "press-7");
}

async fn counts_refusals(sink: &Sink, reasons: &[&str]) {
    let metrics = weir_tests::http::get(sink.http, "/metrics")
        .await
        .expect("metrics")
        .1;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    for reason in reasons {
        let line = format!("weir_sink_access_refused_total{{reason=\"{reason}\"}}");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

/// Its catalog, once it has stopped.
async fn has_no_stream(sink: &Sink) {
    let catalog = Catalog::open(&sink.data().join("catalog.db"))
        .await
        .expect("opened");
    assert!(catalog.streams().await.expect("read").is_empty());
    catalog.close().await;
}

/// Red when a wrong credential leaves anything behind, ends the agent, or needs a restart to be put right.
#[tokio::test]
async fn a_wrong_token_leaves_no_record_and_the_right_one_needs_no_restart() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(place.path(), &[]).await;
    let other = tempfile::tempdir().expect("a directory");
    let elsewhere = Sink::start(other.path(), &[]).await;
    let file = place.path().join("token");
    let wrong = elsewhere.token("--role agent --tenant north --agent-pattern press-7");
    std::fs::write(&file, &wrong).expect("written");
    let path = file.to_str().expect("UTF-8");
    let mut agent = counting_agent(place.path(), "press-7", &sink, path).await;
    until("the agent to be turned away", LIMIT, || async {
        link(&agent).await.contains("not known here").then_some(())
    })
    .await;
    assert!(link(&agent).await.contains("unauthenticated"));
    let (status, ready) = readyz(&agent).await;
    assert_eq!(status, StatusCode::OK, "it keeps what it reads");
    assert!(
        ready.contains("sink: ") && ready.contains("weir-sink token list"),
        "{ready}"
    );
    assert!(
        agent.log().contains("does not let this agent in"),
        "{}",
        agent.log()
    );
    wait_own(&agent, "spooled", 50).await;

    // For others: a reader, and an agent of another name.
    for (arguments, said) in [
        ("--role reader --tenant north", "agents alone may deliver"),
        (
            "--role agent --tenant north --agent-pattern mill-*",
            "mill-*",
        ),
    ] {
        std::fs::write(&file, sink.token(arguments)).expect("written");
        until(said, LIMIT, || async {
            let link = link(&agent).await;
            (link.contains(said) && link.contains("permission_denied")).then_some(())
        })
        .await;
    }
    counts_refusals(&sink, &["unknown", "role", "agent"]).await;
    assert!(sink.terminate().await.success());
    has_no_stream(&sink).await;
    sink.restart().await;

    std::fs::write(
        &file,
        sink.token("--role agent --tenant north --agent-pattern press-7"),
    )
    .expect("written");
    wait_own(&agent, "acked", 100).await;
    let (_, ready) = readyz(&agent).await;
    assert_eq!(ready, "ok\n");
    assert!(agent.terminate().await.success());
    let reader = sink.token("--role reader --tenant north");
    folded(&sink, &reader).await;
    let stored = numbers(&sink, &reader, "press-7").await;
    assert!(stored.len() >= 100);
    assert_counted(&stored, stored.len() as u64);
    for secret in [wrong, reader] {
        for text in [agent.log(), sink.log()] {
            assert!(!text.contains(&secret[30..]), "a log shows a token");
        }
    }
}

/// Red when a running call outlives its token, or what it had not delivered is lost.
#[tokio::test]
async fn a_revoked_token_ends_a_call_within_seconds_and_costs_no_reading() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[]).await;
    let arguments = "--role agent --tenant north --agent-pattern press-7 --expires 90d";
    let file = sink.token_file("token", arguments);
    let path = file.to_str().expect("UTF-8");
    let mut agent = counting_agent(place.path(), "press-7", &sink, path).await;
    wait_own(&agent, "acked", 20).await;
    let token = std::fs::read_to_string(&file).expect("read");
    let id = token.split('_').nth(2).expect("an id").to_owned();
    let list = String::from_utf8(sink.command(&["token", "list"]).stdout).expect("UTF-8");
    assert!(
        list.contains(&id) && list.contains("valid") && !list.contains(&token[30..]),
        "{list}"
    );

    let revoked = sink.command(&["token", "revoke", &id]);
    assert!(revoked.status.success(), "{revoked:?}");
    let since = std::time::Instant::now();
    until("the call to end", LIMIT, || async {
        link(&agent).await.contains("was revoked").then_some(())
    })
    .await;
    assert!(
        since.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
    let acked = own(&agent, "acked").await;
    wait_own(&agent, "spooled", 20).await;
    assert_eq!(own(&agent, "acked").await, acked);

    std::fs::write(&file, sink.token(arguments)).expect("written");
    wait_own(&agent, "acked", acked + 20).await;
    assert!(agent.terminate().await.success());
    let reader = sink.token("--role reader --tenant north");
    folded(&sink, &reader).await;
    let stored = numbers(&sink, &reader, "press-7").await;
    assert_counted(&stored, stored.len() as u64);
    assert!(stored.len() as u64 >= acked + 20);

    let log = sink.audit_log();
    let has = |action: &str, outcome: &str| {
        let found = log
            .iter()
            .find(|line| line["action"] == action && line["outcome"] == outcome);
        found.unwrap_or_else(|| panic!("no {action} {outcome} in {log:#?}"));
    };
    has("token.create", "ok");
    has("token.revoke", "ok");
    has("access", "refused: revoked");
    assert!(!format!("{log:?}").contains(&token[30..]));
    let table = sink.command(&["audit", "--since", "1h", "--tenant", "north"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("token.revoke"));
    let elsewhere = sink.command(&["audit", "--json", "--tenant", "south"]);
    assert!(!String::from_utf8_lossy(&elsewhere.stdout).contains("north"));
}

/// Red when a command says nothing of what is wrong, or makes a token nobody can use.
#[tokio::test]
async fn commands_that_cannot_be_right_say_why() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[]).await;
    for (arguments, code, said) in [
        ("token create", 64, "--role"),
        ("token create --role owner", 64, "owner"),
        ("token create --role agent", 64, "--agent-pattern"),
        (
            "token create --role reader --agent-pattern x",
            64,
            "--agent-pattern",
        ),
        ("token create --role reader --tenant A/B", 64, "A/B"),
        ("token create --role reader --expires soon", 64, "soon"),
        ("token revoke 000000000000", 65, "token list"),
        ("audit --since ever", 64, "ever"),
    ] {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        let output = sink.command(&words);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {text}");
        assert!(
            text.contains(said) && output.stdout.is_empty(),
            "{arguments}: {text}"
        );
    }
    let away = weir_tests::world::run_once(
        &weir_tests::programs::sink(),
        &["token", "list"],
        &[("WEIR_SINK_DATA_DIR", "/nowhere")],
    );
    let text = String::from_utf8_lossy(&away.stderr).into_owned();
    assert!(
        text.contains("/nowhere") && text.contains("WEIR_SINK_DATA_DIR"),
        "{text}"
    );
    let asked = sink.command(&["sql", "select 1", "--tenant", "A/B"]);
    // A fault of what was typed, as it is for `token create`.
    assert_eq!(asked.status.code(), Some(64), "{asked:?}");
    assert!(String::from_utf8_lossy(&asked.stderr).contains("A/B"));
}
