//! Keeps what is known of credentials in step with the catalog, which commands change, and brings refusals into it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Access;
use super::known::Known;
use crate::catalog::{Catalog, CatalogError};

/// How often there is a look at the catalog: a revocation takes effect within twice of it.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A token nobody knows makes for a look at once, at most this often.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

impl Access {
    /// A token that was just made is not in what is known yet. One look serves all who wait for it.
    pub(super) async fn look_for_somebody_new(&self) {
        let came = Instant::now();
        let mut looked = self.inner.looked.lock().await;
        match *looked {
            Some(at) if at >= came => return,
            Some(at) => tokio::time::sleep_until(at + LOOK_AGAIN).await,
            None => {}
        }
        *looked = Some(Instant::now());
        if let Err(error) = self.refresh().await {
            tracing::debug!(%error, "cannot look for a token that was just made");
        }
    }

    /// Takes over what has changed.
    pub(super) async fn refresh(&self) -> Result<(), CatalogError> {
        let Some(catalog) = &self.inner.catalog else {
            return Ok(());
        };
        if catalog.access_generation().await? == self.known().generation {
            return Ok(());
        }
        let known = look(catalog).await?;
        tracing::debug!(generation = known.generation, "credentials have changed");
        self.inner.known.send_replace(Arc::new(known));
        Ok(())
    }

    /// Looks at the catalog again and again until told to stop, and notes refusals there.
    pub async fn follow(self, token: CancellationToken) {
        let waited = self.inner.waited.lock();
        let waited = waited.unwrap_or_else(PoisonError::into_inner).take();
        let mut waited = waited.expect("it is followed once");
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut failing = false;
        loop {
            let deed = tokio::select! {
                biased;
                () = token.cancelled() => break,
                _ = ticks.tick() => None,
                deed = waited.recv() => deed,
            };
            let done = match deed {
                Some(deed) => self.write(vec![deed]).await,
                None => self.refresh().await,
            };
            match done {
                Ok(()) => failing = false,
                Err(error) if !std::mem::replace(&mut failing, true) => tracing::warn!(
                    %error,
                    "the catalog cannot be asked for credentials: what was known before goes on to count"
                ),
                Err(_) => {}
            }
        }
        let mut rest = Vec::new();
        while let Ok(deed) = waited.try_recv() {
            rest.push(deed);
        }
        if let Err(error) = self.write(rest).await {
            tracing::debug!(%error, "the last refusals are not in the audit log");
        }
    }
}

pub(super) async fn look(catalog: &Catalog) -> Result<Known, CatalogError> {
    // First, so that a change in between is found again.
    let generation = catalog.access_generation().await?;
    let (tokens, certificates) = (catalog.tokens().await?, catalog.certificates().await?);
    Ok(Known::new(generation, tokens, certificates))
}
