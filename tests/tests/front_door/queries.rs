//! SQL through HTTP: fresh readings at once, three encodings, clear refusals.

use http::StatusCode;
use serde_json::Value;
use weir_tests::sender::{Call, Stream};
use weir_tests::world::Sink;

/// Nanoseconds of the readings sent here.
const BASE: i64 = 1_700_000_000_000_000_000;

async fn three_readings(place: &std::path::Path) -> Sink {
    let sink = Sink::start(place, &[("STORE_FLUSH_INTERVAL", "1h")]).await;
    let mut stream = Stream::new("queried", 5);
    let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
    call.batch(stream.batch(&[BASE, BASE + 1, BASE + 2], &[1.5, 2.5, 3.5]))
        .await;
    call.acked(1).await.expect("an ack");
    sink.folded().await;
    sink
}

#[tokio::test]
async fn fresh_readings_are_answered_before_any_flush() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = three_readings(place.path()).await;
    let rows = sink
        .sql("select device, metric, unit, value, time from samples order by time")
        .await;
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[2][0], "queried");
    assert_eq!(rows[2][1], "probe.value");
    assert_eq!(rows[2][2], "1");
    assert_eq!(rows[2][3], 3.5);
    assert_eq!(rows[2][4], "2023-11-14T22:13:20.000000002Z");
    let latest = sink.sql("select value, time from latest").await;
    assert_eq!(latest.len(), 1);
    assert_eq!(latest[0][0], 3.5);
    // Tables are made for statements that name them, however they do.
    let known = sink.sql("SELECT stored, agent FROM \"streams\"").await;
    assert_eq!(
        (known.len(), &known[0][0], &known[0][1]),
        (1, &3.into(), &"queried".into())
    );
    let both = "select count(*) from Latest cross join STREAMS";
    assert_eq!(sink.sql(both).await[0][0], 1);
}

#[tokio::test]
async fn answers_are_json_csv_or_arrow() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = three_readings(place.path()).await;
    let query = "select value, device from samples order by value";
    let (status, body) = sink.try_sql(query, "application/json").await;
    assert_eq!(status, StatusCode::OK);
    let json: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(json["columns"][0]["name"], "value");
    assert_eq!(json["columns"][0]["type"], "float64");
    assert_eq!(json["rows"][0], serde_json::json!([1.5, "queried"]));

    let (status, body) = sink.try_sql(query, "text/csv").await;
    assert_eq!(status, StatusCode::OK);
    let csv = String::from_utf8(body.to_vec()).expect("text");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines,
        ["value,device", "1.5,queried", "2.5,queried", "3.5,queried"]
    );

    let accept = "application/vnd.apache.arrow.stream";
    let (status, body) = sink.try_sql(query, accept).await;
    assert_eq!(status, StatusCode::OK);
    // The continuation marker every message of an Arrow IPC stream begins with.
    assert_eq!(&body[..4], &[0xff; 4]);
}

#[tokio::test]
async fn wrong_statements_get_a_clear_answer() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = three_readings(place.path()).await;
    for (query, code, hint) in [
        ("selekt 1", 400, "selekt"),
        ("select wrong from samples", 400, "wrong"),
        ("select * from no_such_table", 400, "no_such_table"),
        ("select 1; select 2", 403, "one"),
        ("", 400, ""),
        ("drop table samples", 403, ""),
        ("insert into samples values (1)", 403, ""),
        (
            "create external table x stored as csv location '/etc/passwd'",
            403,
            "",
        ),
        ("copy samples to '/tmp/x.csv'", 403, ""),
        ("set datafusion.execution.batch_size = 1", 403, ""),
    ] {
        let (status, body) = sink.try_sql(query, "application/json").await;
        let text = String::from_utf8_lossy(&body);
        assert_eq!(status.as_u16(), code, "{query}: {text}");
        let answer: Value = serde_json::from_slice(&body).expect("a JSON error");
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(message.contains(hint), "{query}: {message}");
        assert!(!message.is_empty());
    }
    let (status, body) = sink
        .try_sql("select * from '/etc/passwd'", "application/json")
        .await;
    assert!(status.is_client_error(), "{status}");
    assert!(!String::from_utf8_lossy(&body).contains("root:"));
    assert_eq!(sink.sql("select count(*) from samples").await[0][0], 3);
}

/// Holds far more at a time than a tenant may.
const HEAVY: &str =
    "select value from generate_series(1, 5000000) t(value) order by -value offset 4000000";

/// Needs a little.
const LIGHT: &str = "select count(distinct value) from generate_series(1, 20000) t(value)";

async fn asked(sink: &Sink, token: &str, query: &str) -> (StatusCode, Value) {
    let body = serde_json::json!({ "query": query }).to_string();
    let (status, body) = sink.show(token, "/v1/sql", Some(&body)).await;
    (status, serde_json::from_slice(&body).expect("JSON"))
}

/// What a tenant's statements may have together is said by name where they need more, and while they do, another tenant's are
/// answered.
///
/// Mutations: no memory of one tenant's own (`owner_bytes` as large as all): the error names `query.memory`; an error without its
/// setting.
#[tokio::test]
async fn a_tenant_beyond_its_memory_is_told_the_setting_and_another_is_answered() {
    let place = tempfile::tempdir().expect("a directory");
    let limits = [
        ("QUERY_MEMORY", "64MiB"),
        ("QUERY_TENANT_MEMORY", "16MiB"),
        ("QUERY_CONCURRENCY", "8"),
    ];
    let sink = Sink::start(place.path(), &limits).await;
    let [plant, lab] = ["plant", "lab"]
        .map(|tenant| sink.token(&format!("--role reader --tenant {tenant} --name test")));
    let heavy = async {
        for _ in 0..3 {
            let (status, told) = asked(&sink, &plant, HEAVY).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{told}");
            assert_eq!(told["error"]["kind"], "memory", "{told}");
            let text = told["error"]["message"].as_str().expect("a text");
            assert!(
                text.contains("or raise the sink's query.tenant_memory"),
                "{text}"
            );
        }
    };
    let light = async {
        for _ in 0..20 {
            let (status, told) = asked(&sink, &lab, LIGHT).await;
            assert_eq!(
                (status, &told["rows"][0][0]),
                (StatusCode::OK, &20000.into()),
                "{told}"
            );
        }
    };
    tokio::join!(heavy, light);
    // What the refused ones held is given back.
    let (status, told) = asked(&sink, &plant, LIGHT).await;
    assert_eq!(
        (status, &told["rows"][0][0]),
        (StatusCode::OK, &20000.into()),
        "{told}"
    );
}
