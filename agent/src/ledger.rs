//! The ledger of what this agent produced, and where every reading is now.
//!
//! In: what was committed to the spool, and the fate of every sequence the sink acknowledged.
//! Out: a [`View`] for the status page and the [`v1::Report`] that goes with every request.
//! Promises: pure (no clock, no I/O), and `unexplained` is computed from independent sums, never
//! assumed: acknowledged readings are counted one record at a time, by the record's own count, and
//! compared with the cumulative count the records carry.
//!
//! Per stream: `produced = stored + spooled + dropped(reason) + replayed + unexplained`, where
//! `spooled = produced - readings_through` (readings of the stream through the last acknowledged
//! sequence) and so `unexplained = readings_through - stored - dropped`.

use std::collections::BTreeMap;

use crate::spool::Dropping;
use weir_proto::v1;

#[cfg(test)]
mod tests;

/// Drop reasons the account has room for; the wire's are 1..=7.
pub(crate) const REASONS: usize = 16;

/// Readings by reason number.
pub(crate) type Dropped = [u64; REASONS];

/// What became of a run of sequences once the sink has acknowledged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A batch the sink made durable; `crc` as in its header.
    Stored {
        /// `BatchHeader.crc`, kept to recognise a stream that has forked.
        crc: u32,
    },
    /// A `Skip` the sink made durable.
    Dropped(v1::DropReason),
}

/// A run of sequences with one fate, and the readings that go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) from: u64,
    pub(crate) through: u64,
    /// Readings of the stream before `from`.
    pub(crate) readings_before: u64,
    pub(crate) readings: u64,
    pub(crate) fate: Fate,
}

/// What the sink has acknowledged of one stream. Kept in the stream's state file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// Every sequence through this one is durable at the sink.
    pub(crate) acked_through: u64,
    /// Checksum of the batch at `acked_through`; 0 after a Skip.
    pub(crate) acked_crc: u32,
    /// Readings of the stream through `acked_through`, by the records' own cumulative count.
    pub(crate) readings_through: u64,
    /// Readings of acknowledged batches, summed one by one.
    pub(crate) stored: u64,
    /// Readings of acknowledged Skips, by reason number.
    pub(crate) dropped: Dropped,
    /// The highest sequence ever acknowledged, and the readings through it; 0 while that is
    /// `acked_through`. Beyond it only where the sink was rolled back: what lies between and cannot
    /// be read any more was given back because the sink had it.
    pub(crate) peak: (u64, u64),
}

/// What settling a piece added, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// These readings are stored now.
    Stored(u64),
    /// These readings are dropped for good now.
    Dropped(v1::DropReason, u64),
    /// Counted before: the sink acknowledged it a second time.
    Again,
}

impl Account {
    /// Books an acknowledged piece. Pieces come in order of sequence; one that was booked before
    /// changes nothing, unless the sink lost what it had stored.
    pub(crate) fn settle(&mut self, piece: &Piece) -> Settled {
        if piece.through <= self.acked_through {
            return self.settle_again(piece);
        }
        self.acked_through = piece.through;
        self.readings_through = piece.readings_before + piece.readings;
        match piece.fate {
            Fate::Stored { crc } => {
                self.acked_crc = crc;
                self.stored += piece.readings;
                if piece.through <= self.peak.0 {
                    return Settled::Again;
                }
                Settled::Stored(piece.readings)
            }
            Fate::Dropped(reason) => {
                self.acked_crc = 0;
                self.dropped[slot(reason)] += piece.readings;
                Settled::Dropped(reason, piece.readings)
            }
        }
    }

    /// Takes the sink's books over, which may be those of an earlier day: a sink that was restored
    /// alone knows what it has. What follows is settled anew, as it is acknowledged.
    pub(crate) fn adopt(&mut self, (through, crc): (u64, u32), readings: u64, dropped: Dropped) {
        self.peak = self.peak();
        self.acked_through = through;
        self.acked_crc = crc;
        self.readings_through = readings;
        self.dropped = dropped;
        self.stored = readings.saturating_sub(self.dropped_total());
    }

