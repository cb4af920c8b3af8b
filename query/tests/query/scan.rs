//! What is read: pruning by time, files and fresh rows as one table, columns that came later.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use serde_json::json;

use crate::fixture::{
    HOUR, Lake, START, batch, engine, four_hours, json as answered, limits, schema, word,
};

#[tokio::test]
async fn opens_only_files_whose_range_can_match() {
    let lake = four_hours();
    let cases = [
        ("true", 480, 4),
        ("time < '2026-03-01T01:00:00Z'", 120, 1),
        ("time <= '2026-03-01T01:00:00Z'", 122, 2),
        (
            "time >= '2026-03-01T02:30:00Z' and value > 40 and device = 'a'",
            38,
            2,
        ),
        (
            "time between '2026-03-01T01:10:00Z' and '2026-03-01T01:20:00Z'",
            22,
            1,
        ),
        (
            "time = '2026-03-01T03:05:00Z' or time = '2026-03-01T00:05:00Z'",
            4,
            2,
        ),
        ("not (time < '2026-03-01T03:00:00Z')", 120, 1),
        (
            "time > timestamp '2026-03-01 02:00:00' + interval '1 hour'",
            118,
            1,
        ),
        ("time > '2027-01-01'", 0, 0),
        ("value = 7", 8, 4),
    ];
    for (condition, rows, scanned) in cases {
        let sql = format!("select value from samples where {condition}");
        let answer = lake.ask(&sql).await.unwrap();
        assert_eq!(answer.rows(), rows, "{condition}");
        assert_eq!(answer.files_scanned, scanned, "{condition}");
        assert_eq!(answer.files_known, 4, "{condition}");
    }
}

/// Two metrics of five devices each in files that follow each other, as merges make them; one file from before that was
/// noted. Red when names are not looked at, and when a file of which nothing is known is left out.
#[tokio::test]
async fn opens_only_files_whose_names_can_match() {
    let mut lake = Lake::new();
    for (name, metric, devices) in [
        ("one", "load", ["a", "b"]),
        ("two", "load", ["c", "d"]),
        ("three", "load", ["e", "e"]),
        ("four", "speed", ["a", "e"]),
        ("old", "load", ["c", "z"]),
    ] {
        let [first, last] = devices;
        let rows = [(START, first, metric, 1.0), (START + 1, last, metric, 2.0)];
        lake.file(name, &batch(&rows));
    }
    let last = Arc::make_mut(&mut lake.tables.files).last_mut().unwrap();
    last.names = None;
    let cases = [
        ("metric = 'load' and device = 'c'", 2, 2),
        ("device = 'c'", 2, 3),
        ("device in ('a', 'b') and metric = 'load'", 2, 2),
        ("metric = 'speed'", 2, 2),
        ("metric like 'sp%'", 2, 2),
        ("metric != 'load'", 2, 2),
        ("metric between 'm' and 't' and device > 'b'", 1, 2),
        ("device = 'd' or metric = 'speed'", 3, 3),
        ("device = 'x'", 0, 1),
        ("lower(device) = 'a'", 2, 5),
        ("device is null", 0, 5),
    ];
    for (condition, rows, scanned) in cases {
        let sql = format!("select value from samples where {condition}");
        let answer = lake.ask(&sql).await.unwrap();
        assert_eq!(
            (answer.rows(), answer.files_scanned),
            (rows, scanned),
            "{condition}"
        );
    }
}

#[tokio::test]
async fn now_prunes_files() {
    let mut lake = Lake::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_nanos()).unwrap();
    lake.file("old", &batch(&[(now - 3 * HOUR, "a", "load", 1.0)]));
    lake.file("new", &batch(&[(now - HOUR / 4, "a", "load", 2.0)]));
    let sql = "select value from samples where time > now() - interval '1 hour'";
    let answer = lake.ask(sql).await.unwrap();
    assert_eq!((answer.rows(), answer.files_scanned), (1, 1));
    let same = "select arrow_typeof(now()) = arrow_typeof(time) from samples limit 1";
    assert_eq!(lake.rows(same).await, json!([[true]]));
}

#[tokio::test]
async fn never_opens_a_pruned_file() {
    let mut lake = four_hours();
    std::fs::remove_file(lake.dir.path().join(&lake.tables.files[3].path)).unwrap();
    let early = "select count(value) from samples where time < '2026-03-01T03:00:00Z'";
    assert_eq!(lake.rows(early).await, json!([[360]]));
    let error = lake
        .ask("select sum(value) from samples")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), weir_query::ErrorKind::Damaged);
    let text = error.to_string();
    let told = "samples/tenant=default/hour-3.parquet is missing: restore it from a backup, or ask \
                for a time outside 2026-03-01T03:00:00.000000000Z to 2026-03-01T03:59:00";
    assert!(
        text.starts_with(told) && text.contains("ledger --audit"),
        "{text}"
    );
    let host = lake.dir.path().display().to_string();
    assert!(!text.contains(&host), "{text}");
    Arc::make_mut(&mut lake.tables.files).pop();
    assert_eq!(
        lake.rows("select count(value) from samples").await,
        json!([[360]])
    );
}

