//! The three encodings, byte for byte where it matters.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow::datatypes::Int32Type;
use arrow::ipc::reader::StreamReader;
use serde_json::json;

use crate::fixture::{HOUR, Lake, START, batch, json};

fn one(name: &str, column: ArrayRef) -> Lake {
    let mut lake = Lake::new();
    lake.view("t", RecordBatch::try_from_iter([(name, column)]).unwrap());
    lake
}

#[tokio::test]
async fn json_names_columns_and_types() {
    let mut lake = Lake::new();
    lake.fresh(batch(&[(START + 1, "a", "load", 0.1)]));
    let answer = lake
        .ask("select time, device, value, count(*) as n, value > 1 as high from samples group by 1, 2, 3, 5")
        .await
        .unwrap();
    let text = String::from_utf8(answer.to_json().unwrap()).unwrap();
    assert_eq!(
        text,
        "{\"columns\":[{\"name\":\"time\",\"type\":\"timestamp\"},{\"name\":\"device\",\"type\":\"text\"},\
         {\"name\":\"value\",\"type\":\"float64\"},{\"name\":\"n\",\"type\":\"int64\"},\
         {\"name\":\"high\",\"type\":\"bool\"}],\
         \"rows\":[[\"2026-03-01T00:00:00.000000001Z\",\"a\",0.1,1,false]],\"truncated\":false}"
    );
}

#[tokio::test]
async fn json_carries_every_number() {
    let numbers = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        1e300,
        5e-324,
        0.1 + 0.2,
        3.0,
    ];
    let lake = one("v", Arc::new(Float64Array::from(numbers.to_vec())));
    let answer = lake.ask("select v from t").await.unwrap();
    let text = String::from_utf8(answer.to_json().unwrap()).unwrap();
    let rows = "[[\"NaN\"],[\"Infinity\"],[\"-Infinity\"],[-0.0],[1e300],[5e-324],[0.30000000000000004],[3.0]]";
    assert!(
        text.contains(&rows.replace("1e300", "1e+300")) || text.contains(rows),
        "{text}"
    );
    let whole = [i64::MAX, i64::MIN, (1 << 53) + 1];
    let lake = one("v", Arc::new(Int64Array::from(whole.to_vec())));
    let answer = lake
        .ask("select v, v::decimal(38,2) as d from t")
        .await
        .unwrap();
    let text = String::from_utf8(answer.to_json().unwrap()).unwrap();
    let rows = "[[9223372036854775807,9223372036854775807.00],[-9223372036854775808,-9223372036854775808.00],\
                [9007199254740993,9007199254740993.00]]";
    assert!(text.contains(rows), "{text}");
}

#[tokio::test]
async fn json_carries_every_text() {
    let texts = vec![Some("a\"b\\c\n\u{1}\u{7f}é😀"), Some(""), None];
    let lake = one("s", Arc::new(StringArray::from(texts.clone())));
    assert_eq!(
        lake.rows("select s from t").await,
        json!([[texts[0]], [""], [null]])
    );
    let words: DictionaryArray<Int32Type> = texts.into_iter().collect();
    let lake = one("s", Arc::new(words));
    assert_eq!(
        lake.rows(
            "select s, arrow_cast(s, 'Utf8View'), arrow_cast(s, 'LargeUtf8') from t where s is null"
        )
        .await,
        json!([[null, null, null]])
    );
}

