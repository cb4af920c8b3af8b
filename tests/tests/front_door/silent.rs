//! Who connects and does not speak.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir_process::tls::{Client, ClientSettings, Trust};
use weir_tests::wait::until;
use weir_tests::world::{Agent, Sink};

use crate::stored::{LIMIT, counting, own, wait_own};
use crate::tls::Site;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether the sink has closed this one; what it said before, its settings, is passed over.
fn is_closed(stream: &TcpStream) -> bool {
    loop {
        match stream.try_read(&mut [0; 256]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

/// Two thousand connections to the gRPC port that say nothing, or a part of what HTTP/2 begins with: who speaks is served
/// beside them, and after ten seconds they are gone. Mutation: no deadline for the first bytes.
#[tokio::test]
async fn who_does_not_begin_http_2_is_hung_up_on_and_holds_up_nobody() {
    let place = tempfile::tempdir().expect("a directory");
    let sink = Sink::start(place.path(), &[]).await;
    let before = resident(sink.pid());
    let mut held = Vec::new();
    for number in 0..2000_usize {
        let mut stream = TcpStream::connect(sink.grpc).await.expect("a connection");
        let said = &PREFACE[..number % PREFACE.len()];
        stream.write_all(said).await.expect("sent");
        held.push(stream);
    }
    let agent = Agent::start(place.path(), "speaks", &sink.url(), &counting(&[])).await;
    wait_own(&agent, "acked", 5).await;
    let grown = resident(sink.pid()).saturating_sub(before);
    assert!(grown < 64 << 20, "{} MiB more", grown >> 20);
    until("the silent to be gone", LIMIT, || async {
        held.iter().all(is_closed).then_some(())
    })
    .await;
    let acked = own(&agent, "acked").await;
    wait_own(&agent, "acked", acked + 5).await;
    let welcomes = agent.log().matches("the sink welcomed this stream").count();
    assert_eq!(welcomes, 1, "the one that speaks was cut off");
}

/// The same behind a handshake, at both ports; over HTTP also with half of a head.
#[tokio::test]
async fn a_handshake_buys_no_more_time_to_say_nothing() {
    let site = Site::new().await;
    let client = Client::new(ClientSettings {
        trust: Trust::File(site.ca().into()),
        identity: None,
        setting: "-",
    });
    let mut shaken = Vec::new();
    let http: &[u8] = b"GET /livez HTTP/1.1\r\nhost: sink\r\n";
    for (port, protocol, said) in [
        (site.sink.grpc, &b"h2"[..], &PREFACE[..23]),
        (site.sink.grpc, b"h2", b""),
        (site.sink.http, b"http/1.1", http),
        (site.sink.http, b"http/1.1", b""),
    ] {
        for _ in 0..10 {
            let tcp = TcpStream::connect(port).await.expect("a connection");
            let made = client.connect(tcp, "localhost", protocol).await;
            let mut stream = made.expect("a handshake");
            stream.write_all(said).await.expect("sent");
            stream.flush().await.expect("sent");
            shaken.push(stream);
        }
    }
    for mut stream in shaken {
        let mut said = Vec::new();
        let ended = tokio::time::timeout(LIMIT, stream.read_to_end(&mut said)).await;
        assert!(ended.is_ok(), "nobody hung up");
    }
}

/// Resident memory of a process in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    let kib: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    kib << 10
}

/// Three thousand connections that begin a handshake and leave it at that, or send garbage. Mutation: handshakes that
/// neither end in time nor give way keep out the agent that comes later; that they give way is seen in
/// `tls/tests/serving.rs::silent_handshakes_do_not_keep_out_the_one_that_speaks`.
#[tokio::test]
async fn a_flood_of_half_open_handshakes_holds_up_nobody() {
    let site = Site::new().await;
    let ca = site.ca();
    let url = site.sink.url();
    let early = site.agent("early", &url, &[("TLS_CA", &ca)]).await;
    wait_own(&early, "acked", 5).await;
    let before = resident(site.sink.pid());
    let address = site.sink.grpc;
    let flood = tokio::spawn(async move {
        let mut held = Vec::new();
        for number in 0..3000_u32 {
            let connecting = TcpStream::connect(address);
            let Ok(Ok(mut stream)) = tokio::time::timeout(Duration::from_secs(1), connecting).await
            else {
                continue;
            };
            let sent: &[u8] = match number % 3 {
                0 => b"",
                1 => &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01],
                _ => b"\x16garbage that is no handshake at all",
            };
            let _ = stream.write_all(sent).await;
            held.push(stream);
        }
        held
    });
    let acked = own(&early, "acked").await;
    wait_own(&early, "acked", acked + 10).await;
    let late = site.agent("late", &url, &[("TLS_CA", &ca)]).await;
    wait_own(&late, "acked", 5).await;
    let held = flood.await.expect("no panic");
    let acked = own(&early, "acked").await;
    wait_own(&early, "acked", acked + 10).await;
    let grown = resident(site.sink.pid()).saturating_sub(before);
    assert!(grown < 48 << 20, "{} MiB more", grown >> 20);
    let welcomes = early.log().matches("the sink welcomed this stream").count();
    assert_eq!(welcomes, 1, "the early one was cut off");
    drop(held);
}
