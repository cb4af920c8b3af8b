//! Every door of a sink that speaks TLS, from outside: each HTTP route and each gRPC method, for everybody there can be. Who may
//! what is written down here a second time, and what answers hold of another tenant is looked for in each of them.

#[path = "doors/methods.rs"]
mod methods;
#[path = "doors/people.rs"]
mod people;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use weir_process::tls::{Client, ClientSettings, Trust};
use weir_sink::access::table;
use weir_tests::counting::wall_ns;
use weir_tests::sender::{Call, Stream};
use weir_tests::wait::until;
use weir_tests::world::Sink;

use crate::stored::LIMIT;
use people::{AGENT, For, NUMBER, Somebody};

struct Site {
    _place: TempDir,
    sink: Sink,
    client: Arc<Client>,
    stream: String,
    /// The file that holds its readings.
    file: String,
    people: Vec<Somebody>,
    _call: Call,
}

impl Site {
    async fn new() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let sink = Sink::start_tls(place.path(), &[("STORE_FLUSH_INTERVAL", "100ms")]).await;
        let client = Arc::new(Client::new(ClientSettings {
            trust: Trust::File(sink.ca()),
            identity: None,
            setting: "-",
        }));
        let people = people::all(&sink, &client).await;
        let agent = people::named(&people, "an agent").token.clone();
        let mut stream = Stream::new(AGENT, 0xab);
        let channel = channel(&sink, &client).await;
        let mut call = Call::over(channel, agent.as_deref(), &stream)
            .await
            .expect("a welcome");
        let now = wall_ns();
        let value: f64 = NUMBER.parse().expect("a number");
        call.batch(stream.batch(&[now, now + 1, now + 2], &[value; 3]))
            .await;
        call.acked(1).await.expect("an ack");
        let file = written(&sink).await;
        Self {
            stream: "ab".repeat(16),
            _place: place,
            sink,
            client,
            file,
            people,
            _call: call,
        }
    }

    /// Status, headers and body.
    async fn ask(
        &self,
        method: &Method,
        path: &str,
        body: &str,
        by: &Somebody,
    ) -> (StatusCode, String) {
        let tcp = TcpStream::connect(self.sink.http).await.expect("a port");
        let made = by.client(&self.client);
        let made = made.connect(tcp, "localhost", b"http/1.1").await;
        let wire = TokioIo::new(made.expect("a handshake"));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(wire)
            .await
            .expect("HTTP");
        let connection = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        if let Some(token) = &by.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_owned())))
            .expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        connection.abort();
        let text = format!("{:?} {}", head.headers, String::from_utf8_lossy(&body));
        (head.status, text)
    }

    /// Nothing of north's in what somebody else is told; what they said themselves, also what the audit log has of that, does
    /// not count.
    fn tells_nothing(&self, told: &str, said: &str, who: &Somebody) {
        if who.is_own && who.may(For::Readers) {
            return;
        }
        let mut told = told.to_owned();
        for own in [&self.file, &self.stream] {
            if said.contains(own.as_str()) || said.starts_with("/v1/audit") {
                told = told.replace(own.as_str(), "");
            }
        }
        for mark in [AGENT, NUMBER, "north", "probe.value", &self.stream] {
            assert!(
                !told.contains(mark),
                "{} is told {mark} by {said}: {told}",
                who.name
            );
        }
    }
}

async fn channel(sink: &Sink, client: &Arc<Client>) -> Channel {
    let (client, address) = (Arc::clone(client), sink.grpc);
    let connector = tower::service_fn(move |_| {
        let client = Arc::clone(&client);
        async move {
            let tcp = TcpStream::connect(address).await?;
            let made = client.connect(tcp, "localhost", b"h2").await;
            made.map(TokioIo::new).map_err(std::io::Error::other)
        }
    });
    let endpoint = Endpoint::from_shared(sink.url()).expect("a URL");
    endpoint
        .connect_with_connector(connector)
        .await
        .expect("a connection")
}

