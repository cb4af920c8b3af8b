//! Peers that send anything to the sink's ports: broken heads, bodies that lie about their length, thousands of
//! pipelined requests, statements and ledger questions of random text, bytes that are no HTTP/2, calls that say
//! nothing. The sink answers what can be answered, drops the rest, and goes on as before: same process, same
//! books, no panic in its log.
//!
//! Seen red with: `Filter::parse` that panics on a flag which is neither true nor false.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_tests::http as client;
use weir_tests::sender::{Call, Stream};
use weir_tests::world::Sink;

/// Marsaglia's xorshift64: the same peer in every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).expect("below is small")
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.next(most);
        (0..length).map(|_| self.next(256) as u8).collect()
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.next(words.len())]
    }

    /// Bytes that begin like a request, half of them with a head that is one.
    fn request(&mut self) -> Vec<u8> {
        let is_sound = self.next(2) == 0;
        let method = match is_sound {
            true => self.one_of(&["GET", "POST"]),
            false => self.one_of(&[
                "GET", "POST", "HEAD", "PRI", "get", "DELETE", "OPTIONS", "", "\0",
            ]),
        };
        let path = self.one_of(&[
            "/",
            "/v1/sql",
            "/v1/ledger",
            "/v1/ledger?agent=%ff%00&open=maybe",
            "/v1/ledger?audit=true",
            "/v1/ledger/settle?stream=%ff&agent=",
            "*",
            "http://elsewhere/livez",
            "/%00",
            "/readyz?a=b#c",
            "//..//etc/passwd",
            "\u{fffd}",
            "",
        ]);
        let version = match is_sound {
            true => "HTTP/1.1",
            false => self.one_of(&["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9", ""]),
        };
        let mut request = format!("{method} {path} {version}\r\n").into_bytes();
        let headers = if is_sound { 0 } else { self.next(4) };
        for _ in 0..headers {
            let header = self.one_of(&[
                "host: sink",
                "content-length: 10",
                "content-length: 99999999999999999999",
                "content-length: -1",
                "transfer-encoding: chunked",
                "expect: 100-continue",
                "accept: text/csv;q=\u{e9}",
                "connection: upgrade",
                "upgrade: h2c",
                "content-length: 3\r\ncontent-length: 4",
                "x: \0",
                ": nameless",
                "accept: nothing/known",
            ]);
            request.extend(header.as_bytes());
            request.extend(b"\r\n");
        }
        request.extend(b"\r\n");
        let body = self.one_of(&[
            "",
            "{\"query\":\"select 1\"}",
            "{\"query\":",
            "ffffffffffffffff\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "-1\r\n",
            "{}",
            "[[[[",
        ]);
        request.extend(body.as_bytes());
        if !is_sound && self.next(4) == 0 {
            let at = self.next(request.len());
            let more = self.bytes(40);
            request.splice(at..at, more);
        }
        request
    }
}

/// Sends, half-closes, and reads what comes until the sink hangs up or this takes too long to matter.
async fn throw(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    pour(server, bytes, true).await
}

async fn pour(server: SocketAddr, bytes: &[u8], half_close: bool) -> Vec<u8> {
    let mut answer = Vec::new();
    let Ok(mut stream) = TcpStream::connect(server).await else {
        panic!("nobody listens at {server}");
    };
    // The sink may hang up on what it has read of it.
    let (mut reading, mut writing) = stream.split();
    let write = async {
        let _ = writing.write_all(bytes).await;
        if half_close {
            let _ = writing.shutdown().await;
        }
    };
    let both = async { tokio::join!(write, reading.read_to_end(&mut answer)) };
    let _ = tokio::time::timeout(Duration::from_secs(30), both).await;
    answer
}

async fn still_serves(sink: &Sink) {
    let (status, _) = client::get(sink.http, "/livez").await.expect("an answer");
    assert_eq!(status, StatusCode::OK);
    assert_eq!(sink.sql("select count(*) from samples").await[0][0], 1);
    assert!(!sink.log().contains("panicked"), "{}", sink.log());
}

/// A sink with one reading.
async fn sink(place: &std::path::Path) -> Sink {
    let sink = Sink::start(place, &[]).await;
    let mut stream = Stream::new("steady", 9);
    let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
    call.batch(stream.batch(&[1], &[1.0])).await;
    call.acked(1).await.expect("an ack");
    sink.folded().await;
    sink
}

#[tokio::test]
async fn whatever_comes_to_its_ports_the_sink_goes_on() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = sink(place.path()).await;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..150 {
        let request = random.request();
        let answer = throw(sink.http, &request).await;
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1."),
            "{:?}",
            String::from_utf8_lossy(&answer)
        );
        assert!(
            !answer.starts_with(b"HTTP/1.1 500"),
            "{:?}",
            String::from_utf8_lossy(&request)
        );
    }
    for _ in 0..60 {
        throw(sink.http, &random.bytes(400)).await;
        let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frames.extend(random.bytes(300));
        throw(sink.grpc, &frames).await;
        throw(sink.grpc, &random.bytes(100)).await;
    }
    still_serves(&sink).await;
}

