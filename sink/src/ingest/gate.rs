//! Whether the sink can durably accept now: the one answer for Hello, appends and `/readyz`.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use weir_journal::Journal;
use weir_process::health::Stage;

use super::fault::Fault;

/// How often the journal's size is looked at when nothing else moves.
const LOOK: Duration = Duration::from_secs(1);

/// Looks at the journal: poisoned, out of disk, or above its high water.
#[derive(Clone)]
pub struct Gate {
    journal: Journal,
    high_water_bytes: u64,
}

impl Gate {
    pub(super) fn new(journal: Journal, high_water_bytes: u64) -> Self {
        Self {
            journal,
            high_water_bytes,
        }
    }

    /// Why nothing can be accepted now, if so.
    pub fn check(&self) -> Result<(), Fault> {
        let progress = self.journal.progress();
        let progress = progress.borrow();
        if let Some(reason) = &progress.poisoned {
            return Err(Fault::JournalFailed(reason.to_string()));
        }
        if progress.disk_full {
            return Err(Fault::Overloaded("the disk is full".into()));
        }
        drop(progress);
        let bytes = self.journal.bytes();
        if bytes >= self.high_water_bytes {
            return Err(Fault::Overloaded(format!(
                "the journal holds {bytes} bytes, its high water is {}: the store does not keep up",
                self.high_water_bytes
            )));
        }
        Ok(())
    }

    /// Tells `/readyz` what the gate says, until `token`; ends early, with the reason, when only a
    /// restart can help.
    pub async fn watch(&self, stage: &Stage, token: &CancellationToken) -> Result<(), Fault> {
        let mut progress = self.journal.progress();
        let mut failing = false;
        loop {
            match self.check() {
                Ok(()) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("accepting again");
                    }
                    stage.ok();
                }
                Err(fault @ Fault::JournalFailed(_)) => {
                    stage.dead(fault.to_string());
                    return Err(fault);
                }
                Err(fault) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(reason = %fault, "not accepting");
                    }
                    stage.failing(fault.to_string());
                }
            }
            tokio::select! {
                biased;
                () = token.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
                // Only a failure is worth looking at once: commits come by the hundred.
                _ = progress.wait_for(|p| p.poisoned.is_some()) => {}
            }
        }
    }
}
