//! Any sequence of records, whatever it says of itself: never a panic, and the books agree with what was taken.
//!
//! Seen red with: a sequence of `u64::MAX` let in (the next one overflows), `readings_through` of a batch counted
//! on from the mark and not from its header.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::cases;

/// A number near one that matters to the stream, or at the end of its type.
#[derive(Debug, Clone, Copy)]
enum Number {
    /// What would be right, and this much beside it.
    Near(i64),
    Exactly(u64),
}

impl Number {
    fn beside(self, right: u64) -> u64 {
        match self {
            Self::Near(by) => right.wrapping_add_signed(by),
            Self::Exactly(number) => number,
        }
    }
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        8 => Just(Number::Near(0)),
        3 => (-3..4_i64).prop_map(Number::Near),
        1 => prop_oneof![
            Just(0),
            Just(u64::MAX),
            Just(u64::MAX - 1),
            Just(u64::MAX - 2),
            Just(i64::MAX as u64),
            Just(1 << 62),
            any::<u64>(),
        ].prop_map(Number::Exactly),
    ]
}

#[derive(Debug, Clone)]
enum Said {
    Batch {
        sequence: Number,
        before: Number,
        readings: Number,
        refs: Vec<u32>,
        lie: u8,
    },
    Skip {
        from: Number,
        through: Number,
        before: Number,
        readings: u64,
        reason: i32,
    },
    Definitions(Vec<(u32, u8)>),
    Close(Number),
    Reconnected,
}

fn said() -> impl Strategy<Value = Said> {
    let readings = prop_oneof![4 => 0..50_u64, 1 => Just(i64::MAX as u64), 1 => any::<u64>()];
    let batch = (number(), number(), number(), vec(0..5_u32, 0..4), 0..20_u8);
    let batch = batch.prop_map(|(sequence, before, readings, refs, lie)| {
        let lie = if lie > 5 { 0 } else { lie };
        Said::Batch {
            sequence,
            before,
            readings,
            refs,
            lie,
        }
    });
    let skip = (number(), number(), number(), readings, 0..9_i32);
    let skip = skip.prop_map(|(from, through, before, readings, reason)| Said::Skip {
        from,
        through,
        before,
        readings,
        reason,
    });
    prop_oneof![
        6 => batch,
        4 => skip,
        2 => vec((0..5_u32, 0..6_u8), 0..4).prop_map(Said::Definitions),
        1 => number().prop_map(Said::Close),
        1 => Just(Said::Reconnected),
    ]
}

/// The record as an agent at this mark would say it.
fn record_of(said: &Said, mark: Mark) -> Option<Record> {
    let next = mark.sequence.saturating_add(1);
    Some(match said {
        Said::Batch {
            sequence,
            before,
            readings,
            refs,
            lie,
        } => {
            let mut refs = refs.clone();
            refs.sort_unstable();
            refs.dedup();
            let mut batch = batch(
                sequence.beside(next),
                before.beside(mark.readings_through),
                &refs,
            );
            let header = batch.header.as_mut().unwrap();
            header.readings = readings.beside(header.readings);
            match lie {
                1 => header.crc ^= 1,
                2 => header.encoding = 77,
                3 => header.decoded_bytes = u64::MAX,
                4 => header.first_ns = i64::MIN,
                5 => batch.header = None,
                _ => {}
            }
            defining(batch, vec![series(1, "a")])
        }
        Said::Skip {
            from,
            through,
            before,
            readings,
            reason,
        } => Record::Skip(v1::Skip {
            from: from.beside(next),
            through: through.beside(next),
            reason: *reason,
            readings_before: before.beside(mark.readings_through),
            readings: *readings,
        }),
        Said::Definitions(all) => Record::Definitions(v1::Definitions {
            series: all
                .iter()
                .map(|(number, name)| series(*number, ["", "a", "b", "\n"][*name as usize % 4]))
                .collect(),
        }),
        Said::Close(last) => Record::Close(v1::Close {
            last_sequence: last.beside(mark.sequence),
        }),
        Said::Reconnected => return None,
    })
}

