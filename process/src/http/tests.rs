//! Server and client against each other, and each against a peer that misbehaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::http::{Method, StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::*;

/// Long enough that only a fault runs into it.
const PATIENCE: Duration = Duration::from_secs(30);

struct Served {
    url: Url,
    token: CancellationToken,
    task: JoinHandle<()>,
}

/// Echoes a POST, answers a GET of `/`, and 404 for the rest.
async fn echo(request: Request) -> Response {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => text(StatusCode::OK, "hello\n"),
        (&Method::POST, "/echo") => {
            let body = request.body().clone();
            respond(StatusCode::OK, "application/octet-stream", body)
        }
        _ => text(StatusCode::NOT_FOUND, "no such page\n"),
    }
}

async fn start<H, F>(limits: Limits, handler: H) -> Served
where
    H: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let token = CancellationToken::new();
    let task = tokio::spawn(serve(listener, limits, token.clone(), handler));
    Served {
        url: Url::parse(&url).unwrap(),
        token,
        task,
    }
}

/// Sends raw bytes and reads until the server hangs up.
async fn raw(url: &Url, request: &[u8]) -> String {
    let address = (url.host_str().unwrap(), url.port().unwrap());
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(answer).unwrap()
}

/// A peer that reads a request's beginning and answers with `reply`, then hangs up.
async fn peer(reply: &'static [u8]) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut some = [0; 1024];
        let _ = stream.read(&mut some).await;
        stream.write_all(reply).await.unwrap();
    });
    Url::parse(&url).unwrap()
}

#[tokio::test]
async fn answers_get_and_post_and_says_404() {
    let served = start(Limits::default(), echo).await;
    let reply = get(&served.url, PATIENCE).await.unwrap();
    assert_eq!(
        (reply.status, reply.text().as_str()),
        (StatusCode::OK, "hello\n")
    );
    let url = served.url.join("/echo?x=1").unwrap();
    let body = vec![7_u8; 300_000];
    let reply = post(
        &url,
        "application/octet-stream",
        "*/*",
        body.clone(),
        PATIENCE,
    )
    .await
    .unwrap();
    assert_eq!(reply.body, body);
    assert_eq!(
        reply.headers[header::CONTENT_TYPE],
        "application/octet-stream"
    );
    let url = served.url.join("/nowhere").unwrap();
    let reply = get(&url, PATIENCE).await.unwrap();
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
}

