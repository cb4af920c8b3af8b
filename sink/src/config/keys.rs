//! The table of everything an operator can set.

use weir_process::config::Kind::{Address, Bool, Bytes, Count, Duration, Path, Rate, Text, Url};
use weir_process::config::{Group, Key, Table};
use weir_process::{logging, shutdown};

/// All keys of the sink.
pub static TABLE: Table = Table {
    prefix: "WEIR_SINK",
    groups: &[
        Group {
            title: "Where",
            keys: &PLACES,
        },
        Group {
            title: "TLS",
            keys: &TLS,
        },
        Group {
            title: "Taking in",
            keys: &INTAKE,
        },
        Group {
            title: "Limits",
            keys: &LIMITS,
        },
        Group {
            title: "Storing",
            keys: &STORING,
        },
        Group {
            title: "Answering",
            keys: &ANSWERING,
        },
        Group {
            title: "Asking",
            keys: &ASKING,
        },
        Group {
            title: "Logging",
            keys: &logging::KEYS,
        },
        Group {
            title: "Stopping",
            keys: &shutdown::KEYS,
        },
    ],
    sections: &[],
};

const PLACES: [Key; 7] = [
    Key::new(
        "data_dir",
        Path,
        "data/sink",
        "directory for everything that has no place of its own",
    ),
    Key::new(
        "grpc.listen",
        Address,
        "127.0.0.1:4317",
        "where agents deliver; port 0 takes a free one",
    ),
    Key::new(
        "http.listen",
        Address,
        "127.0.0.1:4318",
        "where SQL, the ledger, probes and metrics are answered; port 0 takes a free one",
    ),
    Key::new(
        "allow_plaintext",
        Bool,
        "false",
        "listen beyond loopback without TLS: whoever reaches the ports may read and change everything, and so may anybody on the way",
    ),
    Key::new(
        "log.url",
        Url,
        "",
        "the journal: file:///directory; log/ in the data directory when not set",
    ),
    Key::new(
        "catalog.url",
        Url,
        "",
        "the catalog: sqlite:///file; catalog.db in the data directory when not set",
    ),
    Key::new(
        "store.url",
        Url,
        "",
        "the Parquet files: file:///directory; store/ in the data directory when not set",
    ),
];

const TLS: [Key; 6] = [
    Key::new(
        "tls.cert",
        Path,
        "",
        "PEM file with the certificate of this sink and those of its CAs: with it and tls.key both ports speak TLS; read again when it changes. `weir-sink certs init` makes one",
    ),
    Key::new("tls.key", Path, "", "PEM file with its key"),
    Key::new(
        "tls.ca",
        Path,
        "",
        "PEM file with the CA whose client certificates are accepted",
    ),
    Key::new(
        "tls.ca_key",
        Path,
        "",
        "PEM file with the key of that CA; needed only where agents are to enrol",
    ),
    Key::new(
        "enroll.cert_lifetime",
        Duration,
        "7d",
        "how long a certificate that an agent gets is good; the agent renews it when two thirds are over",
    ),
    Key::new(
        "enroll.grace",
        Duration,
        "30d",
        "how long after its end it can still be renewed: an agent that was away longer needs a token again",
    ),
];

const INTAKE: [Key; 8] = [
    Key::new(
        "journal.max_bytes",
        Bytes,
        "4GiB",
        "largest journal; from nine tenths of it on nothing is accepted, agents keep what they have",
    ),
    Key::new(
        "journal.segment_bytes",
        Bytes,
        "64MiB",
        "size of one file of the journal",
    ),
    Key::new(
        "journal.queue_bytes",
        Bytes,
        "64MiB",
        "bytes that may wait for their commit; agents wait beyond it",
    ),
    Key::new(
        "ingest.window_bytes",
        Bytes,
        "16MiB",
        "bytes one agent may have sent that are not yet durable",
    ),
    Key::new(
        "ingest.budget_bytes",
        Bytes,
        "256MiB",
        "bytes all agents together may have sent that are not yet durable; many of them get smaller windows, of 64 KiB at least",
    ),
    Key::new(
        "ingest.max_connections",
        Count,
        "10000",
        "streams that deliver at one time",
    ),
    Key::new(
        "ingest.max_streams",
        Count,
        "1000000",
        "streams that have not ended; ended ones are remembered beside them",
    ),
    Key::new(
        "ledger.lost_after",
        Duration,
        "1h",
        "an agent leaves out a stream it had for so long: what it held counts as lost; 0 is never",
    ),
];