/// The test's own books: what was appended, by what it said.
#[derive(Default)]
struct Own {
    mark: Mark,
    stored: i128,
    dropped: i128,
    jumped: i128,
    taken: Vec<Record>,
}

impl Own {
    /// `record` was appended, and the stream now stands at `now`.
    fn take(&mut self, record: &Record, now: Mark) {
        let before = self.mark;
        self.mark = now;
        let mut applied = record.clone();
        match &mut applied {
            Record::Batch(batch) => {
                let header = batch.header.as_ref().unwrap();
                assert_eq!(now.sequence, before.sequence + 1);
                self.jumped +=
                    i128::from(header.readings_before) - i128::from(before.readings_through);
                self.stored += i128::from(header.readings);
            }
            Record::Skip(skip) => {
                assert!(now.sequence > before.sequence && now.sequence == skip.through);
                skip.from = before.sequence + 1;
                skip.readings = now.readings_through - before.readings_through;
                skip.readings_before = before.readings_through;
                self.dropped += i128::from(skip.readings);
            }
            Record::Definitions(_) | Record::Close(_) => assert_eq!(now, before),
        }
        self.taken.push(applied);
    }

    /// Every reading through the mark is stored, dropped, or was never sent; and a restart finds the same.
    fn check(&self, desk: &mut Desk) {
        let through = i128::from(self.mark.readings_through);
        assert_eq!(through, self.stored + self.dropped + self.jumped);
        let dropped = self
            .mark
            .dropped
            .iter()
            .map(|count| i128::from(*count))
            .sum::<i128>();
        let least = self.dropped.min(i128::from(u64::MAX));
        assert!(dropped >= least, "{dropped} of {}", self.dropped);
        assert_eq!(desk.mark(), self.mark);
        let mut replayed = Stream::default();
        for record in &self.taken {
            replayed.replay(1, record, &[]);
        }
        assert_eq!(replayed.durable(), self.mark);
        assert_eq!(replayed.is_closed(), desk.stream.is_closed());
    }
}

proptest! {
    #![proptest_config(cases::cases(400))]

    #[test]
    fn any_records_leave_books_that_agree(all in vec(said(), 0..30)) {
        let mut desk = Desk { stream: Stream::default(), number: 0 };
        let mut own = Own::default();
        for said in &all {
            if matches!(said, Said::Reconnected) {
                desk.stream.reconnected();
            }
            let Some(record) = record_of(said, own.mark) else { continue };
            if desk.take(&record) == Came::Appended {
                own.take(&record, desk.mark());
            }
            prop_assert_eq!(desk.mark(), own.mark, "only what is appended moves the mark");
        }
        own.check(&mut desk);
    }

    #[test]
    fn any_hello_is_taken_or_refused(
        stream_id in vec(any::<u8>(), 0..20),
        boot_id in vec(any::<u8>(), 0..20),
        agent in ".{0,300}",
        protocol in (any::<u32>(), any::<u32>()),
    ) {
        let hello = v1::Hello {
            stream_id, boot_id, agent,
            protocol_min: protocol.0,
            protocol_max: protocol.1,
            ..v1::Hello::default()
        };
        if check_hello(&hello).is_ok() {
            prop_assert_eq!(hello.stream_id.len(), 16);
            prop_assert!(!hello.agent.is_empty() && !hello.agent.contains(char::is_control));
        }
    }
}

#[test]
fn the_last_sequence_there_is_cannot_be_taken() {
    let mut desk = Desk::begun();
    assert_eq!(desk.take(&skip(2, u64::MAX - 1, 1, 1)), Came::Appended);
    let last = Record::Batch(batch(u64::MAX, 2, &[1]));
    for record in [last.clone(), last, skip(u64::MAX, u64::MAX, 2, 1)] {
        let came = desk.take(&record);
        assert!(matches!(came, Came::Ended(Fault::Invalid(_))), "{came:?}");
    }
    let close = Record::Close(v1::Close {
        last_sequence: u64::MAX - 1,
    });
    assert_eq!(desk.take(&close), Came::Appended);
}
