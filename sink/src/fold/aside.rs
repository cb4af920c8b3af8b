//! What cannot be taken in: records set aside as dead letters, and numbers the journal has lost.

use super::state::State;
use crate::catalog::{DeadLetter, JournalLoss};
use crate::envelope::Envelope;

impl State {
    /// A record that is not even an envelope.
    pub(crate) fn apply_unreadable(&mut self, number: u64, body: bytes::Bytes, error: String) {
        self.position = number;
        self.version += 1;
        self.counts.records += 1;
        self.dead_letter(DeadLetter {
            journal_id: self.journal_id,
            number,
            tenant: String::new(),
            stream_id: Vec::new(),
            sequence: 0,
            readings: 0,
            error,
            body,
        });
    }

    /// Numbers the journal has lost.
    pub(crate) fn apply_hole(&mut self, from: u64, through: u64) {
        self.position = through;
        self.version += 1;
        self.counts.journal_lost += through - from + 1;
        tracing::error!(
            from,
            through,
            "journal is damaged, its readings show as unexplained"
        );
        self.current.losses.push(JournalLoss {
            journal_id: self.journal_id,
            from,
            through,
            reason: "damaged".into(),
        });
    }

    pub(super) fn set_aside(
        &mut self,
        number: u64,
        envelope: &Envelope,
        counts: (u64, u64),
        error: String,
    ) {
        self.dead_letter(DeadLetter {
            journal_id: self.journal_id,
            number,
            tenant: envelope.tenant.clone(),
            stream_id: envelope.stream_id.to_vec(),
            sequence: counts.0,
            readings: counts.1,
            error,
            body: prost::Message::encode_to_vec(envelope).into(),
        });
    }

    fn dead_letter(&mut self, letter: DeadLetter) {
        let DeadLetter {
            number,
            sequence,
            readings,
            ref error,
            ..
        } = letter;
        tracing::error!(
            number,
            sequence,
            readings,
            error,
            "record set aside as a dead letter"
        );
        self.counts.dead_letters += 1;
        self.current.bytes += letter.body.len();
        self.current.dead.push(letter);
    }
}
