//! The spool's own task, beside those who append and deliver: losses become records, commands are answered, and
//! the program's health hears how the spool fares.

use std::time::Duration;

use tokio::time::Instant;
use weir_process::health::Stage;
use weir_process::progress;

use super::Spool;

/// How often the high-water mark of the live stream is noted: what a damaged end costs is exact up to then.
const NOTE: Duration = Duration::from_secs(30);

impl Spool {
    /// Keeps losses flowing into the books, and says how the spool fares. Runs until it is dropped.
    pub(crate) async fn tend(&self, stage: Stage) {
        tokio::join!(self.keep_books(stage), self.serve());
    }

    /// Answers commands; one may wait for the disk for a while.
    async fn serve(&self) {
        let mut ticks = progress::looks();
        loop {
            ticks.tick().await;
            self.look_for_files();
            self.serve_request().await;
        }
    }

    async fn keep_books(&self, stage: Stage) {
        let mut ticks = progress::looks();
        let mut noted = Instant::now();
        loop {
            ticks.tick().await;
            if let Err(error) = self.flush_lost(false) {
                tracing::debug!(%error, "cannot write what was dropped yet");
            }
            if noted.elapsed() >= NOTE {
                noted = Instant::now();
                self.note_progress();
                self.look_for_room_for_letters();
            }
            self.look_at_pressure();
            self.speak(&stage);
        }
    }

    /// What moves, for `pulse`: the last durable sequence and the batches that wait behind it; a number that
    /// changes with every ack, and the readings that wait for one.
    pub(crate) fn pulse(&self) -> ((u64, u64), (u64, u64)) {
        let inner = self.lock();
        let commit = inner.live().map_or((0, 0), |live| {
            let durable_through = live.progress().borrow().durable_through;
            let last = live.journal.next() - 1;
            (durable_through, last.saturating_sub(durable_through))
        });
        let mut acks = inner.retired.produced;
        let mut readings = 0;
        for stream in &inner.streams {
            let account = stream.account();
            acks = acks.wrapping_add(account.acked_through);
            readings += stream.durable().1.saturating_sub(account.readings_through);
        }
        (commit, (acks, readings))
    }

    /// The live stream's high-water mark on disk: one small write and sync.
    fn note_progress(&self) {
        let live = self.lock().live();
        if let Some(Err(error)) = live.map(|live| live.note_progress()) {
            tracing::warn!(%error, "cannot note how far the spool is durable");
        }
    }

    /// Where a letter found no room: letters may have been removed since.
    pub(crate) fn look_for_room_for_letters(&self) {
        let letters = self.dead_letters();
        if letters.full().is_some()
            && let Err(error) = letters.look()
        {
            tracing::warn!(%error, "cannot look through the dead letters");
        }
    }

    fn speak(&self, stage: &Stage) {
        let inner = self.lock();
        let (bytes, max_bytes) = (inner.bytes(), self.shared.config.max_bytes);
        let progress = inner.live().map(|live| live.progress().borrow().clone());
        let waits_for_disk = progress.is_none() && !inner.finished;
        drop(inner);
        let progress = progress.unwrap_or_default();
        if let Some(reason) = progress.poisoned {
            stage.dead(format!("spool accepts nothing more: {reason}"));
        } else if progress.disk_full || waits_for_disk {
            stage.failing("disk is full: nothing can be spooled");
        } else if self.is_starved() {
            stage.failing(format!("spool is full: {bytes} of {max_bytes} bytes"));
        } else if self.lost_files() {
            stage.failing(
                "files of the spool were removed under the running agent: another stream was begun",
            );
        } else if let Some(full) = self.dead_letters().full() {
            stage.failing(full.to_string());
        } else {
            stage.ok();
        }
    }
}