/// Red when a file is read without being looked at: a changed value is then answered, or a changed
/// page fails without the file's name.
#[tokio::test]
async fn a_file_that_is_not_what_was_written_is_named_and_never_answered() {
    let lake = four_hours();
    let engine = engine(limits());
    let full = lake.dir.path().join(&lake.tables.files[2].path);
    let whole = std::fs::read(&full).unwrap();
    let all = "select sum(value) from samples";
    let around = "select count(value) from samples where time < '2026-03-01T02:00:00Z'";
    for changed in (0..whole.len()).step_by(97) {
        let mut bytes = whole.clone();
        bytes[changed] ^= 1;
        std::fs::write(&full, bytes).unwrap();
        let error = engine.run(all, lake.tables.clone()).await.unwrap_err();
        assert_eq!(error.kind(), weir_query::ErrorKind::Damaged, "{error}");
        let text = error.to_string();
        let told = "samples/tenant=default/hour-2.parquet is not what was written: restore";
        assert!(text.starts_with(told), "{text}");
        let answer = engine.run(around, lake.tables.clone()).await.unwrap();
        assert_eq!(answered(&answer)["rows"], json!([[240]]));
    }
    std::fs::write(&full, &whole[..whole.len() / 2]).unwrap();
    let error = engine.run(all, lake.tables.clone()).await.unwrap_err();
    assert_eq!(error.kind(), weir_query::ErrorKind::Damaged, "{error}");

    // Restored, without a restart.
    std::fs::write(&full, &whole).unwrap();
    let answer = engine.run(all, lake.tables.clone()).await.unwrap();
    assert_eq!(answered(&answer)["rows"], lake.rows(all).await);
}

/// The files hold noise of the right size: whoever reads them fails.
#[tokio::test]
async fn counts_and_range_come_from_the_catalog() {
    let mut lake = four_hours();
    for file in lake.tables.files.iter() {
        let noise = vec![7; usize::try_from(file.bytes).unwrap()];
        std::fs::write(lake.dir.path().join(&file.path), noise).unwrap();
    }
    assert_eq!(
        lake.rows("select min(time), max(time) from samples").await,
        json!([[
            "2026-03-01T00:00:00.000000000Z",
            "2026-03-01T03:59:00.000000000Z"
        ]])
    );
    lake.fresh(batch(&[(START + 5 * HOUR, "a", "load", 1.0)]));
    assert_eq!(
        lake.rows("select count(*) from samples").await,
        json!([[481]])
    );
}

/// Red when the catalog's numbers are answered without a look at the files, and when one that was found
/// changed is forgotten.
#[tokio::test]
async fn a_count_over_a_missing_short_or_changed_file_names_it() {
    let lake = four_hours();
    let engine = engine(limits());
    let full = lake.dir.path().join(&lake.tables.files[2].path);
    let whole = std::fs::read(&full).unwrap();
    let counts = [
        "select count(*) from samples",
        "select max(time) from samples",
    ];
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    for (bytes, what) in [
        (Some(&changed[..]), "is not what was written"),
        (None, "is missing"),
        (Some(&whole[..whole.len() - 1]), "is"),
    ] {
        match bytes {
            Some(bytes) => std::fs::write(&full, bytes).unwrap(),
            None => std::fs::remove_file(&full).unwrap(),
        }
        // Of one that has its size somebody has to find out.
        let sum = "select sum(value) from samples";
        if bytes.is_some_and(|bytes| bytes.len() == whole.len()) {
            engine.run(sum, lake.tables.clone()).await.unwrap_err();
        }
        for sql in counts {
            let error = engine.run(sql, lake.tables.clone()).await.unwrap_err();
            assert_eq!(error.kind(), weir_query::ErrorKind::Damaged, "{error}");
            let told = format!("samples/tenant=default/hour-2.parquet {what}");
            assert!(error.to_string().starts_with(&told), "{error}");
        }
        std::fs::write(&full, &whole).unwrap();
        for sql in counts.into_iter().chain([sum]) {
            let answer = engine.run(sql, lake.tables.clone()).await.unwrap();
            assert_eq!(answered(&answer)["rows"], lake.rows(sql).await);
        }
    }
}