/// The one file of north's readings, once there is one.
async fn written(sink: &Sink) -> String {
    until("a file of the tenant", LIMIT, || async {
        let days = std::fs::read_dir(sink.data().join("store/samples/tenant=north")).ok()?;
        let day = days.flatten().next()?;
        let files = std::fs::read_dir(day.path()).ok()?.flatten();
        let names = files.filter_map(|file| file.file_name().into_string().ok());
        let name = names.into_iter().find(|name| name.ends_with(".parquet"))?;
        let day = day.file_name().into_string().ok()?;
        Some(format!("samples/tenant=north/{day}/{name}"))
    })
    .await
}

const STATEMENTS: [&str; 4] = [
    "select * from samples",
    "select * from latest",
    "select * from streams",
    "show tables",
];

/// Every route: what it is for, a body, and what it answers those who may, of this tenant and of another.
fn routes(site: &Site) -> Vec<(Method, &'static str, String, For, [u16; 2])> {
    let (get, post) = (Method::GET, Method::POST);
    vec![
        (
            post.clone(),
            "/v1/sql",
            String::new(),
            For::Readers,
            [200, 200],
        ),
        (
            get.clone(),
            "/v1/ledger",
            "?audit=true".to_owned(),
            For::Readers,
            [200, 200],
        ),
        (
            post.clone(),
            "/v1/ledger/settle",
            format!("?stream={}", site.stream),
            For::Operators,
            [200, 404],
        ),
        (
            get.clone(),
            "/v1/files",
            String::new(),
            For::Readers,
            [200, 200],
        ),
        // It is what was written, for those who may know that it is there.
        (
            post,
            "/v1/files/accept-loss",
            format!("?file={}", site.file),
            For::Operators,
            [409, 404],
        ),
        (
            get.clone(),
            "/v1/audit",
            "?since=1h".to_owned(),
            For::Admins,
            [200, 200],
        ),
        (
            get.clone(),
            "/livez",
            String::new(),
            For::Everybody,
            [200, 200],
        ),
        (
            get.clone(),
            "/readyz",
            String::new(),
            For::Everybody,
            [200, 200],
        ),
        (
            get.clone(),
            "/healthz",
            String::new(),
            For::Everybody,
            [200, 200],
        ),
        (get, "/metrics", String::new(), For::Readers, [200, 200]),
    ]
}

/// Mutations: a row of the table with another role; `Books::of` that hands on all lines; a route that is not in the walk.
#[tokio::test]
async fn every_route_answers_those_it_is_for_and_tells_nothing_of_others() {
    let site = Site::new().await;
    let routes = routes(&site);
    let walked: BTreeSet<_> = routes
        .iter()
        .map(|(method, path, ..)| (method.as_str(), *path))
        .collect();
    let there: BTreeSet<_> = table::ROUTES
        .iter()
        .map(|route| (route.method.as_str(), route.path))
        .collect();
    assert_eq!(walked, there);
    for who in &site.people {
        for (method, path, query, door, [own, other]) in &routes {
            let path = format!("{path}{query}");
            let statements = if path == "/v1/sql" {
                &STATEMENTS[..]
            } else {
                &[""]
            };
            for statement in statements {
                let body = match *statement {
                    "" => String::new(),
                    statement => serde_json::json!({ "query": statement }).to_string(),
                };
                let (status, told) = site.ask(method, &path, &body, who).await;
                let expected = match who.role {
                    _ if who.may(*door) && who.is_own => *own,
                    _ if who.may(*door) => *other,
                    None => 401,
                    Some(_) => 403,
                };
                assert_eq!(
                    status.as_u16(),
                    expected,
                    "{} {method} {path}: {told}",
                    who.name
                );
                site.tells_nothing(&told, &path, who);
                // What is looked for is there.
                let shows = who.role == Some("reader") && *statement == STATEMENTS[0];
                assert!(
                    !shows || (told.contains(NUMBER) && told.contains(AGENT)),
                    "{told}"
                );
            }
        }
        let (status, told) = site.ask(&Method::GET, "/v1/other", "", who).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{}", who.name);
        site.tells_nothing(&told, "/v1/other", who);
    }
}
