//! A set-up made by one command, completed where one was killed, renewed in one step.

use std::os::unix::fs::PermissionsExt as _;

use weir_process::tls::Facts;

use super::*;

fn names(texts: &[&str]) -> Names {
    Names::parse(texts).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Mutations: a key that others can read; a chain without its CA.
#[test]
fn a_new_set_up_belongs_together_and_keeps_its_keys_to_itself() {
    let place = tempfile::tempdir().unwrap();
    let certs = Certs::at(place.path().join("tls"));
    let made = certs
        .init(&names(&["sink.example", "10.1.2.3", "sink.example"]))
        .unwrap();
    assert_eq!(made.names, ["sink.example", "10.1.2.3"]);
    assert_eq!(made.written.len(), 4);
    let server = Identity::read(&certs.server(), &certs.server_key()).unwrap();
    assert_eq!(server.facts.names, made.names);
    assert_eq!(server.chain().len(), 2);
    assert_eq!(Fingerprint::of(&server.chain()[1]), made.ca);
    let ca = Facts::of(&server.chain()[1]).unwrap();
    assert_eq!(ca.subject, server.facts.issuer);
    assert!(ca.subject.starts_with("Weir CA "), "{}", ca.subject);
    let years = ca.seconds_left(SystemTime::now()) / (365 * 86_400);
    assert_eq!(years, 10);
    server.judge(&certs.server(), SystemTime::now()).unwrap();
    for key in [certs.ca_key(), certs.server_key()] {
        assert_eq!(mode(&key), 0o600, "{}", key.display());
    }
    let left = fs::read_dir(place.path().join("tls")).unwrap().count();
    assert_eq!(left, 4, "nothing else is left behind");
}

/// Killed after any of its files, it is run again: what was there stays, and all of it belongs together. Mutation: one
/// that begins anew makes a second CA.
#[test]
fn a_set_up_that_was_killed_is_completed() {
    for there in 1..4 {
        let place = tempfile::tempdir().unwrap();
        let whole = Certs::at(place.path().join("whole"));
        whole.init(&names(&["sink.example"])).unwrap();
        let certs = Certs::at(place.path().join("tls"));
        fs::create_dir(place.path().join("tls")).unwrap();
        let order = ["ca.key", "ca.crt", "server.key"];
        for name in &order[..there] {
            fs::copy(
                place.path().join("whole").join(name),
                certs.directory.join(name),
            )
            .unwrap();
        }
        // Half of the next one.
        fs::write(certs.directory.join("server.crt.part"), b"-----BEGIN").unwrap();
        let made = certs.init(&names(&["sink.example"])).unwrap();
        assert_eq!(made.written.len(), 4 - there);
        Identity::read(&certs.server(), &certs.server_key()).unwrap();
        for name in &order[..there] {
            let read = |certs: &Certs| fs::read(certs.directory.join(name)).unwrap();
            assert_eq!(read(&whole), read(&certs), "{name} was overwritten");
        }
        assert!(!certs.directory.join("server.crt.part").exists());
        let again = certs
            .init(&names(&["sink.example"]))
            .unwrap_err()
            .to_string();
        assert!(again.contains("renew-server"), "{again}");
    }
}

#[test]
fn a_renewed_certificate_has_the_same_key_and_the_names_it_had() {
    let place = tempfile::tempdir().unwrap();
    let certs = Certs::at(place.path());
    let missing = certs.renew(&Names::default()).unwrap_err().to_string();
    assert!(missing.contains("certs init"), "{missing}");
    certs.init(&names(&["sink.example", "::1"])).unwrap();
    let before = fs::read(certs.server()).unwrap();
    let key = fs::read(certs.server_key()).unwrap();
    let first = Identity::read(&certs.server(), &certs.server_key()).unwrap();
    let serial = first.facts.serial;
    let made = certs.renew(&names(&["10.0.0.9"])).unwrap();
    assert_eq!(made.names, ["sink.example", "::1", "10.0.0.9"]);
    assert_eq!(fs::read(certs.server_key()).unwrap(), key);
    assert_ne!(fs::read(certs.server()).unwrap(), before);
    let server = Identity::read(&certs.server(), &certs.server_key()).unwrap();
    assert_eq!(server.facts.names, made.names);
    assert_ne!(server.facts.serial, serial);
}

#[test]
fn what_is_no_name_is_refused() {
    for wrong in [
        "",
        "a b",
        "https://sink",
        "sink:4317",
        "-a",
        "a..b",
        "sink/24",
    ] {
        assert!(Names::parse(&[wrong]).is_err(), "{wrong}");
    }
    let taken = names(&["Sink.Example", "*.plant.example", "[::1]", "my_sink"]);
    assert_eq!(
        taken.shown(),
        ["sink.example", "*.plant.example", "::1", "my_sink"]
    );
    assert!(!local_names().shown().is_empty());
}