#[tokio::test]
async fn unites_files_and_fresh_rows() {
    let mut lake = four_hours();
    lake.fresh(batch(&[(START + 4 * HOUR, "a", "load", 100.0)]));
    lake.fresh(batch(&[]));
    lake.fresh(batch(&[(START + 4 * HOUR, "c", "load", 200.0)]));
    assert_eq!(
        lake.rows("select device, count(*), max(value) from samples group by device order by 1")
            .await,
        json!([["a", 241, 100.0], ["b", 240, 59.0], ["c", 1, 200.0]])
    );
    assert_eq!(
        lake.rows("select device from samples where value >= 59 and time > '2026-03-01T03:00:00Z' order by 1").await,
        json!([["a"], ["a"], ["b"], ["c"]])
    );
    let limited = lake.ask("select * from samples limit 7").await.unwrap();
    assert_eq!((limited.rows(), limited.truncated), (7, false));
}

#[tokio::test]
async fn averages_by_minute() {
    let mut lake = Lake::new();
    let second = 1_000_000_000;
    lake.file(
        "one",
        &batch(&[
            (START, "a", "load", 1.0),
            (START + 30 * second, "a", "load", 3.0),
        ]),
    );
    lake.fresh(batch(&[(START + 60 * second, "a", "load", 7.0)]));
    let want = json!([
        ["2026-03-01T00:00:00.000000000Z", 2.0],
        ["2026-03-01T00:01:00.000000000Z", 7.0]
    ]);
    for bin in [
        "date_trunc('minute', time)",
        "date_bin(interval '1 minute', time)",
    ] {
        let sql =
            format!("select {bin} as minute, avg(value) from samples group by {bin} order by 1");
        assert_eq!(lake.rows(&sql).await, want, "{bin}");
    }
}

#[tokio::test]
async fn reads_columns_that_came_later_as_null() {
    let mut lake = four_hours();
    let mut fields: Vec<Field> = schema()
        .fields()
        .iter()
        .map(|f| f.as_ref().clone())
        .collect();
    fields.push(Field::new("unit", word(), true));
    lake.tables.samples_schema = Arc::new(Schema::new(fields));
    // Another order, a plain text column, a column that the table does not have.
    let time = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let newer = Arc::new(Schema::new(vec![
        Field::new("unit", DataType::Utf8, true),
        Field::new("value", DataType::Float64, true),
        Field::new("extra", DataType::Utf8, true),
        Field::new("time", time, false),
    ]));
    let row = |unit: &str, value: f64, at: i64| {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![unit])),
            Arc::new(Float64Array::from(vec![value])),
            Arc::new(StringArray::from(vec!["x"])),
            Arc::new(TimestampNanosecondArray::from(vec![at]).with_timezone("UTC")),
        ];
        RecordBatch::try_new(Arc::clone(&newer), columns).unwrap()
    };
    // Names of a file without a device are not known.
    lake.file("newer", &row("W", 500.0, START + 4 * HOUR));
    lake.fresh(row("V", 600.0, START + 5 * HOUR));
    lake.fresh(batch(&[(START + 6 * HOUR, "a", "load", 700.0)]));
    assert_eq!(
        lake.rows("select value, unit, device from samples where value >= 500 order by 1")
            .await,
        json!([[500.0, "W", null], [600.0, "V", null], [700.0, null, "a"]])
    );
    assert_eq!(
        lake.rows("select count(*), count(unit), count(device) from samples")
            .await,
        json!([[483, 2, 481]])
    );
    assert_eq!(
        lake.rows("select value from samples where unit = 'W' or unit = 'V' order by 1")
            .await,
        json!([[500.0], [600.0]])
    );
}

#[tokio::test]
async fn answers_without_files_or_rows() {
    let lake = Lake::new();
    assert_eq!(
        lake.rows("select count(*) from samples").await,
        json!([[0]])
    );
    let answer = lake
        .ask("select device, value from samples order by time")
        .await
        .unwrap();
    assert_eq!((answer.rows(), answer.schema.fields().len()), (0, 2));
}

#[tokio::test]
async fn joins_views_with_samples() {
    let mut lake = four_hours();
    lake.view("latest", batch(&[(START + 4 * HOUR, "a", "load", 42.0)]));
    assert_eq!(
        lake.rows(
            "select l.value, count(*) from latest l join samples s on l.device = s.device and l.metric = s.metric \
             group by l.value"
        )
        .await,
        json!([[42.0, 240]])
    );
}

#[tokio::test]
async fn serves_one_store_after_another() {
    let engine = engine(limits());
    for value in [1.0, 2.0] {
        let mut lake = Lake::new();
        // The same path and size in each: what is kept of the first must not answer for the second.
        lake.file("same", &batch(&[(START, "a", "load", value)]));
        let answer = engine
            .run("select value from samples", lake.tables.clone())
            .await
            .unwrap();
        assert_eq!(answered(&answer)["rows"], json!([[value]]));
    }
}
