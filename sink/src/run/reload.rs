//! On SIGHUP the settings are read again: limits count from then on, for those that are connected too; of what else is
//! different the log says that it needs a restart. Settings that cannot be used change nothing.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use weir_process::health::Stage;
use weir_process::work;

use crate::config::Again;
use crate::ingest::Ingest;

/// See the module.
pub(super) struct Reload {
    /// Nothing while they are being read.
    again: Option<Again>,
    ingest: Ingest,
    /// What somebody should see to.
    stage: Stage,
}

impl Reload {
    pub(super) fn new(again: Again, ingest: Ingest, stage: Stage) -> Self {
        stage.ok();
        Self {
            again: Some(again),
            ingest,
            stage,
        }
    }

    /// Reads again at each of these signals, until `token`.
    pub(super) async fn watch(mut self, hangups: Option<Signal>, token: CancellationToken) {
        let Some(mut hangups) = hangups else {
            return;
        };
        while next(&mut hangups, &token).await {
            self.reload().await;
        }
    }

    async fn reload(&mut self) {
        let Some(mut again) = self.again.take() else {
            return;
        };
        let Ok((again, read)) = work::run(move || {
            let read = again.read();
            (again, read)
        })
        .await
        else {
            tracing::error!("SIGHUP: reading the settings failed; another try needs a restart");
            return;
        };
        self.again = Some(again);
        let difference = match read {
            Ok(difference) => difference,
            Err(error) => {
                tracing::error!(%error, "SIGHUP: the settings cannot be used, those before stay in effect");
                self.stage.note(format!(
                    "the settings as they are written cannot be used: {error}"
                ));
                return;
            }
        };
        let (taken, at_restart) = (
            difference.taken.join(", "),
            difference.at_restart.join(", "),
        );
        let later = self
            .ingest
            .set_limits(&difference.config.ingest.limits)
            .join(", ");
        match taken.as_str() {
            "" => tracing::info!("SIGHUP: the limits are those in effect"),
            _ => tracing::info!(
                settings = taken,
                "SIGHUP: other limits from now on, for those connected too"
            ),
        }
        let mut needs = Vec::new();
        if !at_restart.is_empty() {
            tracing::warn!(
                settings = at_restart,
                "these settings are different and need a restart"
            );
            needs.push(at_restart);
        }
        if !later.is_empty() {
            tracing::warn!(
                tenants = later,
                "series are not counted where there was no limit: that on series needs a restart for these"
            );
            needs.push(format!("limits on series of {later}"));
        }
        match needs.is_empty() {
            true => self.stage.ok(),
            false => self
                .stage
                .note(format!("needs a restart: {}", needs.join(", "))),
        }
    }
}

/// From now on a SIGHUP does not end the program.
pub(super) fn hangups() -> Option<Signal> {
    signal(SignalKind::hangup())
        .inspect_err(|error| {
            tracing::warn!(%error, "cannot listen for SIGHUP: other limits need a restart");
        })
        .ok()
}

/// Whether there was a signal before the end.
async fn next(hangups: &mut Signal, token: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = token.cancelled() => false,
        signal = hangups.recv() => signal.is_some(),
    }
}
