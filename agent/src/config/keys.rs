//! The table of everything an operator can set. Flags, environment, file, `.env.example` and help all follow from it.

use weir_process::config::{Group, Key, Kind, Table};
use weir_process::{logging, shutdown};

/// What happens to readings where there is no room.
const OVERFLOW: Kind = Kind::Choice(&["block", "drop_oldest", "drop_newest"]);

/// Every key of the agent.
pub(crate) static TABLE: Table = Table {
    prefix: "WEIR_AGENT",
    groups: &[
        Group {
            title: "Agent",
            keys: &AGENT,
        },
        Group {
            title: "TLS",
            keys: &TLS,
        },
        Group {
            title: "Sampling",
            keys: &SAMPLING,
        },
        Group {
            title: "Simulated sensor",
            keys: &SIMULATED,
        },
        Group {
            title: "Queue",
            keys: &QUEUE,
        },
        Group {
            title: "Batch",
            keys: &BATCH,
        },
        Group {
            title: "Spool",
            keys: &SPOOL,
        },
        Group {
            title: "Budgets",
            keys: &BUDGETS,
        },
        Group {
            title: "Delivery",
            keys: &DELIVERY,
        },
        Group {
            title: "Stopping",
            keys: &shutdown::KEYS,
        },
        Group {
            title: "Logging",
            keys: &logging::KEYS,
        },
    ],
    sections: &["sensor"],
};

const AGENT: [Key; 7] = [
    Key::new(
        "sink.url",
        Kind::Url,
        "http://127.0.0.1:4317",
        "where readings go: the gRPC port of a sink; https:// where that speaks TLS",
    ),
    Key::new(
        "allow_plaintext",
        Kind::Bool,
        "false",
        "send to a sink beyond this machine over http://: anybody on the way can read and change what is sent",
    ),
    Key::new(
        "sink.token",
        Kind::Text,
        "",
        "what the sink knows this agent by, as `weir-sink token create --role agent` shows it; in its file it may change while the agent runs",
    )
    .secret(),
    Key::new(
        "name",
        Kind::Text,
        "",
        "this agent's name and the device of its host sensor; the host name when not set",
    ),
    Key::new(
        "data_dir",
        Kind::Path,
        "data/agent",
        "directory of the spool, for this agent alone: two agents on one host need two",
    ),
    Key::new(
        "status.listen",
        Kind::Address,
        "127.0.0.1:4319",
        "where probes, metrics and the status page are served; off for none",
    ),
    Key::new(
        "profile",
        Kind::Choice(&["default", "edge"]),
        "default",
        "a set of defaults: edge spares flash memory by batches and commits of 10 s",
    ),
];

const TLS: [Key; 6] = [
    Key::new(
        "tls.ca",
        Kind::Path,
        "",
        "PEM file with the CA that signed the sink's certificate, as ca.crt of `weir-sink certs init`; those this system trusts when not set. Read again for each connection, as the two below",
    ),
    Key::new(
        "tls.cert",
        Kind::Path,
        "",
        "PEM file with this agent's own certificate, where the sink asks for one",
    ),
    Key::new("tls.key", Kind::Path, "", "PEM file with its key"),
    Key::new(
        "enroll.token",
        Kind::Text,
        "",
        "what this agent gets a certificate of its own for, once, as `weir-sink enroll-token create` shows it; it renews the certificate by itself",
    )
    .secret(),
    Key::new(
        "enroll.ca_fingerprint",
        Kind::Text,
        "",
        "SHA-256 of the sink's CA as `weir-sink certs init` prints it: that CA alone is trusted, in place of the file of tls.ca",
    ),
    Key::new(
        "identity.dir",
        Kind::Path,
        "",
        "directory of the key and the certificate that this agent got; identity/ in the data directory when not set",
    ),
];

const SAMPLING: [Key; 2] = [
    Key::new(
        "sample.interval",
        Kind::Duration,
        "1s",
        "how often each sensor is read",
    ),
    Key::new(
        "sensors",
        Kind::Text,
        "host",
        "which sensors are read, separated by commas: host, simulated; [[sensor]] tables of the file come in its place",
    ),
];

const SIMULATED: [Key; 6] = [
    Key::new(
        "simulated.device",
        Kind::Text,
        "simulated",
        "device of the simulated sensor",
    ),
    Key::new(
        "simulated.metrics",
        Kind::Count,
        "10",
        "how many series it has",
    ),
    Key::new(
        "simulated.seed",
        Kind::Count,
        "1",
        "what its values follow from",
    ),
    Key::new(
        "simulated.mode",
        Kind::Choice(&["walk", "mixed", "counter"]),
        "walk",
        "what its series are: wandering gauges, every kind by turns, or the number of the read",
    ),
    Key::new(
        "simulated.fail_every",
        Kind::Count,
        "0",
        "every so many reads fail, to try what happens; 0 for never",
    ),
    Key::new(
        "simulated.panic_every",
        Kind::Count,
        "0",
        "every so many reads panic, to try what happens; 0 for never",
    ),
];

