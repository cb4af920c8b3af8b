//! TLS between real processes: what works, every refusal in words on both sides, what a stranger at the port gets, and that
//! a renewal disturbs nobody who delivers. Floods of silent ones stand in `silent.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use weir_process::tls::{Client, ClientSettings, Encryption, Trust};
use weir_tests::programs;
use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink, run_once};

use crate::stored::{LIMIT, counting, own, wait_own};

/// Certificates by `weir-sink certs init`, and a sink that serves them.
pub(crate) struct Site {
    place: TempDir,
    pub(crate) sink: Sink,
    token: PathBuf,
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

pub(crate) fn certs(arguments: &[&str], directory: &Path) {
    let out = text(directory);
    let arguments = [&["certs"], arguments, &["--out", &out]].concat();
    let made = run_once(&programs::sink(), &arguments, &[]);
    assert!(made.status.success(), "{made:?}");
}

impl Site {
    pub(crate) async fn new() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let tls = place.path().join("tls");
        certs(&["init", "--name", "localhost"], &tls);
        let (cert, key) = (text(&tls.join("server.crt")), text(&tls.join("server.key")));
        let ca = text(&tls.join("ca.crt"));
        let settings = [
            ("TLS_CERT", cert.as_str()),
            ("TLS_KEY", &key),
            ("TLS_CA", &ca),
        ];
        let sink = Sink::start(place.path(), &settings).await;
        let token = sink.token_file("token", "--role agent --agent-pattern *");
        Self { place, sink, token }
    }

    pub(crate) fn ca(&self) -> String {
        text(&self.place.path().join("tls/ca.crt"))
    }

    pub(crate) async fn agent(&self, name: &str, url: &str, more: &[(&str, &str)]) -> Agent {
        let token = text(&self.token);
        let settings = [&[("SINK_TOKEN_FILE", token.as_str())], more].concat();
        Agent::start(self.place.path(), name, url, &counting(&settings)).await
    }

    /// The number of the certificate that the sink shows who connects now.
    async fn served(&self) -> Vec<u8> {
        let client = Client::new(ClientSettings {
            trust: Trust::File(self.ca().into()),
            identity: None,
            setting: "-",
        });
        let tcp = TcpStream::connect(self.sink.grpc).await.expect("a port");
        let made = client.connect(tcp, "localhost", b"h2").await;
        let made = made.expect("a handshake");
        let facts = Encryption::of(made.get_ref().1)
            .server
            .expect("a certificate");
        facts.serial
    }
}

async fn logged(sink: &Sink, words: &str) {
    until(&format!("{words:?} in the sink's log"), LIMIT, || async {
        sink.log().contains(words).then_some(())
    })
    .await;
}

/// Waits until the agent says why it does not deliver, and that nothing is lost by it.
async fn refused(agent: &Agent, words: &str) {
    until(
        &format!("{words:?} in the agent's status"),
        LIMIT,
        || async {
            let status = agent.status().await;
            let state = status["sink"]["state"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            state.contains(words).then_some(())
        },
    )
    .await;
    wait_own(agent, "spooled", 3).await;
    assert_eq!(own(agent, "acked").await, 0);
    assert_eq!(own(agent, "dropped_total").await, 0);
}

/// The set-up that `certs init` prints works; a renewal is taken while a stream goes on over it, and the tools on the
/// machine find the sink. Mutations: connections that end with a reload; a sink that serves what it read at its start.
#[tokio::test]
async fn a_renewal_is_taken_and_the_open_stream_goes_on() {
    let site = Site::new().await;
    let ca = site.ca();
    let agent = site
        .agent("press", &site.sink.url(), &[("TLS_CA", &ca)])
        .await;
    wait_own(&agent, "acked", 10).await;
    let before = site.served().await;
    let status = agent.status().await;
    let tls = &status["sink"]["tls"];
    assert_eq!(tls["version"], "TLS 1.3", "{status:#}");
    let issuer = tls["issuer"].as_str();
    assert!(
        issuer.is_some_and(|name| name.starts_with("Weir CA ")),
        "{status:#}"
    );

    certs(&["renew-server"], &site.place.path().join("tls"));
    site.sink.hang_up();
    logged(&site.sink, "serving a new certificate").await;
    assert_ne!(site.served().await, before);
    let acked = own(&agent, "acked").await;
    wait_own(&agent, "acked", acked + 10).await;
    let welcomes = agent.log().matches("the sink welcomed this stream").count();
    assert_eq!(welcomes, 1, "the stream was opened again");

    // A key of another certificate: the one before goes on.
    let key = site.place.path().join("tls/server.key");
    let kept = fs::read(&key).expect("readable");
    fs::copy(site.place.path().join("tls/ca.key"), &key).expect("copied");
    site.sink.hang_up();
    logged(&site.sink, "it is not the key of the certificate").await;
    site.served().await;
    fs::write(&key, kept).expect("written");

    let query = ["sql", "select count(*) from samples", "--format", "csv"];
    let asked = site.sink.command(&query);
    assert!(asked.status.success(), "{asked:?}");
    let url = format!("https://localhost:{}", site.sink.http.port());
    let health = |arguments: &[&str]| {
        let arguments = [&["health", "--url", &url], arguments].concat();
        run_once(&programs::sink(), &arguments, &[])
    };
    assert!(health(&["--ca", &ca]).status.success());
    let unknown = health(&[]);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        !unknown.status.success() && said.contains("set --ca"),
        "{said}"
    );
}

