//! What batching promises.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use weir_proto::batch::decode;

use super::*;
use crate::buffer::Buffer;
use crate::queue::{self, Weight};
use crate::sensors::{Scrape, Shape};
use crate::spool::{self, SpoolConfig};

const LIMITS: Limits = Limits {
    readings: 10,
    bytes: 1 << 20,
    age: Duration::from_secs(2),
};

fn series(metric: &str, kind: v1::Kind) -> v1::Series {
    v1::Series {
        device: "pump".to_owned(),
        metric: metric.to_owned(),
        kind: kind.into(),
        ..Default::default()
    }
}

fn shape(metrics: &[&str]) -> Arc<Shape> {
    let series = metrics
        .iter()
        .map(|metric| series(metric, v1::Kind::Gauge))
        .collect();
    Arc::new(Shape { series })
}

fn parcel(scrapes: impl IntoIterator<Item = (i64, Scrape)>) -> Parcel {
    let start = Start {
        at: Instant::now(),
        monotonic_ns: 42,
        wall_ns: 1,
    };
    let mut buffer = Buffer::new(Limits {
        readings: u64::MAX,
        bytes: usize::MAX,
        ..LIMITS
    });
    for (time, scrape) in scrapes {
        buffer.add(time, start, scrape);
    }
    buffer.take().unwrap()
}

fn numbers(shape: &Arc<Shape>, value: f64) -> Scrape {
    let values = vec![Value::Number(value); shape.series.len()];
    Scrape {
        shape: Arc::clone(shape),
        values,
    }
}

fn blocks(draft: &Draft) -> Vec<Block> {
    decode(&draft.encoded.header(), &draft.encoded.payload).unwrap()
}

#[tokio::test]
async fn scrapes_of_one_shape_become_one_block() {
    let shape = shape(&["a", "b"]);
    let mut assembler = Assembler::new(LIMITS);
    assembler.add(parcel([
        (1, numbers(&shape, 1.0)),
        (2, numbers(&shape, 2.0)),
    ]));
    assembler.add(parcel([(3, numbers(&shape, 3.0))]));
    let batch = assembler.take().unwrap();
    assert_eq!(batch.refused, 0);
    let draft = batch.draft.unwrap();
    assert_eq!((draft.encoded.readings, draft.monotonic_start_ns), (6, 42));
    let column = |series| Column {
        series,
        values: Values::Numbers(vec![1.0, 2.0, 3.0]),
        present: None,
    };
    assert_eq!(
        blocks(&draft),
        [Block {
            times: vec![1, 2, 3],
            columns: vec![column(1), column(2)]
        }]
    );
}

