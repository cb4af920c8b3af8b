//! `weir-agent doctor`: looks at everything an agent needs, from its settings to the sink, and says what to do.
//!
//! In: the settings, or the faults in them. Out: a [`Report`], one [`Line`] per check, in the order in which a reading
//! needs what is checked. It reads the spool without a lock, opens no stream at the sink and leaves nothing behind, so that
//! it can be run beside an agent. Every step has a deadline: a report is there within half a minute.
//!
//! | check | what is looked at |
//! |---|---|
//! | `config` | every setting can be used |
//! | `sensors` | each can be read |
//! | `data` | the data directory can be written |
//! | `space` | its file system has room for what the spool may still take |
//! | `spool` | every frame, checksum and payload of what waits |
//! | `letters` | batches that were set aside |
//! | `clock` | this machine's, by itself and against the sink's |
//! | `name` | the sink's host has an address |
//! | `connect` | something accepts a connection there |
//! | `transport` | whether it is encrypted: version, certificate, names, days left |
//! | `identity` | this agent's own certificate, where it has one |
//! | `protocol` | it is a sink of ours, and serves |
//! | `agent` | what the running agent says of itself |

pub(crate) mod bundle;
mod place;
mod sink;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Serialize;
use weir_process::clock::{Clock, SystemClock};
use weir_process::config::Faults;
use weir_process::output::{Align, Table};

use crate::config::Config;
use crate::sensors::{self, Moment};

/// No clock that was ever set is before this: unix nanoseconds of the first of January 2026.
const NEVER_BEFORE_NS: i64 = 1_767_225_600_000_000_000;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and somebody should know.
    Warn,
    /// Readings do not flow, or will not, until somebody does something.
    Fail,
    /// Not looked at, because of what failed before.
    Skip,
}

/// One check.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    /// Which: see the module's table.
    pub(crate) check: &'static str,
    pub(crate) verdict: Verdict,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it; empty where nothing has to be done.
    pub(crate) remedy: String,
}

/// All checks.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) lines: Vec<Line>,
}

impl Line {
    fn new(check: &'static str, verdict: Verdict, found: impl Into<String>, remedy: &str) -> Line {
        Line {
            check,
            verdict,
            found: found.into(),
            remedy: remedy.to_owned(),
        }
    }

    fn ok(check: &'static str, found: impl Into<String>) -> Line {
        Line::new(check, Verdict::Ok, found, "")
    }

    fn warn(check: &'static str, found: impl Into<String>, remedy: &str) -> Line {
        Line::new(check, Verdict::Warn, found, remedy)
    }

    fn fail(check: &'static str, found: impl Into<String>, remedy: &str) -> Line {
        Line::new(check, Verdict::Fail, found, remedy)
    }

    fn skip(check: &'static str, why: &str) -> Line {
        Line::new(check, Verdict::Skip, why, "")
    }
}

impl Report {
    /// Whether readings can flow.
    pub(crate) fn is_well(&self) -> bool {
        self.lines.iter().all(|line| line.verdict != Verdict::Fail)
    }

    /// As a person reads it.
    pub(crate) fn to_text(&self) -> String {
        let columns = [
            ("", Align::Left),
            ("check", Align::Left),
            ("found", Align::Left),
        ];
        let mut table = Table::new(columns);
        for line in &self.lines {
            let verdict = match line.verdict {
                Verdict::Ok => "ok",
                Verdict::Warn => "warn",
                Verdict::Fail => "FAIL",
                Verdict::Skip => "skip",
            };
            table.row([verdict, line.check, &line.found]);
            if !line.remedy.is_empty() {
                table.row(["", "", &format!("-> {}", line.remedy)]);
            }
        }
        let count = |verdict| {
            self.lines
                .iter()
                .filter(|line| line.verdict == verdict)
                .count()
        };
        let (failed, warned) = (count(Verdict::Fail), count(Verdict::Warn));
        let sum = match (failed, warned) {
            (0, 0) => "all is well".to_owned(),
            (0, warned) => format!("readings can flow; {warned} things to look at"),
            (failed, warned) => format!("{failed} failed, {warned} to look at"),
        };
        format!("{}{sum}\n", table.render())
    }
}