#[tokio::test]
async fn heads_and_bodies_have_bounds_and_pipelines_end() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = sink(place.path()).await;
    let head = [
        b"GET /livez HTTP/1.1\r\nx: ".to_vec(),
        vec![b'a'; 1 << 20],
        b"\r\n\r\n".to_vec(),
    ]
    .concat();
    let answer = throw(sink.http, &head).await;
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
        "a head of a megabyte is not kept"
    );
    let announced = b"POST /v1/sql HTTP/1.1\r\nhost: s\r\ncontent-length: 2000000000\r\n\r\n{}";
    assert!(
        throw(sink.http, announced)
            .await
            .starts_with(b"HTTP/1.1 413")
    );
    let chunk = [
        b"100000\r\n".to_vec(),
        vec![b' '; 1 << 20],
        b"\r\n".to_vec(),
    ]
    .concat();
    let chunked = [
        b"POST /v1/sql HTTP/1.1\r\nhost: s\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
        chunk.repeat(3),
    ]
    .concat();
    let answer = throw(sink.http, &chunked).await;
    // Where the sink hangs up first, its answer may be lost with the rest of the body.
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 413"),
        "{:?}",
        String::from_utf8_lossy(&answer)
    );
    let mut pipelined = b"GET /livez HTTP/1.1\r\nhost: s\r\n\r\n".repeat(2999);
    pipelined.extend(b"GET /livez HTTP/1.1\r\nhost: s\r\nconnection: close\r\n\r\n");
    let answer = pour(sink.http, &pipelined, false).await;
    let answered = answer
        .windows(9)
        .filter(|bytes| bytes == b"HTTP/1.1 ")
        .count();
    assert_eq!(answered, 3000);
    let (status, body) = client::post(sink.http, "/v1/sql", "*/*", "[".repeat(500_000))
        .await
        .expect("an answer");
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body:?}");
    still_serves(&sink).await;
}

/// Mutations: the header is not looked at; serde takes an array for the fields in their order; 413 as plain text.
#[tokio::test]
async fn what_is_no_question_is_refused_as_json_that_names_the_remedy() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = sink(place.path()).await;
    let question = r#"{"query":"select 1 as one"}"#;
    let large = format!(r#"{{"query":"{}"}}"#, "x".repeat(1 << 20));
    let cases = [
        (
            "content-encoding",
            "gzip",
            question,
            415,
            "without this header",
        ),
        (
            "content-encoding",
            "br",
            question,
            415,
            "content-encoding says br",
        ),
        (
            "accept",
            "text/csv;q=0",
            question,
            406,
            "application/json, text/csv",
        ),
        ("x", "y", r#"["select 1"]"#, 400, "it is an array"),
        ("x", "y", r#""select 1""#, 400, "it is a string"),
        ("x", "y", "select 1", 400, "must be a JSON object"),
        ("x", "y", "", 400, "it is empty"),
        (
            "x",
            "y",
            r#"{"query":["select 1"]}"#,
            400,
            "expected a string",
        ),
        ("x", "y", &large, 413, "larger than 1048576 bytes"),
    ];
    for (name, value, body, expected, words) in cases {
        let headers = [(name, value)];
        let asked = client::ask(sink.http, "/v1/sql", &headers, Some(body.into()));
        let (status, answer) = asked.await.expect("an answer");
        assert_eq!(status.as_u16(), expected, "{answer:?}");
        let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(message.contains(words), "{words}: {message}");
        assert!(!message.contains("struct"), "{message}");
        let kind = match expected {
            415 => "unsupported_coding",
            406 => "not_acceptable",
            413 => "too_large",
            _ => "invalid",
        };
        assert_eq!(answer["error"]["kind"], kind, "{answer}");
    }
    for (name, value, begins) in [
        ("content-encoding", "Identity", "{"),
        ("accept", "*/*, application/json;q=0", "one\r\n"),
    ] {
        let headers = [(name, value)];
        let asked = client::ask(sink.http, "/v1/sql", &headers, Some(question.into()));
        let (status, answer) = asked.await.expect("an answer");
        assert_eq!(status, StatusCode::OK, "{answer:?}");
        assert!(answer.starts_with(begins.as_bytes()), "{answer:?}");
    }
}

/// Connections that say nothing, or half of something, take the place of others only for so long: half a
/// minute, so only `make fuzz` waits for it. The server's own tests hold the same on a short limit.
#[tokio::test]
async fn connections_that_stay_silent_do_not_keep_others_out() {
    if std::env::var_os("WEIR_FUZZ_FACTOR").is_none() {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let sink = sink(place.path()).await;
    let mut silent = Vec::new();
    for number in 0..300 {
        let Ok(mut stream) = TcpStream::connect(sink.http).await else {
            break;
        };
        if number % 2 == 0 {
            let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nx: ").await;
        }
        silent.push(stream);
    }
    // More than there are places: the next one is answered once the silent ones are given up.
    let waited = tokio::time::timeout(Duration::from_secs(50), async {
        loop {
            if let Ok((status, _)) = client::get(sink.http, "/livez").await {
                return status;
            }
        }
    });
    assert_eq!(waited.await.expect("a place in time"), StatusCode::OK);
    drop(silent);
    still_serves(&sink).await;
}