    /// The highest sequence ever acknowledged, and the readings of the stream through it.
    pub(crate) fn peak(&self) -> (u64, u64) {
        self.peak.max((self.acked_through, self.readings_through))
    }

    /// For a sink that does not say what it has (an earlier version): readings it had stored and then
    /// lost move from stored to dropped. Exact for one rollback, a bound for overlapping ones.
    fn settle_again(&mut self, piece: &Piece) -> Settled {
        let reason = v1::DropReason::SinkRolledBack;
        if piece.fate != Fate::Dropped(reason) {
            return Settled::Again;
        }
        let lost = piece.readings.min(self.stored);
        self.stored -= lost;
        self.dropped[slot(reason)] += lost;
        Settled::Dropped(reason, lost)
    }

    /// Readings dropped for good, over all reasons.
    pub(crate) fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Readings acknowledged by the cumulative count and booked nowhere (or booked twice: negative).
    pub(crate) fn unexplained(&self) -> i64 {
        let booked = self.stored + self.dropped_total();
        self.readings_through.wrapping_sub(booked).cast_signed()
    }

    fn dropped_by_reason(&self) -> BTreeMap<String, u64> {
        let named = self.dropped.iter().enumerate();
        named
            .filter(|(_, readings)| **readings > 0)
            .map(|(number, readings)| (reason_name(number).to_owned(), *readings))
            .collect()
    }
}

/// What one stream's books say at one moment: the input of a [`StreamView`].
#[derive(Clone, Debug)]
pub(crate) struct Books {
    pub(crate) stream_id: [u8; 16],
    pub(crate) live: bool,
    pub(crate) account: Account,
    /// Drops that no ack covers.
    pub(crate) dropping: Dropping,
    /// Readings that were refused and put back into the spool since.
    pub(crate) replayed: u64,
    /// Readings through the last record a completed commit covers.
    pub(crate) produced: u64,
    pub(crate) oldest_unacked_ns: i64,
    pub(crate) bytes: u64,
}

/// The whole ledger of this agent.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Every stream the spool holds, oldest first; the last one is the one being written.
    pub streams: Vec<StreamView>,
    /// Sums over the streams held and over those delivered completely by this process.
    pub totals: Totals,
    /// Bytes the spool takes on disk.
    pub spool_bytes: u64,
    /// The spool's limit.
    pub spool_max_bytes: u64,
}

/// One stream's line of the ledger. All counts are readings.
#[derive(Clone, Debug, Default)]
pub struct StreamView {
    /// The stream's random identity.
    pub stream_id: [u8; 16],
    /// Whether this process is writing it.
    pub live: bool,
    /// Readings committed to the spool, drops with a durable count included.
    pub produced: u64,
    /// Readings the sink has made durable.
    pub acked: u64,
    /// Readings not acknowledged yet. A drop stays here until the sink has acknowledged its Skip.
    pub spooled: u64,
    /// Readings dropped for good, by reason; only reasons that occurred.
    pub dropped: BTreeMap<String, u64>,
    /// Part of `spooled`: the agent will not send these, and the sink has not confirmed it. By reason.
    pub dropping: BTreeMap<String, u64>,
    /// Readings that were refused and put back since: they are produced anew by another stream.
    pub replayed: u64,
    /// `produced - acked - spooled - dropped - replayed`; anything but 0 is a fault to report.
    pub unexplained: i64,
    /// Every sequence through this one is durable at the sink.
    pub acked_through: u64,
    /// Observed time of the oldest reading not acknowledged; 0 when there is none.
    pub oldest_unacked_ns: i64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Sums over streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sum of [`StreamView::produced`].
    pub produced: u64,
    /// Sum of [`StreamView::acked`].
    pub acked: u64,
    /// Sum of [`StreamView::spooled`].
    pub spooled: u64,
    /// Sum of [`StreamView::dropped`].
    pub dropped: BTreeMap<String, u64>,
    /// Sum of [`StreamView::dropping`], and what is in no stream yet.
    pub dropping: BTreeMap<String, u64>,
    /// Sum of [`StreamView::replayed`].
    pub replayed: u64,
    /// Sum of [`StreamView::unexplained`].
    pub unexplained: i64,
}

