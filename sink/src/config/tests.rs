//! Settings: defaults, faults and what depends on what.

use super::*;

fn read(flags: &[(&'static str, &str)]) -> Result<Config, String> {
    Config::from_keys(flags).map_err(|faults| faults.to_string())
}

#[test]
fn the_table_has_no_mistakes_and_every_key_is_read() {
    assert_eq!(TABLE.mistakes(), Vec::<String>::new());
    let mut reader = Reader::new(&TABLE, &Sources::default());
    Config::from_reader(Purpose::Serve, &mut reader, &Environment::default());
    assert_eq!(reader.unread(), Vec::<&str>::new());
}

#[test]
fn defaults_lie_under_the_data_directory() {
    let config = read(&[("data_dir", "/srv/weir")]).unwrap();
    assert_eq!(config.journal_dir, Path::new("/srv/weir/log"));
    assert_eq!(config.catalog_file, Path::new("/srv/weir/catalog.db"));
    assert_eq!(config.store_dir, Path::new("/srv/weir/store"));
    assert_eq!(config.grpc_listen.to_string(), "127.0.0.1:4317");
    assert_eq!(config.http_listen.to_string(), "127.0.0.1:4318");
    assert_eq!(config.ingest.high_water_bytes, (4_u64 << 30) / 10 * 9);
}

#[test]
fn urls_name_places_on_this_machine() {
    let config = read(&[
        ("log.url", "file:///var/lib/weir/log"),
        ("catalog.url", "sqlite:///var/lib/weir/my%20catalog"),
    ])
    .unwrap();
    assert_eq!(config.journal_dir, Path::new("/var/lib/weir/log"));
    assert_eq!(config.catalog_file, Path::new("/var/lib/weir/my catalog"));
}

#[test]
fn schemes_that_are_not_built_are_refused_by_name_all_in_one_report() {
    let report = read(&[
        ("log.url", "nats://nats:4222"),
        ("catalog.url", "postgres://db/weir"),
        ("store.url", "s3://bucket/prefix"),
    ])
    .unwrap_err();
    for scheme in ["nats", "postgres", "s3"] {
        assert!(
            report.contains(&format!("scheme {scheme} is not built yet")),
            "{report}"
        );
    }
    assert_eq!(report.trim().lines().count(), 3, "{report}");
    let unknown = read(&[("store.url", "ftp://x/y")]).unwrap_err();
    assert!(unknown.contains("scheme ftp is not known"), "{unknown}");
    let host = read(&[("store.url", "file://data/sink")]).unwrap_err();
    assert!(host.contains("no host"), "{host}");
}

#[test]
fn listening_beyond_loopback_needs_a_word() {
    let refused = read(&[("grpc.listen", "0.0.0.0:4317")]).unwrap_err();
    assert!(
        refused.contains("WEIR_SINK_ALLOW_PLAINTEXT=true"),
        "{refused}"
    );
    assert!(read(&[("grpc.listen", "0.0.0.0:4317"), ("allow_plaintext", "true")]).is_ok());
    assert!(read(&[("grpc.listen", "[::1]:4317")]).is_ok());
    let tls = [("tls.cert", "a.crt"), ("tls.key", "a.key")];
    assert!(read(&[&tls[..], &[("grpc.listen", "0.0.0.0:4317")]].concat()).is_ok());
    for half in &tls {
        let refused = read(&[*half]).unwrap_err();
        assert!(refused.contains("too"), "{refused}");
    }
    let refused = read(&[("tls.ca", "ca.crt")]).unwrap_err();
    assert!(refused.contains("of no use without TLS"), "{refused}");
    let refused = read(&[&tls[..], &[("tls.ca_key", "ca.key")]].concat()).unwrap_err();
    assert!(refused.contains("set tls.ca, too"), "{refused}");
}

/// Fails when any one of the checks in `config/check.rs` is left out.
#[test]
fn settings_that_contradict_each_other_are_refused_under_the_key_to_change() {
    let cases: &[(&[(&'static str, &str)], &str)] = &[
        (&[("http.listen", "127.0.0.1:4317")], "HTTP_LISTEN"),
        (
            &[("allow_plaintext", "true"), ("grpc.listen", "0.0.0.0:4318")],
            "HTTP_LISTEN",
        ),
        (
            &[
                ("journal.max_bytes", "256MiB"),
                ("journal.segment_bytes", "65MiB"),
            ],
            "JOURNAL_SEGMENT_BYTES",
        ),
        (
            &[
                ("journal.max_bytes", "64MiB"),
                ("journal.queue_bytes", "60MiB"),
            ],
            "JOURNAL_QUEUE_BYTES",
        ),
        (
            &[
                ("journal.queue_bytes", "16MiB"),
                ("ingest.window_bytes", "17MiB"),
            ],
            "INGEST_WINDOW_BYTES",
        ),
        (
            &[("log.url", "file:///w"), ("store.url", "file:///w")],
            "STORE_URL",
        ),
        (&[("data_dir", "/w"), ("log.url", "file:///w")], "LOG_URL"),
        (
            &[
                ("store.url", "file:///w"),
                ("catalog.url", "sqlite:///w/c.db"),
            ],
            "CATALOG_URL",
        ),
    ];
    for (settings, name) in cases {
        let report = read(settings).unwrap_err();
        // By its flag where it is set, by its variable where it is not.
        let blamed = report.to_uppercase().replace('-', "_");
        assert!(blamed.contains(name), "{settings:?}: {report}");
    }
    assert!(
        read(&[
            ("grpc.listen", "127.0.0.1:0"),
            ("http.listen", "127.0.0.1:0")
        ])
        .is_ok()
    );
    assert!(read(&[("http.listen", "127.0.0.2:4317")]).is_ok());
    assert!(read(&[("store.url", "file:///w/a"), ("log.url", "file:///w/ab")]).is_ok());
}

/// A default gives way to what an operator sets; only two settings can contradict each other.
#[test]
fn the_smallest_journal_needs_no_other_setting() {
    assert!(read(&[("journal.max_bytes", "64MiB")]).is_ok());
}

/// Every key that the table calls secret, wherever it is set. Mutations: `Secret` with a derived `Debug`; a key whose value is kept
/// as text.
#[test]
fn no_debug_output_shows_a_secret_of_the_table() {
    const MARKER: &str = "weir_hunter2marker";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, MARKER).unwrap();
    let secrets: Vec<_> = TABLE.keys().filter(|key| key.secret).collect();
    assert!(!secrets.is_empty());
    for key in secrets {
        let variable = TABLE.variable(key);
        let twin = format!("{variable}_FILE");
        let in_file = format!("{} = \"{MARKER}\"", key.name);
        for (name, value, text) in [
            (variable.as_str(), MARKER, ""),
            (twin.as_str(), path.to_str().unwrap(), ""),
            ("WEIR_SINK_DATA_DIR", "data", in_file.as_str()),
        ] {
            let sources = Sources {
                environment: [(name, value)].into_iter().collect(),
                file: Some((PathBuf::from("sink.toml"), text.into())),
                ..Sources::default()
            };
            let reader = Reader::new(&TABLE, &sources);
            let before = format!("{sources:?} {sources:#?} {reader:?} {reader:#?}");
            let (config, effective) = Config::read(reader, &sources.environment).unwrap();
            let shown = format!("{before} {config:?} {config:#?} {effective:?}");
            assert!(!shown.contains(MARKER), "{}: {shown}", key.name);
            assert_eq!(effective.get(key.name).unwrap().value, "***");
        }
    }
}
