//! Whose a stream is, between real programs that show who they are: an agent with another's spool, one that was renamed, and
//! two that are one.

#[path = "owners/renamed.rs"]
mod renamed;

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink};

use crate::copies::{copy, held};
use crate::stored::{LIMIT, assert_counted, counting, own, wait_own};

/// A sink that speaks TLS.
struct Site {
    place: TempDir,
    sink: Sink,
    ca: String,
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

impl Site {
    async fn new() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let sink = Sink::start_tls(place.path(), &[]).await;
        let ca = text(&sink.ca()).to_owned();
        Self { place, sink, ca }
    }

    /// A token for agents of these names, in a file.
    fn token(&self, pattern: &str) -> PathBuf {
        let arguments = format!("--role agent --agent-pattern {pattern}");
        self.sink.token_file(
            &format!("token-{}", pattern.trim_end_matches('*')),
            &arguments,
        )
    }

    async fn agent(&self, parent: &Path, name: &str, more: &[(&str, &str)]) -> Agent {
        let settings = [&[("TLS_CA", self.ca.as_str())], more].concat();
        Agent::start(parent, name, &self.sink.url(), &counting(&settings)).await
    }

    /// What a command of the sink's own machine answers.
    fn asked(&self, arguments: &[&str]) -> Value {
        let answer = self.sink.command(arguments);
        serde_json::from_slice(&answer.stdout).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }

    /// The streams of the ledger, each of which closes.
    fn ledger(&self) -> Vec<Value> {
        let ledger = self.asked(&["ledger", "--json"]);
        let streams = ledger["streams"].as_array().expect("streams").clone();
        for stream in &streams {
            let count = |value: &Value| value.as_u64().unwrap_or(0);
            let dropped = stream["dropped"].as_object().expect("an object");
            let right = count(&stream["stored"])
                + count(&stream["spooled"])
                + dropped.values().map(count).sum::<u64>();
            assert_eq!(count(&stream["produced"]), right, "{stream}");
            assert_eq!(stream["unexplained"], 0, "{stream}");
        }
        streams
    }

    fn line(&self, stream: &str) -> Value {
        let lines = self.ledger();
        let line = lines.into_iter().find(|line| line["stream_id"] == stream);
        line.unwrap_or_default()
    }

    /// The readings of an agent that are stored, once all are folded, by their numbers.
    async fn readings(&self, agent: &str, limit: u64) -> Vec<(i64, u64)> {
        until("the fold to catch up", LIMIT, || async {
            let ledger = self.ledger();
            let all = ledger.iter().all(|line| line["pending_fold"] == 0);
            all.then_some(())
        })
        .await;
        let query = format!(
            "select cast(time as bigint), value from samples where agent = '{agent}' order by 1 limit {limit}"
        );
        let answer = self.asked(&["sql", &query, "--format", "json"]);
        let rows = answer["rows"].as_array().expect("rows");
        let number = |row: &Value| {
            let value = row[1].as_f64().expect("a number");
            (row[0].as_i64().expect("ns"), value as u64)
        };
        rows.iter().map(number).collect()
    }
}

async fn first_stream(agent: &Agent) -> String {
    let stream = agent.status().await["streams"][0]["stream_id"].clone();
    stream.as_str().expect("an id").to_owned()
}

async fn says(agent: &Agent, words: &str) {
    until(&format!("{words:?} in the agent's log"), LIMIT, || async {
        agent.log().contains(words).then_some(())
    })
    .await;
}

/// Mutation: a credential that covers every stream of its tenant (`covers: &|_| true` in `grpc/delivery.rs`): the thief sends the
/// owner away.
#[tokio::test]
async fn an_agent_with_anothers_spool_is_turned_away_and_the_other_does_not_notice() {
    let site = Site::new().await;
    let (own_token, other) = (site.token("press-7"), site.token("mill-1"));
    let place = site.place.path();
    let fast = ("SAMPLE_INTERVAL", "20ms");
    let shows = [("SINK_TOKEN_FILE", text(&own_token)), fast];
    let mut owner = site.agent(place, "press-7", &shows).await;
    wait_own(&owner, "acked", 50).await;
    let stream = first_stream(&owner).await;
    let stolen = place.join("stolen");
    copy(&owner.data(), &stolen.join("mill-1").join("data"));

    let shows = [("SINK_TOKEN_FILE", text(&other)), fast];
    let mut thief = site.agent(&stolen, "mill-1", &shows).await;
    let told = format!("stream {stream} belongs to agent \"press-7\", this is agent \"mill-1\"");
    // The log quotes what it is given.
    says(&thief, &format!("stream {stream} belongs to agent")).await;
    until("its /readyz to say so", LIMIT, || async {
        let (_, body) = weir_tests::http::get(thief.status, "/readyz").await.ok()?;
        String::from_utf8_lossy(&body).contains(&told).then_some(())
    })
    .await;
    assert!(thief.log().contains("permission_denied"), "{}", thief.log());
    // What it reads itself arrives; what it took stays where it is.
    let acked = own(&thief, "acked").await;
    wait_own(&thief, "acked", acked + 20).await;
    assert!(held(&thief, &stream).await.is_some());
    let acked = own(&owner, "acked").await;
    wait_own(&owner, "acked", acked + 20).await;
    let welcomes = owner.log().matches("the sink welcomed this stream").count();
    assert_eq!(welcomes, 1, "the owner was disturbed");

    let log = site.sink.audit_log();
    let refused = log.iter().find(|line| line["outcome"] == "refused: stream");
    let refused = refused.unwrap_or_else(|| panic!("{log:#?}"));
    let object = format!("stream {stream} of agent press-7, by agent mill-1");
    assert_eq!(refused["object"], object.as_str());
    assert!(
        refused["who"]
            .as_str()
            .is_some_and(|who| who.contains("mill-1")),
        "{refused}"
    );
    assert!(site.sink.log().contains(&object), "{}", site.sink.log());

    assert!(thief.terminate().await.success());
    let acked = own(&owner, "acked").await;
    assert!(owner.terminate().await.success());
    let line = site.line(&stream);
    assert_eq!(
        (&line["agent"], &line["closed"]),
        (&"press-7".into(), &true.into())
    );
    let produced = line["produced"].as_u64().expect("a count");
    assert!(produced >= acked && line["stored"] == produced, "{line}");
    assert_counted(
        &site.readings("press-7", u64::from(u32::MAX)).await,
        produced,
    );
}

