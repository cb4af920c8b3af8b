//! Reads of single series do not have files divided among threads; all others do.

use crate::fixture::{Lake, SECOND, START, batch, engine, json, limits};

/// Enough values, all different, for a file that is worth dividing.
const ROWS: i64 = 200_000;

/// Mutations: one of the two names is enough; no read is divided.
#[tokio::test]
async fn a_file_is_divided_unless_the_read_names_one_device_and_one_metric() {
    let value = |row: i64| (row as f64 * 0.123_456_7).sin();
    let rows: Vec<_> = (0..ROWS)
        .map(|row| (START + row * SECOND, "d", "m", value(row)))
        .collect();
    let mut lake = Lake::new();
    lake.file("large", &batch(&rows));
    let engine = engine(limits());
    let one = "from samples where metric = 'm' and 'd' = device";
    for (sql, divided) in [
        (format!("select time {one}"), false),
        (
            format!("select count(*) {one} and value > 0.5 group by device"),
            false,
        ),
        (
            format!("select a.time from (select * {one}) a join (select * {one}) b using (time)"),
            false,
        ),
        (
            "select s.time from samples as s where s.metric = 'm' and s.device = 'd'".to_owned(),
            false,
        ),
        (
            format!("select time {one} union all select time {one}"),
            false,
        ),
        (
            format!("select time {one} union all select time from samples where value > 0.5"),
            true,
        ),
        (
            format!(
                "select time {one} and value > (select avg(value) from samples where value < 0.5)"
            ),
            true,
        ),
        (
            "select time from samples where metric = 'm' and value > 0.5".to_owned(),
            true,
        ),
        (
            "select time from samples where device = 'd' and value > 0.5".to_owned(),
            true,
        ),
        (
            "select time from samples where metric >= 'm' and device = 'd'".to_owned(),
            true,
        ),
        ("select sum(value) from samples".to_owned(), true),
    ] {
        let explain = format!("explain {sql}");
        let answer = engine.run(&explain, lake.tables.clone()).await.unwrap();
        let plan = json(&answer)["rows"].to_string();
        assert!(plan.contains("file_groups={"), "{plan}");
        assert_eq!(
            plan.contains("file_groups={2 groups"),
            divided,
            "{sql}: {plan}"
        );
    }
    let answer = lake
        .rows(&format!("select count(*) {one} and value > 0.5"))
        .await;
    let expected = (0..ROWS).filter(|row| value(*row) > 0.5).count();
    assert_eq!(answer[0][0], expected);
}
