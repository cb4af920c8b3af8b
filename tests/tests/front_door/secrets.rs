//! No secret of a run turns up in anything that others get to see: logs at their most talkative, pages, answers, errors,
//! metrics, commands, support archives, what is on disk and how it is called.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, header};
use url::Url;
use weir_process::http::Call;
use weir_process::tls::{Client, ClientSettings, Trust};
use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink};

use crate::stored::{LIMIT, counting, wait_own};

/// A place and what stands there.
type Seen = Vec<(String, Vec<u8>)>;

/// Files of the sink's data directory that are secrets.
const SINKS_OWN: &[&str] = &["local-token", "tls/ca.key", "tls/server.key"];
/// The same of an agent.
const AGENTS_OWN: &[&str] = &["identity/identity.pem"];

/// What is secret in the tokens of these files.
fn of_tokens(paths: &[&PathBuf]) -> Vec<String> {
    let secret = |path: &&PathBuf| {
        let text = fs::read_to_string(path).expect("a token");
        text.trim().rsplit('_').next().expect("a secret").to_owned()
    };
    paths.iter().map(secret).collect()
}

/// Lines of the keys in these files.
fn of_keys(paths: &[PathBuf]) -> Vec<String> {
    let mut lines = Vec::new();
    for path in paths {
        let text = fs::read_to_string(path).expect("a key");
        let key = text.split("-----BEGIN PRIVATE KEY-----").nth(1);
        let long = |line: &&str| line.len() > 40;
        let of_key = key.expect("a key").lines().take(3).filter(long);
        lines.extend(of_key.map(str::to_owned));
    }
    lines
}

/// Every file below, by its name and with its content; of those that are secrets by right the name alone.
fn files(dir: &Path, except: &[PathBuf], seen: &mut Seen) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let shown = path.display().to_string();
        seen.push((format!("the name of {shown}"), shown.clone().into_bytes()));
        if path.is_dir() {
            files(&path, except, seen);
        } else if !except.iter().any(|known| path.ends_with(known)) {
            seen.push((shown, fs::read(&path).unwrap_or_default()));
        }
    }
}

/// Every page of the sink as everybody gets it: status, headers and body. Answers which statuses there were.
async fn pages(sink: &Sink, shown: &[(&str, String)], seen: &mut Seen) -> BTreeSet<u16> {
    let client = Arc::new(Client::new(ClientSettings {
        trust: Trust::File(sink.ca()),
        identity: None,
        setting: "-",
    }));
    let base = Url::parse(&format!("https://localhost:{}", sink.http.port())).expect("a URL");
    let sql = |text: &str| serde_json::json!({ "query": text }).to_string();
    let asked = [
        ("/metrics", None),
        ("/livez", None),
        ("/readyz", None),
        ("/healthz", None),
        ("/v1/ledger", None),
        ("/v1/ledger?audit=true", None),
        ("/v1/files", None),
        ("/v1/audit", None),
        ("/nothing/here", None),
        ("/v1/sql", Some(sql("select * from streams"))),
        ("/v1/sql", Some(sql("select secret from nowhere"))),
        ("/v1/sql", Some("no JSON".to_owned())),
        ("/v1/ledger/settle?agent=nobody", Some(String::new())),
        ("/v1/files/accept-loss?file=nothing", Some(String::new())),
    ];
    let mut statuses = BTreeSet::new();
    for (who, bearer) in shown {
        for (path, body) in &asked {
            let url = base.join(path).expect("a path");
            let method = body.as_ref().map_or(Method::GET, |_| Method::POST);
            let mut call = Call::new(method, &url, Duration::from_secs(30));
            call.tls = Some(Arc::clone(&client));
            call.body = body.clone().unwrap_or_default().into();
            let json = HeaderValue::from_static("application/json");
            call.headers.insert(header::CONTENT_TYPE, json);
            if !bearer.is_empty() {
                let value = HeaderValue::from_str(bearer).expect("a header");
                call.headers.insert(header::AUTHORIZATION, value);
            }
            seen.push((
                format!("a request as {who}"),
                format!("{call:?}").into_bytes(),
            ));
            let reply = call.send().await.expect("the sink answers");
            statuses.insert(reply.status.as_u16());
            let text = format!("{:?} {}", reply.headers, reply.text());
            seen.push((format!("{path} as {who}"), text.into_bytes()));
        }
    }
    statuses
}

/// What an agent says of itself: pages, commands, its support archive.
async fn said(agent: &Agent, place: &Path, seen: &mut Seen) {
    for path in [
        "/", "/status", "/metrics", "/readyz", "/livez", "/healthz", "/no",
    ] {
        let page = weir_tests::http::get(agent.status, path).await;
        let (_, body) = page.expect("an answer");
        seen.push((format!("{path} of {}", agent.name), body.to_vec()));
    }
    let bundle = place.join(format!("{}.tar.gz", agent.name));
    let bundle = bundle.to_str().expect("UTF-8");
    for arguments in [
        &["config"][..],
        &["config", "--json"],
        &["validate"],
        &["status"],
        &["status", "--json"],
        &["health"],
        &["spool", "ls"],
        &["doctor", "--json"],
        &["doctor", "--bundle", bundle],
    ] {
        let output = agent.command(arguments);
        let text = [output.stdout, output.stderr].concat();
        assert!(!text.is_empty(), "{arguments:?} says nothing");
        seen.push((format!("{arguments:?} of {}", agent.name), text));
    }
    let mut gzip = std::process::Command::new("gzip");
    let unpacked = gzip.args(["-dc", bundle]).output().expect("gzip");
    assert!(unpacked.stdout.len() > 1000, "the bundle was read");
    seen.push((format!("the bundle of {}", agent.name), unpacked.stdout));
}

