//! What the sink writes is plain Parquet: DuckDB, Polars and pandas, each by its package on PyPI, find in the files
//! what the sender recorded. The packages are installed once, below `~/.cache/weir/tools/readers`; where that cannot be
//! done (no python3, no network) the test says loudly that it was skipped, unless `WEIR_TESTS_READERS=required`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use weir_tests::sender::{Call, Stream};
use weir_tests::world::Sink;

const PACKAGES: [&str; 4] = [
    "duckdb==1.4.1",
    "polars==1.34.0",
    "pandas==2.3.3",
    "pyarrow==26.0.1",
];

/// 2023-11-14T00:00:00Z. Times are whole microseconds: DuckDB reads times with a zone no finer.
const BASE: i64 = 1_699_920_000_000_000_000;

/// What one series was sent: rows, sum, first and last time, characters.
#[derive(Debug, Clone, PartialEq)]
struct Sent(u64, f64, i64, i64, u64);

impl Sent {
    fn nothing() -> Self {
        Self(0, 0.0, i64::MAX, i64::MIN, 0)
    }

    fn add(&mut self, times: &[i64], values: &[f64], texts: &[String]) {
        self.0 += times.len() as u64;
        self.1 += values.iter().sum::<f64>();
        self.2 = self.2.min(times[0]);
        self.3 = self.3.max(times[times.len() - 1]);
        self.4 += texts
            .iter()
            .map(|text| text.chars().count() as u64)
            .sum::<u64>();
    }
}

/// The interpreter of an environment with the packages, made if it is not there.
fn python() -> Result<PathBuf, String> {
    let home = std::env::var("HOME").map_err(|_| "HOME is not set")?;
    let place = Path::new(&home).join(".cache/weir/tools/readers");
    let python = place.join("bin/python3");
    let done = place.join("installed");
    let wanted = PACKAGES.join("\n");
    if std::fs::read_to_string(&done).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    let run = |command: &mut Command| {
        let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("{command:?}: {said}"))
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
    let quiet = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    run(Command::new(&python).args(quiet).args(PACKAGES))?;
    std::fs::write(done, wanted).map_err(|e| e.to_string())?;
    Ok(python)
}

/// Sends a walk of hundredths, noise, and texts; halves and small fractions of two, so that a sum is the same in any order.
async fn send(sink: &Sink) -> BTreeMap<String, Sent> {
    let mut sent = BTreeMap::new();
    let mut chance = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = move || {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance
    };
    for (tag, device) in ["walks", "noisy", "constant", "says"]
        .into_iter()
        .enumerate()
    {
        let tag = u8::try_from(tag + 1).expect("few devices");
        let mut stream = if device == "says" {
            Stream::text(device, tag)
        } else {
            Stream::new(device, tag)
        };
        let mut call = Call::open(sink.grpc, &stream).await.expect("welcome");
        let mut record = Sent::nothing();
        let mut walk = 2_000_i64;
        for batch in 0..12_i64 {
            let times: Vec<i64> = (0..1000)
                .map(|i| BASE + (batch * 1000 + i) * 1_000_007_000)
                .collect();
            let mut next = |_: &i64| match device {
                "walks" => {
                    walk += (draw() % 25).cast_signed() - 12;
                    walk as f64 / 4.0
                }
                "noisy" => (draw() >> 34) as f64 / f64::from(1 << 20),
                _ => 12.5,
            };
            if device == "says" {
                let texts: Vec<String> = times
                    .iter()
                    .map(|_| format!("zustände {}", draw() % 1000))
                    .collect();
                record.add(&times, &[], &texts);
                call.batch(stream.text_batch(&times, texts)).await;
            } else {
                let values: Vec<f64> = times.iter().map(&mut next).collect();
                record.add(&times, &values, &[]);
                call.batch(stream.batch(&times, &values)).await;
            }
            call.acked(stream.next_sequence() - 1)
                .await
                .expect("an ack");
        }
        sent.insert(device.to_owned(), record);
    }
    sent
}

/// Fails when keys are written one bit narrower than the page says, when a page of texts forgets its levels, or when
/// the last page of a column is left out.
#[tokio::test]
async fn duckdb_polars_and_pandas_find_what_was_sent() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            assert!(std::env::var("WEIR_TESTS_READERS").is_err(), "{why}");
            let text =
                format!("\nSKIPPED: DuckDB, Polars and pandas cannot be installed here: {why}\n");
            std::io::stderr()
                .write_all(text.as_bytes())
                .expect("stderr");
            return;
        }
    };
    let place = tempfile::tempdir().expect("a directory");
    // Several files of each kind: a flush every 10,000 readings.
    let settings = [
        ("STORE_FLUSH_ROWS", "10000"),
        ("STORE_FLUSH_INTERVAL", "1s"),
        ("COMPACTION_INTERVAL", "1h"),
    ];
    let mut sink = Sink::start(place.path(), &settings).await;
    let sent = send(&sink).await;
    sink.terminate().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers/read.py");
    for engine in ["duckdb", "polars", "pandas"] {
        let output = Command::new(&python)
            .arg(&script)
            .arg(engine)
            .arg(sink.data().join("store"))
            .output();
        let output = output.expect("python starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{engine}: {said}");
        let found: BTreeMap<String, (u64, f64, i64, i64, u64)> =
            serde_json::from_slice(&output.stdout).expect("JSON of the script");
        let found: BTreeMap<String, Sent> = found
            .into_iter()
            .map(|(name, it)| {
                let device = name.split(' ').next().unwrap_or_default().to_owned();
                (device, Sent(it.0, it.1, it.2, it.3, it.4))
            })
            .collect();
        assert_eq!(found, sent, "{engine}");
    }
}
