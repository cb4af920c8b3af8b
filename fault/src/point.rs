//! Where a process can be killed. In: a point it passes. Out: nothing, or the end of the process.

use crate::named;

named! {
    /// A point between sensor and stored row. The first word says whose it is: `journal` points are
    /// in both programs, the agent's spool and the sink's write-ahead log being the same code.
    Point {
        /// The journal of a new stream exists; the spool does not hold the stream yet.
        AgentBegan = "agent.began",
        /// A batch is encoded and not yet offered to the spool.
        AgentBatched = "agent.batched",
        /// A batch was taken by the spool's journal and is not durable.
        AgentAppended = "agent.appended",
        /// A Welcome was received; nothing was settled by it.
        AgentWelcomed = "agent.welcomed",
        /// A request is about to be handed to the transport.
        AgentSend = "agent.send",
        /// A request was handed to the transport.
        AgentSent = "agent.sent",
        /// An ack was received and nothing was done about it.
        AgentAcked = "agent.acked",
        /// An ack was booked; nothing was released.
        AgentSettled = "agent.settled",
        /// A refusal was received; the dead letter is not written.
        AgentRefused = "agent.refused",
        /// The dead letter is durable; its skip was not sent.
        AgentSetAside = "agent.set_aside",
        /// A copy of dead letters is written and does not count yet.
        AgentReplayCopied = "agent.replay_copied",
        /// The letters say that they are in it.
        AgentReplayNoted = "agent.replay_noted",
        /// The books of their stream say so, too.
        AgentReplayBooked = "agent.replay_booked",
        /// The copy counts; the letters are still there.
        AgentReplayed = "agent.replayed",
        /// The spool's state file is about to be written.
        AgentState = "agent.state",
        /// The spool's state file is written and synced; nothing was removed on its word.
        AgentNoted = "agent.noted",
        /// A delivered stream is about to be removed.
        AgentRetire = "agent.retire",
        /// A stream has left the spool by its directory's name; the files are still there.
        AgentRetired = "agent.retired",
        /// A key of the agent's own is kept; there is no certificate for it.
        IdentityKey = "identity.key",
        /// A file of its identity is written under another name, and not synced.
        IdentityWritten = "identity.written",
        /// Its identity is kept; nobody was told.
        IdentityKept = "identity.kept",
        /// A group of records is about to be written.
        JournalWrite = "journal.write",
        /// A group was written and not synced.
        JournalSync = "journal.sync",
        /// A group was synced and nobody was told.
        JournalSynced = "journal.synced",
        /// A new segment is about to take the place of the full one.
        JournalRoll = "journal.roll",
        /// It is written, under a name that open ignores.
        JournalDrafted = "journal.drafted",
        /// It counts; the full one was not cut to its length.
        JournalRolled = "journal.rolled",
        /// Released segments are about to be removed.
        JournalRelease = "journal.release",
        /// A released segment was removed, its directory not synced.
        JournalReleased = "journal.released",
        /// At open: the tail of an earlier run was copied, under a name that open ignores.
        JournalCopied = "journal.copied",
        /// Records of a request were checked and are about to be appended.
        SinkChecked = "sink.checked",
        /// Records of a request were taken by the journal and are not durable.
        SinkAppended = "sink.appended",
        /// A record is durable; its ack is about to be sent.
        SinkAck = "sink.ack",
        /// An answer was handed to the transport.
        SinkAnswered = "sink.answered",
        /// A helping of records was folded.
        SinkFolded = "sink.folded",
        /// The intent of a flush is committed; no file was written.
        SinkIntended = "sink.intended",
        /// A file of a flush was written under its temporary name, and not synced.
        StorePart = "store.part",
        /// A file has its name; the directory is not synced.
        StoreRenamed = "store.renamed",
        /// Every file of a flush is durable; the catalog's transaction did not begin.
        StorePut = "store.put",
        /// The transaction is written and not committed.
        CatalogCommit = "catalog.commit",
        /// The transaction is committed and nobody was told.
        CatalogCommitted = "catalog.committed",
        /// A merged file is durable; the catalog does not know it.
        CompactionPut = "compaction.put",
        /// The catalog has the merged file; queries still read its inputs.
        CompactionCommitted = "compaction.committed",
    }
}

/// Passes a point: the process dies here when a test asked for that.
#[cfg(debug_assertions)]
#[inline]
pub fn point(point: Point) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ORDERED: LazyLock<Option<(Point, u64)>> = LazyLock::new(ordered);
    static PASSED: AtomicU64 = AtomicU64::new(0);

    let Some((ordered, times)) = *ORDERED else {
        return;
    };
    if point == ordered && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == times {
        kill();
    }
}

/// Passes a point: nothing happens in an optimised build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_point: Point) {}

#[cfg(debug_assertions)]
fn ordered() -> Option<(Point, u64)> {
    let order = std::env::var("WEIR_FAULT_KILL").ok()?;
    let Some(parsed) = parse(&order) else {
        panic!("WEIR_FAULT_KILL={order}: no such point, or its count is not a number from 1 on");
    };
    Some(parsed)
}

#[cfg(any(debug_assertions, test))]
fn parse(order: &str) -> Option<(Point, u64)> {
    let (name, times) = order.split_once('@').unwrap_or((order, "1"));
    let times = times.parse().ok().filter(|times| *times > 0)?;
    Some((Point::named(name)?, times))
}

#[cfg(debug_assertions)]
fn kill() -> ! {
    use rustix::process::{Signal, getpid, kill_process};
    // SIGKILL cannot be refused to oneself; the loop is for the moment until it arrives.
    let _ = kill_process(getpid(), Signal::KILL);
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::{Point, parse};

    #[test]
    fn order_names_a_point_and_a_count() {
        assert_eq!(parse("sink.ack"), Some((Point::SinkAck, 1)));
        assert_eq!(parse("journal.sync@12"), Some((Point::JournalSync, 12)));
        for wrong in ["", "sink", "sink.ack@", "sink.ack@0", "sink.ack@x", "@1"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = Point::ALL.iter().map(|point| point.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Point::ALL.len());
    }
}
