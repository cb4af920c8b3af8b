//! Makes every source of a plan yield after each batch, so that an aborted statement ends.
//!
//! A task can only be aborted where it yields. DataFusion does so after 128 batches of a source, but a join can make
//! millions of pairs of each batch: one thread was held for minutes by a statement whose caller was long gone.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use tokio_stream::Stream;

/// `plan` with every source wrapped.
pub(super) fn yielding(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        if node.children().is_empty() {
            return Ok(Transformed::yes(Arc::new(Yielding(node)) as _));
        }
        Ok(Transformed::no(node))
    })
    .data()
}

#[derive(Debug)]
struct Yielding(Arc<dyn ExecutionPlan>);

impl DisplayAs for Yielding {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Yielding")
    }
}

impl ExecutionPlan for Yielding {
    fn name(&self) -> &'static str {
        "Yielding"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.0.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.0]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let only = children.pop().ok_or_else(|| {
            DataFusionError::Internal("a source that yields has one child".to_owned())
        })?;
        Ok(Arc::new(Self(only)))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let source = self.0.execute(partition, context)?;
        Ok(Box::pin(YieldingStream { source, due: false }))
    }
}

struct YieldingStream {
    source: SendableRecordBatchStream,
    /// A batch was handed out since the last yield.
    due: bool,
}

impl Stream for YieldingStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.due {
            self.due = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let item = ready!(self.source.as_mut().poll_next(cx));
        self.due = item.is_some();
        Poll::Ready(item)
    }
}

impl RecordBatchStream for YieldingStream {
    fn schema(&self) -> SchemaRef {
        self.source.schema()
    }
}