impl Totals {
    /// Adds one stream's line.
    pub fn add(&mut self, stream: &StreamView) {
        self.produced += stream.produced;
        self.acked += stream.acked;
        self.spooled += stream.spooled;
        for (reason, readings) in &stream.dropped {
            *self.dropped.entry(reason.clone()).or_default() += readings;
        }
        for (reason, readings) in &stream.dropping {
            *self.dropping.entry(reason.clone()).or_default() += readings;
        }
        self.replayed += stream.replayed;
        self.unexplained += stream.unexplained;
    }

    /// Moves readings from refused to replayed, as far as these sums have them.
    pub(crate) fn replay(&mut self, readings: u64) {
        self.replayed += take_refused(&mut self.dropped, readings);
    }
}

impl Books {
    /// The stream's line of the ledger.
    pub(crate) fn view(&self) -> StreamView {
        let account = &self.account;
        let mut dropped = account.dropped_by_reason();
        let replayed = take_refused(&mut dropped, self.replayed);
        StreamView {
            stream_id: self.stream_id,
            live: self.live,
            produced: self.produced,
            acked: account.stored,
            spooled: self.produced.saturating_sub(account.readings_through),
            dropped,
            dropping: self.dropping.clone(),
            replayed,
            unexplained: account.unexplained(),
            acked_through: account.acked_through,
            oldest_unacked_ns: self.oldest_unacked_ns,
            bytes: self.bytes,
        }
    }
}

/// Takes up to so many readings out of what was refused; answers how many.
fn take_refused(dropped: &mut BTreeMap<String, u64>, readings: u64) -> u64 {
    let name = reason_name(slot(v1::DropReason::Refused));
    let Some(refused) = dropped.get_mut(name) else {
        return 0;
    };
    let taken = readings.min(*refused);
    *refused -= taken;
    if *refused == 0 {
        dropped.remove(name);
    }
    taken
}

/// What the agent tells the sink about one stream.
pub(crate) fn report(
    stream: &StreamView,
    spool_bytes: u64,
    spool_max_bytes: u64,
    missed_ticks: u64,
) -> v1::Report {
    v1::Report {
        produced: stream.produced,
        spooled: stream.spooled,
        spool_bytes,
        spool_max_bytes,
        oldest_unacked_ns: stream.oldest_unacked_ns,
        missed_ticks,
    }
}

/// The reason's place in [`Account::dropped`].
pub(crate) fn slot(reason: v1::DropReason) -> usize {
    usize::try_from(i32::from(reason))
        .unwrap_or(0)
        .min(REASONS - 1)
}

/// The reason as labels and the API spell it: `spool_oldest`, `refused`, ...
pub(crate) fn reason_name(number: usize) -> &'static str {
    let known = i32::try_from(number)
        .ok()
        .and_then(|number| v1::DropReason::try_from(number).ok());
    match known {
        Some(v1::DropReason::SpoolOldest) => "spool_oldest",
        Some(v1::DropReason::SpoolNewest) => "spool_newest",
        Some(v1::DropReason::QueueOldest) => "queue_oldest",
        Some(v1::DropReason::QueueNewest) => "queue_newest",
        Some(v1::DropReason::Damaged) => "damaged",
        Some(v1::DropReason::Refused) => "refused",
        Some(v1::DropReason::SinkRolledBack) => "sink_rolled_back",
        Some(v1::DropReason::Unspecified) | None => "unspecified",
    }
}
