//! Handshakes over loopback with certificates made for each test, and what is said where one fails.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::server::Watch;
use super::*;
use crate::clock::SystemClock;
use crate::health::Health;
use crate::metrics::Registry;

mod refusals;
mod serving;

const DAY: Duration = Duration::from_secs(86_400);

/// A CA, in a directory for the files it signs.
struct Authority {
    place: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("ca.crt"), certificate.pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            place,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn ca(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// A certificate for `host`, good from a day before until so long after now, as NAME.crt and NAME.key.
    fn sign(&self, name: &str, host: &str, until: SystemTime) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = (until - 400 * DAY).into();
        params.not_after = until.into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (cert_file, key_file) = (
            self.path(&format!("{name}.crt")),
            self.path(&format!("{name}.key")),
        );
        let ca = fs::read_to_string(self.ca()).unwrap();
        fs::write(&cert_file, format!("{}{ca}", certificate.pem())).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
        (cert_file, key_file)
    }

    /// A server with a certificate for localhost; `ca` asks for client certificates of this authority.
    fn server(&self, ca: Option<PathBuf>) -> Server {
        let (cert, key) = self.sign("server", "localhost", SystemTime::now() + 90 * DAY);
        Server::open(ServerFiles { cert, key, ca }).unwrap()
    }
}

/// A port at which a server sends back what it is sent, and counts.
struct Port {
    address: SocketAddr,
    registry: Registry,
    task: JoinHandle<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Port {
    async fn echo(server: &Server, protocol: Protocol) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let registry = Registry::new("test");
        server.register(&registry);
        let mut listener = server.listen(tcp, protocol);
        let task = tokio::spawn(async move {
            loop {
                let mut stream = listener.accept().await;
                tokio::spawn(async move {
                    // One byte first: whether the client showed a certificate.
                    let shown = u8::from(stream.peer().certificate.is_some());
                    stream.write_all(&[shown]).await?;
                    stream.flush().await?;
                    let (mut from, mut to) = tokio::io::split(stream);
                    tokio::io::copy(&mut from, &mut to).await?;
                    Ok::<_, io::Error>(())
                });
            }
        });
        Self {
            address,
            registry,
            task,
        }
    }

    /// Waits until a line is among what is counted: a server may hear of an end after its client.
    async fn counts(&self, line: &str) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !self.registry.encode().contains(line) {
            let text = self.registry.encode();
            assert!(tokio::time::Instant::now() < deadline, "{line}: {text}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn client(trust: Trust) -> Client {
    Client::new(ClientSettings {
        trust,
        identity: None,
        setting: "THE_CA",
    })
}

/// The issuer that the client saw, and whether the server saw a certificate of the client.
async fn call(client: &Client, address: SocketAddr, host: &str) -> Result<(String, bool), String> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let made = client.connect(tcp, host, b"h2").await;
    let mut stream = made.map_err(|error| error.text)?;
    let mut shown = [0];
    let read = stream.read_exact(&mut shown).await;
    read.map_err(|error| in_text(&error.to_string()).unwrap_or_else(|| error.to_string()))?;
    stream.write_all(b"through").await.unwrap();
    let mut back = [0; 7];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"through");
    let seen = Encryption::of(stream.get_ref().1);
    assert_eq!(seen.version, "TLS 1.3");
    Ok((seen.server.unwrap().issuer, shown == [1]))
}

/// Everything that a certificate says, and nothing where it is cut short, whatever the length. Mutation: a content that
/// may reach beyond its value panics here.
#[test]
fn a_certificate_says_its_names_and_times() {
    let authority = Authority::new("Line 4 CA");
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    let (cert, key) = authority.sign("press-7", "press-7.example", until);
    let identity = Identity::read(&cert, &key).unwrap();
    let facts = &identity.facts;
    assert_eq!(
        (facts.subject.as_str(), facts.issuer.as_str()),
        ("press-7", "Line 4 CA")
    );
    assert_eq!(facts.names, ["press-7.example"]);
    assert_eq!(facts.not_after, until);
    assert_eq!(facts.not_after_seconds(), 2_000_000_000);
    assert_eq!(facts.seconds_left(until + DAY), -86_400);
    let der = &identity.chain()[0];
    for length in 0..der.len() {
        let _ = Facts::of(&der[..length]);
    }
    for place in 0..der.len() {
        let mut wrong = der.to_vec();
        wrong[place] ^= 0xff;
        let _ = Facts::of(&wrong);
    }
    assert_eq!(Facts::of(&[0x30; 64]), None);
}

#[test]
fn a_fingerprint_is_read_with_and_without_colons() {
    let print = Fingerprint::of(b"x");
    let text = print.to_string();
    let colons = text
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    let colons = colons.collect::<Vec<_>>().join(":");
    assert_eq!(Fingerprint::parse(&text), Ok(print));
    assert_eq!(Fingerprint::parse(&colons.to_uppercase()), Ok(print));
    for wrong in ["", "12", &text[..63], &format!("{}x", &text[..63])] {
        assert!(Fingerprint::parse(wrong).is_err(), "{wrong}");
    }
}
