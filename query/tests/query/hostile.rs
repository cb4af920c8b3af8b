//! Statements nobody would write, from a grammar and by damage to good ones: answered or refused with a reason,
//! within the limits, and never a change.
//!
//! Seen red with: error texts that are not cut to their limit.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use weir_query::{Engine, ErrorKind, Limits};

use crate::fixture::{Lake, engine, four_hours, json};

#[path = "../../../proto/tests/support/cases.rs"]
mod cases;

/// What a statement that changes something begins with.
const CHANGES: [&str; 12] = [
    "create", "drop", "insert", "update", "delete", "truncate", "alter", "copy", "set", "reset",
    "prepare", "merge",
];

fn tight() -> Limits {
    Limits {
        max_rows: 1000,
        timeout: Duration::from_secs(2),
        memory_bytes: 16 << 20,
        owner_bytes: 16 << 20,
        threads: 2,
    }
}

/// Longer than any text of an error may be.
fn endless() -> &'static str {
    static NAME: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| "endless".repeat(200));
    &NAME
}

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just(endless()),
        Just("value"),
        Just("time"),
        Just("device"),
        Just("metric"),
        Just("*"),
        Just("samples.value"),
        Just("nope"),
        Just("\"value\""),
        Just("1"),
        Just("null"),
        Just("'x'"),
        Just("1e308"),
        Just("9223372036854775807"),
        Just("interval '1 day'"),
        Just("x'ff'"),
        Just("$1"),
        Just("@@version"),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    name()
        .prop_map(str::to_owned)
        .prop_recursive(4, 24, 4, |inner| {
            let operator = prop_oneof![
                Just("+"),
                Just("-"),
                Just("*"),
                Just("/"),
                Just("%"),
                Just("="),
                Just("<"),
                Just(" and "),
                Just(" or "),
                Just("||"),
                Just(" like "),
                Just(" is distinct from "),
                Just("::"),
                Just("<<"),
                Just(" in "),
            ];
            let function = prop_oneof![
                Just("max"),
                Just("avg"),
                Just("count"),
                Just("abs"),
                Just("cast"),
                Just("date_bin"),
                Just("array_agg"),
                Just("repeat"),
                Just("regexp_match"),
                Just("row_number"),
                Just("exists"),
                Just("now"),
                Just("power"),
                Just("chr"),
                Just("to_timestamp"),
                Just("substr"),
                Just("make_array"),
                Just("factorial"),
            ];
            prop_oneof![
                (inner.clone(), operator, inner.clone())
                    .prop_map(|(a, o, b)| format!("({a}{o}{b})")),
                (function, vec(inner.clone(), 0..3))
                    .prop_map(|(f, a)| format!("{f}({})", a.join(", "))),
                (inner.clone(), inner.clone())
                    .prop_map(|(a, b)| format!("case when {a} then {b} end")),
                (inner.clone(), inner.clone())
                    .prop_map(|(a, b)| format!("{a} over (partition by {b})")),
                inner
                    .clone()
                    .prop_map(|a| format!("(select {a} from samples)")),
                inner
                    .clone()
                    .prop_map(|a| format!("{a} between {a} and {a}")),
                inner.prop_map(|a| format!("cast({a} as bigint)")),
            ]
        })
}

fn source() -> impl Strategy<Value = String> {
    let one = prop_oneof![
        Just("samples"),
        Just("samples s"),
        Just("samples a, samples b"),
        Just("information_schema.tables"),
        Just("generate_series(1, 1000000)"),
        Just("'/etc/passwd'"),
        Just("(values (1, 'a')) as t(value, device)"),
        Just("samples natural join samples t"),
        Just("unnest([1, 2])"),
        Just("nope"),
        Just("samples tablesample (5)"),
    ];
    one.prop_map(str::to_owned)
}

fn statement() -> impl Strategy<Value = String> {
    let select = (
        vec(expression(), 1..4),
        source(),
        proptest::option::of(expression()),
        0..9_u8,
    )
        .prop_map(|(columns, source, filter, more)| {
            let mut sql = format!("select {} from {source}", columns.join(", "));
            if let Some(filter) = &filter {
                sql += &format!(" where {filter}");
            }
            sql += match more {
                1 => " group by 1",
                2 => " order by 1 desc limit 3",
                3 => " group by cube(device, metric)",
                4 => " having count(*) > 1",
                5 => " union select 1",
                6 => " limit 18446744073709551615 offset -1",
                7 => " for update",
                _ => "",
            };
            sql
        });
    let front = prop_oneof![
        6 => Just(""), 1 => Just("explain "), 1 => Just("explain analyze "), 1 => Just("with x as (select 1) "),
        1 => Just("with recursive x as (select 1 union all select 1 from x) "), 4 => Just("create table t as "),
        1 => Just("insert into samples "), 1 => Just("copy samples to 'x'; "), 1 => Just("drop table samples; "),
        1 => Just("set x = 1; "), 1 => Just("describe "), 1 => Just("/*"), 1 => Just("prepare p as "),
    ];
    let plain = prop_oneof![
        Just("select 1"),
        Just("select * from samples"),
        Just("select max(value), device from samples group by 2"),
        Just("select value from samples order by time limit 3"),
    ];
    let select = prop_oneof![2 => select, 1 => plain.prop_map(str::to_owned)];
    (front, select).prop_map(|(front, select)| format!("{front}{select}"))
}

/// A statement, perhaps with some characters changed, cut or doubled.
fn damaged() -> impl Strategy<Value = String> {
    let damage = vec((any::<prop::sample::Index>(), any::<char>(), 0..4_u8), 0..4);
    (statement(), prop::bool::weighted(0.5), damage).prop_map(|(statement, apply, damage)| {
        let mut text: Vec<char> = statement.chars().collect();
        for (at, new, what) in damage.into_iter().filter(|_| apply) {
            if text.is_empty() {
                break;
            }
            let at = at.index(text.len());
            match what {
                0 => text[at] = new,
                1 => text.truncate(at),
                2 => {
                    text.remove(at);
                }
                _ => text.extend_from_within(at..),
            }
        }
        text.into_iter().collect()
    })
}

/// Says whether it was answered.
async fn ask(engine: &Engine, lake: &Lake, sql: &str) -> bool {
    let began = Instant::now();
    let answer = engine.run(sql, lake.tables.clone()).await;
    assert!(
        began.elapsed() < Duration::from_secs(25),
        "{:?}: {sql}",
        began.elapsed()
    );
    match answer {
        Ok(answer) => {
            let first = sql.trim_start().split(|c: char| !c.is_alphabetic()).next();
            let first = first.unwrap_or("").to_lowercase();
            assert!(!CHANGES.contains(&first.as_str()), "answered: {sql}");
            assert!(answer.rows() <= 1000);
            let _encoded = (answer.to_csv(), answer.to_json(), answer.to_arrow_ipc());
            true
        }
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::Internal, "{sql}: {error}");
            let text = error.to_string();
            assert!(text.len() < 650 && !text.contains('\n'), "{sql}: {text}");
            false
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..cases::cases(1) })]

    #[test]
    fn any_statement_is_answered_or_refused(statements in vec(damaged(), 120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let lake = four_hours();
            let engine = engine(tight());
            let mut answered = 0;
            for sql in &statements {
                answered += u32::from(ask(&engine, &lake, sql).await);
            }
            assert!(answered > 5, "{answered} of 120: the grammar tries nothing");
            let answer = engine.run("select count(*), sum(value) from samples", lake.tables.clone()).await.unwrap();
            assert_eq!(json(&answer)["rows"], json!([[480, 14160.0]]), "nothing was changed");
        });
    }
}
