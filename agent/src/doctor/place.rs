//! The data directory: can it be written, is there room, is what waits in it whole.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use weir_journal::{Disk, Storage};

use super::Line;
use crate::config::Config;
use crate::dead_letter::DeadLetters;
use crate::spool::inspect;
use crate::spool::verify::{Verdict, judge};

pub(super) fn examine(config: &Config) -> Vec<Line> {
    let dir = &config.spool.data_dir;
    let shown = dir.display();
    match fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            let found = format!("{shown} is no directory");
            return vec![Line::fail(
                "data",
                found,
                "name another one: spool data lives in --data-dir or WEIR_AGENT_DATA_DIR",
            )];
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let found = format!("{shown} is not there yet");
            return vec![Line::warn(
                "data",
                found,
                "the first `weir-agent run` makes it, if this user may write where it goes",
            )];
        }
        Err(error) => {
            let found = format!("{shown} cannot be looked at: {error}");
            return vec![Line::fail(
                "data",
                found,
                "run this as the user the agent runs as, or give that user the directory",
            )];
        }
    }
    vec![writable(dir), space(config), spool(config), letters(config)]
}

/// A file is made and removed again.
fn writable(dir: &Path) -> Line {
    let probe = dir.join(format!("doctor-{}.tmp", std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&probe);
    let written = written.and_then(|file| file.sync_all());
    let removed = fs::remove_file(&probe);
    match written.and(removed) {
        Ok(()) => Line::ok("data", format!("{} can be written", dir.display())),
        Err(error) => Line::fail(
            "data",
            format!("{} cannot be written: {error}", dir.display()),
            "mount it writable, make room, or give it to the user the agent runs as",
        ),
    }
}

/// Whether the spool can grow to its limit.
fn space(config: &Config) -> Line {
    let dir = &config.spool.data_dir;
    let stats = match rustix::fs::statvfs(dir) {
        Ok(stats) => stats,
        Err(error) => {
            return Line::skip("space", &format!("the file system does not say: {error}"));
        }
    };
    let free = stats.f_bavail.saturating_mul(stats.f_frsize);
    let held = bytes_below(&dir.join("spool")).unwrap_or(0);
    let wanted = config.spool.max_bytes.saturating_sub(held);
    let found = format!(
        "{} MiB are free, the spool may take {} MiB more",
        free >> 20,
        wanted >> 20
    );
    if free >= wanted {
        Line::ok("space", found)
    } else {
        Line::warn(
            "space",
            found,
            "make room, or lower WEIR_AGENT_SPOOL_MAX_BYTES: a disk that fills up first is handled as a full spool is",
        )
    }
}

fn bytes_below(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() {
            bytes_below(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(sum)
}

/// Everything that waits is read.
fn spool(config: &Config) -> Line {
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let judged = inspect::streams(storage.as_ref(), &config.spool.data_dir.join("spool"))
        .map_err(anyhow::Error::from)
        .and_then(|streams| {
            let judged = streams.iter().map(|held| judge(&storage, held));
            Ok(judged.collect::<Result<Vec<Verdict>, _>>()?)
        });
    let verdicts = match judged {
        Ok(verdicts) => verdicts,
        Err(error) => {
            let found = format!("it cannot be read: {error:#}");
            return Line::fail(
                "spool",
                found,
                "run this as the user the agent runs as, and check the disk",
            );
        }
    };
    let sum = |of: fn(&Verdict) -> u64| verdicts.iter().map(of).sum::<u64>();
    let (readings, lost) = (
        sum(|verdict| verdict.readings),
        sum(|verdict| verdict.lost_readings),
    );
    let whole = format!("{} streams with {readings} readings", verdicts.len());
    if verdicts.iter().all(|verdict| verdict.faults.is_empty()) {
        return Line::ok("spool", format!("{whole}, all of which can be read"));
    }
    let found = format!("{whole}, and {lost} that are damaged");
    Line::warn(
        "spool",
        found,
        "`weir-agent spool verify` names them; the agent counts them as dropped and delivers the rest. Check the disk",
    )
}

fn letters(config: &Config) -> Line {
    match DeadLetters::new(&config.spool.data_dir).list() {
        Ok(letters) if letters.is_empty() => Line::ok("letters", "no batch was set aside"),
        Ok(letters) => Line::warn(
            "letters",
            format!("{} batches were refused and set aside", letters.len()),
            "`weir-agent spool ls` says why; once the cause is gone, `weir-agent spool replay --all` sends them again",
        ),
        Err(error) => Line::fail(
            "letters",
            format!("they cannot be listed: {error}"),
            "check the disk",
        ),
    }
}
