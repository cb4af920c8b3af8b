//! Every way in which files or the other side can be wrong: the words name it, and what to do.

use super::*;

/// Mutations: a key that is not held against its certificate is taken; behind the first fault nothing is looked at.
#[test]
fn files_that_cannot_be_used_are_named_with_the_remedy() {
    let authority = Authority::new("CA");
    let until = SystemTime::now() + DAY;
    let (cert, key) = authority.sign("one", "one.example", until);
    let (other_cert, other_key) = authority.sign("two", "two.example", until);
    let write = |name: &str, bytes: &[u8]| {
        let path = authority.path(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let empty = write("empty", b"");
    let text = write("text", b"not PEM at all");
    let der = write("der", &Identity::read(&cert, &key).unwrap().chain()[0]);
    let cut = fs::read(&cert).unwrap();
    let cut = write("cut", &cut[..cut.len() / 3]);
    let locked = write(
        "locked",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let away = authority.path("away");
    for (cert, key, blamed, words) in [
        (
            &cert,
            &other_key,
            &other_key,
            "not the key of the certificate",
        ),
        (&other_cert, &key, &key, "not the key of the certificate"),
        (&away, &key, &away, "no such file"),
        (&cert, &away, &away, "no such file"),
        (&empty, &key, &empty, "it is empty"),
        (&text, &key, &text, "not PEM"),
        (&der, &key, &der, "openssl x509 -inform der"),
        (&cut, &key, &cut, "damaged"),
        (&key, &cert, &key, "are the two exchanged?"),
        (&cert, &cert, &cert, "are the two exchanged?"),
        (&cert, &locked, &locked, "without one"),
    ] {
        let error = Identity::read(cert, key).unwrap_err().to_string();
        assert!(error.contains(&*blamed.to_string_lossy()), "{error}");
        assert!(error.contains(words), "{words}: {error}");
    }
    let faults = Identity::check(&away, &text).unwrap_err();
    let [of_cert, of_key] = [faults.cert, faults.key].map(|fault| fault.unwrap().to_string());
    assert!(of_cert.contains("no such file"), "{of_cert}");
    assert!(of_key.contains("not PEM"), "{of_key}");
    let faults = Identity::check(&cert, &other_key).unwrap_err();
    assert!(faults.cert.is_none() && faults.key.is_some(), "{faults:?}");
    assert!(check_cas(&authority.ca()).is_ok() && check_cas(&key).is_err());
    let identity = Identity::read(&cert, &key).unwrap();
    assert!(!identity.key_is_open);
    let expired = identity.judge(&cert, until + DAY).unwrap_err().to_string();
    assert!(expired.contains("it expired on "), "{expired}");
    let early = identity
        .judge(&cert, SystemTime::UNIX_EPOCH)
        .unwrap_err()
        .to_string();
    assert!(
        early.contains("1970-01-01T00:00:00Z: set the clock"),
        "{early}"
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o604)).unwrap();
    assert!(Identity::read(&cert, &key).unwrap().key_is_open);
}

/// Mutation: a verifier that trusts whatever it is shown lets the first two through.
#[tokio::test]
async fn a_client_says_why_it_does_not_trust_a_server() {
    let (ours, theirs) = (Authority::new("Our CA"), Authority::new("Their CA"));
    let server = ours.server(None);
    let port = Port::echo(&server, Protocol::Http2).await;
    let said = async |client: &Client, host: &str| call(client, port.address, host).await;
    let unknown = said(&client(Trust::File(theirs.ca())), "localhost")
        .await
        .unwrap_err();
    for part in [
        "\"Our CA\"",
        "set THE_CA",
        &theirs.ca().display().to_string(),
    ] {
        assert!(unknown.contains(part), "{part}: {unknown}");
    }
    let pinned = Trust::Fingerprint(Fingerprint::of(b"another"));
    assert!(said(&client(pinned), "localhost").await.is_err());
    let name = said(&client(Trust::File(ours.ca())), "127.0.0.1")
        .await
        .unwrap_err();
    for part in ["not for 127.0.0.1 but for localhost", "--name 127.0.0.1"] {
        assert!(name.contains(part), "{part}: {name}");
    }
    let namesake = Authority::new("Our CA");
    let other = said(&client(Trust::File(namesake.ca())), "localhost")
        .await
        .unwrap_err();
    assert!(other.contains("set THE_CA"), "{other}");
    port.counts("tls_handshake_failures_total{reason=\"untrusted\"} 4\n")
        .await;

    let (cert, key) = ours.sign("old", "localhost", SystemTime::now() - DAY);
    let old = Server::open(ServerFiles {
        cert,
        key,
        ca: None,
    })
    .unwrap();
    let old = Port::echo(&old, Protocol::Http2).await;
    let expired = call(&client(Trust::File(ours.ca())), old.address, "localhost").await;
    let expired = expired.unwrap_err();
    for part in ["expired on 20", "renew-server", "clock"] {
        assert!(expired.contains(part), "{part}: {expired}");
    }
    old.counts("{reason=\"untrusted\"} 1").await;
}

#[tokio::test]
async fn a_client_says_what_it_met_where_there_is_no_tls() {
    let authority = Authority::new("CA");
    let client = client(Trust::File(authority.ca()));
    for (answer, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "speaks no TLS"),
        (b"", "closed the connection"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let plain = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 64];
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(answer).await.unwrap();
        });
        let error = call(&client, address, "localhost").await.unwrap_err();
        assert!(error.contains(words), "{words}: {error}");
        plain.await.unwrap();
    }
    let server = authority.server(None);
    let port = Port::echo(&server, Protocol::Http1).await;
    let error = call(&client, port.address, "localhost").await.unwrap_err();
    assert!(error.contains("is this the right port?"), "{error}");
}

/// A certificate of the right CA reaches the server, none is let through, and one of another CA is refused, in words, on
/// both sides.
#[tokio::test]
async fn a_client_certificate_is_asked_for_and_not_required() {
    let (ours, theirs) = (Authority::new("Our CA"), Authority::new("Their CA"));
    let server = ours.server(Some(ours.ca()));
    let port = Port::echo(&server, Protocol::Http2).await;
    let with = |identity| {
        Client::new(ClientSettings {
            trust: Trust::File(ours.ca()),
            identity: Some(identity),
            setting: "THE_CA",
        })
    };
    let until = SystemTime::now() + DAY;
    let anonymous = client(Trust::File(ours.ca()));
    let shown = call(&anonymous, port.address, "localhost").await.unwrap();
    assert_eq!(shown, ("Our CA".to_owned(), false));
    let right = with(ours.sign("agent", "agent.example", until));
    assert!(call(&right, port.address, "localhost").await.unwrap().1);
    let wrong = with(theirs.sign("agent", "agent.example", until));
    let refused = call(&wrong, port.address, "localhost").await.unwrap_err();
    assert!(
        refused.contains("does not know the CA of this client's certificate"),
        "{refused}"
    );
    port.counts("{reason=\"unknown_ca\"} 1").await;
    let old = with(ours.sign("old", "agent.example", SystemTime::now() - DAY));
    let kept = call(&old, port.address, "localhost").await.unwrap_err();
    assert!(
        kept.contains("it expired on ") && kept.contains("old.crt"),
        "{kept}"
    );
}
