//! Memory that was freed and is the process's still goes back to the system.
//!
//! glibc keeps what is freed in the middle of its heaps: a start-up's parsing stays resident in an agent for months, a
//! peak's buffers in a sink. [`give_back`] is the only call of unsafe code in the workspace's programs, to a
//! function without arguments that matter and without a result that is needed.

#![allow(
    unsafe_code,
    reason = "malloc_trim is C's; it may be called at any time from any thread"
)]

use std::time::Duration;

/// How often a program looks whether there is something to give back.
pub const GIVE_BACK_EVERY: Duration = Duration::from_secs(20);

/// Gives whole free pages back. Takes microseconds for an agent, and up to some ten milliseconds for a large heap, during
/// which other threads wait for memory: a busy program does it when it is not busy. Does nothing where the
/// allocator is not glibc's.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it has no preconditions; glibc locks its heaps itself.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Looks at which a program that never rests gives back: every five minutes.
const BUSY_LOOKS: u32 = 15;

/// Gives back once each time the work that `done` counts has come to rest, and now and then where it never does.
pub async fn give_back_at_rest(done: impl Fn() -> u64) {
    let (mut before, mut given, mut looks) = (done(), false, 0);
    loop {
        tokio::time::sleep(GIVE_BACK_EVERY).await;
        let now = done();
        let rests = now == before;
        looks += 1;
        if (rests && !given) || (!rests && looks >= BUSY_LOOKS) {
            give_back();
            looks = 0;
        }
        (before, given) = (now, rests);
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.expect("a number").parse().expect("a number")
    }

    /// Every fiftieth of many small pieces stays: the heap cannot shrink at its end. Fails when nothing is given back.
    #[test]
    fn what_is_free_between_what_is_used_goes_back() {
        let mut pieces: Vec<Option<Vec<u8>>> = (0..40_000).map(|_| Some(vec![1; 2000])).collect();
        for (i, piece) in pieces.iter_mut().enumerate() {
            if i % 50 != 0 {
                *piece = None;
            }
        }
        let before = resident_kib();
        give_back();
        let after = resident_kib();
        assert!(after + 40_000 < before, "{before} KiB, then {after}");
        assert_eq!(pieces.iter().flatten().count(), 800);
    }
}
