//! What a server does while its files change, while many say nothing, and to those who speak no TLS.

use super::*;

/// Mutations: connections that end with the change; a pair that is taken though its key is another's; the old one that
/// goes on for good.
#[tokio::test]
async fn a_changed_certificate_serves_new_connections_and_leaves_open_ones_alone() {
    let (first, second) = (Authority::new("First CA"), Authority::new("Second CA"));
    let server = first.server(None);
    let port = Port::echo(&server, Protocol::Http2).await;
    let health = Health::new(Arc::new(SystemClock));
    let mut watch = Watch::new(server.clone(), health.stage("tls", None));
    let (trusts_first, trusts_second) = (
        client(Trust::File(first.ca())),
        client(Trust::File(second.ca())),
    );
    let tcp = TcpStream::connect(port.address).await.unwrap();
    let mut open = trusts_first.connect(tcp, "localhost", b"h2").await.unwrap();
    open.read_exact(&mut [0]).await.unwrap();

    // Half of the new pair: the one before goes on.
    let (cert, key) = second.sign("server", "localhost", SystemTime::now() + DAY);
    fs::copy(&cert, first.path("server.crt")).unwrap();
    watch.look(false).await;
    watch.look(false).await;
    assert!(call(&trusts_first, port.address, "localhost").await.is_ok());
    port.counts("tls_reload_failures_total 1\n").await;
    // An expired one neither.
    let (old_cert, old_key) = second.sign("old", "localhost", SystemTime::now() - DAY);
    fs::copy(&old_cert, first.path("server.crt")).unwrap();
    fs::copy(&old_key, first.path("server.key")).unwrap();
    watch.look(false).await;
    assert!(call(&trusts_first, port.address, "localhost").await.is_ok());
    watch.remind();
    assert_eq!(health.ready(), Ok(()));

    fs::copy(&cert, first.path("server.crt")).unwrap();
    fs::copy(&key, first.path("server.key")).unwrap();
    watch.look(false).await;
    port.counts("tls_reloads_total 1\n").await;
    let issuer = call(&trusts_second, port.address, "localhost")
        .await
        .unwrap()
        .0;
    assert_eq!(issuer, "Second CA");
    assert!(
        call(&trusts_first, port.address, "localhost")
            .await
            .is_err()
    );
    open.write_all(b"still here").await.unwrap();
    let mut back = [0; 10];
    open.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"still here");
}

/// Mutation: without room being made, the one that speaks waits for the ten seconds of the silent ones.
#[tokio::test]
async fn silent_handshakes_do_not_keep_out_the_one_that_speaks() {
    let authority = Authority::new("CA");
    let server = authority.server(None);
    let port = Port::echo(&server, Protocol::Http2).await;
    let mut silent = Vec::new();
    // More than there is room for, and not more than the system keeps for later: none of them waits to connect.
    for number in 0..600 {
        let mut tcp = TcpStream::connect(port.address).await.unwrap();
        if number % 2 == 0 {
            tcp.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
        }
        silent.push(tcp);
    }
    let client = client(Trust::File(authority.ca()));
    let speaking = call(&client, port.address, "localhost");
    let spoken = tokio::time::timeout(Duration::from_secs(8), speaking).await;
    assert!(spoken.expect("it is not kept out").is_ok());
    let text = port.registry.encode();
    let line = text
        .lines()
        .find(|line| line.starts_with("test_tls_handshakes_in_flight "));
    let in_flight: u32 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(in_flight <= 512, "{in_flight}");
}

/// Mutation: a connection that is let go of once the answer is written, unread: its client hears of a reset.
#[tokio::test]
async fn who_speaks_no_tls_is_told_so() {
    let authority = Authority::new("CA");
    let server = authority.server(None);
    let port = Port::echo(&server, Protocol::Http1).await;
    let told = async |words: &[u8]| {
        let mut tcp = TcpStream::connect(port.address).await.unwrap();
        tcp.write_all(words).await.unwrap();
        let mut answer = Vec::new();
        let ended = tcp.read_to_end(&mut answer).await;
        assert!(ended.is_ok() || answer.is_empty(), "{ended:?}");
        String::from_utf8_lossy(&answer).into_owned()
    };
    let http = told(b"GET /readyz HTTP/1.1\r\nHost: sink\r\n\r\n").await;
    assert!(http.starts_with("HTTP/1.1 400 "), "{http}");
    assert!(
        http.ends_with("this port speaks TLS: use https://\n"),
        "{http}"
    );
    let http2 = told(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert!(http2.contains("this port speaks TLS"), "{http2}");
    assert_eq!(told(b"\x01\x02garbage").await, "");
    port.counts("{reason=\"no_tls\"} 3").await;
}

/// The tools of a server's own machine know it by its file, whatever its names are and whether or not it has expired;
/// nothing else is let through by that.
#[tokio::test]
async fn the_very_certificate_is_known_by_its_file() {
    let (ours, theirs) = (Authority::new("CA"), Authority::new("CA"));
    for until in [SystemTime::now() + DAY, SystemTime::now() - DAY] {
        let (cert, key) = ours.sign("server", "sink.example", until);
        let files = ServerFiles {
            cert: cert.clone(),
            key,
            ca: None,
        };
        let port = Port::echo(&Server::open(files).unwrap(), Protocol::Http2).await;
        let exactly = client(Trust::Exactly(cert));
        assert!(call(&exactly, port.address, "127.0.0.1").await.is_ok());
        let (other, _) = theirs.sign("server", "127.0.0.1", until);
        let other = client(Trust::Exactly(other));
        assert!(call(&other, port.address, "127.0.0.1").await.is_err());
    }
    let server = ours.server(None);
    let port = Port::echo(&server, Protocol::Http2).await;
    let chain = Identity::read(&ours.path("server.crt"), &ours.path("server.key")).unwrap();
    let pinned = Trust::Fingerprint(Fingerprint::of(&chain.chain()[1]));
    assert!(
        call(&client(pinned), port.address, "localhost")
            .await
            .is_ok()
    );
}