#[tokio::test]
async fn a_series_is_defined_once_whatever_shape_it_comes_in() {
    let mut assembler = Assembler::new(LIMITS);
    let mut defined = |metrics: &[&str]| {
        let shape = shape(metrics);
        assembler.add(parcel([(1, numbers(&shape, 1.0))]));
        let draft = assembler.take().unwrap().draft.unwrap();
        let of = |series: v1::Series| (series.r#ref, series.metric);
        draft.series_defined.into_iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(
        defined(&["a", "b"]),
        [(1, "a".to_owned()), (2, "b".to_owned())]
    );
    assert_eq!(defined(&["a", "b"]), []);
    assert_eq!(defined(&["b", "c", "a"]), [(3, "c".to_owned())]);
}

#[tokio::test]
async fn readings_of_an_unacceptable_series_are_refused_alone() {
    let long = "x".repeat(limits::MAX_NAME_BYTES + 1);
    let shape = shape(&["a", &long, "b"]);
    let mut assembler = Assembler::new(LIMITS);
    assembler.add(parcel([
        (1, numbers(&shape, 1.0)),
        (2, numbers(&shape, 1.0)),
    ]));
    let batch = assembler.take().unwrap();
    assert_eq!(batch.refused, 2);
    assert_eq!(batch.draft.unwrap().encoded.readings, 4);
    assert!(
        assembler.take().is_none(),
        "what was refused does not come back"
    );
}

#[tokio::test]
async fn a_batch_of_nothing_acceptable_is_no_batch() {
    let shape = shape(&[""]);
    let mut assembler = Assembler::new(LIMITS);
    assembler.add(parcel([(1, numbers(&shape, 1.0))]));
    let batch = assembler.take().unwrap();
    assert!(batch.draft.is_none());
    assert_eq!(batch.refused, 1);
}

#[tokio::test]
async fn a_text_that_is_too_long_is_absent_and_the_others_stay() {
    let shape = Arc::new(Shape {
        series: vec![series("state", v1::Kind::Text)],
    });
    let text = |text: &str| Scrape {
        shape: Arc::clone(&shape),
        values: vec![Value::Text(text.into())],
    };
    let long = "x".repeat(limits::MAX_TEXT_BYTES + 1);
    let mut assembler = Assembler::new(LIMITS);
    assembler.add(parcel([
        (1, text("ok")),
        (2, text(&long)),
        (3, text("idle")),
    ]));
    let batch = assembler.take().unwrap();
    assert_eq!(batch.refused, 1);
    let column = &blocks(&batch.draft.unwrap())[0].columns[0];
    assert_eq!(
        column.values,
        Values::Texts(vec!["ok".to_owned(), "idle".to_owned()])
    );
    assert_eq!(column.present, Some(vec![true, false, true]));
}

#[tokio::test]
async fn one_series_too_many_is_refused_and_those_before_go_on() {
    let names: Vec<String> = (0..30_000).map(|number| format!("{number:0200}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let shape = shape(&names);
    let mut dictionary = Dictionary::default();
    let refs = dictionary.refs(&shape);
    let given = refs.iter().flatten().count();
    assert!(
        given > 10_000 && given < 30_000,
        "{given} of 30,000 are too few or too many"
    );
    assert_eq!(refs[given - 1], Some(u32::try_from(given).unwrap()));
    assert_eq!(dictionary.take_new().len(), given);
    assert_eq!(dictionary.refs(&shape), refs);
}

#[tokio::test]
async fn is_full_or_due_by_the_oldest_reading() {
    let shape = shape(&["a", "b"]);
    let mut assembler = Assembler::new(LIMITS);
    let age = Age::new(LIMITS.age);
    assert_eq!(assembler.due_at(&age), None);
    let first = parcel([(1, numbers(&shape, 1.0))]);
    let mut later = parcel([(2, numbers(&shape, 1.0))]);
    later.start.at = first.start.at + Duration::from_secs(1);
    let due = first.start.at + LIMITS.age;
    assembler.add(later.clone());
    assembler.add(first);
    assert_eq!(assembler.due_at(&age), Some(due));
    age.set(LIMITS.age + Duration::from_secs(30));
    let longer = Some(due + Duration::from_secs(30));
    assert_eq!(assembler.due_at(&age), longer);
    assert!(!assembler.is_full());
    let wide = parcel((3..6).map(|time| (time, numbers(&shape, 1.0))));
    assert!(assembler.has_room(&wide));
    assembler.add(wide);
    assert!(assembler.is_full());
    assert!(!assembler.has_room(&later));
}

#[tokio::test]
async fn a_full_spool_does_not_hold_up_a_stop_and_what_it_drops_is_in_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig {
        data_dir: dir.path().to_owned(),
        max_bytes: 1,
        segment_bytes: 1 << 16,
        overflow: spool::Overflow::Block,
        commit_interval: Duration::ZERO,
        dead_letter_max_bytes: 1 << 20,
    };
    let spool = Spool::open(config, Arc::new(weir_process::clock::SystemClock)).unwrap();
    let queue = Queue::new(
        Weight {
            bytes: 1 << 20,
            readings: 100,
        },
        queue::Overflow::Block,
    );
    let registry = weir_process::metrics::Registry::new("weir_agent");
    let stop = CancellationToken::new();
    let batcher = Batcher {
        queue: queue.clone(),
        assembler: Assembler::new(LIMITS),
        age: Age::new(LIMITS.age),
        spool: spool.clone(),
        metrics: SamplingMetrics::new(&registry, Arc::default()),
        stop: stop.clone(),
        patience: Duration::from_millis(20),
    };
    let task = tokio::spawn(batcher.run());
    let shape = shape(&["a"]);
    for _ in 0..3 {
        let parcel = parcel((0..10).map(|time| (time, numbers(&shape, 1.0))));
        let weight = parcel.weight();
        queue.push(parcel, weight).await.unwrap();
    }
    tokio::task::yield_now().await;
    assert!(!task.is_finished(), "a full spool makes the batcher wait");
    stop.cancel();
    queue.close();
    task.await.unwrap().unwrap();
    spool.finish().await.unwrap();
    let totals = spool.ledger().totals;
    assert_eq!((totals.produced, totals.unexplained), (30, 0));
}

/// Several sensors share a batch; one of them was read before the clock was set. Fails when
/// [`Assembler::has_room`] looks at sizes alone.
#[tokio::test]
async fn a_batch_ends_where_the_clock_was_set() {
    let (shape, mut assembler) = (shape(&["a"]), Assembler::new(LIMITS));
    let read_at = |wall_ns, monotonic_ns| {
        let mut parcel = parcel([(wall_ns, numbers(&shape, 1.0))]);
        parcel.start.wall_ns = wall_ns;
        parcel.start.monotonic_ns = monotonic_ns;
        parcel
    };
    assembler.add(read_at(5_000_000_000, 50));
    assert!(assembler.has_room(&read_at(5_900_000_000, 50)), "slewed");
    let after = read_at(1_700_000_000_000_000_000, 60);
    assert!(!assembler.has_room(&after));
    assembler.take().unwrap();
    assert!(assembler.has_room(&after));
}

/// The first scrape is of a series no sink would take: what the header says is of the first that is in
/// the batch. Fails when the header takes the start of the parcel.
#[tokio::test]
async fn the_header_relates_the_clocks_at_the_first_reading_that_is_in_it() {
    let mut assembler = Assembler::new(LIMITS);
    let mut parcel = parcel([
        (100, numbers(&shape(&[""]), 1.0)),
        (700, numbers(&shape(&["a"]), 1.0)),
    ]);
    parcel.start.wall_ns = 100;
    parcel.start.monotonic_ns = 42;
    assembler.add(parcel);
    let batch = assembler.take().unwrap();
    assert_eq!(batch.refused, 1);
    let draft = batch.draft.unwrap();
    assert_eq!(
        (draft.encoded.first_ns, draft.monotonic_start_ns),
        (700, 642)
    );
}

/// A sensor's scrapes: which of the shapes each has.
fn scrapes() -> impl Strategy<Value = Vec<(usize, f64)>> {
    proptest::collection::vec((0_usize..3, -1e6..1e6_f64), 1..60)
}

proptest! {
    #[test]
    fn every_reading_is_in_exactly_one_batch(scrapes in scrapes(), limit in 1_u64..40) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let shapes = [shape(&["a"]), shape(&["a", "b"]), shape(&["c", "b", "a"])];
        let mut assembler = Assembler::new(Limits { readings: limit, ..LIMITS });
        let mut series = BTreeMap::new();
        let mut found = Vec::new();
        let mut expected = Vec::new();
        let mut unpack = |batch: Batch| {
            let draft = batch.draft.expect("all series are acceptable");
            series.extend(draft.series_defined.iter().map(|series| (series.r#ref, series.metric.clone())));
            for block in blocks(&draft) {
                for column in block.columns {
                    let Values::Numbers(values) = column.values else { panic!("all values are numbers") };
                    let metric = &series[&column.series];
                    found.extend(block.times.iter().zip(values).map(|(time, value)| (metric.clone(), *time, value.to_bits())));
                }
            }
        };
        for (time, (which, value)) in (0_i64..).zip(scrapes) {
            let shape = &shapes[which];
            expected.extend(shape.series.iter().map(|series| (series.metric.clone(), time, value.to_bits())));
            let parcel = parcel([(time, numbers(shape, value))]);
            if !assembler.has_room(&parcel) {
                assembler.take().into_iter().for_each(&mut unpack);
            }
            assembler.add(parcel);
            if assembler.is_full() {
                assembler.take().into_iter().for_each(&mut unpack);
            }
        }
        assembler.take().into_iter().for_each(&mut unpack);
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected);
    }
}