/// T12. Each agent keeps what it reads, and says what is wrong and what to do; the sink names its side.
#[tokio::test]
async fn every_refusal_is_said_on_both_sides() {
    let site = Site::new().await;
    let ca = site.ca();
    let url = site.sink.url();
    let stranger = site.place.path().join("stranger");
    certs(&["init", "--name", "localhost"], &stranger);
    let other_ca = text(&stranger.join("ca.crt"));

    let agent = site.agent("no-ca", &url, &[]).await;
    refused(&agent, "set WEIR_AGENT_TLS_CA").await;
    let agent = site.agent("other-ca", &url, &[("TLS_CA", &other_ca)]).await;
    refused(&agent, "which is none of the CAs in").await;
    logged(&site.sink, "it does not trust this certificate").await;

    let plain = format!("http://localhost:{}", site.sink.grpc.port());
    let agent = site.agent("plain", &plain, &[]).await;
    refused(&agent, "the sink speaks TLS: write https://").await;
    logged(&site.sink, "it speaks no TLS").await;

    let http = format!("https://localhost:{}", site.sink.http.port());
    let agent = site.agent("port", &http, &[("TLS_CA", &ca)]).await;
    refused(&agent, "is this the right port?").await;

    // Their CA signs for servers; the chain is what counts here.
    let (cert, key) = (
        text(&stranger.join("server.crt")),
        text(&stranger.join("server.key")),
    );
    let shown = [
        ("TLS_CA", ca.as_str()),
        ("TLS_CERT", &cert),
        ("TLS_KEY", &key),
    ];
    let agent = site.agent("stranger", &url, &shown).await;
    refused(&agent, "this client's certificate").await;
    logged(&site.sink, "its certificate ").await;

    let settings = counting(&[("TLS_CA", &ca)]);
    let agent = Agent::start(site.place.path(), "nobody", &url, &settings).await;
    refused(&agent, "a credential is needed").await;

    let right = site.agent("right", &url, &[("TLS_CA", &ca)]).await;
    wait_own(&right, "acked", 3).await;
}

