//! Which stream a lane delivers next, and when it leaves that one because another may go on.
//!
//! In: the spool's streams, what the other lane delivers, and what is left alone for now. Promises: a stream is never in both
//! lanes; of those that need not wait, the oldest goes first.

use std::future::Future;
use std::sync::{Arc, MutexGuard, PoisonError};

use tokio::time::{Instant, sleep_until};

use super::{Common, Lane};
use crate::sender::pace::Role;
use crate::sender::waits::Why;
use crate::spool::Stream;

/// See the module.
#[derive(Default)]
pub(super) struct Choice {
    /// The one to deliver now, if there is one.
    pub(super) stream: Option<Arc<Stream>>,
    /// When the first of those that were passed over for it may be asked again.
    again: Option<Instant>,
    /// Why that one was passed over.
    pub(super) words: Option<String>,
    /// Whether one of them waits for another credential.
    foreign: bool,
}

impl Choice {
    /// The oldest that need not wait; else the oldest that only lets others go first.
    fn of<'a>(mine: impl Iterator<Item = &'a Arc<Stream>>, common: &Common) -> Choice {
        let mut choice = Choice::default();
        let mut yields = None;
        for stream in mine {
            let Some((why, until)) = common.waits.now(&stream.id) else {
                choice.stream = Some(Arc::clone(stream));
                return choice;
            };
            if why == Why::NoRoom {
                yields = yields.or(Some(stream));
            }
            choice.foreign |= why == Why::Foreign;
            if choice.again.is_none_or(|again| until < again) {
                choice.again = Some(until);
                choice.words = common.waits.words(&stream.id);
            }
        }
        choice.stream = yields.cloned();
        choice
    }
}

impl<'a> Lane<'a> {
    /// The stream to deliver now, which the other lane then leaves alone.
    pub(super) fn choose(&self) -> Choice {
        let common = self.common;
        let streams = common.spool.streams();
        common
            .waits
            .keep(|id| streams.iter().any(|stream| stream.id == *id));
        let mut serving = self.all_serving();
        let [newest, backlog] = *serving;
        let choice = match self.role {
            Role::All => Choice::of(streams.iter(), common),
            // Once the spool is finished, it is no longer written but still this lane's.
            Role::Newest => {
                let last = streams
                    .last()
                    .filter(|stream| stream.is_live() || newest == Some(stream.id))
                    .filter(|stream| backlog != Some(stream.id));
                Choice::of(last.into_iter(), common)
            }
            Role::Backlog => {
                let mine = |stream: &&Arc<Stream>| !stream.is_live() && newest != Some(stream.id);
                Choice::of(streams.iter().filter(mine), common)
            }
        };
        let now = choice.stream.as_ref().map(|stream| stream.id);
        let left = std::mem::replace(&mut serving[self.place()], now);
        if left.is_some() && left != now {
            // The other one may wait for it.
            common.spool.bump_news();
        }
        choice
    }

    /// Ends when one that was passed over is to be asked. The oldest of a backlog ends by itself and is not left for that;
    /// but another credential may be for all that waits.
    pub(super) fn recall(&self, choice: &Choice) -> impl Future<Output = ()> + use<'a> {
        let common = self.common;
        let idle = choice.stream.is_none();
        let again = choice.again.filter(|_| idle || self.role == Role::All);
        let refused = self.refused.clone();
        let foreign = choice.foreign;
        async move {
            tokio::select! {
                () = until(again) => {}
                () = common.config.credential.changed(&refused), if foreign => common.waits.shown_anew(),
            }
        }
    }

    fn place(&self) -> usize {
        usize::from(self.role == Role::Backlog)
    }

    fn all_serving(&self) -> MutexGuard<'_, [Option<[u8; 16]>; 2]> {
        let serving = &self.common.serving;
        serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves what it delivered to the other lane.
    pub(super) fn leave(&self) {
        self.all_serving()[self.place()] = None;
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
