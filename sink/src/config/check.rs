//! Settings that are fine by themselves and contradict each other.
//!
//! In: everything read. Out: a fault per contradiction, under the key that is to be changed.

use std::net::SocketAddr;
use std::path::Path;

use weir_process::config::Reader;

use super::Config;

/// Segments a journal needs at least: what is folded is given back by whole ones.
const FEWEST_SEGMENTS: u64 = 4;

/// Of those who listen: two ports that are one, and anything that goes beyond this machine in the clear by accident.
pub(super) fn listening(reader: &mut Reader, config: &Config) {
    if is_one_place(config.grpc_listen, config.http_listen) {
        let grpc = config.grpc_listen;
        reader.fault(
            "http.listen",
            format!("is the address of grpc.listen, {grpc}: each needs a port of its own"),
        );
    }
    if config.tls.is_none() && !config.allow_plaintext {
        plaintext(reader, "grpc.listen", config.grpc_listen);
        plaintext(reader, "http.listen", config.http_listen);
    }
}

fn plaintext(reader: &mut Reader, name: &str, address: SocketAddr) {
    if !address.ip().is_loopback() {
        reader.fault(
            name,
            format!(
                "{address} is beyond loopback and there is no TLS: set WEIR_SINK_TLS_CERT and WEIR_SINK_TLS_KEY (`weir-sink certs init` makes both), or set WEIR_SINK_ALLOW_PLAINTEXT=true to accept that anybody on the way can read and change what is sent"
            ),
        );
    }
}

pub(super) fn contradictions(reader: &mut Reader, config: &Config) {
    sizes(reader, config);
    places(reader, config);
}

fn sizes(reader: &mut Reader, config: &Config) {
    let journal = &config.journal;
    // A default gives way: the journal takes a quarter of its limit where that is less.
    if reader.is_set("journal.segment_bytes")
        && journal.segment_bytes > journal.max_bytes / FEWEST_SEGMENTS
    {
        reader.fault(
            "journal.segment_bytes",
            format!(
                "is more than a quarter of journal.max_bytes, which is {} bytes: the journal is given back by whole segments",
                journal.max_bytes
            ),
        );
    }
    if reader.is_set("journal.queue_bytes") && journal.queue_bytes > config.ingest.high_water_bytes
    {
        reader.fault(
            "journal.queue_bytes",
            format!(
                "is more than the journal takes, which is nine tenths of journal.max_bytes: write at most {} bytes",
                config.ingest.high_water_bytes
            ),
        );
    }
    if config.ingest.window_bytes > journal.queue_bytes && reader.is_set("ingest.window_bytes") {
        reader.fault(
            "ingest.window_bytes",
            format!(
                "is more than journal.queue_bytes, {}: one agent would be promised more than all may have waiting",
                journal.queue_bytes
            ),
        );
    }
}

/// Journal, catalog and files must not lie in each other: each takes what it finds for its own.
fn places(reader: &mut Reader, config: &Config) {
    let (journal, store) = (&*config.journal_dir, &*config.store_dir);
    if overlap(journal, store) {
        let blamed = [("store.url", "log.url"), ("log.url", "store.url")];
        let (name, other) = blamed[usize::from(!reader.is_set("store.url"))];
        reader.fault(
            name,
            format!("lies in the directory of {other}, or around it: give each its own"),
        );
    }
    for (name, dir) in [("log.url", journal), ("store.url", store)] {
        if config.catalog_file.starts_with(dir) {
            reader.fault(
                "catalog.url",
                format!("lies in the directory of {name}: give it another"),
            );
        }
    }
}

fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

/// Whether two listeners would ask for the same port of the same address. Port 0 is a free one for each.
fn is_one_place(a: SocketAddr, b: SocketAddr) -> bool {
    let same_address = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_address
}
