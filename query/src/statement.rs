//! Which statements are answered: one SELECT, WITH, VALUES, EXPLAIN or SHOW over the tables of the snapshot.
//!
//! Three gates: the parsed statement is matched against a list of what is allowed; its shape must be small enough to
//! plan; and the plan is walked for anything that changes data or settings, however it was written.

use datafusion::common::TableReference;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as Sql;

use crate::error::{ErrorKind, QueryError};

mod shape;

/// Longest statement. The parser takes a chain of operators of any length and what it returns is dropped recursively:
/// this keeps the depth within the stack of the engine's threads.
pub(crate) const MAX_SQL_BYTES: usize = 64 << 10;

/// Whether `sql` may read the table of this name, which is in lower case and has no quote in it. In doubt it may: a
/// name stands in a statement as it is but for its case, as identifiers know no escapes.
pub fn mentions(sql: &str, table: &str) -> bool {
    let (sql, table) = (sql.as_bytes(), table.as_bytes());
    sql.windows(table.len())
        .any(|part| part.eq_ignore_ascii_case(table))
}

/// Parses and plans `sql`, or says why it is not answered.
pub(crate) async fn plan(
    sql: &str,
    state: &SessionState,
    memory_bytes: usize,
) -> Result<LogicalPlan, QueryError> {
    let wrong = |error| QueryError::from_datafusion(&error, memory_bytes);
    let statement = parse(sql, state, memory_bytes)?;
    allow(&statement)?;
    for table in state.resolve_table_references(&statement).map_err(wrong)? {
        refuse_outside(&table)?;
    }
    let plan = state.statement_to_plan(statement).await.map_err(wrong)?;
    let read_only = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    read_only
        .verify_plan(&plan)
        .map_err(|_| forbidden("it changes data or settings"))?;
    Ok(plan)
}

fn parse(sql: &str, state: &SessionState, memory_bytes: usize) -> Result<Statement, QueryError> {
    use datafusion::sql::parser::DFParserBuilder;
    let wrong = |error| QueryError::from_datafusion(&error, memory_bytes);
    let depth = state.config_options().sql_parser.recursion_limit.get();
    let mut statements = DFParserBuilder::new(sql)
        .with_recursion_limit(depth)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(wrong)?;
    match (statements.len(), statements.pop_front()) {
        (1, Some(statement)) => Ok(statement),
        (0, _) | (_, None) => Err(QueryError::new(
            ErrorKind::BadSql,
            "the request holds no statement",
        )),
        (n, _) => Err(QueryError::new(
            ErrorKind::Forbidden,
            format!("one statement per request: this one holds {n}"),
        )),
    }
}

/// Also for what is explained.
fn allow(statement: &Statement) -> Result<(), QueryError> {
    match statement {
        Statement::Statement(sql) => allow_sql(sql),
        Statement::Explain(explain) => allow(&explain.statement),
        Statement::CreateExternalTable(_) => Err(forbidden("CREATE EXTERNAL TABLE")),
        Statement::CopyTo(_) => Err(forbidden("COPY")),
        Statement::Reset(_) => Err(forbidden("RESET")),
    }
}

fn allow_sql(sql: &Sql) -> Result<(), QueryError> {
    match sql {
        Sql::Query(_)
        | Sql::ShowTables { .. }
        | Sql::ShowColumns { .. }
        | Sql::ShowVariable { .. }
        | Sql::ShowFunctions { .. }
        | Sql::ExplainTable { .. } => shape::check(sql),
        Sql::Explain { statement, .. } => allow_sql(statement),
        Sql::Insert(_) => Err(forbidden("INSERT")),
        Sql::Update { .. } => Err(forbidden("UPDATE")),
        Sql::Delete(_) => Err(forbidden("DELETE")),
        Sql::Truncate { .. } => Err(forbidden("TRUNCATE")),
        Sql::Drop { .. } => Err(forbidden("DROP")),
        Sql::Copy { .. } => Err(forbidden("COPY")),
        Sql::Set(_) => Err(forbidden("SET")),
        _ => Err(forbidden("this kind of statement")),
    }
}

/// A table named like a path or URL, or a function that would read one, is an attempt to leave the snapshot.
fn refuse_outside(table: &TableReference) -> Result<(), QueryError> {
    let name = table.table();
    let path = name.contains(['/', '\\', ':']);
    let reads = name.starts_with("read_") || name.ends_with("_scan");
    let file = [".parquet", ".csv", ".json", ".arrow", ".avro"]
        .iter()
        .any(|ending| name.ends_with(ending));
    if path || reads || file {
        return Err(QueryError::new(
            ErrorKind::Forbidden,
            "files and URLs cannot be read here: name a table (SHOW TABLES lists them)",
        ));
    }
    Ok(())
}

fn forbidden(what: &str) -> QueryError {
    QueryError::new(
        ErrorKind::Forbidden,
        format!("only SELECT, WITH, VALUES, EXPLAIN and SHOW are answered here, refused: {what}"),
    )
}
