//! How every model is run.

/// Runs every interleaving with at most two preemptions: three threads are not feasible without a bound, and faults that
/// need three are rare.
pub(crate) fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}
