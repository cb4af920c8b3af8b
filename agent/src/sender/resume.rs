//! What a Welcome says about the past: where to go on, what is settled, and whether the stream is
//! still ours.
//!
//! In: the sink's `durable_through`, the checksum there and its count of readings. Out: the books
//! settled as far as the sink has the stream, and a [`Feed`] that goes on from there; or the finding
//! that the stream has forked (a restored disk, a cloned machine).

use weir_fault::{Mutant, mutant};
use weir_journal::Item;
use weir_proto::v1;

use super::delivery::Due;
use super::failure::Failure;
use super::feed::{Feed, reason_of};
use super::metrics::Metrics;
use super::window::Window;
use crate::ledger::{self, Dropped, Fate, Piece, REASONS};
use crate::spool::{Content, Spool, SpoolError, Stream, content, hex};

/// What is resumed.
pub(crate) struct Resume<'a> {
    pub(crate) spool: &'a Spool,
    pub(crate) stream: &'a Stream,
    pub(crate) window: &'a mut Window,
    pub(crate) metrics: &'a Metrics,
    pub(crate) definitions_due: &'a mut Due,
}

impl Resume<'_> {
    /// Settles what the sink has, and says where to go on.
    pub(crate) fn at(mut self, welcome: &v1::Welcome) -> Result<Feed, Failure> {
        let durable_through = welcome.durable_through;
        self.check_fork(welcome)?;
        self.stream
            .count_end(durable_through, welcome.readings_through);
        self.check_counts(welcome)?;
        while let Some((piece, bytes)) = self.window.pop_through(durable_through) {
            self.settle(&piece, bytes);
        }
        self.settle_from_spool(welcome)?;
        self.drop_letter(welcome);
        let in_flight = self.window.back().map_or(0, |piece| piece.through);
        self.window.forget_from(0);
        self.spool.release(self.stream)?;

        let account = self.stream.account();
        if durable_through < account.acked_through {
            tracing::error!(
                durable_through,
                acked_through = account.acked_through,
                "the sink has lost what it had acknowledged: sending again what the spool still holds"
            );
            self.definitions_due.after(durable_through);
        }
        let readings = match &welcome.books {
            Some(books) => self.compare(welcome, dropped_by_reason(books)),
            None if durable_through == account.acked_through => account.readings_through,
            None => welcome.readings_through,
        };
        self.check_end(welcome)?;
        let behind_flight = mutant(Mutant::ResumeBehindFlight);
        let next = if behind_flight { in_flight } else { 0 }.max(durable_through) + 1;
        Ok(Feed::new(
            self.stream,
            next,
            readings,
            self.definitions_due.is_due(),
        ))
    }

    /// A batch that was set aside and is stored all the same (what stood between the two had turned it away) needs no
    /// letter: put back, it would be stored twice.
    fn drop_letter(&self, welcome: &v1::Welcome) {
        let (sequence, crc) = (welcome.durable_through, welcome.durable_crc);
        let account = self.stream.account();
        let stored = (account.acked_through, account.acked_crc) == (sequence, crc);
        if crc == 0 || !stored || !self.was_set_aside(sequence) {
            return;
        }
        let letters = self.spool.dead_letters();
        match letters.remove(&hex(&self.stream.id), sequence) {
            Ok(()) => tracing::warn!(
                sequence,
                "the sink has a batch that was set aside: its letter is dropped"
            ),
            Err(error) => {
                tracing::error!(%error, sequence, "the sink has a batch that was set aside: remove its letter by hand, or a replay stores it twice")
            }
        }
    }

    /// Our books against the sink's at the same place. Where they differ the sink's count: it was
    /// restored to another day of its life. Answers the readings of the stream through there.
    fn compare(&self, welcome: &v1::Welcome, dropped: Dropped) -> u64 {
        let ours = self.stream.account();
        let place = (welcome.durable_through, welcome.readings_through);
        if (ours.acked_through, ours.readings_through) == place && ours.dropped == dropped {
            return ours.readings_through;
        }
        if ours.acked_through == welcome.durable_through {
            tracing::error!(
                ours = ours.readings_through,
                the_sinks = welcome.readings_through,
                durable_through = welcome.durable_through,
                "the sink's books are not this agent's: taking the sink's"
            );
        }
        let at = (welcome.durable_through, welcome.durable_crc);
        self.stream.adopt(at, welcome.readings_through, dropped);
        welcome.readings_through
    }

    fn settle(&mut self, piece: &Piece, bytes: u64) {
        self.definitions_due.settled(piece);
        let settled = self.spool.settle(self.stream, piece, bytes);
        self.metrics.settled(settled);
    }

    /// The sink knows sequences we never committed, or something else under one of ours: another batch, a Skip
    /// where we have a batch or the reverse, or another count of readings.
    fn check_fork(&self, welcome: &v1::Welcome) -> Result<(), Failure> {
        let (durable_through, theirs) = (welcome.durable_through, welcome.durable_crc);
        let (ours_through, _) = self.stream.durable();
        if durable_through > ours_through {
            return Err(Failure::Forked(format!(
                "the sink has it through {durable_through}, the spool wrote it through {ours_through}"
            )));
        }
        let account = self.stream.account();
        if durable_through == account.acked_through {
            // What it was is not asked: a letter may be gone since, and a guessed state has no checksum.
            let ours = account.acked_crc;
            return forked_unless(ours == 0 || theirs == 0 || ours == theirs, durable_through);
        }
        let body = self.stream.read(durable_through);
        let Some((before, count, fate)) = body.map_err(SpoolError::from)?.and_then(fate) else {
            return Ok(());
        };
        let same = match fate {
            // A Skip stands for a batch that was set aside. Letters of what was acknowledged before may be gone.
            Fate::Stored { crc } if crc != 0 && theirs == 0 => {
                durable_through <= account.peak().0 || self.was_set_aside(durable_through)
            }
            Fate::Stored { crc } => crc == theirs,
            Fate::Dropped(_) => theirs == 0,
        };
        forked_unless(same, durable_through)?;
        let counts = welcome.readings_through > 0 || welcome.books.is_some();
        if counts && welcome.readings_through != before + count {
            return Err(Failure::Forked(format!(
                "the sink counts {} readings through sequence {durable_through}, the spool {}",
                welcome.readings_through,
                before + count
            )));
        }
        Ok(())
    }

    /// Whoever closed it before its end has our records up to there: what it has is settled by now, so that only
    /// the rest goes out under another stream.
    fn check_end(&self, welcome: &v1::Welcome) -> Result<(), Failure> {
        let durable_through = welcome.durable_through;
        let is_all = self.stream.is_ended() && self.stream.durable().0 <= durable_through;
        if is_all || !welcome.closed {
            return Ok(());
        }
        Err(Failure::Forked(format!(
            "a copy of this spool has closed it after sequence {durable_through}"
        )))
    }

    fn was_set_aside(&self, sequence: u64) -> bool {
        let stream = hex(&self.stream.id);
        self.spool.dead_letters().holds(&stream, sequence)
    }

    /// No sink has more readings of a stream than there were, or dropped more of them than it has: what
    /// says so is not believed in anything.
    fn check_counts(&self, welcome: &v1::Welcome) -> Result<(), Failure> {
        let (through, (_, produced)) = (welcome.readings_through, self.stream.durable());
        let books = welcome.books.iter().flat_map(|books| &books.dropped);
        let dropped = books.fold(0_u64, |sum, one| sum.saturating_add(one.readings));
        let nothing = welcome.durable_through == 0 && through > 0;
        if through > produced || dropped > through || nothing {
            return Err(Failure::NotASink(format!(
                "it counts {through} readings, {dropped} of them dropped, through sequence {} of a stream of {produced}",
                welcome.durable_through
            )));
        }
        Ok(())
    }

    /// Settles, from the records themselves, what the sink has beyond the last ack we saw: the ack
    /// was lost, or the agent ended before it had noted it.
    fn settle_from_spool(&mut self, welcome: &v1::Welcome) -> Result<(), Failure> {
        let through = welcome.durable_through;
        let account = self.stream.account();
        let (mut next, mut readings) = (account.acked_through + 1, account.readings_through);
        if next > through {
            return Ok(());
        }
        let mut reader = self.stream.reader(next);
        while next <= through && !self.stream.is_given_up() {
            let item = reader.next().map_err(SpoolError::from)?;
            let Some(item) = item else { break };
            let Item::Record { number, body, .. } = item else {
                continue;
            };
            let Some((before, count, fate)) = fate(body) else {
                continue;
            };
            if number > next {
                // The sink took our Skip over this hole, or had the batches before they were dropped.
                self.settle_hole(next, number - 1, readings, before, welcome);
            }
            if number > through {
                return Ok(());
            }
            let piece = Piece {
                from: number,
                through: number,
                readings_before: before,
                readings: count,
                fate,
            };
            self.settle(&piece, 0);
            (next, readings) = (number + 1, before + count);
        }
        if next <= through {
            let (end, end_readings) = self.stream.durable();
            self.settle_hole(next, end, readings, end_readings, welcome);
        }
        Ok(())
    }

    /// A hole that the sink is past, wholly or in part. Wholly: it has our Skip. In part: Skips are
    /// taken whole, so what it has are the batches themselves.
    fn settle_hole(
        &mut self,
        from: u64,
        through: u64,
        before: u64,
        after: u64,
        welcome: &v1::Welcome,
    ) {
        let durable_through = welcome.durable_through;
        for (mark, mark_readings) in self.stream.marks() {
            if from <= mark && mark < through.min(durable_through) {
                self.settle_hole(from, mark, before, mark_readings, welcome);
                return self.settle_hole(mark + 1, through, mark_readings, after, welcome);
            }
        }
        let piece = if through <= durable_through {
            Piece {
                from,
                through,
                readings_before: before,
                readings: after.saturating_sub(before),
                fate: Fate::Dropped(self.stream.reason_of_hole(from)),
            }
        } else {
            Piece {
                from,
                through: durable_through,
                readings_before: before,
                readings: welcome.readings_through.saturating_sub(before),
                fate: Fate::Stored {
                    crc: welcome.durable_crc,
                },
            }
        };
        self.settle(&piece, 0);
    }
}

fn forked_unless(same: bool, sequence: u64) -> Result<(), Failure> {
    if same {
        return Ok(());
    }
    Err(Failure::Forked(format!(
        "the sink has something else under sequence {sequence}"
    )))
}

/// Readings before, readings, and the fate an acknowledgement gives a record.
fn fate(body: bytes::Bytes) -> Option<(u64, u64, Fate)> {
    let found = content(body)?;
    let (before, readings) = found.counts()?;
    let fate = match found {
        Content::Batch(header, _) => Fate::Stored { crc: header.crc },
        Content::Skip(skip) => Fate::Dropped(reason_of(&skip)),
        Content::Definitions(_) => return None,
    };
    Some((before, readings, fate))
}

fn dropped_by_reason(books: &v1::Books) -> Dropped {
    let mut dropped = [0; REASONS];
    for one in &books.dropped {
        dropped[ledger::slot(one.reason())] += one.readings;
    }
    dropped
}