#[tokio::test]
async fn moments_of_every_era_are_rfc_3339() {
    let cases = [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
        (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"),
        (951_868_800_000_000_000, "2000-03-01T00:00:00.000000000Z"),
        (4_107_542_399_000_000_000, "2100-02-28T23:59:59.000000000Z"),
        (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
        (1_735_689_599_999_999_999, "2024-12-31T23:59:59.999999999Z"),
    ];
    let times: Vec<i64> = cases.iter().map(|c| c.0).collect();
    let lake = one("t", Arc::new(TimestampNanosecondArray::from(times)));
    let want: Vec<_> = cases.iter().map(|c| json!([c.1])).collect();
    assert_eq!(lake.rows("select t from t").await, json!(want));
    let lake = one(
        "t",
        Arc::new(TimestampMillisecondArray::from(vec![
            -62_135_596_800_000,
            -1,
        ])),
    );
    assert_eq!(
        lake.rows("select t, t::date as d from t").await,
        json!([
            ["0001-01-01T00:00:00.000000000Z", "0001-01-01"],
            ["1969-12-31T23:59:59.999000000Z", "1969-12-31"]
        ])
    );
    let elsewhere = "select timestamp '2026-03-01 00:00:00' at time zone 'America/New_York' as t";
    assert_eq!(lake.rows(elsewhere).await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn every_day_of_four_centuries_is_right() {
    // A second witness for the calendar: DataFusion's own to_char.
    let lake = Lake::new();
    let sql = "select count(*), count(distinct d) from (select cast(arrow_cast(value::int, 'Date32') as text) as d \
               from generate_series(-719162, 146097) t(value))";
    let counted = lake.rows(sql).await;
    assert_eq!(counted, json!([[865_260, 865_260]]));
    for from in [-719_162, -141_428, -25_568, -366, 10_957, 47_540, 146_000] {
        let sql = format!(
            "select d, cast(d as text) as s from (select arrow_cast(value::int, 'Date32') as d \
             from generate_series({from}, {from} + 900) t(value))"
        );
        for row in lake.rows(&sql).await.as_array().unwrap() {
            assert_eq!(row[0], row[1]);
        }
    }
}

#[tokio::test]
async fn nested_values_are_nested() {
    let lake = Lake::new();
    let sql = "select [1, null, 3] as l, named_struct('a', 1, 'b', 'x') as s, interval '1 hour' as i, x'00ff' as b";
    let answer = lake.ask(sql).await.unwrap();
    let value = json(&answer);
    assert_eq!(value["rows"][0][0], json!([1, null, 3]));
    assert_eq!(value["rows"][0][1], json!({"a": 1, "b": "x"}));
    assert_eq!(value["rows"][0][3], json!("00ff"));
    let types: Vec<_> = value["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["type"].clone())
        .collect();
    assert_eq!(
        types,
        [
            json!("list"),
            json!("struct"),
            json!("interval"),
            json!("binary")
        ]
    );
    let csv = String::from_utf8(answer.to_csv().unwrap()).unwrap();
    assert!(
        csv.contains("\"[1,null,3]\",\"{\"\"a\"\":1,\"\"b\"\":\"\"x\"\"}\","),
        "{csv}"
    );
}

#[tokio::test]
async fn csv_follows_rfc_4180() {
    let mut lake = Lake::new();
    let texts: ArrayRef = Arc::new(StringArray::from(vec![
        Some("plain"),
        Some("a,b"),
        Some("say \"hi\""),
        Some("two\r\nlines"),
        Some(""),
        None,
    ]));
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![
        Some(1.5),
        Some(f64::NAN),
        Some(-2.0),
        None,
        Some(f64::INFINITY),
        Some(0.0),
    ]));
    lake.view(
        "t",
        RecordBatch::try_from_iter([("a,\"b", texts), ("v", numbers)]).unwrap(),
    );
    let answer = lake.ask("select * from t").await.unwrap();
    assert_eq!(
        String::from_utf8(answer.to_csv().unwrap()).unwrap(),
        "\"a,\"\"b\",v\r\nplain,1.5\r\n\"a,b\",NaN\r\n\"say \"\"hi\"\"\",-2.0\r\n\"two\r\nlines\",\r\n\"\",Infinity\r\n,0.0\r\n"
    );
    let empty = lake.ask("select v from t where false").await.unwrap();
    assert_eq!(empty.to_csv().unwrap(), b"v\r\n");
}

#[tokio::test]
async fn arrow_streams_survive_changing_dictionaries() {
    let mut lake = Lake::new();
    lake.file(
        "one",
        &batch(&[(START, "a", "load", 1.0), (START, "b", "load", 2.0)]),
    );
    lake.file("two", &batch(&[(START + HOUR, "c", "temp", 3.0)]));
    lake.fresh(batch(&[
        (START + 2 * HOUR, "b", "fan", 4.0),
        (START + 2 * HOUR, "d", "fan", 5.0),
    ]));
    let answer = lake
        .ask("select device, metric, value from samples")
        .await
        .unwrap();
    assert!(answer.batches.len() > 1, "one batch would prove nothing");
    let bytes = answer.to_arrow_ipc().unwrap();
    let reader = StreamReader::try_new(bytes.as_slice(), None).unwrap();
    assert_eq!(reader.schema(), answer.schema);
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let device =
            arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
        let device: &StringArray = device.as_any().downcast_ref().unwrap();
        let value: &Float64Array = batch.column(2).as_any().downcast_ref().unwrap();
        rows.extend(
            (0..batch.num_rows()).map(|i| (value.value(i) as i64, device.value(i).to_owned())),
        );
    }
    rows.sort();
    let want = [(1, "a"), (2, "b"), (3, "c"), (4, "b"), (5, "d")];
    assert_eq!(rows, want.map(|(v, d)| (v, d.to_owned())));
    let none = lake
        .ask("select device from samples where false")
        .await
        .unwrap();
    let bytes = none.to_arrow_ipc().unwrap();
    assert_eq!(
        StreamReader::try_new(bytes.as_slice(), None)
            .unwrap()
            .count(),
        0
    );
}
