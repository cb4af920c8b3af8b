//! What sensors promise.

use std::collections::HashSet;
use std::sync::Arc;

use weir_proto::{batch, v1};

use super::{Kind, Metric, Mode, Moment, Recorder, Scrape, Simulated, Value, open};

const A: Metric<'_> = Metric::gauge("a", "1");
const B: Metric<'_> = Metric::gauge("b", "1");

fn at(seconds: u64) -> Moment {
    Moment {
        wall_ns: seconds.cast_signed() * 1_000_000_000,
        monotonic_ns: seconds * 1_000_000_000,
    }
}

fn simulated(mode: Mode) -> Simulated {
    Simulated {
        metrics: 25,
        seed: 7,
        mode,
        fail_every: 0,
        panic_every: 0,
    }
}

fn scrapes(settings: Simulated, count: u64) -> Vec<Scrape> {
    let mut sensor = open(&Kind::Simulated(settings), "simulated", "pump").unwrap();
    (0..count)
        .map(|second| sensor.read(at(second)).unwrap())
        .collect()
}

#[test]
fn a_shape_stays_the_same_object_until_series_change() {
    let mut recorder = Recorder::new("test", "device");
    let mut scrape = |metrics: &[Metric<'_>]| {
        for metric in metrics {
            recorder.number(*metric, &[("k", "v")], 1.0);
        }
        recorder.finish()
    };
    let first = scrape(&[A, B]);
    let second = scrape(&[A, B]);
    assert!(Arc::ptr_eq(&first.shape, &second.shape));
    let shorter = scrape(&[A]);
    assert_eq!(shorter.shape.series.len(), 1);
    let longer = scrape(&[A, B, A]);
    assert_eq!(longer.shape.series.len(), 3);
    let other = scrape(&[B, B, A]);
    let names: Vec<&str> = other
        .shape
        .series
        .iter()
        .map(|series| series.metric.as_str())
        .collect();
    assert_eq!(names, ["b", "b", "a"]);
}

#[test]
fn another_attribute_is_another_series() {
    let mut recorder = Recorder::new("test", "device");
    recorder.number(A, &[("k", "v")], 1.0);
    let first = recorder.finish();
    recorder.number(A, &[("k", "w")], 1.0);
    let second = recorder.finish();
    assert_ne!(first.shape, second.shape);
}

#[test]
fn simulated_values_follow_from_the_seed_alone() {
    for mode in [Mode::Walk, Mode::Mixed, Mode::Count] {
        assert_eq!(scrapes(simulated(mode), 50), scrapes(simulated(mode), 50));
    }
    let other = Simulated {
        seed: 8,
        ..simulated(Mode::Walk)
    };
    assert_ne!(scrapes(simulated(Mode::Walk), 5), scrapes(other, 5));
}

#[test]
fn simulated_gauges_have_few_decimals() {
    for value in scrapes(simulated(Mode::Walk), 100)
        .iter()
        .flat_map(|scrape| &scrape.values)
    {
        let Value::Number(number) = value else {
            panic!("a gauge is a number")
        };
        assert_eq!((number * 100.0).round() / 100.0, *number);
    }
}

#[test]
fn a_mixed_sensor_has_every_kind() {
    let scrape = scrapes(simulated(Mode::Mixed), 1).remove(0);
    let kinds: HashSet<i32> = scrape
        .shape
        .series
        .iter()
        .map(|series| series.kind)
        .collect();
    let all = [
        v1::Kind::Gauge,
        v1::Kind::Counter,
        v1::Kind::Bool,
        v1::Kind::Text,
    ];
    assert_eq!(kinds, all.map(i32::from).into());
}

#[test]
fn a_count_sensor_counts_its_reads() {
    for (read, scrape) in scrapes(simulated(Mode::Count), 10).iter().enumerate() {
        assert_eq!(scrape.values[0], Value::Number((read + 1) as f64));
    }
}

#[test]
fn a_simulated_failure_spoils_one_read() {
    let settings = Simulated {
        fail_every: 3,
        ..simulated(Mode::Walk)
    };
    let mut sensor = open(&Kind::Simulated(settings), "simulated", "pump").unwrap();
    let outcomes: Vec<bool> = (0..6)
        .map(|second| sensor.read(at(second)).is_ok())
        .collect();
    assert_eq!(outcomes, [true, true, false, true, true, false]);
}

#[test]
fn this_host_has_the_metrics_every_host_has() {
    let mut sensor = open(&Kind::Host, "host", "here").unwrap();
    let first = sensor.read(at(0)).unwrap();
    let second = sensor.read(at(1)).unwrap();
    let third = sensor.read(at(2)).unwrap();
    assert_eq!(second.values.len(), second.shape.series.len());
    assert!(
        Arc::ptr_eq(&second.shape, &third.shape),
        "nothing was plugged in meanwhile"
    );
    let has = |scrape: &Scrape, name: &str| {
        scrape
            .shape
            .series
            .iter()
            .any(|series| series.metric == name)
    };
    assert!(
        !has(&first, "system.cpu.utilization"),
        "utilization needs two looks"
    );
    for name in [
        "system.uptime",
        "system.cpu.utilization",
        "system.cpu.load_average.1m",
        "system.memory.usage",
    ] {
        assert!(has(&second, name), "{name} is missing");
    }
}

#[test]
fn what_this_host_says_is_acceptable_to_a_sink() {
    let mut sensor = open(&Kind::Host, "host", "here").unwrap();
    sensor.read(at(0)).unwrap();
    let scrape = sensor.read(at(1)).unwrap();
    let mut seen = HashSet::new();
    for series in &scrape.shape.series {
        batch::check_series(&v1::Series {
            r#ref: 1,
            ..series.clone()
        })
        .unwrap();
        let identity = (series.metric.clone(), series.attributes.clone());
        assert!(seen.insert(identity), "{} is said twice", series.metric);
    }
    let finite = |value: &Value| matches!(value, Value::Number(number) if number.is_finite());
    assert!(scrape.values.iter().all(finite));
}
