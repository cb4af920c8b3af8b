//! Files as any engine would read them, and which day a row belongs to.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, TimestampNanosecondType};
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelector,
};
use parquet::basic::Encoding;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::{FileReader, SerializedFileReader};
use weir_proto::batch::Slice;

use super::*;
use crate::catalog::SeriesKey;
use crate::fold::rows::{DAY_NS, Quality, Received, Rows};
use crate::fold::tests::world::{NOON, SECOND, read_file, readings_of};
use crate::model::StreamId;

fn series(device: &str, metric: &str, unit: &str, rows: Rows) -> SeriesRows {
    let word = |text: &str| -> Arc<str> { text.into() };
    let key = SeriesKey {
        tenant: word("default"),
        metric: word(metric),
        device: word(device),
        attributes: word("{}"),
        unit: word(unit),
        kind: word("gauge"),
        source: word("test"),
        agent: word("agent"),
    };
    SeriesRows {
        key: Arc::new(key),
        rows,
    }
}

fn received(at_ns: i64) -> Received {
    Received {
        at_ns,
        quality: Quality::Ok,
        shift_ns: 0,
    }
}

fn rows(times: &[i64], at_ns: i64) -> Rows {
    let mut rows = Rows::default();
    let values: Vec<f64> = times.iter().map(|time| *time as f64 / 7.0).collect();
    rows.push(
        times,
        Slice::Numbers(&values),
        times.is_sorted(),
        received(at_ns),
    );
    rows
}

fn provenance() -> Provenance {
    let streams = vec![(StreamId([3; 16]), 8)];
    Provenance {
        journal_id: [9; 16],
        from: 4,
        through: 17,
        streams,
    }
}

fn write(all: &[SeriesRows]) -> Vec<(DataFile, Bytes)> {
    let mut number = 0;
    let name = || {
        number += 1;
        format!("file-{number}")
    };
    write_by_day(&all.iter().collect::<Vec<_>>(), &provenance(), name).expect("written")
}

#[test]
fn rows_are_sorted_by_metric_device_attributes_time_even_where_series_share_that_key() {
    let all = [
        series("b", "m", "1", rows(&[NOON + 5, NOON + 1, NOON + 3], NOON)),
        series("b", "m", "2", rows(&[NOON + 2, NOON + 4], NOON)),
        series("a", "n", "1", rows(&[NOON], NOON)),
        series("a", "m", "1", rows(&[NOON + 9, NOON + 10], NOON)),
    ];
    let files = write(&all);
    let [(file, bytes)] = &files[..] else {
        panic!("one file")
    };
    assert_eq!((file.rows, file.min_ns, file.max_ns), (8, NOON, NOON + 10));
    assert_eq!(
        file.path,
        "samples/tenant=default/date=2026-03-01/file-1.parquet"
    );
    let mut found = Vec::new();
    read_file(bytes.clone())
        .iter()
        .for_each(|batch| readings_of(batch, &mut found));
    let order: Vec<_> = found
        .iter()
        .map(|r| (r.1.as_str(), r.0.as_str(), r.4 - NOON))
        .collect();
    let expected = [
        ("m", "a", 9),
        ("m", "a", 10),
        ("m", "b", 1),
        ("m", "b", 2),
        ("m", "b", 3),
        ("m", "b", 4),
        ("m", "b", 5),
        ("n", "a", 0),
    ];
    assert_eq!(order, expected);
}

