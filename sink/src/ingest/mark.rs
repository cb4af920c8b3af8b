//! Where a stream stands: the counts that Welcome, acknowledgements and the ledger speak of.

use weir_proto::v1;

/// How many drop reasons the protocol has, the unspecified one included.
pub const REASONS: usize = v1::DropReason::SinkRolledBack as usize + 1;

/// Where a stream stands after a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// The record's sequence; 0 before the first.
    pub sequence: u64,
    /// Readings the agent had produced through it, drops included.
    pub readings_through: u64,
    /// Checksum of the batch; 0 when it was a skip.
    pub crc: u32,
    /// Readings that skips closed, by number of the reason.
    pub dropped: [u64; REASONS],
}

impl Mark {
    /// After a batch.
    pub(super) fn after_batch(self, header: &v1::BatchHeader) -> Self {
        Self {
            sequence: header.sequence,
            readings_through: header.readings_before.saturating_add(header.readings),
            crc: header.crc,
            ..self
        }
    }

    /// After a skip.
    pub(super) fn after_skip(mut self, skip: &v1::Skip) -> Self {
        self.sequence = skip.through;
        self.readings_through = skip.readings_before.saturating_add(skip.readings);
        self.crc = 0;
        let reason = usize::try_from(skip.reason).unwrap_or(0);
        // A reason of a newer version, found in a journal, counts as unspecified.
        let slot = if reason < REASONS { reason } else { 0 };
        self.dropped[slot] = self.dropped[slot].saturating_add(skip.readings);
        self
    }

    /// What Welcome says of the readings, so that an agent can follow a sink that was restored.
    pub(super) fn books(&self) -> v1::Books {
        let reasons = (0..)
            .zip(self.dropped)
            .filter(|(_, readings)| *readings > 0);
        v1::Books {
            dropped: reasons
                .map(|(reason, readings)| v1::Dropped { reason, readings })
                .collect(),
        }
    }

    /// Readings that skips closed.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }
}
