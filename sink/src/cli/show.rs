//! Answers of a sink as text.

use weir_process::output::{self, Align, Table};

use crate::ledger::{FileLost, Files, Ledger, Line};

/// The ledger as a table, and what stands beside it.
pub(super) fn ledger(ledger: &Ledger) -> String {
    let mut table = Table::new([
        ("agent", Align::Left),
        ("stream", Align::Left),
        ("produced", Align::Right),
        ("stored", Align::Right),
        ("spooled", Align::Right),
        ("dropped", Align::Right),
        ("unexplained", Align::Right),
        ("durable through", Align::Right),
        ("state", Align::Left),
    ]);
    for line in &ledger.streams {
        table.row([
            line.agent.clone(),
            line.stream_id.chars().take(8).collect(),
            line.produced.to_string(),
            line.stored.to_string(),
            line.spooled.to_string(),
            dropped(line),
            line.unexplained.to_string(),
            line.durable_through.to_string(),
            if line.closed { "closed" } else { "open" }.to_owned(),
        ]);
    }
    let totals = &ledger.totals;
    table.row([
        "total".to_owned(),
        format!("{} streams", totals.streams),
        totals.produced.to_string(),
        totals.stored.to_string(),
        totals.spooled.to_string(),
        totals.dropped.to_string(),
        totals.unexplained.to_string(),
    ]);
    let mut text = table.render();
    for lost in &ledger.file_lost {
        text.push_str(&lost_text(lost));
    }
    for audit in ledger.audit.iter().flatten() {
        text.push_str(&format!(
            "audit of {}: {} written, {} in files, {} expired, {} lost, {} unexplained\n",
            audit.tenant,
            audit.stored,
            audit.in_files,
            audit.expired,
            audit.lost,
            audit.unexplained
        ));
        for fault in &audit.faults {
            text.push_str(&format!("  {}\n", output::printable(fault)));
        }
    }
    text
}

/// `0`, or the sum and the reasons: `7 (refused 4, spool_oldest 3)`.
fn dropped(line: &Line) -> String {
    let total = line.dropped_total();
    if total == 0 {
        return "0".to_owned();
    }
    let reasons: Vec<String> = line
        .dropped
        .iter()
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    format!("{total} ({})", reasons.join(", "))
}

/// Damaged files, and those that were given up.
pub(super) fn files(files: &Files) -> String {
    let mut text = String::new();
    for damaged in &files.damaged {
        let (file, why) = (
            output::printable(&damaged.file),
            output::printable(&damaged.why),
        );
        let readings = damaged.readings;
        text.push_str(&format!("{file}: {readings} readings: {why}\n"));
    }
    for lost in &files.lost {
        text.push_str(&lost_text(lost));
    }
    if text.is_empty() {
        text.push_str("no data file is known to be missing or damaged\n");
    }
    text
}

fn lost_text(lost: &FileLost) -> String {
    let file = output::printable(&lost.file);
    format!(
        "dropped (file_lost {}): stored and lost with {file}\n",
        lost.readings
    )
}