#[test]
fn the_footer_says_where_the_rows_came_from_and_how_they_are_sorted() {
    let files = write(&[series("a", "m", "1", rows(&[NOON], NOON))]);
    let reader = SerializedFileReader::new(files[0].1.clone()).expect("opened");
    let metadata = reader.metadata();
    let pairs = metadata
        .file_metadata()
        .key_value_metadata()
        .expect("pairs");
    let find = |key: &str| {
        let pair = pairs.iter().find(|pair| pair.key == key).expect(key);
        pair.value.clone().expect("a value")
    };
    assert_eq!(find("weir.format_version"), "1");
    assert_eq!(find("weir.tenant"), "default");
    assert_eq!(find("weir.journal_id"), "09".repeat(16));
    assert_eq!(
        (find("weir.from"), find("weir.through")),
        ("4".into(), "17".into())
    );
    assert_eq!(find("weir.streams"), format!("{}=8", "03".repeat(16)));
    let group = metadata.row_group(0);
    let sorted = group.sorting_columns().expect("sorted");
    let names: Vec<_> = sorted
        .iter()
        .map(|one| group.column(one.column_idx as usize).column_path().string())
        .collect();
    assert_eq!(names, ["metric", "device", "attributes", "time"]);
    let time: Vec<_> = group.column(0).encodings().collect();
    assert!(time.contains(&Encoding::DELTA_BINARY_PACKED), "{time:?}");
    assert!(
        group.column(0).offset_index_offset().is_some() && group.column(0).statistics().is_some()
    );
}

#[test]
fn columns_read_as_the_schema_says() {
    let files = write(&[series("a", "m", "1", rows(&[NOON], NOON - 1))]);
    let batch = &read_file(files[0].1.clone())[0];
    assert_eq!(batch.schema().fields(), columns::schema().fields());
    let received = batch.column_by_name("received").expect("there");
    assert_eq!(
        received.as_primitive::<TimestampNanosecondType>().value(0),
        NOON - 1
    );
    let latest = columns::latest_schema();
    assert_eq!(latest.fields().len(), batch.num_columns());
    assert!(matches!(
        latest.field(0).data_type(),
        DataType::Dictionary(_, _)
    ));
}

/// 300 devices need keys of two bytes, 61,500 rows more than three pages.
#[test]
fn runs_of_words_come_back_by_pages_groups_and_selections_of_rows() {
    let times: Vec<i64> = (0..205).map(|i| NOON + i).collect();
    let all: Vec<SeriesRows> = (0..300)
        .map(|i| series(&format!("device-{i:03}"), "m", "1", rows(&times, NOON)))
        .collect();
    let expected: Vec<(String, i64)> = (0..300)
        .flat_map(|i| {
            times
                .iter()
                .map(move |time| (format!("device-{i:03}"), *time))
        })
        .collect();
    let parts: Vec<Part<'_>> = all
        .iter()
        .map(|one| Part {
            series: one,
            rows: days::in_order(&one.rows),
        })
        .collect();
    for group_rows in [1 << 20, 1000] {
        let bytes = encode::encode(&parts, "default", &provenance(), group_rows).expect("written");
        let found = |batches: Vec<RecordBatch>| {
            let mut found = Vec::new();
            batches
                .iter()
                .for_each(|batch| readings_of(batch, &mut found));
            found
                .into_iter()
                .map(|one| (one.0, one.4))
                .collect::<Vec<_>>()
        };
        assert_eq!(found(read_file(bytes.clone())), expected);

        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        let open = || {
            ParquetRecordBatchReaderBuilder::try_new_with_options(bytes.clone(), options.clone())
        };
        let builder = open().expect("opened with its page index");
        let metadata = Arc::clone(builder.metadata());
        let groups = if group_rows == 1000 { 60 } else { 1 };
        assert_eq!(metadata.num_row_groups(), groups);
        let device = metadata.row_group(0).column(1);
        let statistics = device.statistics().expect("statistics");
        assert_eq!(statistics.min_bytes_opt(), Some(&b"device-000"[..]));
        if groups == 1 {
            assert_eq!(statistics.max_bytes_opt(), Some(&b"device-299"[..]));
            let pages = metadata.offset_index().expect("an offset index")[0][1].page_locations();
            assert_eq!(pages.len(), 4);
        }
        let (from, count) = (41_234, 777);
        let selection = vec![RowSelector::skip(from), RowSelector::select(count)];
        let reader = builder
            .with_row_selection(selection.into())
            .build()
            .expect("a reader");
        let selected = reader.map(|batch| batch.expect("a batch")).collect();
        assert_eq!(found(selected), expected[from..from + count]);
    }
}