/// What the sink's commands print: those that look, and those that are refused.
fn commands(sink: &Sink, reader: &Path, others: [&Path; 2], seen: &mut Seen) {
    let url = format!("https://localhost:{}", sink.http.port());
    let ca = sink.ca();
    let mut asked: Vec<Vec<&str>> = [
        &["config"][..],
        &["validate"],
        &["token", "list", "--json"],
        &["enroll-token", "list"],
        &["certs", "list"],
        &["audit", "--json"],
        &["ledger"],
        &["files"],
        &["health"],
    ]
    .map(<[&str]>::to_vec)
    .to_vec();
    let door = |token: &Path| -> Vec<String> {
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        vec![
            "--url".into(),
            url.clone(),
            "--ca".into(),
            text(&ca),
            "--token-file".into(),
            text(token),
        ]
    };
    let as_reader = door(reader);
    let as_others = others.map(door);
    for arguments in [
        &["sql", "select 1"][..],
        &["sql", "select nothing"],
        &["ledger", "settle"],
    ] {
        let mut whole = arguments.to_vec();
        whole.extend(as_reader.iter().map(String::as_str));
        asked.push(whole);
    }
    for other in &as_others {
        let mut whole = vec!["sql", "select 1"];
        whole.extend(other.iter().map(String::as_str));
        asked.push(whole);
    }
    for arguments in asked {
        let output = sink.command(&arguments);
        let text = [output.stdout, output.stderr].concat();
        seen.push((format!("{:?}", &arguments[..arguments.len().min(2)]), text));
    }
}

fn assert_hidden(secrets: &[String], seen: &Seen) {
    for (place, bytes) in seen {
        let text = String::from_utf8_lossy(bytes);
        for secret in secrets {
            let hidden = !text.contains(secret.as_str());
            assert!(hidden, "{place} shows a secret: {}...", &secret[..6]);
        }
    }
}

/// Mutation: a sink that logs the headers of what it is asked, at the lowest level.
#[tokio::test]
async fn no_secret_of_a_whole_run_turns_up_anywhere() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start_tls(place.path(), &[("LOG_LEVEL", "trace")]).await;
    let enroll = sink.enroll_token_file("enroll", "--agent-pattern press-7");
    let direct = sink.token_file("direct", "--role agent --agent-pattern press-8");
    let reader = sink.token_file("reader", "--role reader --name dashboards");
    let admin = sink.token_file("admin", "--role admin --name people");
    let wrong = sink.data().join("wrong");
    let text = |path: &PathBuf| fs::read_to_string(path).expect("read").trim().to_owned();
    let right = text(&reader);
    fs::write(&wrong, format!("{}00", &right[..right.len() - 2])).expect("written");

    let ca = sink.ca();
    let ca = ca.to_str().expect("UTF-8");
    let agent = async |name: &str, kind: &str, value: &str| {
        let more = [("TLS_CA", ca), ("LOG_LEVEL", "trace"), (kind, value)];
        Agent::start(place.path(), name, &sink.url(), &counting(&more)).await
    };
    let path = enroll.to_str().expect("UTF-8");
    let enrolled = agent("press-7", "ENROLL_TOKEN_FILE", path).await;
    let shown = agent("press-8", "SINK_TOKEN", &text(&direct)).await;
    let refused = agent("press-9", "SINK_TOKEN", &text(&wrong)).await;
    wait_own(&enrolled, "acked", 10).await;
    wait_own(&shown, "acked", 10).await;
    until("a refusal", LIMIT, || async {
        let state = refused.status().await["sink"]["state"].to_string();
        state.contains("token").then_some(())
    })
    .await;

    let local = sink.data().join("local-token");
    let mut secrets = of_tokens(&[&enroll, &direct, &reader, &admin, &wrong, &local]);
    let mut keys: Vec<PathBuf> = SINKS_OWN[1..]
        .iter()
        .map(|name| sink.data().join(name))
        .collect();
    keys.push(enrolled.data().join(AGENTS_OWN[0]));
    secrets.extend(of_keys(&keys));
    assert!(secrets.len() >= 9, "{}", secrets.len());

    let mut seen = Seen::new();
    let bearer = |path| format!("Bearer {}", text(path));
    let callers = [
        ("nobody", String::new()),
        ("reader", bearer(&reader)),
        ("admin", bearer(&admin)),
        ("an agent", bearer(&direct)),
        ("one who would enrol", bearer(&enroll)),
        ("a stranger", bearer(&wrong)),
        ("a slip", format!("{}0", bearer(&admin))),
        ("another scheme", format!("Basic {}", text(&admin))),
    ];
    let statuses = pages(&sink, &callers, &mut seen).await;
    assert_eq!(
        statuses,
        BTreeSet::from([200, 400, 401, 403, 404]),
        "not everything was seen"
    );
    for agent in [&enrolled, &shown, &refused] {
        said(agent, place.path(), &mut seen).await;
    }
    commands(&sink, &reader, [&wrong, &enroll], &mut seen);
    for mut agent in [enrolled, shown, refused] {
        assert!(agent.terminate().await.success());
        let log = agent.log();
        assert!(log.len() > 1000, "{log}");
        seen.push((format!("the log of {}", agent.name), log.into_bytes()));
        files(&agent.data(), &[AGENTS_OWN[0].into()], &mut seen);
    }
    seen.push(("the sink's log".into(), sink.log().into_bytes()));
    let mut except: Vec<PathBuf> = SINKS_OWN.iter().map(PathBuf::from).collect();
    except.extend([&enroll, &direct, &reader, &admin, &wrong].map(Clone::clone));
    files(&sink.data(), &except, &mut seen);

    assert_hidden(&secrets, &seen);
}