/// The settings cannot be used: nothing else can be looked at.
pub(crate) fn of_faults(faults: &Faults) -> Report {
    let lines = faults.iter().map(|fault| {
        let remedy = "set it right: `weir-agent --help` and .env.example say how";
        Line::fail("config", fault.to_string(), remedy)
    });
    Report {
        lines: lines.collect(),
    }
}

/// Looks at everything.
pub(crate) async fn examine(config: &Config) -> Report {
    let clock = SystemClock;
    let set = config.effective.0.iter();
    let set = set.filter(|setting| setting.source != weir_process::config::Source::Default);
    let count = set.count();
    let found =
        format!("valid; {count} settings are not at their defaults: `weir-agent config` shows all");
    let mut lines = vec![Line::ok("config", found)];
    lines.extend(sensors(config, &clock));
    lines.extend(place::examine(config));
    let reached = sink::examine(config).await;
    lines.push(clocks(clock.wall_ns(), reached.ahead));
    lines.extend(reached.lines);
    lines.push(running(config).await);
    Report { lines }
}

/// Each sensor is read once.
fn sensors(config: &Config, clock: &dyn Clock) -> Vec<Line> {
    let read = |sensor: &crate::sampler::SensorConfig| {
        let moment = Moment {
            wall_ns: clock.wall_ns(),
            monotonic_ns: clock.monotonic_ns(),
        };
        let opened = sensors::open(&sensor.kind, &sensor.name, &sensor.device);
        let scrape = opened.and_then(|mut sensor| sensor.read(moment));
        match scrape {
            Ok(scrape) if scrape.values.is_empty() => Line::warn(
                "sensors",
                format!("{}: it has nothing to read", sensor.name),
                "check what the sensor may see: a container sees what is mounted into it",
            ),
            Ok(scrape) => Line::ok(
                "sensors",
                format!(
                    "{}: {} values of {}",
                    sensor.name,
                    scrape.values.len(),
                    sensor.device
                ),
            ),
            Err(error) => Line::fail(
                "sensors",
                format!("{}: {error}", sensor.name),
                "check its settings, and that this user may read what it reads",
            ),
        }
    };
    config.sensors.iter().map(read).collect()
}

/// This machine's clock: `ahead` is by how many seconds it is ahead of the sink's, when the sink said.
fn clocks(wall_ns: i64, ahead: Option<i64>) -> Line {
    let seconds = u64::try_from(wall_ns / 1_000_000_000).unwrap_or(0);
    let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
    let time = humantime::format_rfc3339_seconds(time);
    let set = "set it, or let it be set (`timedatectl set-ntp true`); readings taken until then are moved to the right time and flagged, see time_quality";
    match ahead {
        _ if wall_ns < NEVER_BEFORE_NS => {
            Line::warn("clock", format!("{time}: it was never set"), set)
        }
        None => Line::ok("clock", format!("{time}; the sink's is not known")),
        Some(ahead) if ahead.abs() > 10 => {
            let side = if ahead > 0 { "ahead of" } else { "behind" };
            let found = format!("{time}: {} s {side} the sink's", ahead.abs());
            let remedy = "find out which of the two is wrong and set it; readings are flagged `suspect` until then";
            Line::warn("clock", found, remedy)
        }
        Some(_) => Line::ok("clock", format!("{time}, as the sink's")),
    }
}

/// What the agent that runs here says of itself.
async fn running(config: &Config) -> Line {
    let Some(url) = crate::cli::endpoint(config, "/readyz") else {
        return Line::skip("agent", "status.listen is off: it cannot be asked");
    };
    match weir_process::http::get(&url, Duration::from_secs(5)).await {
        Ok(reply) if reply.status.is_success() => Line::ok("agent", "it runs and is ready"),
        Ok(reply) => Line::fail(
            "agent",
            format!("it runs and is not ready: {}", reply.text().trim()),
            "`weir-agent status` and its log say more",
        ),
        Err(_) => Line::warn(
            "agent",
            format!("none answers at {}", url.authority()),
            "start it: `weir-agent run`, or `systemctl start weir-agent`",
        ),
    }
}