/// The rest of T12: names, times, and no TLS where it is wanted.
#[tokio::test]
async fn a_wrong_name_an_expired_certificate_and_a_plain_sink_are_told_apart() {
    let place = tempfile::tempdir().expect("a directory");
    let now = SystemTime::now();
    let day = Duration::from_secs(86_400);
    for (name, host, until, words) in [
        (
            "name",
            "sink.example",
            now + day,
            "not for localhost but for sink.example",
        ),
        ("time", "localhost", now - day, "expired on 20"),
    ] {
        let own_place = place.path().join(name);
        fs::create_dir(&own_place).expect("a directory");
        let [ca, cert, key] = signed(&own_place, host, until);
        let sink = Sink::start(&own_place, &[("TLS_CERT", &cert), ("TLS_KEY", &key)]).await;
        let agent = Agent::start(
            &own_place,
            "agent",
            &sink.url(),
            &counting(&[("TLS_CA", &ca)]),
        )
        .await;
        refused(&agent, words).await;
        let settings = [
            ("WEIR_AGENT_SINK_URL", sink.url()),
            ("WEIR_AGENT_TLS_CA", ca),
        ];
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let report = run_once(&programs::agent(), &["doctor", "--json"], &settings);
        let report: Value = serde_json::from_slice(&report.stdout).expect("JSON");
        let lines = report["lines"].as_array().expect("lines");
        let line = lines
            .iter()
            .find(|line| line["check"] == "transport")
            .expect("a line");
        assert_eq!(line["verdict"], "fail", "{report:#}");
        assert!(
            line["found"]
                .as_str()
                .is_some_and(|found| found.contains(words)),
            "{line}"
        );
    }
    let sink = Sink::start(place.path(), &[]).await;
    let url = format!("https://localhost:{}", sink.grpc.port());
    let agent = Agent::start(place.path(), "eager", &url, &counting(&[])).await;
    until("the agent to say so", LIMIT, || async {
        let status = agent.status().await;
        let state = status["sink"]["state"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let said = state.contains("speaks no TLS")
            || state.contains("does a plaintext server listen there");
        said.then_some(())
    })
    .await;
}

/// Whichever way round the scheme is wrong, a command says which, and ends as where nobody listens. Mutation: what a TLS port
/// says to who speaks none is taken for the sink's answer.
#[tokio::test]
async fn a_command_with_the_wrong_scheme_is_told_which_is_right() {
    let site = Site::new().await;
    let place = tempfile::tempdir().expect("a directory");
    let plain = Sink::start(place.path(), &[]).await;
    for (scheme, address, words) in [
        ("http", site.sink.http, "speaks TLS: write https://"),
        (
            "https",
            plain.http,
            "speaks no TLS: it is plaintext, write http://",
        ),
    ] {
        let url = format!("{scheme}://localhost:{}", address.port());
        for command in [
            &["health"][..],
            &["sql", "select 1"],
            &["ledger"],
            &["files"],
        ] {
            let asked = run_once(
                &programs::sink(),
                &[command, &["--url", &url]].concat(),
                &[],
            );
            let said = String::from_utf8_lossy(&asked.stderr).into_owned();
            assert_eq!(asked.status.code(), Some(69), "{command:?}: {said}");
            assert!(said.contains(words), "{command:?}: {said}");
        }
    }
}

/// A CA, and a certificate and its key that it signed, as files.
pub(crate) fn signed(place: &Path, host: &str, until: SystemTime) -> [String; 3] {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params
        .distinguished_name
        .push(DnType::CommonName, "Test CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().expect("a key");
    let ca = params.self_signed(&ca_key).expect("a certificate");
    let issuer = Issuer::new(params, ca_key);
    let mut params = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
    params.not_before = (until - Duration::from_secs(300 * 86_400)).into();
    params.not_after = until.into();
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let files = [
        ("ca.crt", ca.pem()),
        ("server.crt", certificate.pem()),
        ("server.key", key.serialize_pem()),
    ];
    files.map(|(name, pem)| {
        let path = place.join(name);
        fs::write(&path, pem).expect("written");
        text(&path)
    })
}

/// What OpenSSL gets of a port with these arguments: whether it ended well, and what it said.
fn s_client(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl")
        .arg("s_client")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// Mutation: a server that offers 1.3 alone.
#[tokio::test]
async fn openssl_gets_1_2_and_1_3_and_nothing_older() {
    let site = Site::new().await;
    let ca = site.ca();
    for address in [site.sink.grpc, site.sink.http] {
        let to = format!("localhost:{}", address.port());
        let with = |version: &'static str| {
            let weak = "DEFAULT:@SECLEVEL=0";
            s_client(&[
                "-connect",
                &to,
                "-CAfile",
                &ca,
                "-verify_return_error",
                version,
                "-cipher",
                weak,
            ])
        };
        for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let (well, said) = with(version);
            assert!(
                well && said.contains("Verify return code: 0 (ok)"),
                "{said}"
            );
            assert!(said.contains(name), "{said}");
        }
        let (well, said) = with("-tls1_1");
        assert!(!well, "{said}");
    }
}
