//! What a statement may use: time, memory, rows, bytes, text; and that it leaves nothing behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray};
use serde_json::json;
use weir_query::{ErrorKind, Limits};

use crate::fixture::{Lake, START, batch, engine, four_hours, json, limits};

/// Runs for years in little memory: only the short side is held.
const ENDLESS: &str = "select count(*) from generate_series(1, 1000) a(x) \
                       cross join generate_series(1, 1000000000000) b(y) where a.x + b.y = 1";

#[tokio::test]
async fn cuts_rows_and_says_so() {
    let lake = four_hours();
    let engine = engine(Limits {
        max_rows: 100,
        ..limits()
    });
    let cut = engine
        .run("select * from samples", lake.tables.clone())
        .await
        .unwrap();
    assert_eq!((cut.rows(), cut.truncated), (100, true));
    assert_eq!(json(&cut)["truncated"], json!(true));
    let ordered = "select value from samples order by time desc, device";
    let cut = engine.run(ordered, lake.tables.clone()).await.unwrap();
    assert_eq!(json(&cut)["rows"][0], json!([59.0]));
    assert_eq!((cut.rows(), cut.truncated), (100, true));
    for exact in [
        "select * from samples limit 100",
        "select value from generate_series(1, 100) t(value)",
    ] {
        let whole = engine.run(exact, lake.tables.clone()).await.unwrap();
        assert_eq!((whole.rows(), whole.truncated), (100, false), "{exact}");
    }
}

