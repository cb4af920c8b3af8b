//! One statement from text to answer, on the engine's threads.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use tokio_stream::StreamExt;

use super::share::Share;
use super::{Base, Limits, session, yielding};
use crate::answer::Answer;
use crate::error::QueryError;
use crate::samples::Scans;
use crate::statement;
use crate::tables::Tables;

/// `share` is where operators take their memory, and the answer for as long as it lives.
pub(super) async fn answer(
    sql: String,
    tables: Tables,
    base: Base,
    limits: Limits,
    share: Arc<Share>,
) -> Result<Answer, QueryError> {
    let refusals = share.refusals();
    let memory = Arc::<Share>::clone(&share);
    let answer = within_memory(sql, tables, base, limits, memory).await;
    answer.map_err(|error| share.blamed(refusals, error))
}

async fn within_memory(
    sql: String,
    tables: Tables,
    base: Base,
    limits: Limits,
    memory: Arc<dyn MemoryPool>,
) -> Result<Answer, QueryError> {
    let mut state = base.state;
    let scans = Arc::new(Scans::new(base.checked));
    session::bind(&mut state, tables, Arc::clone(&scans))
        .map_err(|error| QueryError::internal("the tables could not be set up", &error))?;
    state.mark_start_execution();
    let wrong = |error: DataFusionError| QueryError::from_datafusion(&error, limits.memory_bytes);
    let plan = statement::plan(&sql, &state, limits.memory_bytes).await?;
    let plan = at_most(plan, limits.max_rows).map_err(wrong)?;
    let planned = state.create_physical_plan(&plan).await;
    let plan = planned.map_err(|error| {
        scans
            .trouble()
            .map_or_else(|| wrong(error), QueryError::damaged)
    })?;
    let plan = yielding::yielding(plan).map_err(wrong)?;
    let held = MemoryConsumer::new("answer").register(&memory);
    let rows = execute_stream(plan, within(&state, memory)).map_err(wrong)?;
    let answer = collect(rows, &limits, held).await;
    // A file that cannot be read is the reason, whatever has become of it on its way up here.
    let mut answer = answer.map_err(|error| scans.trouble().map_or(error, QueryError::damaged))?;
    answer.files_known = scans.known.load(Ordering::Relaxed);
    answer.files_scanned = scans.scanned.load(Ordering::Relaxed);
    Ok(answer)
}

/// The task of a statement whose operators take their memory from this pool.
fn within(state: &SessionState, memory_pool: Arc<dyn MemoryPool>) -> Arc<TaskContext> {
    let runtime = RuntimeEnv {
        memory_pool,
        ..RuntimeEnv::clone(state.runtime_env())
    };
    Arc::new(TaskContext::from(state).with_runtime(Arc::new(runtime)))
}

/// Asks for one row more than may be answered, so that a sort keeps only those and the cut is noticed. Plans that must
/// stand at the root are left alone: their rows are few.
fn at_most(plan: LogicalPlan, rows: usize) -> Result<LogicalPlan, DataFusionError> {
    match plan {
        LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) | LogicalPlan::DescribeTable(_) => {
            Ok(plan)
        }
        plan => LogicalPlanBuilder::from(plan)
            .limit(0, Some(rows.saturating_add(1)))?
            .build(),
    }
}

async fn collect(
    mut stream: SendableRecordBatchStream,
    limits: &Limits,
    held: MemoryReservation,
) -> Result<Answer, QueryError> {
    let max_bytes = limits.memory_bytes / 4;
    let mut answer = Answer::new(stream.schema(), max_bytes);
    let mut room = limits.max_rows;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|e| QueryError::from_datafusion(&e, limits.memory_bytes))?;
        let bytes = batch.get_array_memory_size();
        if held.size().saturating_add(bytes) > max_bytes {
            return Err(QueryError::answer_too_large(max_bytes));
        }
        held.try_grow(bytes)
            .map_err(|error| QueryError::from_datafusion(&error, limits.memory_bytes))?;
        let kept = batch.num_rows().min(room);
        answer.truncated = kept < batch.num_rows();
        if kept > 0 {
            answer.batches.push(batch.slice(0, kept));
        }
        room -= kept;
        if answer.truncated {
            break;
        }
    }
    answer.held = Some(held);
    Ok(answer)
}