const LIMITS: [Key; 8] = [
    Key::new(
        "limits.agent_bytes_per_second",
        Bytes,
        "0",
        "what one agent may send in a second; 0 is no limit. An agent that is over it is told to wait, nothing is lost",
    ),
    Key::new(
        "limits.agent_requests_per_second",
        Rate,
        "0",
        "requests one agent may send in a second; 0 is no limit",
    ),
    Key::new(
        "limits.tenant_bytes_per_second",
        Bytes,
        "0",
        "what all agents of one tenant may send in a second; 0 is no limit",
    ),
    Key::new(
        "limits.tenant_requests_per_second",
        Rate,
        "0",
        "requests all agents of one tenant may send in a second; 0 is no limit",
    ),
    Key::new(
        "limits.agent_series",
        Count,
        "100000",
        "series of one agent; readings of further ones are dropped and counted, series_limit. 0 is no limit",
    ),
    Key::new(
        "limits.tenant_series",
        Count,
        "1000000",
        "series of one tenant; 0 is no limit",
    ),
    Key::new(
        "limits.tenant_devices",
        Count,
        "100000",
        "devices of one tenant; 0 is no limit",
    ),
    Key::new(
        "limits.overrides",
        Text,
        "",
        "other limits for some tenants, as in plant:tenant_bytes_per_second=1MiB,tenant_series=5000;lab:agent_series=0",
    ),
];

const STORING: [Key; 8] = [
    Key::new(
        "store.flush_rows",
        Count,
        "500000",
        "readings in memory from which files are written",
    ),
    Key::new(
        "store.flush_interval",
        Duration,
        "10s",
        "longest time a reading waits in memory before it is written to a file",
    ),
    Key::new(
        "store.intake_bytes",
        Bytes,
        "64MiB",
        "decoded readings that may wait for the fold; it reads the journal for the rest",
    ),
    Key::new(
        "store.buffer_bytes",
        Bytes,
        "256MiB",
        "readings in memory that are not in files yet; beyond it the journal fills",
    ),
    Key::new(
        "compaction.interval",
        Duration,
        "15s",
        "how often to look for small files to merge and old ones to remove",
    ),
    Key::new(
        "compaction.min_files",
        Count,
        "8",
        "small files of one day from which they are merged",
    ),
    Key::new(
        "compaction.max_rows",
        Count,
        "2000000",
        "readings that one merge may take into memory",
    ),
    Key::new(
        "retention.days",
        Count,
        "0",
        "days after which readings are removed; 0 keeps them",
    ),
];

const ANSWERING: [Key; 7] = [
    Key::new(
        "query.max_rows",
        Count,
        "10000",
        "rows of one answer; the rest is cut and said",
    ),
    Key::new(
        "query.timeout",
        Duration,
        "30s",
        "longest time of one statement",
    ),
    Key::new(
        "query.memory",
        Bytes,
        "256MiB",
        "memory of all running statements together",
    ),
    Key::new(
        "query.tenant_memory",
        Bytes,
        "0",
        "of it, memory of one tenant's statements together; 0 is three quarters",
    ),
    Key::new(
        "query.threads",
        Count,
        "0",
        "threads that compute answers; 0 is one per core",
    ),
    Key::new(
        "query.concurrency",
        Count,
        "16",
        "statements at one time; more are turned away",
    ),
    Key::new(
        "query.tenant_concurrency",
        Count,
        "12",
        "of these, statements of one tenant at one time; 0 is no limit of its own",
    ),
];

const ASKING: [Key; 1] = [Key::new(
    "token",
    Text,
    "",
    "what sql, ledger, files and health show to a sink on another machine; run does not use it",
)
.secret()];