#[tokio::test]
async fn cuts_a_statement_that_would_run_for_ever() {
    let engine = engine(Limits {
        timeout: Duration::from_millis(300),
        threads: 1,
        ..limits()
    });
    let began = Instant::now();
    let error = engine.run(ENDLESS, Lake::new().tables).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("300ms"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
    // Its thread is free again: with one thread, nothing else could answer while it runs.
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = engine.run("select 1", Lake::new().tables).await {
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(Instant::now() < deadline, "the thread never came back");
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_its_statement() {
    let engine = engine(Limits {
        threads: 1,
        ..limits()
    });
    for _ in 0..5 {
        let call = engine.run(ENDLESS, Lake::new().tables);
        let gone = tokio::time::timeout(Duration::from_millis(50), call).await;
        assert!(gone.is_err());
    }
    // More of them than there are turns: each has given its turn back.
    let answer = engine.run("select 1", Lake::new().tables).await.unwrap();
    assert_eq!(answer.rows(), 1);
}

#[tokio::test]
async fn does_not_hold_up_the_callers_runtime() {
    let engine = engine(Limits {
        timeout: Duration::from_millis(500),
        ..limits()
    });
    let busy = tokio::spawn({
        let engine = engine.clone();
        async move { engine.run(ENDLESS, Lake::new().tables).await }
    });
    // This test's runtime has one thread: were the statement on it, no tick would come before its end.
    let mut ticks = 0;
    while !busy.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        ticks += 1;
    }
    assert!(ticks > 5, "{ticks}");
    assert_eq!(busy.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn refuses_what_needs_too_much_memory() {
    let engine = engine(Limits {
        memory_bytes: 4 << 20,
        ..limits()
    });
    for sql in [
        "select count(distinct value * 7919 % 5000011) from generate_series(1, 5000000) t(value)",
        "select value from generate_series(1, 5000000) t(value) order by -value offset 4000000",
        "select count(*) from generate_series(1, 2000000) a(x) join generate_series(1, 2000000) b(y) on a.x = b.y",
    ] {
        let error = engine.run(sql, Lake::new().tables).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Memory, "{sql}: {error}");
        assert!(error.to_string().contains("4 MiB"), "{error}");
    }
    // What they held is given back.
    let small = "select count(distinct value) from generate_series(1, 1000) t(value)";
    let answer = engine.run(small, Lake::new().tables).await.unwrap();
    assert_eq!(json(&answer)["rows"], json!([[1000]]));
}

#[tokio::test]
async fn kept_answers_count_as_memory() {
    let engine = engine(Limits {
        memory_bytes: 4 << 20,
        max_rows: 100_000,
        ..limits()
    });
    let sql = "select value from generate_series(1, 100000) t(value)";
    let mut kept = Vec::new();
    let refused = loop {
        match engine.run(sql, Lake::new().tables).await {
            Ok(answer) => kept.push(answer),
            Err(error) => break error,
        }
        assert!(kept.len() < 10, "nothing is accounted for");
    };
    assert_eq!(refused.kind(), ErrorKind::Memory);
    kept.clear();
    assert!(engine.run(sql, Lake::new().tables).await.is_ok());
}

/// What one owner keeps and asks for leaves the others their part. Mutation: operators that take their memory from the pool
/// of all.
#[tokio::test]
async fn one_owners_statements_leave_memory_to_those_of_another() {
    let engine = engine(Limits {
        memory_bytes: 12 << 20,
        owner_bytes: 6 << 20,
        max_rows: 300_000,
        ..limits()
    });
    let tables = |owner: &str| weir_query::Tables {
        owner: owner.into(),
        ..Lake::new().tables
    };
    let heavy =
        "select count(distinct value * 7919 % 5000011) from generate_series(1, 5000000) t(value)";
    for _ in 0..8 {
        let error = engine.run(heavy, tables("greedy")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OwnersMemory, "{error}");
        assert!(error.to_string().contains("6 MiB"), "{error}");
    }
    let sql = "select value from generate_series(1, 250000) t(value)";
    let mut kept = Vec::new();
    let refused = loop {
        match engine.run(sql, tables("greedy")).await {
            Ok(answer) => kept.push(answer),
            Err(error) => break error,
        }
        assert!(kept.len() < 10, "nothing is accounted for");
    };
    assert_eq!(refused.kind(), ErrorKind::OwnersMemory, "{refused}");
    let other = engine.run(sql, tables("other")).await.unwrap();
    assert_eq!(other.rows(), 250_000);
    drop(kept);
    assert!(engine.run(sql, tables("greedy")).await.is_ok());
}

#[tokio::test]
async fn refuses_an_answer_of_too_many_bytes() {
    let engine = engine(Limits {
        memory_bytes: 4 << 20,
        max_rows: 1_000_000,
        ..limits()
    });
    let sql = "select value, value + 1 from generate_series(1, 1000000) t(value)";
    let error = engine.run(sql, Lake::new().tables).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
}

#[tokio::test]
async fn refuses_to_write_out_what_a_dictionary_hides() {
    let engine = engine(Limits {
        memory_bytes: 4 << 20,
        ..limits()
    });
    let long = StringArray::from(vec!["x".repeat(10_000)]);
    let keys = Int32Array::from(vec![0; 900]);
    let column: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::new(long)));
    let mut lake = Lake::new();
    lake.view(
        "notes",
        RecordBatch::try_from_iter([("note", column)]).unwrap(),
    );
    let answer = engine
        .run("select note from notes", lake.tables.clone())
        .await
        .unwrap();
    assert_eq!(answer.to_json().unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(answer.to_csv().unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(answer.to_arrow_ipc().unwrap().len() < 100_000);
}

#[tokio::test]
async fn refuses_statements_too_large_to_plan() {
    let lake = four_hours();
    let chain = |unit: &str, n: usize| format!("select {}1", unit.repeat(n));
    let with = |n: usize| {
        let mut sql = "with t0 as (select 1 as x)".to_owned();
        for i in 1..n {
            let j = i - 1;
            sql += &format!(", t{i} as (select a.x from t{j} a cross join t{j} b)");
        }
        format!("{sql} select count(*) from t{}", n - 1)
    };
    // A light query of the same name elsewhere hides nothing.
    let shadow = with(7).replace(
        " select count(*) from t6",
        ", q as (with t6 as (select 1 as x) select x from t6) select count(*) from t6 a, t6 b, q",
    );
    for sql in [
        chain("1+", 40_000),
        chain("1+", 32_000),
        chain("1 or ", 12_000),
        chain("1::int::int+", 5_000),
        format!("explain {}", chain("1+", 32_000)),
        format!(
            "select 1 from samples where {}false",
            "value = 1 or ".repeat(600)
        ),
        format!("{} select 2", "select 1 union all ".repeat(3_000)),
        format!("select count(*) from samples{}", ", samples".repeat(200)),
        with(30),
        shadow,
    ] {
        let error = lake.ask(&sql).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{}: {error}", &sql[..40]);
    }
    let nested = format!("select {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    assert_eq!(
        lake.ask(&nested).await.unwrap_err().kind(),
        ErrorKind::BadSql
    );
    let refused = lake
        .ask(&format!("set x = {}1", "1+".repeat(32_000)))
        .await
        .unwrap_err();
    assert_ne!(refused.kind(), ErrorKind::Internal, "{refused}");
}

#[tokio::test]
async fn answers_statements_of_a_reasonable_size() {
    let lake = four_hours();
    let many = (0..5_000)
        .map(|n| n.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    let sql = format!("select count(*) from samples where value in ({many})");
    assert_eq!(lake.rows(&sql).await, json!([[480]]));
    let sql = format!(
        "select count(*) from samples where {}value = 2",
        "value = 1 or ".repeat(200)
    );
    assert_eq!(lake.rows(&sql).await, json!([[16]]));
    let sql = "with a as (select value from samples), b as (select value from a union all select value from a) \
               select count(*) from b";
    assert_eq!(lake.rows(sql).await, json!([[960]]));
}

#[tokio::test]
async fn cuts_endless_recursion() {
    let endless = "with recursive r(n) as (select 1 union all select n + 1 from r) select";
    let lake = Lake::new();
    let cut = lake.ask(&format!("{endless} n from r")).await.unwrap();
    assert_eq!((cut.rows(), cut.truncated), (1000, true));
    let engine = engine(Limits {
        timeout: Duration::from_millis(300),
        threads: 1,
        ..limits()
    });
    let sql = format!("{endless} max(n) from r");
    let error = engine.run(&sql, lake.tables.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(engine.run("select 1", lake.tables).await.unwrap().rows(), 1);
}

#[tokio::test]
async fn runs_many_statements_at_once() {
    let mut lake = four_hours();
    lake.fresh(batch(&[(START, "a", "load", 1.0)]));
    let engine = engine(limits());
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (engine, tables) = (engine.clone(), lake.tables.clone());
        calls.spawn(async move { engine.run("select count(value) from samples", tables).await });
    }
    while let Some(answer) = calls.join_next().await {
        assert_eq!(json(&answer.unwrap().unwrap())["rows"], json!([[481]]));
    }
}

/// A value of any size from a few characters would pass the memory limit unseen.
#[tokio::test]
async fn has_no_function_that_makes_a_huge_value() {
    let engine = engine(limits());
    for statement in [
        "select repeat('x', 2000000000)",
        "select lpad('x', 2000000000)",
        "select rpad('x', 2000000000)",
        "select array_repeat(1, 2000000000)",
        "select list_repeat(1, 2000000000)",
        "select array_resize([1], 2000000000)",
        "select range(0, 2000000000)",
        "select generate_series(0, 2000000000)",
    ] {
        let error = engine.run(statement, Lake::new().tables).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadSql, "{statement}: {error}");
    }
}
