//! Which refusals are noted in the audit log: the first of each kind and place in a minute, and not more of them in
//! all than a log can take. The metric counts every one.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

/// How long one line stands for all that are like it.
const EVERY: Duration = Duration::from_secs(60);

/// Lines in that time, whoever they are about.
const MAX_LINES: usize = 60;

/// What makes two refusals alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Like {
    /// Of the token, where that is known.
    pub(super) id: Option<String>,
    pub(super) from: Option<IpAddr>,
    pub(super) reason: &'static str,
}

/// See the module. The clock is the caller's, and monotonic.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    since_ns: u64,
    noted: HashSet<Like>,
}

impl Refusals {
    /// Whether this one is to be noted.
    pub(super) fn is_news(&mut self, like: Like, now_ns: u64) -> bool {
        let passed = Duration::from_nanos(now_ns.saturating_sub(self.since_ns));
        if passed >= EVERY {
            self.since_ns = now_ns;
            self.noted.clear();
        }
        self.noted.len() < MAX_LINES && self.noted.insert(like)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(octet: u8) -> Like {
        Like {
            id: None,
            from: Some(IpAddr::from([127, 0, 0, octet])),
            reason: "unknown",
        }
    }

    /// Red when a flood is noted line by line, or when nothing is noted after it.
    #[test]
    fn a_flood_is_a_line_for_each_place_and_has_an_end() {
        let minute = u64::try_from(EVERY.as_nanos()).unwrap();
        let mut refusals = Refusals::default();
        assert!(refusals.is_news(like(1), minute));
        assert!(!refusals.is_news(like(1), minute + 1));
        assert!(refusals.is_news(like(2), minute + 2));
        let more = (3..=255).filter(|octet| refusals.is_news(like(*octet), minute + 3));
        assert_eq!(more.count(), MAX_LINES - 2);
        assert!(refusals.is_news(like(1), 2 * minute));
    }
}
