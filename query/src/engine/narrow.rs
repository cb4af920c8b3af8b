//! Statements about single series: too little work to be worth dividing.
//!
//! What a statement reads of one series is a run of rows in each file that holds it. Dividing a file among threads has
//! each of them open it, look through its statistics and wake the others, which is most of what such a statement takes.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};

use crate::samples::{DEVICE, METRIC};
use crate::tables::SAMPLES;

/// Whether each read of `samples` in this plan, which is as it was written, is of one device and one metric.
pub(super) fn is_narrow(plan: &LogicalPlan) -> bool {
    let (mut reads, mut narrow) = (0_usize, 0_usize);
    let walked = plan.apply_with_subqueries(|node| {
        reads += usize::from(reads_samples(node));
        narrow += usize::from(is_of_one_series(node));
        Ok(TreeNodeRecursion::Continue)
    });
    walked.is_ok() && reads > 0 && reads == narrow
}

fn reads_samples(node: &LogicalPlan) -> bool {
    matches!(node, LogicalPlan::TableScan(scan) if scan.table_name.table() == SAMPLES)
}

/// A filter right above `samples`, under whatever name.
fn is_of_one_series(node: &LogicalPlan) -> bool {
    let LogicalPlan::Filter(filter) = node else {
        return false;
    };
    let mut input = &*filter.input;
    while let LogicalPlan::SubqueryAlias(alias) = input {
        input = &alias.input;
    }
    let parts = split_conjunction(&filter.predicate);
    let is_one = |column: &str| parts.iter().any(|part| names_one(part, column));
    reads_samples(input) && is_one(METRIC) && is_one(DEVICE)
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
