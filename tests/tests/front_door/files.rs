//! A data file that is gone: named by every query that needs it, seen in health and metrics, and given up by
//! name, after which the books say what it held.

use std::path::{Path, PathBuf};

use weir_tests::counting::wall_ns;
use weir_tests::sender::{Call, Stream};
use weir_tests::wait::until;
use weir_tests::world::{Sink, run_once};
use weir_tests::{http as client, programs};

use crate::stored::LIMIT;

const DAY: i64 = 86_400 * 1_000_000_000;

/// A file of its own for each day: so many readings on each.
async fn two_days(sink: &Sink) -> (usize, usize) {
    let mut stream = Stream::new("edge", 61);
    let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
    let now = wall_ns();
    let first: Vec<i64> = (0..11).map(|i| now - DAY + i).collect();
    let second: Vec<i64> = (0..5).map(|i| now + i).collect();
    for times in [&first, &second] {
        let values = vec![1.0; times.len()];
        call.batch(stream.batch(times, &values)).await;
    }
    call.acked(2).await.expect("an ack");
    (first.len(), second.len())
}

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => files_below(&path, found),
            false if path.extension().is_some_and(|end| end == "parquet") => found.push(path),
            false => {}
        }
    }
}

async fn data_files(sink: &Sink) -> Vec<PathBuf> {
    until("two data files", LIMIT, || async {
        let mut found = Vec::new();
        files_below(&sink.data(), &mut found);
        found.sort();
        let committed = says(sink, "/metrics").await;
        let committed = committed.contains("weir_sink_store_files_total 2\n");
        (found.len() == 2 && committed).then_some(found)
    })
    .await
}

fn weir_sink(sink: &Sink, arguments: &[&str]) -> (bool, String) {
    let url = format!("http://{}", sink.http);
    let arguments = [arguments, &["--url", &url]].concat();
    let output = run_once(&programs::sink(), &arguments, &[]);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.success(), text)
}

async fn says(sink: &Sink, path: &str) -> String {
    let (_, body) = client::get(sink.http, path).await.expect("an answer");
    String::from_utf8_lossy(&body).into_owned()
}

/// Fails when a count is answered over a missing file, when nobody is told, when a whole file can be given up,
/// or when what was given up is forgotten by a restart or counted twice.
#[tokio::test]
async fn a_lost_file_is_named_until_it_is_given_up_and_then_counted() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(place.path(), &[("STORE_FLUSH_INTERVAL", "100ms")]).await;
    let (gone, kept) = two_days(&sink).await;
    let files = data_files(&sink).await;
    std::fs::remove_file(&files[0]).expect("removed");
    let text = files[0].to_string_lossy();
    let name = text[text.find("samples/").expect("below samples")..].to_owned();

    let count = "select count(*) from samples";
    let (status, body) = sink.try_sql(count, "application/json").await;
    let body = String::from_utf8_lossy(&body).into_owned();
    assert_eq!(status.as_u16(), 500, "{body}");
    assert!(body.contains(&format!("{name} is missing")), "{body}");
    let metric = "weir_sink_store_damaged_files 1";
    assert!(says(&sink, "/metrics").await.contains(metric));
    until("health says so", LIMIT, || async {
        let said = says(&sink, "/readyz").await;
        (said.starts_with("ok\n") && said.contains(&name)).then_some(())
    })
    .await;
    let (fine, text) = weir_sink(&sink, &["files"]);
    assert!(
        !fine && text.contains(&format!("{name}: {gone} readings: ")),
        "{text}"
    );
    assert!(!weir_sink(&sink, &["ledger", "--audit"]).0);

    let text = files[1].to_string_lossy();
    let whole = &text[text.find("samples/").expect("below samples")..];
    for (file, told) in [(whole, "is what was written"), ("samples/x", "there is no")] {
        let (fine, text) = weir_sink(&sink, &["files", "accept-loss", file]);
        assert!(!fine && text.contains(told), "{text}");
    }
    let (fine, text) = weir_sink(&sink, &["files", "accept-loss", &name]);
    let told = format!("{name}: {gone} readings count as dropped, file_lost");
    assert!(fine && text.contains(&told), "{text}");
    for restarted in [false, true] {
        if restarted {
            sink.kill();
            sink.restart().await;
        }
        assert_eq!(sink.sql(count).await, [[serde_json::json!(kept)]]);
        let (fine, text) = weir_sink(&sink, &["ledger", "--audit"]);
        let told = format!("dropped (file_lost {gone}): stored and lost with {name}");
        assert!(fine && text.contains(&told), "{text}");
        let told = format!("{kept} in files, 0 expired, {gone} lost, 0 unexplained");
        assert!(text.contains(&told), "{text}");
        let (fine, text) = weir_sink(&sink, &["files"]);
        assert!(fine, "{text}");
        let (fine, _) = weir_sink(&sink, &["files", "accept-loss", &name]);
        assert!(!fine, "once");
    }
}
