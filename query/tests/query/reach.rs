//! What a statement may not reach: files, other tables, anything that changes something.

use std::fs;

use serde_json::json;
use weir_query::ErrorKind::{BadSql, Forbidden};

use crate::fixture::{Lake, START, batch, four_hours};

#[tokio::test]
async fn refuses_whatever_changes_something() {
    let lake = four_hours();
    for sql in [
        "create table t (a int)",
        "create table t as select * from samples",
        "create view v as select 1",
        "create external table t stored as csv location '/etc/passwd'",
        "create schema s",
        "create function f() returns int return 1",
        "drop table samples",
        "insert into samples select * from samples",
        "with x as (insert into samples select 1) select * from x",
        "with x as (select 1) insert into samples select * from samples",
        "update samples set value = 0",
        "delete from samples",
        "truncate table samples",
        "alter table samples add column x int",
        "copy samples to '/tmp/out.parquet'",
        "copy (select 1) to 'out.csv'",
        "set datafusion.execution.batch_size = 1",
        "reset datafusion.execution.batch_size",
        "prepare p as select 1",
        "execute p",
        "begin",
        "select * into t from samples",
        "explain insert into samples select * from samples",
        "explain analyze delete from samples",
        "explain copy samples to 'x.csv'",
        "select 1; select 2",
        "select 1; drop table samples",
        "use other",
        "call f()",
        "analyze table samples",
    ] {
        let error = lake.ask(sql).await.unwrap_err();
        assert_eq!(error.kind(), Forbidden, "{sql}: {error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    assert_eq!(
        lake.rows("select count(*) from samples").await,
        json!([[480]])
    );
}

#[tokio::test]
async fn answers_what_only_reads() {
    let lake = four_hours();
    for sql in [
        "select 1",
        "SELECT 1;",
        "with x as (select 1 as a) select a from x",
        "values (1, 'a'), (2, 'b')",
        "select * from (values (1)) as t(a) union all select 2",
        "explain select * from samples",
        "explain analyze select max(value) from samples",
        "show tables",
        "show columns from samples",
        "show all",
        "describe samples",
        "select table_name from information_schema.tables",
        "select value from generate_series(1, 3) as t(value)",
    ] {
        let answer = lake
            .ask(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(answer.rows() > 0, "{sql}");
        assert!(!answer.to_csv().unwrap().is_empty());
    }
}

#[tokio::test]
async fn shows_the_tables_of_the_snapshot_only() {
    let mut lake = four_hours();
    lake.view("latest", batch(&[(START, "a", "load", 1.0)]));
    assert_eq!(
        lake.rows("select table_name from information_schema.tables where table_schema = 'public' order by 1").await,
        json!([["latest"], ["samples"]])
    );
}

#[tokio::test]
async fn reads_no_file_of_the_host() {
    let lake = four_hours();
    let secret = lake.dir.path().join("secret.csv");
    fs::write(&secret, "a,b\nsecret,2\n").unwrap();
    let path = secret.to_str().unwrap();
    for sql in [
        "select * from '/etc/passwd'".to_owned(),
        format!("select * from '{path}'"),
        format!("select * from \"{path}\""),
        format!("select * from 'file://{path}'"),
        format!("select * from read_csv('{path}')"),
        format!("select * from read_parquet('{path}')"),
        format!("select * from parquet_scan('{path}')"),
        "select * from 'secret.csv'".to_owned(),
        "select * from 'http://localhost:1/x.parquet'".to_owned(),
        "select * from 's3://bucket/x.parquet'".to_owned(),
        format!("select * from samples where device in (select a from '{path}')"),
        format!("with x as (select * from '{path}') select * from x"),
    ] {
        let error = lake.ask(&sql).await.unwrap_err();
        assert_eq!(error.kind(), Forbidden, "{sql}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn reads_no_other_tenant() {
    let mut lake = four_hours();
    lake.file("theirs", &batch(&[(START, "theirs", "load", 666.0)]));
    let theirs = std::sync::Arc::make_mut(&mut lake.tables.files)
        .pop()
        .unwrap()
        .path;
    for (sql, kind) in [
        (format!("select * from '{theirs}'"), Forbidden),
        (format!("select * from 'weir://store/{theirs}'"), Forbidden),
        ("select * from other.public.samples".to_owned(), BadSql),
        ("select * from other.samples".to_owned(), BadSql),
        ("select * from theirs".to_owned(), BadSql),
    ] {
        let error = lake.ask(&sql).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{sql}: {error}");
    }
    assert_eq!(
        lake.rows("select distinct device from samples order by 1")
            .await,
        json!([["a"], ["b"]])
    );
}

#[tokio::test]
async fn says_what_is_wrong_in_one_short_line() {
    let lake = four_hours();
    for (sql, says) in [
        ("select valeu from samples", "valeu"),
        ("select * from sample", "sample"),
        ("selec 1", "selec"),
        ("select avg(device, 1, 2) from samples", "avg"),
        ("select nosuch(value) from samples", "nosuch"),
        (
            "select * from samples where time > 'yesterday'",
            "yesterday",
        ),
        ("select 1 / 0", "division by zero"),
        (
            "select 1 / (value - value)::int from samples",
            "division by zero",
        ),
        ("select cast('x' as int)", "'x'"),
        ("select (", "expected"),
        ("", "no statement"),
        ("  -- only a comment", "no statement"),
    ] {
        let error = lake.ask(sql).await.unwrap_err();
        assert_eq!(error.kind(), BadSql, "{sql}: {error}");
        let text = error.to_string();
        assert!(text.to_lowercase().contains(says), "{sql}: {text}");
        assert!(text.len() < 650 && !text.contains('\n'), "{sql}: {text}");
        for noise in [
            "DataFusion",
            "ParserError",
            "Error during planning",
            "Arrow error",
            "TokenizerError",
            ".rs",
        ] {
            assert!(!text.contains(noise), "{sql}: {text}");
        }
        assert!(
            !text.starts_with(|c: char| c.is_uppercase()),
            "{sql}: {text}"
        );
    }
    let text = lake
        .ask("select valeu from samples")
        .await
        .unwrap_err()
        .to_string();
    assert!(text.contains("value"), "the near name is offered: {text}");
}

/// Every way to name a table that the engine understands. Red when the text is looked at as it is, or when quotes are
/// looked for: a caller that leaves out what is not mentioned would answer with nothing.
#[tokio::test]
async fn a_table_that_a_statement_reads_is_mentioned_in_it() {
    let mut lake = Lake::new();
    lake.view("latest", batch(&[(START, "a", "load", 1.0)]));
    for sql in [
        "select device from latest",
        "select device from LATEST",
        "select device from \"latest\"",
        "select device from weir.public.Latest",
        "select device from/**/latest/**/",
        "with l as (select * from latest) select device from l",
        "select (select device from lATEst)",
    ] {
        assert!(weir_query::mentions(sql, "latest"), "{sql}");
        assert_eq!(lake.rows(sql).await, json!([["a"]]), "{sql}");
    }
    // What might stand for the name without being it is not understood.
    for sql in [
        r#"select device from U&"lat\0065st""#,
        r#"select device from "lat\u0065st""#,
        r#"select device from "lat""est""#,
        "select device from 'lat' 'est'",
    ] {
        assert!(!weir_query::mentions(sql, "latest"), "{sql}");
        assert!(lake.ask(sql).await.is_err(), "{sql}");
    }
    assert!(!weir_query::mentions("select 1", "latest"));
    assert!(!weir_query::mentions("", "latest"));
}
