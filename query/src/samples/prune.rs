//! Which files can hold rows that a statement asks for, from the ranges of `time`, `metric` and `device`.

use std::collections::HashSet;

use arrow::array::{ArrayRef, StringArray, TimestampNanosecondArray, UInt64Array};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, Operator};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use std::sync::Arc;

use super::TIME;
use crate::tables::{DataFile, Names};

const METRIC: &str = "metric";
const DEVICE: &str = "device";

/// The files that may hold a row for which all `filters` are true. A filter that says nothing about their ranges keeps all.
pub(super) fn keep<'a>(
    files: &'a [DataFile],
    filters: &[Expr],
    state: &dyn Session,
    schema: &SchemaRef,
) -> Result<Vec<&'a DataFile>> {
    let Some(all) = conjunction(filters.to_vec()) else {
        return Ok(files.iter().collect());
    };
    let expr = state.create_physical_expr(all, &DFSchema::try_from(Arc::clone(schema))?)?;
    let predicate = PruningPredicateBuilder::new()
        .with_file_schema(Arc::clone(schema))
        .try_build(expr)?;
    let kept = predicate.prune(&Ranges { files, schema })?;
    let pairs = files.iter().zip(kept);
    Ok(pairs
        .filter(|(_, keep)| *keep)
        .map(|(file, _)| file)
        .collect())
}

/// Whether all `filters` together leave the rows of one device and one metric: in each file, which is sorted by them, one run.
pub(super) fn leave_one_run(filters: &[Expr]) -> bool {
    let parts: Vec<&Expr> = filters.iter().flat_map(split_conjunction).collect();
    let is_one = |column: &str| parts.iter().any(|part| names_one(part, column));
    is_one(METRIC) && is_one(DEVICE)
}

/// Whether this is `column = 'a name'`, either way around.
fn names_one(condition: &Expr, column: &str) -> bool {
    let Expr::BinaryExpr(both) = condition else {
        return false;
    };
    let is_column = |side: &Expr| matches!(side, Expr::Column(of) if of.name == column);
    let is_name = |side: &Expr| matches!(side, Expr::Literal(..));
    let (left, right) = (&*both.left, &*both.right);
    both.op == Operator::Eq
        && ((is_column(left) && is_name(right)) || (is_name(left) && is_column(right)))
}

/// The catalog's numbers, one entry per file.
struct Ranges<'a> {
    files: &'a [DataFile],
    schema: &'a SchemaRef,
}

impl Ranges<'_> {
    fn times(&self, column: &Column, of: fn(&DataFile) -> i64) -> Option<ArrayRef> {
        if column.name() != TIME {
            return None;
        }
        let DataType::Timestamp(_, zone) = self.schema.field_with_name(TIME).ok()?.data_type()
        else {
            return None;
        };
        let times = TimestampNanosecondArray::from_iter_values(self.files.iter().map(of));
        Some(Arc::new(times.with_timezone_opt(zone.clone())))
    }

    /// Null where nothing is known, which keeps the file.
    fn names(&self, of: fn(&Names) -> &str) -> ArrayRef {
        let names = self.files.iter().map(|file| file.names.as_ref().map(of));
        Arc::new(names.collect::<StringArray>())
    }
}

impl PruningStatistics for Ranges<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            METRIC => Some(self.names(|names| &names.metrics.0)),
            DEVICE => Some(self.names(|names| &names.devices.0)),
            _ => self.times(column, |file| file.min_ns),
        }
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            METRIC => Some(self.names(|names| &names.metrics.1)),
            DEVICE => Some(self.names(|names| &names.devices.1)),
            _ => self.times(column, |file| file.max_ns),
        }
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let none = || UInt64Array::from(vec![0; self.files.len()]);
        (column.name() == TIME).then(|| Arc::new(none()) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.files.iter().map(|file| file.rows);
        Some(Arc::new(UInt64Array::from_iter_values(rows)))
    }

    fn contained(
        &self,
        _column: &Column,
        _values: &HashSet<ScalarValue>,
    ) -> Option<arrow::array::BooleanArray> {
        None
    }
}
