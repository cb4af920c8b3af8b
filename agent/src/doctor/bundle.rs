//! The support archive: a gzipped tar of what somebody who helps asks for first.
//!
//! In: the settings as they may be shown, and a report. Out: a new file that only its owner can read. Secrets are `***`
//! and URLs are without user and password, because [`Effective`] has nothing else; no reading is in it.
//!
//! | file | content |
//! |---|---|
//! | `doctor.txt`, `doctor.json` | the report |
//! | `config.json` | every setting, its value and where that came from |
//! | `host.txt` | version, operating system, kernel, processor |
//! | `spool.json` | what each stream of the spool holds, in numbers |
//! | `letters.json` | the notes of batches that were set aside |
//! | `status.json`, `readyz.txt`, `metrics.txt` | what the running agent answers, where one runs |

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use weir_journal::{Disk, Storage};
use weir_process::config::Effective;
use weir_process::metrics::version_with_commit;

use super::Report;
use crate::config::Config;
use crate::dead_letter::DeadLetters;
use crate::spool::inspect;
use crate::spool::verify::judge;

/// Most of an answer of the running agent that is kept.
const ANSWER_LIMIT: usize = 8 << 20;

/// Collects everything but what is asked of the disk; `config` is none where the settings have faults.
pub(crate) async fn collect(
    report: &Report,
    config: Option<&Config>,
) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut files = vec![
        ("doctor.txt".to_owned(), report.to_text().into_bytes()),
        ("doctor.json".to_owned(), serde_json::to_vec_pretty(report)?),
        ("host.txt".to_owned(), host().into_bytes()),
    ];
    let Some(config) = config else {
        return Ok(files);
    };
    files.push(("config.json".to_owned(), settings(&config.effective)?));
    files.extend(disk(config));
    for (path, name) in [
        ("/status", "status.json"),
        ("/readyz", "readyz.txt"),
        ("/metrics", "metrics.txt"),
    ] {
        let Some(url) = crate::cli::endpoint(config, path) else {
            continue;
        };
        let text = match weir_process::http::get(&url, Duration::from_secs(5)).await {
            Ok(reply) => reply.body.to_vec(),
            Err(error) => format!("no answer: {error}\n").into_bytes(),
        };
        files.push((
            name.to_owned(),
            text.into_iter().take(ANSWER_LIMIT).collect(),
        ));
    }
    Ok(files)
}

/// Writes a new archive.
///
/// # Errors
/// When the file exists, or cannot be written.
pub(crate) fn write(path: &Path, files: &[(String, Vec<u8>)]) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now.as_ref().map_or(0, Duration::as_secs));
        archive.append_data(
            &mut header,
            format!("weir-agent-support/{name}"),
            content.as_slice(),
        )?;
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.sync_all()
}

fn settings(effective: &Effective) -> io::Result<Vec<u8>> {
    let one = |setting: &weir_process::config::Setting| {
        let (value, source) = (&setting.value, setting.source.to_string());
        (
            setting.name,
            serde_json::json!({ "value": value, "source": source }),
        )
    };
    let all: std::collections::BTreeMap<_, _> = effective.0.iter().map(one).collect();
    Ok(serde_json::to_vec_pretty(&all)?)
}

fn disk(config: &Config) -> Vec<(String, Vec<u8>)> {
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let spool = inspect::streams(storage.as_ref(), &config.spool.data_dir.join("spool"));
    let spool = match spool {
        Ok(streams) => {
            let judged = streams.iter().map(|held| match judge(&storage, held) {
                Ok(verdict) => serde_json::json!(verdict),
                Err(error) => serde_json::json!({ "error": error.to_string() }),
            });
            serde_json::Value::Array(judged.collect())
        }
        Err(error) => serde_json::json!({ "error": error.to_string() }),
    };
    let letters = match DeadLetters::new(&config.spool.data_dir).list() {
        Ok(letters) => serde_json::json!(letters),
        Err(error) => serde_json::json!({ "error": error.to_string() }),
    };
    vec![
        ("spool.json".to_owned(), format!("{spool:#}\n").into_bytes()),
        (
            "letters.json".to_owned(),
            format!("{letters:#}\n").into_bytes(),
        ),
    ]
}

fn host() -> String {
    let known = |name: &str, value: Option<String>| {
        format!(
            "{name}: {}\n",
            value.unwrap_or_else(|| "unknown".to_owned())
        )
    };
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let release = read("/etc/os-release").and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
        Some(line.trim_matches('"').to_owned())
    });
    [
        known(
            "weir-agent",
            Some(version_with_commit(env!("CARGO_PKG_VERSION"))),
        ),
        known("system", release),
        known(
            "kernel",
            read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
        ),
        known("architecture", Some(std::env::consts::ARCH.to_owned())),
        known(
            "page size",
            read("/proc/self/smaps").and_then(|text| {
                let size = text
                    .lines()
                    .find_map(|line| line.strip_prefix("KernelPageSize:"))?;
                Some(size.trim().to_owned())
            }),
        ),
        known(
            "memory",
            read("/proc/meminfo").and_then(|text| Some(text.lines().next()?.to_owned())),
        ),
        known(
            "uptime and idle seconds",
            read("/proc/uptime").map(|text| text.trim().to_owned()),
        ),
    ]
    .concat()
}
