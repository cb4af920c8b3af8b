//! A sink that runs: its parts end it when they cannot go on, in their order, and say why.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir_process::exit::Exit;
use weir_process::health::Health;
use weir_process::shutdown::Shutdown;

use crate::fold::Fold;
use crate::grpc;
use crate::ingest::Ingest;

/// A running sink. Dropping it stops nothing.
pub struct Running {
    pub(super) shutdown: Shutdown,
    /// The first reason to end with something else than success.
    verdict: Verdict,
}

/// Why the sink ends, when it is not because it was told to.
#[derive(Clone, Default)]
struct Verdict(Arc<OnceLock<Exit>>);

impl Verdict {
    fn is(&self, exit: Exit) {
        // The first one counts.
        let _ = self.0.set(exit);
    }
}

impl Running {
    /// Nothing runs yet; what is spawned ends with `shutdown`.
    pub(super) fn new(shutdown: Shutdown) -> Running {
        Running {
            shutdown,
            verdict: Verdict::default(),
        }
    }

    /// `/readyz` follows the journal; a journal that accepts nothing more ends the process.
    pub(super) fn watch_gate(&self, health: &Health, ingest: &Ingest) {
        let stage = health.stage("journal", None);
        let gate = ingest.gate().clone();
        let (shutdown, verdict) = (self.shutdown.clone(), self.verdict.clone());
        self.shutdown.spawn("gate", async move {
            if let Err(fault) = gate.watch(&stage, &shutdown.token()).await {
                tracing::error!(
                    reason = %fault,
                    "the journal failed and accepts nothing more: stopping, a restart recovers what is durable"
                );
                verdict.is(Exit::Io);
                shutdown.stop();
            }
        });
    }

    pub(super) fn serve(
        &self,
        served: impl Future<Output = Result<(), grpc::GrpcError>> + Send + 'static,
    ) -> JoinHandle<()> {
        let (shutdown, verdict) = (self.shutdown.clone(), self.verdict.clone());
        self.shutdown.spawn("grpc", async move {
            if let Err(error) = served.await {
                tracing::error!(%error, "stopping");
                verdict.is(Exit::Software);
                shutdown.stop();
            }
        })
    }

    pub(super) fn fold(&self, fold: Fold, token: CancellationToken) -> JoinHandle<()> {
        let (shutdown, verdict) = (self.shutdown.clone(), self.verdict.clone());
        self.shutdown.spawn("fold", async move {
            if let Err(error) = fold.run(token).await {
                tracing::error!(%error, "stopping");
                verdict.is(Exit::Io);
                shutdown.stop();
            }
        })
    }

    /// Waits until it is told to stop, or cannot go on, and then for the end of every part, at most
    /// for `grace`. What is late by then is named, and nothing is lost by it: the journal has it.
    pub async fn until_stopped(self, grace: Duration) -> Exit {
        self.shutdown.token().cancelled().await;
        let late = self.shutdown.finish(grace).await;
        if late.is_empty() {
            tracing::info!("stopped");
        } else {
            tracing::warn!(
                late = late.join(", "),
                "stopped before these were done: what they held is in the journal"
            );
        }
        if !self.shutdown.panicked().is_empty() {
            self.verdict.is(Exit::Software);
        }
        self.verdict.0.get().copied().unwrap_or(Exit::Ok)
    }
}
