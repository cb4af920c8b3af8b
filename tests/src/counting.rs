//! Readings that have names: an agent whose simulated sensor holds how often it was read, from 1 in
//! every life. What must be stored then follows from when each life ran and what it said of itself,
//! never from the table: 1, 2, 3 ... without a gap, as far as it had committed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::wait::until;
use crate::world::Sink;

/// The settings that make an agent count.
pub const COUNTING: [(&str, &str); 3] = [
    ("SENSORS", "simulated"),
    ("SIMULATED_MODE", "counter"),
    ("SIMULATED_METRICS", "1"),
];

/// A fold that has not caught up by then never will.
const LIMIT: Duration = Duration::from_secs(60);

/// (observed ns, value).
pub type Reading = (i64, u64);

/// One run of an agent, by the wall clock, and what it said of itself.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    began_ns: i64,
    ended_ns: i64,
    /// Readings that must be stored, whatever happened.
    committed: u64,
}

impl Life {
    /// The process is about to start.
    pub fn begin() -> Self {
        Self {
            began_ns: wall_ns(),
            ended_ns: i64::MAX,
            committed: 0,
        }
    }

    /// The process is gone.
    pub fn end(&mut self) {
        self.ended_ns = wall_ns();
    }

    /// Takes in what the agent says of itself: what it has committed may not be lost by a kill.
    pub fn hear(&mut self, status: &Value) {
        self.committed = self.committed.max(committed(status));
    }

    /// Takes in what the agent says of itself before a clean stop, which may not lose anything that
    /// was read.
    pub fn hear_before_stop(&mut self, status: &Value) {
        let reads = status["sensors"][0]["reads"].as_u64().unwrap_or(0);
        self.committed = self.committed.max(reads);
    }

    /// Readings that must be stored.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// When it ran, in Unix nanoseconds.
    pub fn span(&self) -> (i64, i64) {
        (self.began_ns, self.ended_ns)
    }

    /// Compares the life with what is stored of it, in the order of time: no gap, no double, all
    /// that was committed, and no more than `loss_bound` missing at the end.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, stored: &[Reading], loss_bound: Duration) -> Result<(), String> {
        for (at, (_, value)) in stored.iter().enumerate() {
            if *value != at as u64 + 1 {
                let around = &stored[at.saturating_sub(2)..stored.len().min(at + 3)];
                let which = at + 1;
                return Err(format!(
                    "reading {which} is missing or doubled, around it is {around:?}"
                ));
            }
        }
        let (count, committed) = (stored.len() as u64, self.committed);
        if count < committed {
            return Err(format!(
                "{committed} readings were committed, {count} are stored"
            ));
        }
        let last = stored.last().map_or(self.began_ns, |(time, _)| *time);
        let lost = Duration::from_nanos((self.ended_ns - last).unsigned_abs());
        if lost > loss_bound {
            return Err(format!("the last {lost:?} are missing"));
        }
        Ok(())
    }
}

/// Readings of the stream that is being written, as a status document has it.
pub fn committed(status: &Value) -> u64 {
    let streams = status["streams"].as_array().into_iter().flatten();
    let live = streams.filter(|stream| stream["live"] == true);
    live.filter_map(|stream| stream["produced"].as_u64()).sum()
}

/// Checks all lives of an agent against all that is stored of it, both in the order of time.
///
/// # Errors
/// What is wrong with the first life that is.
pub fn check_lives(stored: &[Reading], lives: &[Life], loss_bound: Duration) -> Result<(), String> {
    let mut counted = 0;
    for (number, life) in lives.iter().enumerate() {
        let inside = |(time, _): &&Reading| (life.began_ns..=life.ended_ns).contains(time);
        let own: Vec<Reading> = stored.iter().filter(inside).copied().collect();
        counted += own.len();
        life.check(&own, loss_bound)
            .map_err(|found| format!("life {number} of {}: {found}", lives.len()))?;
    }
    if counted < stored.len() {
        return Err(format!("{} readings of no life", stored.len() - counted));
    }
    Ok(())
}

/// Waits until everything an agent delivered is folded.
pub async fn folded(sink: &Sink, agent: &str) {
    until(&format!("the fold of {agent}"), LIMIT, || async {
        let ledger = sink.ledger().await;
        let mut of_agent = ledger.iter().filter(|stream| stream["agent"] == agent);
        of_agent
            .all(|stream| stream["pending_fold"] == 0)
            .then_some(())
    })
    .await;
}

/// All that is stored of an agent, in the order of time.
pub async fn readings(sink: &Sink, agent: &str) -> Vec<Reading> {
    readings_between(sink, agent, (i64::MIN, i64::MAX)).await
}

/// What is stored of an agent between two moments, in the order of time.
pub async fn readings_between(sink: &Sink, agent: &str, (from, to): (i64, i64)) -> Vec<Reading> {
    let query = format!(
        "select cast(time as bigint), value from samples where agent = '{agent}' \
         and cast(time as bigint) >= {from} and cast(time as bigint) <= {to} order by 1, 2"
    );
    let rows = sink.sql(&query).await;
    let row = |row: &Vec<Value>| {
        let time = row[0].as_i64().expect("a time in nanoseconds");
        (time, row[1].as_f64().expect("a number") as u64)
    };
    rows.iter().map(row).collect()
}

/// The rows in the files are those of the ledger.
///
/// # Errors
/// What `weir-sink ledger --audit` says.
pub fn audited(sink: &Sink) -> Result<(), String> {
    let audit = sink.audit();
    if audit.status.success() {
        return Ok(());
    }
    Err(format!(
        "the audit failed: {}{}",
        String::from_utf8_lossy(&audit.stdout),
        String::from_utf8_lossy(&audit.stderr)
    ))
}

/// Unix nanoseconds.
pub fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanos = since.expect("a clock behind 1970").as_nanos();
    i64::try_from(nanos).expect("a clock before 2262")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1);

    fn life(committed: u64) -> Life {
        Life {
            began_ns: 0,
            ended_ns: 1000,
            committed,
        }
    }

    #[test]
    fn whole_life_is_accepted() {
        let stored = [(10, 1), (20, 2), (30, 3)];
        assert_eq!(check_lives(&stored, &[life(3)], LONG), Ok(()));
        assert_eq!(check_lives(&stored, &[life(0)], LONG), Ok(()));
    }

    #[test]
    fn gap_double_shortfall_and_silence_are_seen() {
        let gap = [(10, 1), (30, 3)];
        let double = [(10, 1), (20, 2), (20, 2)];
        for stored in [&gap[..], &double[..]] {
            let found = check_lives(stored, &[life(0)], LONG).expect_err("a fault");
            assert!(found.contains("missing or doubled"), "{found}");
        }
        let short = check_lives(&[(10, 1)], &[life(2)], LONG).expect_err("a fault");
        assert!(short.contains("2 readings were committed"), "{short}");
        let silent = check_lives(&[(10, 1)], &[life(0)], Duration::from_nanos(500));
        assert!(silent.expect_err("a fault").contains("the last"));
        let stray = check_lives(&[(10, 1), (2000, 1)], &[life(0)], LONG);
        assert!(stray.expect_err("a fault").contains("of no life"));
    }
}
