//! Resident memory of a process, and what counts as flat; bytes on disk.

use std::path::Path;
use std::time::{Duration, Instant};

/// Resident bytes of a process; nothing when it does not run.
pub fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Bytes of all files below; those that go away meanwhile do not count.
pub fn bytes_below(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Resident memory over a while: flat when the median of the last quarter is at most that of the second quarter and what
/// the caller allows: less than would be kept in half of the time, were something kept. The first quarter is left out,
/// because caches fill; the third, so that what is compared lies apart.
#[derive(Clone, Debug, Default)]
pub struct Watch(Vec<u64>);

impl Watch {
    /// Looks at a process now; one that does not run is not counted.
    pub fn look(&mut self, pid: u32) {
        self.0.extend(resident(pid));
    }

    /// Looks ten times a second for so long.
    pub async fn over(pid: u32, span: Duration) -> Self {
        let mut watch = Self::default();
        let end = Instant::now() + span;
        while Instant::now() < end {
            watch.look(pid);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        watch
    }

    /// The medians of the second and of the last quarter, in bytes.
    ///
    /// # Panics
    /// When there are fewer than eight looks: nobody could tell.
    pub fn quarters(&self) -> (u64, u64) {
        let length = self.0.len();
        assert!(length >= 8, "{length} looks are too few");
        let median = |quarter: &[u64]| {
            let mut sorted = quarter.to_vec();
            sorted.sort_unstable();
            sorted[sorted.len() / 2]
        };
        let quarter = length / 4;
        (
            median(&self.0[quarter..2 * quarter]),
            median(&self.0[length - quarter..]),
        )
    }

    /// Asserts that it is flat but for `more` bytes, and answers what it is.
    ///
    /// # Panics
    /// When it is not.
    pub fn assert_flat(&self, what: &str, more: u64) -> String {
        let (second, last) = self.quarters();
        let text = format!(
            "memory of {what}: {} KiB in the second quarter, {} KiB in the last, of {} looks",
            second >> 10,
            last >> 10,
            self.0.len()
        );
        assert!(last <= second + more, "{text}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red when the rule compares the wrong quarters, or allows more than it says.
    #[test]
    fn a_leak_is_not_flat_and_a_warm_up_is() {
        let mib = |of: fn(u64) -> u64| Watch((0..100).map(|n| of(n) << 20).collect());
        let flat = |watch: &Watch| {
            std::panic::catch_unwind(|| watch.assert_flat("a test", 4 << 20)).is_ok()
        };
        assert!(flat(&mib(|n| if n < 25 { n } else { 40 })));
        assert!(flat(&mib(|n| if n < 75 { 40 } else { 44 })));
        assert!(!flat(&mib(|n| if n < 75 { 40 } else { 45 })));
        assert!(!flat(&mib(|n| 40 + n / 10)));
    }
}
