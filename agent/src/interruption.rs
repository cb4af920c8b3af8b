//! What the time since the agent's last reading cost: ticks that never became readings because the
//! agent did not run.
//!
//! In: the newest observed time in what earlier runs left in the spool, and a marker file that
//! stands in the data directory while an agent runs (`running`, empty). Out: an upper bound of
//! missed ticks per sensor, with `reason="crash"` when the marker was still there and
//! `reason="down"` after a clean stop. Nothing is counted when no earlier reading is left to count
//! from. It stands beside the ledger, never inside it: these readings never were.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use weir_journal::Storage;

use crate::metrics::Missed;

/// The marker's name in the data directory.
const MARKER: &str = "running";

/// The time between the last reading of an earlier run and this start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interruption {
    /// Why there were no readings.
    pub(crate) reason: Missed,
    /// From the last durable reading to now; nothing by a clock that was set back.
    pub(crate) lasted: Duration,
}

impl Interruption {
    /// What there was since the last durable reading, where one is left.
    pub(crate) fn since(last_ns: Option<i64>, now_ns: i64, crashed: bool) -> Option<Self> {
        last_ns.map(|last_ns| Self::between(last_ns, now_ns, crashed))
    }

    /// What there was between `last_ns`, the observed time of the last durable reading, and `now_ns`.
    fn between(last_ns: i64, now_ns: i64, crashed: bool) -> Self {
        let lasted = u64::try_from(now_ns.saturating_sub(last_ns)).unwrap_or(0);
        Self {
            reason: if crashed { Missed::Crash } else { Missed::Down },
            lasted: Duration::from_nanos(lasted),
        }
    }

    /// Ticks a sensor missed: those that lie wholly inside, so that the one that gave the last
    /// reading and the first one of this run are not among them.
    pub(crate) fn ticks(&self, interval: Duration) -> u64 {
        let ticks = self.lasted.as_nanos() / interval.as_nanos().max(1);
        u64::try_from(ticks).unwrap_or(u64::MAX).saturating_sub(1)
    }
}

/// Stands in the data directory while an agent runs.
#[derive(Debug)]
pub(crate) struct Marker {
    storage: Arc<dyn Storage>,
    path: PathBuf,
}

impl Marker {
    /// Sets the marker and says whether it stood there already: the last run did not end cleanly.
    ///
    /// # Errors
    /// The data directory cannot be written.
    pub(crate) fn set(storage: Arc<dyn Storage>, data_dir: &Path) -> io::Result<(Self, bool)> {
        let path = data_dir.join(MARKER);
        let stood = storage.open(&path).is_ok();
        let set = storage.create(&path).and_then(|file| {
            file.sync_all()?;
            storage.sync_dir(data_dir)
        });
        match set {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!(path = %path.display(), %error, "cannot set the marker: after a crash the next start will speak of a stop");
            }
            other => other?,
        }
        Ok((Self { storage, path }, stood))
    }

    /// Takes the marker away after a clean stop.
    pub(crate) fn clear(&self) {
        if let Err(error) = self.storage.remove(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove: the next start will speak of a crash");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn disk() -> Arc<dyn Storage> {
        Arc::new(weir_journal::Disk)
    }

    #[test]
    fn ticks_wholly_inside_are_counted() {
        let second = Duration::from_secs(1);
        let between = |to_ns| Interruption::between(0, to_ns, true).ticks(second);
        assert_eq!(between(10 * SECOND), 9);
        assert_eq!(between(SECOND + 1), 0);
        assert_eq!(between(SECOND / 2), 0);
        assert_eq!(between(-SECOND), 0);
        assert_eq!(
            Interruption::between(0, i64::MAX, true).ticks(Duration::ZERO),
            i64::MAX as u64 - 1
        );
    }

    #[test]
    fn marker_tells_a_crash_from_a_stop() {
        let dir = tempfile::tempdir().expect("a directory");
        let (marker, crashed) = Marker::set(disk(), dir.path()).expect("writable");
        assert!(!crashed);
        drop(marker);
        let (marker, crashed) = Marker::set(disk(), dir.path()).expect("writable");
        assert!(crashed, "nobody cleared it");
        marker.clear();
        let (_, crashed) = Marker::set(disk(), dir.path()).expect("writable");
        assert!(!crashed);
    }
}
