//! The tables of the report, in Markdown.

use crate::work::Measured;
use crate::{connections, footprint, restart, tls};

/// The machine, the commit and the command.
pub(super) fn machine(commit: &str) -> anyhow::Result<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let memory = read("/proc/meminfo");
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap_or(0);
    let load = read("/proc/loadavg");
    let cores = std::thread::available_parallelism()?;
    Ok(format!(
        "Commit `{commit}`. {model}, {cores} cores, {} GiB, Linux {}; load of the machine when the report was written: {}.\n",
        kib >> 20,
        release(&read("/proc/sys/kernel/osrelease")),
        load.split(' ').next().unwrap_or("unknown"),
    ))
}

/// What a point costs.
pub(super) fn works(works: &[(Measured, bool)]) -> String {
    let mut text = String::from(
        "| work | M points per CPU-second | CPU, ns per point | bytes on the wire | bytes on disk | ack p50 / p99, ms | ledger |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for (one, merging) in works {
        text += &format!(
            "| {}{} | {:.2} | {:.0} | {:.2} | {:.2} | {:.0} / {:.0} | {} |\n",
            one.work,
            if *merging { ", with compaction" } else { "" },
            one.points_per_cpu_second() / 1e6,
            one.cpu_ns_per_point,
            one.wire_bytes_per_point,
            one.disk_bytes_per_point,
            one.ack_p50_ms,
            one.ack_p99_ms,
            if one.closed { "closed" } else { "**open**" },
        );
    }
    text
}

/// What an agent uses.
pub(super) fn agents(agents: &[footprint::Outcome]) -> String {
    let mut text = String::from(
        "| agent | CPU, % of a core | resident, MiB | of it its own | threads | switches per second | bytes to disk per second | its file, MiB |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for one in agents {
        text += &format!(
            "| {} series every {} ms | {:.3} | {:.1} | {:.1} | {} | {:.0} | {:.0} | {:.1} |\n",
            one.series,
            one.interval_ms,
            one.cpu_percent,
            one.resident_kib as f64 / 1024.0,
            one.own_kib as f64 / 1024.0,
            one.threads,
            one.switches_per_second,
            one.disk_bytes_per_second,
            one.file_bytes as f64 / 1024.0 / 1024.0,
        );
    }
    text
}

/// Many agents on one sink.
pub(super) fn connections(many: &connections::Outcome) -> String {
    let rows = [
        ("all connected and welcomed, s", many.storm_seconds),
        ("Welcome p99, ms", many.welcome_p99_ms),
        ("KiB per idle connection", many.idle_kib_per_connection),
        (
            "KiB per connection after one batch of ten readings",
            many.used_kib_per_connection,
        ),
        ("KiB more per large message, right after it", many.large_kib),
        ("the same half a minute later", many.large_later_kib),
        ("ack p50, ms", many.ack_p50_ms),
        ("ack p99, ms", many.ack_p99_ms),
        ("ack p50 beside a flood, ms", many.flooded_p50_ms),
        ("ack p99 beside a flood, ms", many.flooded_p99_ms),
        (
            "the flood, M points per second",
            many.flood_points_per_second / 1e6,
        ),
    ];
    let mut text = format!("| {} connections, no TLS | |\n|---|---|\n", many.agents);
    for (what, value) in rows {
        text += &format!("| {what} | {value:.1} |\n");
    }
    text
}

/// With TLS beside without.
pub(super) fn tls(tls: &tls::Outcome) -> String {
    let mut text = format!(
        "| 100 samples of 100 metrics per batch; with TLS {:.2} of the points per CPU-second | M points per CPU-second | ack p50, ms | ack p99, ms | \
         KiB per idle connection | KiB more some time after a large message |\n|---|---|---|---|---|---|\n",
        tls.share()
    );
    for (name, [points, p50, p99, idle, large]) in tls.rows() {
        text +=
            &format!("| {name} | {points:.2} | {p50:.0} | {p99:.0} | {idle:.1} | {large:.1} |\n");
    }
    text
}

/// A kill with much in the journal.
pub(super) fn restart(again: &restart::Outcome) -> String {
    format!(
        "| restart with {} MiB of journal | s | of it CPU | MiB |\n|---|---|---|---|\n\
         | ready | {:.1} | {:.1} | {} |\n| everything folded | {:.1} | {:.1} | {} at most |\n",
        again.journal_mib,
        again.ready_seconds,
        again.ready_cpu_seconds,
        again.ready_memory_mib,
        again.caught_up_seconds,
        again.caught_up_cpu_seconds,
        again.most_memory_mib,
    )
}

/// The first two numbers of a kernel's release: what follows is its builder's.
fn release(text: &str) -> String {
    text.trim()
        .splitn(3, '.')
        .take(2)
        .collect::<Vec<_>>()
        .join(".")
}
