//! How slow this machine's disk is while a test runs.
//!
//! A spool promises its commit interval, and the disk adds the time of a sync. On a machine whose disk is busy with something
//! else a sync takes seconds, and a test that allows for less fails for nobody's fault.

use std::fs::File;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the disk is tried.
const EVERY: Duration = Duration::from_millis(100);

static SLOWEST_NS: AtomicU64 = AtomicU64::new(0);
static WATCHED: OnceLock<()> = OnceLock::new();

/// Begins to sync a small file now and then, where temporary files are; once per process, until its end.
pub fn watch() {
    WATCHED.get_or_init(|| {
        let mut file = tempfile::tempfile().expect("a temporary file");
        std::thread::spawn(move || {
            loop {
                note(sync(&mut file));
                std::thread::sleep(EVERY);
            }
        });
    });
}

/// The longest sync since [`watch`]; the one that is under way is not in it.
pub fn slowest_sync() -> Duration {
    Duration::from_nanos(SLOWEST_NS.load(Ordering::Relaxed))
}

fn note(took: Duration) {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    SLOWEST_NS.fetch_max(nanos, Ordering::Relaxed);
}

fn sync(file: &mut File) -> Duration {
    let began = Instant::now();
    file.write_all(&[0; 4096]).expect("written");
    file.sync_data().expect("synced");
    began.elapsed()
}
