//! Memory and disk once a second, and what counts as flat.
//!
//! | figure | flat when |
//! |---|---|
//! | resident memory of each process, spools, journal, catalog | the median of the last quarter is at most that of the second quarter, 10 % and 4 MiB |
//! | store | bytes per stored reading, the same medians, 10 % and 1 byte |
//!
//! The first quarter is left out: caches fill. The third is left out so that what is compared lies
//! far apart. The catalog holds a row for every stream there ever was, which its 4 MiB cover.

use std::fmt;
use std::time::Duration;

use super::AGENTS;

/// What the last quarter may have more than the second, beside a tenth.
const MORE_BYTES: f64 = (4 << 20) as f64;
const MORE_BYTES_PER_READING: f64 = 1.0;

/// Bytes at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Since the beginning.
    pub at: Duration,
    /// Resident memory of the agents, then of the sink; nothing of one that does not run.
    pub resident: [Option<u64>; AGENTS + 1],
    /// On disk, over all agents.
    pub spools: u64,
    /// The sink's journal.
    pub journal: u64,
    /// Parquet files, merged ones that wait for their removal included.
    pub store: u64,
    /// The catalog and its write-ahead log.
    pub catalog: u64,
    /// Readings stored; nothing when the sink does not answer.
    pub stored: Option<u64>,
}

impl fmt::Display for Sample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: u64| bytes >> 10;
        write!(formatter, "{:5} s: memory", self.at.as_secs())?;
        for resident in self.resident {
            write!(formatter, " {}", kib(resident.unwrap_or(0)))?;
        }
        write!(
            formatter,
            " KiB, spools {} KiB, journal {} KiB, store {} KiB, catalog {} KiB, {} readings",
            kib(self.spools),
            kib(self.journal),
            kib(self.store),
            kib(self.catalog),
            self.stored.unwrap_or(0)
        )
    }
}

/// In the order of time.
#[derive(Clone, Debug, Default)]
pub struct Samples(pub Vec<Sample>);

impl Samples {
    /// The figures, each as (name, median of the second quarter, median of the last quarter).
    pub fn quarters(&self) -> Vec<(String, f64, f64)> {
        type Figure = Box<dyn Fn(&Sample) -> Option<f64>>;
        let mut figures: Vec<(String, Figure)> = Vec::new();
        for number in 0..=AGENTS {
            let name = if number < AGENTS {
                format!("memory of agent {}", number + 1)
            } else {
                "memory of the sink".to_owned()
            };
            figures.push((
                name,
                Box::new(move |sample| sample.resident[number].map(|bytes| bytes as f64)),
            ));
        }
        figures.push((
            "spools".into(),
            Box::new(|sample| Some(sample.spools as f64)),
        ));
        figures.push((
            "journal".into(),
            Box::new(|sample| Some(sample.journal as f64)),
        ));
        figures.push((
            "catalog".into(),
            Box::new(|sample| Some(sample.catalog as f64)),
        ));
        figures.push((PER_READING.into(), Box::new(bytes_per_reading)));
        let medians = |(name, figure): (String, Figure)| {
            let of = |quarter| median(self.quarter(quarter).iter().filter_map(&figure).collect());
            (name, of(1), of(3))
        };
        figures.into_iter().map(medians).collect()
    }

    /// What is not flat.
    pub fn not_flat(&self) -> Vec<String> {
        let grown = |(name, second, last): &(String, f64, f64)| {
            let more = if name == PER_READING {
                MORE_BYTES_PER_READING
            } else {
                MORE_BYTES
            };
            // A figure that was never seen is not flat either.
            last.is_nan() || second.is_nan() || *last > second * 1.1 + more
        };
        let figures = self.quarters();
        let grown = figures.iter().filter(|figure| grown(figure));
        grown
            .map(|(name, second, last)| {
                format!(
                    "{name} is not flat: {second:.1} in the second quarter, {last:.1} in the last"
                )
            })
            .collect()
    }

    fn quarter(&self, number: usize) -> &[Sample] {
        let at = |quarter: usize| self.0.len() * quarter / 4;
        &self.0[at(number)..at(number + 1)]
    }
}

const PER_READING: &str = "store per reading";

fn bytes_per_reading(sample: &Sample) -> Option<f64> {
    let stored = sample.stored.filter(|stored| *stored > 0)?;
    Some(sample.store as f64 / stored as f64)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(memory: impl Fn(u64) -> u64, per_reading: impl Fn(u64) -> u64) -> Samples {
        let sample = |second: u64| Sample {
            at: Duration::from_secs(second),
            resident: [Some(memory(second)); AGENTS + 1],
            spools: 1 << 20,
            journal: 1 << 20,
            store: per_reading(second) * 1000,
            catalog: 1 << 20,
            stored: Some(1000),
        };
        Samples((0..400).map(sample).collect())
    }

    #[test]
    fn what_stays_is_flat_and_what_grows_is_named() {
        let flat = samples(|second| (40 << 20) + second % 7, |_| 3);
        assert_eq!(flat.not_flat(), Vec::<String>::new());
        let leak = samples(|second| (40 << 20) + (second << 17), |_| 3);
        assert_eq!(leak.not_flat().len(), AGENTS + 1, "{:?}", leak.not_flat());
        let store = samples(|_| 40 << 20, |second| 3 + second / 50);
        assert_eq!(store.not_flat().len(), 1, "{:?}", store.not_flat());
    }
}