#[test]
fn values_are_written_the_way_that_is_smallest() {
    let times: Vec<i64> = (0..20_000).map(|i| NOON + i * SECOND / 1000).collect();
    let encodings = |value: fn(i64) -> f64| {
        let mut one = Rows::default();
        let values: Vec<f64> = (0..20_000).map(value).collect();
        one.push(&times, Slice::Numbers(&values), true, received(NOON));
        let files = write(&[series("a", "m", "1", one)]);
        let reader = SerializedFileReader::new(files[0].1.clone()).expect("opened");
        let column = reader.metadata().row_group(0).column(4).clone();
        column.encodings().collect::<Vec<_>>()
    };
    let few = encodings(|i| {
        (i.wrapping_mul(i).wrapping_mul(2_654_435_761) >> 7).rem_euclid(50) as f64 / 10.0
    });
    assert!(few.contains(&Encoding::RLE_DICTIONARY), "{few:?}");
    let smooth = encodings(|i| (i as f64).sqrt());
    assert!(!smooth.contains(&Encoding::RLE_DICTIONARY), "{smooth:?}");
}

#[test]
fn a_row_goes_to_its_day_unless_its_clock_is_far_off() {
    let cases = [
        (NOON, NOON, "2026-03-01"),
        (NOON - 2 * DAY_NS, NOON, "2026-02-27"),
        (NOON - 2 * DAY_NS - 1, NOON, "2026-03-01"),
        (NOON + DAY_NS, NOON, "2026-03-02"),
        (NOON + DAY_NS + 1, NOON, "2026-03-01"),
        (i64::MIN, NOON, "2026-03-01"),
        (i64::MAX, NOON, "2026-03-01"),
        (-1, 0, "1969-12-31"),
    ];
    for (time, received, date) in cases {
        let days = days::split(&rows(&[time], received));
        let dates: Vec<_> = days.keys().map(|day| date_of(*day)).collect();
        assert_eq!(dates, [date], "{time} received at {received}");
    }
}

#[test]
fn rows_of_many_days_are_split_and_none_is_lost() {
    // Early and late beyond the limits around rows of three days, in and out of order.
    let times: Vec<i64> = [-40, -3, -2, -1, 0, 1, 2, 40]
        .map(|d| NOON + d * DAY_NS / 2)
        .to_vec();
    let mut shuffled = times.clone();
    shuffled.reverse();
    for times in [times, shuffled] {
        let all = rows(&times, NOON);
        let days = days::split(&all);
        let mut seen = Vec::new();
        for (day, picked) in &days {
            let own: Vec<i64> = picked.iter().map(|row| all.times[row]).collect();
            assert!(own.is_sorted());
            for time in &own {
                let far = (NOON - time).abs() > 2 * DAY_NS;
                assert_eq!(*day, if far { NOON } else { *time }.div_euclid(DAY_NS));
            }
            seen.extend(own);
        }
        seen.sort_unstable();
        let mut expected = times.clone();
        expected.sort_unstable();
        assert_eq!(seen, expected);
    }
}

#[test]
fn dates_are_those_of_the_calendar() {
    for (day, date) in [
        (0, "1970-01-01"),
        (-1, "1969-12-31"),
        (11_016, "2000-02-29"),
        (20_513, "2026-03-01"),
        (47_540, "2100-02-28"),
        (47_541, "2100-03-01"),
    ] {
        assert_eq!(date_of(day), date);
    }
}

/// A file of a program that knew fewer columns is still merged. Fails when the schemas are compared
/// as a whole.
#[test]
fn a_file_without_the_newest_column_reads_as_null_there() {
    let files = write(&[series("a", "m", "1", rows(&[NOON, NOON + 1], NOON))]);
    let batch = &read_file(files[0].1.clone())[0];
    let last = batch.num_columns() - 1;
    let older = batch
        .project(&(0..last).collect::<Vec<_>>())
        .expect("columns");
    let read = columns::conform(&older).expect("ours, only older");
    assert_eq!(read.schema(), columns::schema());
    assert_eq!(read.column(last).null_count(), 2);
    let without_time = batch.project(&[1, 2, 3]).expect("columns");
    assert!(columns::conform(&without_time).is_none());
}