/// The one that lost the stream, and the sink.
async fn both_say_so(sink: &Sink, first: &Agent, stream: &str) {
    says(first, "another agent delivers this stream").await;
    says(
        first,
        "another connection took over this stream, from 127.0.0.1:",
    )
    .await;
    assert_eq!(first.status().await["sink"]["displaced"], 1);
    let text_status = first.command(&["status"]);
    let said = String::from_utf8_lossy(&text_status.stdout).into_owned();
    assert!(
        said.contains("is a copy of this machine running?"),
        "{said}"
    );
    let log = sink.log();
    let told = log
        .lines()
        .find(|line| line.contains("two agents have this stream"));
    let told = told.unwrap_or_else(|| panic!("{log}"));
    assert!(told.contains(stream) && told.contains("twin"), "{told}");
    for side in ["former=\"127.0.0.1:", "newer=\"127.0.0.1:", "other="] {
        assert!(told.contains(side), "{side} in {told}");
    }
}

/// A machine is copied with its identity and its backlog, and both run: the newest delivers the stream of both, the other is
/// told by whom and says so, and the sink's log names both. Each reading is stored once.
///
/// Mutation: a takeover that is not told of.
#[tokio::test]
async fn two_with_one_identity_and_one_spool_are_told_of_each_other() {
    let mut site = Site::new().await;
    let token = site
        .sink
        .enroll_token_file("enroll", "--agent-pattern twin --uses 1");
    let settings = [
        ("ENROLL_TOKEN_FILE", text(&token)),
        ("SAMPLE_INTERVAL", "10ms"),
        ("BATCH_MAX_READINGS", "1"),
        ("REQUEST_MAX_BYTES", "1KiB"),
        ("SHUTDOWN_GRACE", "3s"),
    ];
    let mut first = site.agent(site.place.path(), "twin", &settings).await;
    wait_own(&first, "acked", 1).await;
    site.sink.kill();
    wait_own(&first, "spooled", 400).await;
    let stream = first_stream(&first).await;
    first.kill();
    let other = site.place.path().join("copy");
    copy(&first.data(), &other.join("twin").join("data"));

    site.sink.restart().await;
    first.set("RATE_REQUESTS_PER_SECOND", "4");
    first.restart().await;
    until("it delivers both its streams", LIMIT, || async {
        let ledger = site.ledger();
        let begun = ledger
            .iter()
            .filter(|line| line["stored"].as_u64() > Some(0));
        (begun.count() == 2).then_some(())
    })
    .await;
    let mut second = site.agent(&other, "twin", &settings).await;
    until("the second one has delivered it", LIMIT, || async {
        held(&second, &stream).await.is_none().then_some(())
    })
    .await;
    both_say_so(&site.sink, &first, &stream).await;

    let acked = own(&first, "acked").await;
    wait_own(&first, "acked", acked + 5).await;
    assert!(first.terminate().await.success());
    first.set("RATE_REQUESTS_PER_SECOND", "0");
    first.restart().await;
    until("the first one knows", LIMIT, || async {
        held(&first, &stream).await.is_none().then_some(())
    })
    .await;
    assert!(first.terminate().await.success());
    assert!(second.terminate().await.success());
    let ledger = site.ledger();
    assert!(
        ledger.iter().all(|line| line["spooled"] == 0),
        "{ledger:#?}"
    );
    let produced = site.line(&stream)["produced"].as_u64().expect("a count");
    assert!(produced >= 400);
    let mut stored = site.readings("twin", produced).await;
    stored.sort_by_key(|(_, value)| *value);
    assert_counted(&stored, produced);
}
