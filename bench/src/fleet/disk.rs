//! The disk's own sync, measured beside a run: the measure for the acknowledgements of that run.
//!
//! A page is written behind the former one into a file that has its room already, as the journal
//! does it, and synced; then the disk is left alone for a while, so that the probe is no load.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use rustix::fs::{FallocateFlags, fallocate};
use serde::Serialize;

/// One write.
const PAGE: [u8; 4096] = [0x5a; 4096];
/// Pages before the probe begins again at the front.
const PAGES: u64 = 4096;
/// Between two syncs.
const PAUSE: Duration = Duration::from_millis(20);

/// What `fdatasync` took beside a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Syncs {
    count: u64,
    pub(crate) sync_p50_ms: f64,
    sync_p90_ms: f64,
    pub(crate) sync_p99_ms: f64,
}

/// A thread that syncs a file of its own.
pub(crate) struct Probe {
    /// Dropped to end it.
    stop: Sender<()>,
    thread: JoinHandle<anyhow::Result<Histogram<u64>>>,
}

impl Probe {
    pub(crate) fn start(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("weir-bench-sync");
        let file =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        // The name goes at once, the file with its last handle.
        std::fs::remove_file(&path)?;
        fallocate(&file, FallocateFlags::empty(), 0, PAGES * PAGE.len() as u64)
            .context("no room for the probe of the disk")?;
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || {
                let mut took = Histogram::new(3)?;
                for page in (0..PAGES).cycle() {
                    let begun = Instant::now();
                    file.write_all_at(&PAGE, page * PAGE.len() as u64)?;
                    file.sync_data()?;
                    took.record(u64::try_from(begun.elapsed().as_micros())?)?;
                    if stopped.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout) {
                        break;
                    }
                }
                Ok(took)
            })?;
        Ok(Self { stop, thread })
    }

    pub(crate) fn end(self) -> anyhow::Result<Syncs> {
        drop(self.stop);
        let joined = self.thread.join();
        let took = joined.map_err(|_| anyhow::anyhow!("the probe of the disk panicked"))??;
        let milliseconds = |quantile: f64| took.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Syncs {
            count: took.len(),
            sync_p50_ms: milliseconds(0.5),
            sync_p90_ms: milliseconds(0.9),
            sync_p99_ms: milliseconds(0.99),
        })
    }
}
