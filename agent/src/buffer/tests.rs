//! What a sensor's buffer promises.

use super::*;

const LIMITS: Limits = Limits {
    readings: 5,
    bytes: 1 << 20,
    age: Duration::from_secs(2),
};

fn scrape(shape: &Arc<Shape>, width: usize) -> Scrape {
    Scrape {
        shape: Arc::clone(shape),
        values: vec![Value::Number(1.0); width],
    }
}

fn start() -> Start {
    Start {
        at: Instant::now(),
        monotonic_ns: 7,
        wall_ns: 0,
    }
}

#[tokio::test]
async fn is_full_at_its_number_of_readings() {
    let shape = Arc::new(Shape::default());
    let mut buffer = Buffer::new(LIMITS);
    for time in 0..5 {
        assert!(!buffer.is_full());
        assert!(buffer.has_room(&start(), &scrape(&shape, 1)));
        buffer.add(time, start(), scrape(&shape, 1));
    }
    assert!(buffer.is_full());
    let parcel = buffer.take().unwrap();
    assert_eq!(parcel.readings, 5);
    assert_eq!(parcel.runs.len(), 1, "scrapes of one shape are one run");
    assert_eq!(parcel.runs[0].times, [0, 1, 2, 3, 4]);
    assert!(buffer.take().is_none());
}

#[tokio::test]
async fn a_scrape_that_would_exceed_a_limit_does_not_fit() {
    let shape = Arc::new(Shape::default());
    let mut buffer = Buffer::new(LIMITS);
    assert!(
        buffer.has_room(&start(), &scrape(&shape, 50)),
        "a wide scrape fits an empty buffer"
    );
    buffer.add(0, start(), scrape(&shape, 3));
    assert!(buffer.has_room(&start(), &scrape(&shape, 2)));
    assert!(!buffer.has_room(&start(), &scrape(&shape, 3)));
    let mut small = Buffer::new(Limits {
        bytes: 40,
        ..LIMITS
    });
    small.add(0, start(), scrape(&shape, 1));
    assert!(
        !small.has_room(&start(), &scrape(&shape, 1)),
        "bytes are a limit too"
    );
}

#[tokio::test]
async fn is_due_when_its_first_reading_is_half_as_old_as_a_batch_may_be() {
    let shape = Arc::new(Shape::default());
    let mut buffer = Buffer::new(LIMITS);
    let age = Age::new(LIMITS.age);
    assert_eq!(buffer.due_at(&age), None);
    let first = start();
    buffer.add(0, first, scrape(&shape, 1));
    let later = Start {
        at: first.at + Duration::from_secs(9),
        monotonic_ns: 8,
        wall_ns: 0,
    };
    buffer.add(1, later, scrape(&shape, 1));
    assert_eq!(buffer.due_at(&age), Some(first.at + Duration::from_secs(1)));
    age.set(Duration::from_secs(8));
    assert_eq!(buffer.due_at(&age), Some(first.at + Duration::from_secs(4)));
    assert_eq!(buffer.take().unwrap().start, first);
}

#[tokio::test]
async fn another_shape_begins_another_run() {
    let (one, other) = (Arc::new(Shape::default()), Arc::new(Shape::default()));
    let mut buffer = Buffer::new(LIMITS);
    buffer.add(0, start(), scrape(&one, 1));
    buffer.add(1, start(), scrape(&other, 1));
    buffer.add(2, start(), scrape(&other, 1));
    let runs = buffer.take().unwrap().runs;
    assert_eq!(
        runs.iter().map(|run| run.times.len()).collect::<Vec<_>>(),
        [1, 2]
    );
}
