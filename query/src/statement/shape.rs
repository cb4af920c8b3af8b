//! How large a parsed statement is, before anything plans it.
//!
//! Planning cannot be interrupted, recurses as deep as expressions nest, and writes a WITH query out wherever it is
//! named: thirty of them that each name the one before twice are a thousand million scans. So the depth of expressions,
//! the number of selects, and the number of tables with WITH written out are limited.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, Select, SetExpr, Statement, Visit, Visitor,
};

use crate::error::{ErrorKind, QueryError};

/// `a or b or c ...` is as deep as it has terms; a list after IN is not deep.
const MAX_DEPTH: usize = 500;
const MAX_SELECTS: usize = 200;
const MAX_TABLES: u64 = 100;

/// Refuses statements that are too large to plan, or that hide a change of data in a query.
pub(super) fn check(statement: &Statement) -> Result<(), QueryError> {
    match statement.visit(&mut Shape::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

#[derive(Default)]
struct Shape {
    depth: usize,
    selects: usize,
    /// Queries around the place that is visited, the innermost last.
    open: Vec<Open>,
    /// How many tables each WITH query stands for. The most, where two share a name.
    with: HashMap<String, u64>,
}

#[derive(Default)]
struct Open {
    /// Names of its WITH queries that have not been visited; they come before anything else in it.
    with: VecDeque<String>,
    tables: u64,
}

fn too_large(what: &str, most: u64) -> ControlFlow<QueryError> {
    ControlFlow::Break(QueryError::new(
        ErrorKind::TooLarge,
        format!("the statement is too large: more than {most} {what}"),
    ))
}

fn last_name(name: &ObjectName) -> String {
    let last = name.0.last().and_then(|part| part.as_ident());
    last.map_or_else(String::new, |ident| ident.value.to_lowercase())
}

impl Visitor for Shape {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        match *query.body {
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                return ControlFlow::Break(super::forbidden("a change of data within a query"));
            }
            _ => {}
        }
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        self.open.push(Open {
            with: with
                .map(|cte| cte.alias.name.value.to_lowercase())
                .collect(),
            tables: 0,
        });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<QueryError> {
        let tables = self.open.pop().map_or(0, |closed| closed.tables);
        let Some(around) = self.open.last_mut() else {
            return ControlFlow::Continue(());
        };
        if let Some(name) = around.with.pop_front() {
            let known = self.with.entry(name).or_default();
            *known = tables.max(*known);
            return ControlFlow::Continue(());
        }
        around.tables += tables;
        if around.tables > MAX_TABLES {
            return too_large("tables, with WITH written out", MAX_TABLES);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<QueryError> {
        let tables = self.with.get(&last_name(name)).copied().unwrap_or(1);
        if let Some(open) = self.open.last_mut() {
            open.tables += tables.max(1);
            if open.tables > MAX_TABLES {
                return too_large("tables, with WITH written out", MAX_TABLES);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<QueryError> {
        if select.into.is_some() {
            return ControlFlow::Break(super::forbidden("SELECT INTO"));
        }
        self.selects += 1;
        if self.selects > MAX_SELECTS {
            return too_large("selects", MAX_SELECTS as u64);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<QueryError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return too_large("operators in a chain (IN takes a list)", MAX_DEPTH as u64);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<QueryError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}