/// Mutation: a refusal as plain text.
#[tokio::test]
async fn refuses_a_body_over_the_limit_and_one_that_lies() {
    let limits = Limits {
        body_bytes: 10,
        ..Limits::default()
    };
    let served = start(limits, echo).await;
    let url = served.url.join("/echo").unwrap();
    let reply = post(&url, "text/plain", "*/*", "x".repeat(11), PATIENCE)
        .await
        .unwrap();
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(reply.headers[header::CONTENT_TYPE], "application/json");
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(body["error"]["kind"], "too_large");
    assert_eq!(body["error"]["message"], "the body is larger than 10 bytes");
    let answer = raw(
        &served.url,
        b"POST /echo HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\nx",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let reply = post(&url, "text/plain", "*/*", "x".repeat(10), PATIENCE)
        .await
        .unwrap();
    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test]
async fn hangs_up_on_a_peer_that_never_finishes_its_head_or_its_body() {
    let limits = Limits {
        header_time: Duration::from_millis(50),
        body_time: Duration::from_millis(50),
        ..Limits::default()
    };
    let served = start(limits, echo).await;
    let answer = raw(&served.url, b"GET / HTT").await;
    assert!(!answer.contains("200"), "{answer}");
    let answer = raw(
        &served.url,
        b"POST /echo HTTP/1.1\r\ncontent-length: 5\r\n\r\nx",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn survives_nonsense() {
    let served = start(Limits::default(), echo).await;
    let answer = raw(&served.url, b"\x16\x03\x01\x02\x00 not http at all\r\n\r\n").await;
    assert!(!answer.contains("200"), "{answer}");
    assert!(get(&served.url, PATIENCE).await.is_ok());
}

#[tokio::test]
async fn a_panicking_handler_costs_one_connection_only() {
    let served = start(Limits::default(), |request: Request| async move {
        assert!(request.uri().path() != "/panic", "a fault for this test");
        echo(request).await
    })
    .await;
    let url = served.url.join("/panic").unwrap();
    let error = get(&url, PATIENCE).await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error}");
    assert!(get(&served.url, PATIENCE).await.is_ok());
}

#[tokio::test]
async fn stopping_lets_the_running_request_end_and_hangs_up_on_idle_ones() {
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (inside, wait) = (Arc::clone(&entered), Arc::clone(&go));
    let limits = Limits {
        header_time: PATIENCE * 20,
        ..Limits::default()
    };
    let served = start(limits, move |_| {
        let (inside, wait) = (Arc::clone(&inside), Arc::clone(&wait));
        async move {
            inside.notify_one();
            wait.notified().await;
            text(StatusCode::OK, "done\n")
        }
    })
    .await;
    let address = (served.url.host_str().unwrap(), served.url.port().unwrap());
    let mut idle = TcpStream::connect(address).await.unwrap();
    let url = served.url.clone();
    let running = tokio::spawn(async move { get(&url, PATIENCE).await });
    entered.notified().await;
    served.token.cancel();
    let mut nothing = Vec::new();
    let read = tokio::time::timeout(PATIENCE, idle.read_to_end(&mut nothing)).await;
    assert_eq!(read.unwrap().unwrap(), 0);
    assert!(!served.task.is_finished());
    go.notify_one();
    assert_eq!(running.await.unwrap().unwrap().text(), "done\n");
    tokio::time::timeout(PATIENCE, served.task)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn no_more_connections_are_served_than_allowed() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counter, record) = (Arc::clone(&inside), Arc::clone(&most));
    let served = start(limits, move |_| {
        let (inside, most) = (Arc::clone(&counter), Arc::clone(&record));
        async move {
            let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            // Long enough for all the others to come in, if they are let in.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            inside.fetch_sub(1, Ordering::SeqCst);
            text(StatusCode::OK, "done\n")
        }
    })
    .await;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let url = served.url.clone();
            tokio::spawn(async move { get(&url, PATIENCE).await })
        })
        .collect();
    for client in clients {
        assert!(client.await.unwrap().is_ok());
    }
    assert!(most.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn says_that_nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = Url::parse(&format!("http://user:hunter2@{address}/v1/sql")).unwrap();
    let error = get(&url, PATIENCE).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "cannot connect to http://{address}: connection refused: is it running and listening there?"
        )
    );
}

#[tokio::test]
async fn says_that_the_peer_does_not_speak_http() {
    let url = peer(b"SSH-2.0-nonsense\r\n").await;
    let error = get(&url, PATIENCE).await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error}");
    let url = peer(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    let error = get(&url, PATIENCE).await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error}");
    let url = peer(b"").await;
    assert!(get(&url, PATIENCE).await.is_err());
}

/// Mutations: any 400 is taken for that; one that repeats a statement, too.
#[tokio::test]
async fn says_that_the_port_speaks_tls() {
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\nthis port speaks TLS: use https://\n"[..],
        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n<p>The plain HTTP request was sent to HTTPS port</p>",
    ] {
        let url = peer(answer).await;
        let error = get(&url, PATIENCE).await.unwrap_err().to_string();
        assert!(error.contains("speaks TLS: write https://"), "{error}");
    }
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\nno such thing\n"[..],
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n\r\n{\"error\":\"no column https server\"}",
    ] {
        let url = peer(answer).await;
        let reply = get(&url, PATIENCE).await.unwrap();
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn reads_an_answer_that_ends_with_the_connection() {
    let url = peer(b"HTTP/1.0 200 OK\r\n\r\nall of it").await;
    assert_eq!(get(&url, PATIENCE).await.unwrap().text(), "all of it");
}

#[tokio::test]
async fn gives_up_on_a_silent_peer_and_on_too_large_an_answer() {
    let served = start(Limits::default(), |_| std::future::pending()).await;
    let error = get(&served.url, Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    let url = peer(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789").await;
    let mut call = Call::new(Method::GET, &url, PATIENCE);
    call.max_reply_bytes = 9;
    let error = call.send().await.unwrap_err();
    assert!(
        matches!(error, ClientError::TooLarge { limit: 9, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn refuses_what_is_not_http() {
    for url in ["file:///etc/passwd", "unix://x/"] {
        let error = get(&Url::parse(url).unwrap(), PATIENCE).await.unwrap_err();
        assert!(matches!(error, ClientError::Unsupported { .. }), "{error}");
    }
}
