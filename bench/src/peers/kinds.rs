//! The other servers: how each is started, written to, flushed and asked.

use std::path::Path;
use std::process::Command;

use ::http::Method;
use anyhow::Context;
use bytes::Bytes;
use serde_json::Value;

use crate::http;

/// Readings lie between a day before now and a day after it.
const DAY: u64 = 86_400;

/// A kind of server.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) program: &'static str,
    /// What makes the program say its version.
    pub(super) version: &'static str,
    /// Path that takes remote write.
    pub(super) write: &'static str,
    /// From a command, its data directory, the address of HTTP and one more free port.
    pub(super) prepare: fn(&mut Command, &Path, &str, u16) -> anyhow::Result<()>,
    asks: Asks,
}

/// In which language it is asked.
#[derive(Clone, Copy)]
enum Asks {
    Prometheus,
    /// As Prometheus, and it can be told to write everything out.
    Victoria,
    Influx,
}

pub(super) const KINDS: [Kind; 3] = [
    Kind {
        name: "VictoriaMetrics",
        program: "victoria-metrics",
        version: "-version",
        write: "/api/v1/write",
        prepare: victoria,
        asks: Asks::Victoria,
    },
    Kind {
        name: "Prometheus",
        program: "prometheus",
        version: "--version",
        write: "/api/v1/write",
        prepare: prometheus,
        asks: Asks::Prometheus,
    },
    Kind {
        name: "InfluxDB",
        program: "influxd",
        version: "version",
        write: "/api/v1/prom/write?db=bench",
        prepare: influx,
        asks: Asks::Influx,
    },
];

fn victoria(
    command: &mut Command,
    data: &Path,
    authority: &str,
    _other: u16,
) -> anyhow::Result<()> {
    command
        .arg(format!("-storageDataPath={}", data.display()))
        .arg(format!("-httpListenAddr={authority}"))
        .arg("-retentionPeriod=100y");
    Ok(())
}

fn prometheus(
    command: &mut Command,
    data: &Path,
    authority: &str,
    _other: u16,
) -> anyhow::Result<()> {
    let settings = data.with_file_name("prometheus.yml");
    std::fs::write(&settings, "scrape_configs: []\n")?;
    command
        .arg(format!("--config.file={}", settings.display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--web.listen-address={authority}"))
        .arg("--web.enable-remote-write-receiver");
    Ok(())
}

fn influx(command: &mut Command, data: &Path, authority: &str, other: u16) -> anyhow::Result<()> {
    let settings = data.with_file_name("influxdb.conf");
    let text = format!(
        "reporting-disabled = true\nbind-address = \"127.0.0.1:{other}\"\n\
         [meta]\ndir = \"{data}/meta\"\n\
         [data]\ndir = \"{data}/data\"\nwal-dir = \"{data}/wal\"\nquery-log-enabled = false\n\
         [http]\nbind-address = \"{authority}\"\nlog-enabled = false\n",
        data = data.display()
    );
    std::fs::write(&settings, text)?;
    command.arg("run").arg("-config").arg(settings);
    Ok(())
}

/// The name with the first number of what a program says of itself.
pub(super) fn with_version(kind: &Kind, said: &str) -> String {
    let is_number = |word: &&str| {
        let digits = word.trim_start_matches('v');
        digits.starts_with(|c: char| c.is_ascii_digit()) && digits.contains('.')
    };
    let pieces = said.split(|c: char| c.is_whitespace() || "-+,".contains(c));
    match pieces.clone().find(is_number) {
        Some(number) => format!("{} {}", kind.name, number.trim_start_matches('v')),
        None => kind.name.to_owned(),
    }
}

impl Kind {
    /// Answers once it takes readings.
    pub(super) async fn ready(&self, authority: &str) -> anyhow::Result<()> {
        match self.asks {
            Asks::Prometheus => http::get(authority, "/-/ready").await?,
            Asks::Victoria => http::get(authority, "/health").await?,
            Asks::Influx => {
                let path = "/query?q=CREATE%20DATABASE%20bench";
                http::request(authority, Method::POST, path, &[], Bytes::new()).await?
            }
        };
        Ok(())
    }

    /// Has it write out what it holds, where it can be told to.
    pub(super) async fn flush(&self, authority: &str) -> anyhow::Result<()> {
        if let Asks::Victoria = self.asks {
            http::get(authority, "/internal/force_flush").await?;
        }
        Ok(())
    }

    /// How many readings it finds. Asked again for a while as long as there are fewer than `sent`.
    pub(super) async fn count(&self, authority: &str, sent: u64) -> anyhow::Result<u64> {
        let mut found = 0;
        for _ in 0..10 {
            found = self.count_now(authority).await?;
            if found >= sent {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        Ok(found)
    }

    async fn count_now(&self, authority: &str) -> anyhow::Result<u64> {
        if let Asks::Influx = self.asks {
            let query =
                "SELECT%20sum(c)%20FROM%20(SELECT%20count(value)%20AS%20c%20FROM%20%2F.*%2F)";
            let body = http::get(authority, &format!("/query?db=bench&q={query}")).await?;
            let answer: Value = serde_json::from_slice(&body)?;
            let series = answer["results"][0]["series"].as_array();
            let counts = series.context("no series in the answer")?.iter();
            let count = |one: &Value| one["values"][0][1].as_u64();
            return Ok(counts.filter_map(count).sum());
        }
        let names: Value =
            serde_json::from_slice(&http::get(authority, "/api/v1/label/__name__/values").await?)?;
        let names = names["data"].as_array().context("no names of metrics")?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let mut sum = 0.0;
        // One metric at a time: over several, what is left of two series without their names is the same.
        for name in names.iter().filter_map(Value::as_str) {
            let query = format!("sum(count_over_time(%7B__name__=%22{name}%22%7D%5B2d%5D))");
            let time = now.as_secs() + DAY;
            let path = format!("/api/v1/query?query={query}&time={time}&nocache=1");
            let answer: Value = serde_json::from_slice(&http::get(authority, &path).await?)?;
            let count = answer["data"]["result"][0]["value"][1].as_str();
            sum += count.map_or(Ok(0.0), str::parse::<f64>)?;
        }
        Ok(sum as u64)
    }
}
