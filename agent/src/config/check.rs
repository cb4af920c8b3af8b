//! Settings that are fine by themselves and contradict each other.
//!
//! In: everything read. Out: a fault per contradiction, under the key that is to be changed. A default
//! that does not fit what was set is no fault: it gives way where it is used.

use std::net::SocketAddr;

use url::{Host, Url};
use weir_process::config::Reader;

use super::Config;

/// What a record takes on disk beside its payload, at most.
const RECORD_BYTES: u64 = 256;

pub(super) fn contradictions(reader: &mut Reader, config: &Config) {
    let spool = &config.spool;
    if reader.is_set("spool.segment_bytes") && spool.segment_bytes > spool.max_bytes {
        reader.fault(
            "spool.segment_bytes",
            format!(
                "is more than spool.max_bytes, {}: room is made by whole segments",
                spool.max_bytes
            ),
        );
    }
    let batch_bytes = config.batch.bytes as u64;
    if reader.is_set("batch.max_bytes") && batch_bytes + RECORD_BYTES > spool.max_bytes / 2 {
        reader.fault(
            "batch.max_bytes",
            format!(
                "is more than half of spool.max_bytes, {}: such a batch could never be kept",
                spool.max_bytes
            ),
        );
    }
    if reader.is_set("queue.max_bytes") && config.queue_limit.bytes < config.batch.bytes {
        reader.fault(
            "queue.max_bytes",
            format!(
                "is less than one batch: write at least batch.max_bytes, which is {}",
                config.batch.bytes
            ),
        );
    }
    let sender = &config.sender;
    if reader.is_set("request.max_bytes") && sender.request_max_bytes as u64 > sender.window_bytes {
        reader.fault(
            "request.max_bytes",
            format!(
                "is more than request.window_bytes, {}: no request could be full",
                sender.window_bytes
            ),
        );
    }
    if let Some(listen) = config.status_listen
        && is_own(&config.sink_url, listen)
    {
        reader.fault(
            "sink.url",
            format!("is this agent's own status.listen, {listen}: name the gRPC port of a sink"),
        );
    }
}

/// Whether the URL leads to a listener of this agent.
fn is_own(sink: &Url, listen: SocketAddr) -> bool {
    let to_this_machine = match sink.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback() || listen.ip() == ip,
        Some(Host::Ipv6(ip)) => ip.is_loopback() || listen.ip() == ip,
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    to_this_machine && listen.port() != 0 && sink.port_or_known_default() == Some(listen.port())
}
