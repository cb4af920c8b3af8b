//! The one place that reads the wall clock.
//!
//! Everything that needs a time of day, or a monotonic time that is stored or sent, takes a [`Clock`]. Waiting is not
//! done here: timers belong to tokio, so that tests can pause them.
//!
//! The monotonic clock counts time spent in suspend (`CLOCK_BOOTTIME`), because a device that slept for an hour took
//! no readings for an hour; it is comparable only under one [`Clock::boot_id`].

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// Time of day in nanoseconds since 1970 (UTC). May jump either way.
    fn wall_ns(&self) -> i64;
    /// Nanoseconds since some point of this boot. Never goes back.
    fn monotonic_ns(&self) -> u64;
    /// Names the boot under which monotonic times may be compared.
    fn boot_id(&self) -> [u8; 16];
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_ns(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
        }
    }

    fn monotonic_ns(&self) -> u64 {
        #[cfg(target_os = "linux")]
        let now = clock_gettime(ClockId::Boottime);
        #[cfg(not(target_os = "linux"))]
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
    }

    fn boot_id(&self) -> [u8; 16] {
        static BOOT_ID: OnceLock<[u8; 16]> = OnceLock::new();
        *BOOT_ID.get_or_init(|| {
            fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .ok()
                .and_then(|text| parse_boot_id(&text))
                .unwrap_or_else(random_id)
        })
    }
}

/// Reads the kernel's form: 32 hexadecimal digits with dashes between groups.
fn parse_boot_id(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let number = u128::from_str_radix(&digits, 16).ok()?;
    Some(number.to_be_bytes())
}

/// Stands in where the system does not name its boots: every start of the program is then its own boot.
fn random_id() -> [u8; 16] {
    // std seeds its hashers from the system's random source: enough for an identifier, and no dependency.
    let half = || u128::from(RandomState::new().hash_one(0_u8));
    (half() << 64 | half()).to_be_bytes()
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock {
    wall_ns: AtomicI64,
    monotonic_ns: AtomicU64,
    boot_id: [u8; 16],
}

impl ManualClock {
    /// A clock that shows `wall_ns`, with a monotonic time of one second and a fixed boot id.
    pub fn new(wall_ns: i64) -> Self {
        Self {
            wall_ns: AtomicI64::new(wall_ns),
            monotonic_ns: AtomicU64::new(1_000_000_000),
            boot_id: [7; 16],
        }
    }

    /// The same clock under another boot.
    #[must_use]
    pub fn with_boot_id(mut self, boot_id: [u8; 16]) -> Self {
        self.boot_id = boot_id;
        self
    }

    /// Lets time pass: both clocks move on.
    pub fn advance(&self, by: Duration) {
        let ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.monotonic_ns.fetch_add(ns, Ordering::SeqCst);
        let ns = i64::try_from(ns).unwrap_or(i64::MAX);
        self.wall_ns.fetch_add(ns, Ordering::SeqCst);
    }

    /// Sets the time of day alone, as an operator or NTP does.
    pub fn set_wall(&self, wall_ns: i64) {
        self.wall_ns.store(wall_ns, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall_ns(&self) -> i64 {
        self.wall_ns.load(Ordering::SeqCst)
    }

    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns.load(Ordering::SeqCst)
    }

    fn boot_id(&self) -> [u8; 16] {
        self.boot_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_after_2024_and_never_goes_back() {
        let clock = SystemClock;
        assert!(clock.wall_ns() > 1_700_000_000_000_000_000);
        let first = clock.monotonic_ns();
        assert!(first > 0);
        assert!(clock.monotonic_ns() >= first);
        assert_eq!(clock.boot_id(), SystemClock.boot_id());
    }

    #[test]
    fn reads_the_kernels_boot_id_and_refuses_anything_else() {
        let id = parse_boot_id("00112233-4455-6677-8899-aabbccddeeff\n").unwrap();
        assert_eq!(id[..3], [0, 0x11, 0x22]);
        assert_eq!(id[15], 0xff);
        assert_eq!(parse_boot_id("unknown"), None);
        assert_eq!(parse_boot_id("+0112233445566778899aabbccddeeff"), None);
    }

    #[test]
    fn two_random_boot_ids_differ() {
        assert_ne!(random_id(), random_id());
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(5);
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.wall_ns(), 2_000_000_005);
        assert_eq!(clock.monotonic_ns(), 3_000_000_000);
        clock.set_wall(-1);
        assert_eq!(clock.wall_ns(), -1);
        assert_eq!(clock.monotonic_ns(), 3_000_000_000);
    }
}