const QUEUE: [Key; 3] = [
    Key::new(
        "queue.max_readings",
        Kind::Count,
        "100000",
        "most readings between sampling and batching",
    ),
    Key::new(
        "queue.max_bytes",
        Kind::Bytes,
        "4MiB",
        "most memory between sampling and batching",
    ),
    Key::new(
        "queue.overflow",
        OVERFLOW,
        "block",
        "when that is full: block skips samples, drop_oldest and drop_newest give up readings and count them",
    ),
];

const BATCH: [Key; 3] = [
    Key::new(
        "batch.max_readings",
        Kind::Count,
        "10000",
        "a batch leaves as soon as it has so many readings",
    ),
    Key::new(
        "batch.max_bytes",
        Kind::Bytes,
        "512KiB",
        "a batch leaves as soon as it takes so much before compression",
    ),
    Key::new(
        "batch.max_age",
        Kind::Duration,
        "2s",
        "a batch leaves as soon as its first reading is so old",
    ),
];

const SPOOL: [Key; 5] = [
    Key::new(
        "spool.max_bytes",
        Kind::Bytes,
        "1GiB",
        "most disk space for readings that the sink does not have yet",
    ),
    Key::new(
        "spool.segment_bytes",
        Kind::Bytes,
        "8MiB",
        "size of one file of the spool, the grain in which space is freed",
    ),
    Key::new(
        "spool.commit_interval",
        Kind::Duration,
        "1s",
        "how long a batch may wait for its sync to disk; 0s syncs each batch",
    ),
    Key::new(
        "spool.overflow",
        OVERFLOW,
        "drop_oldest",
        "when the spool is full: block skips samples, drop_oldest and drop_newest give up readings and count them",
    ),
    Key::new(
        "spool.dead_letter_max_bytes",
        Kind::Bytes,
        "256MiB",
        "most disk space for batches that the sink has refused for good; beyond it a stream with such a batch waits in the spool",
    ),
];

const BUDGETS: [Key; 3] = [
    Key::new(
        "budget.flash_bytes_per_day",
        Kind::Bytes,
        "0",
        "most bytes written to the disk in a day: as they would exceed it, batches and commits wait longer, and nothing is dropped; 0 for no limit",
    ),
    Key::new(
        "budget.wire_bytes_per_day",
        Kind::Bytes,
        "0",
        "most bytes to and from the sink in a day, without TCP and IP: as they would exceed it, batches wait longer, and nothing is dropped; 0 for no limit",
    ),
    Key::new(
        "budget.max_interval",
        Kind::Duration,
        "1m",
        "the longest wait of a batch, and of a commit, that a budget may lead to; what can be lost is the sum of both",
    ),
];

const DELIVERY: [Key; 11] = [
    Key::new(
        "delivery.order",
        Kind::Choice(&["newest_first", "oldest_first"]),
        "newest_first",
        "what goes first after an outage: newest_first sends new readings at once and the backlog beside them, oldest_first keeps the order in which they were read",
    ),
    Key::new(
        "delivery.backlog_share",
        Kind::Rate,
        "0.25",
        "the backlog's part of the requests while newer readings wait too, between 0 and 1; without a request rate its part of the bytes",
    ),
    Key::new(
        "delivery.backlog_age",
        Kind::Duration,
        "1m",
        "readings that have waited so long when the sink is back are a backlog",
    ),
    Key::new(
        "rate.requests_per_second",
        Kind::Rate,
        "0",
        "most requests per second, fractions allowed: 0.5 is one every 2 s; 0 for no limit",
    ),
    Key::new(
        "rate.burst",
        Kind::Count,
        "1",
        "requests that may leave at once after a pause",
    ),
    Key::new(
        "request.max_bytes",
        Kind::Bytes,
        "1MiB",
        "most bytes of batches in one request",
    ),
    Key::new(
        "request.window_bytes",
        Kind::Bytes,
        "8MiB",
        "most bytes sent and not acknowledged; the sink may allow less",
    ),
    Key::new(
        "retry.min_delay",
        Kind::Duration,
        "200ms",
        "first delay before connecting again",
    ),
    Key::new(
        "retry.max_delay",
        Kind::Duration,
        "10s",
        "longest delay before connecting again",
    ),
    Key::new(
        "timeout.connect",
        Kind::Duration,
        "5s",
        "for a connection to come about",
    ),
    Key::new(
        "timeout.ack",
        Kind::Duration,
        "30s",
        "how long the sink may be silent while it owes an answer",
    ),
];
