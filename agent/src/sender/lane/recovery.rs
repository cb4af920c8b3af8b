//! What a lane does about a failure: for the batch, the stream or the agent that it is of, and how long it waits.
//!
//! In: a [`Failure`]. Out: what was set aside, left alone or begun anew, and a moment in which to try again. Promises: what is
//! said of one stream makes the others wait for a moment at most.

use std::sync::Arc;

use tokio::time::{Instant, sleep, sleep_until};

use super::{Common, Lane};
use crate::sender::LinkState;
use crate::sender::failure::{Failure, Kind};
use crate::sender::pace::Role;
use crate::sender::set_aside;
use crate::sender::waits::Why;
use crate::spool::Stream;

impl Lane<'_> {
    /// Does what a failure asks for, and waits. False when delivery is over instead.
    pub(super) async fn recover(&mut self, stream: &Arc<Stream>, failure: Failure) -> bool {
        let common = self.common;
        common.metrics.retried(failure.label());
        let moved = self
            .delivery
            .as_mut()
            .is_some_and(|kept| std::mem::take(&mut kept.moved));
        if moved {
            self.retry.moved();
        }
        let kind = failure.kind();
        let keeps_connection = [Kind::Resume, Kind::Suspect, Kind::Displaced, Kind::Foreign];
        if !keeps_connection.contains(&kind) {
            common.link.drop_channel(self.connection).await;
        }
        self.tell(&failure);
        match kind {
            Kind::Forked => tokio::select! {
                biased;
                // On a full disk the copy waits for a while; half of it does not count.
                () = self.stop.over() => {}
                forked = fork(common, stream) => if let Err(reason) = forked {
                    // What others deliver makes room.
                    common.waits.begin(stream.id, (Why::NoRoom, reason), None);
                }
            },
            Kind::Suspect => self.suspect(stream, &failure),
            Kind::Denied => common.admission.note(failure.to_string()),
            Kind::Displaced => return self.pass_over(stream, Why::Displaced, &failure).await,
            Kind::Foreign => return self.pass_over(stream, Why::Foreign, &failure).await,
            Kind::Operator | Kind::Transient | Kind::Resume => {}
        }
        let delay = match kind {
            Kind::Operator => self.retry.next_slow(failure.hint()),
            Kind::Denied => self.retry.next_denied(failure.hint()),
            _ => self.retry.next(failure.hint()),
        };
        if self.role != Role::Backlog {
            let reason = failure.to_string();
            common.state.send_replace(LinkState::Waiting { reason });
        }
        let at = Instant::now() + delay;
        if self.stop.is_draining() {
            // A stop does not wait for a link that fails: what is left stays in the spool.
            self.wait_for_finish().await;
            return false;
        }
        tokio::select! {
            biased;
            () = common.config.credential.changed(&self.shown), if kind == Kind::Denied => true,
            () = common.enroll_token_changed(), if kind == Kind::Denied => true,
            () = self.stop.asked() => {
                // One more attempt, with all that was still to come.
                self.wait_for_finish().await;
                true
            }
            () = sleep_until(at) => true,
        }
    }

    /// Leaves one stream alone and goes on with the others, after a moment: there may be many like it.
    async fn pass_over(&mut self, stream: &Stream, why: Why, failure: &Failure) -> bool {
        let common = self.common;
        let said = (why, failure.to_string());
        common.waits.begin(stream.id, said, failure.hint());
        if why == Why::Foreign {
            self.refused.clone_from(&self.shown);
            common.let_in();
        }
        tokio::select! {
            biased;
            () = self.stop.over() => {}
            () = sleep(common.config.retry_min) => {}
        }
        true
    }

    /// Waits until no more comes, so that the spool is whole when the program ends.
    async fn wait_for_finish(&mut self) {
        let mut news = self.common.spool.news();
        while !self.common.spool.is_finished() {
            tokio::select! {
                biased;
                () = self.stop.over() => return,
                _ = news.changed() => {}
            }
        }
    }

    /// Finds the batch that ends the call, one at a time, and sets it aside.
    fn suspect(&mut self, stream: &Stream, failure: &Failure) {
        let Some(delivery) = &mut self.delivery else {
            return;
        };
        let Some(sequence) = delivery.suspect() else {
            return;
        };
        let spool = &self.common.spool;
        let reason = failure.to_string();
        match set_aside::set_aside(spool, stream, sequence, (failure.label(), &reason)) {
            Ok(_) => {
                self.common.metrics.dead_letters.inc();
                delivery.set_aside.insert(sequence);
                delivery.definitions_due.after(sequence);
            }
            Err(error) => self.tell(&error),
        }
    }

    fn tell(&self, failure: &Failure) {
        let common = self.common;
        let now = common.spool.shared.clock.monotonic_ns();
        common.voice().tell(&common.config.sink_url, failure, now);
    }
}

/// Begins the stream anew, or says why it could not.
async fn fork(common: &Common, stream: &Arc<Stream>) -> Result<(), String> {
    match common.spool.fork(stream).await {
        Ok(readings) => {
            common.metrics.fork_resent.inc_by(readings);
            tracing::error!(
                readings,
                "sending again, under a new stream, what is not proven stored"
            );
            Ok(())
        }
        Err(error) => {
            tracing::error!(%error, "cannot begin the stream anew");
            Err(format!("it cannot be begun anew: {error}"))
        }
    }
}
