//! What streams that are gone cost, and that one which is back is folded as if it had never been away.

use bytes::Bytes;
use weir_proto::v1;

use super::lost::decision;
use super::sender::{Sender, seconds};
use super::world::{Running, SECOND, World};
use crate::catalog::Loaded;
use crate::envelope::{ClockSample, Envelope};
use crate::fold::prepare;
use crate::fold::state::State;

const HOUR: i64 = 3600 * SECOND;

fn defined(sink: &Running) -> Vec<u32> {
    sink.fold.shared.state().defined.iter().copied().collect()
}

/// A batch of one stream, so much later than those of others.
async fn go_on(sink: &Running, sender: &mut Sender, later_ns: i64) {
    sender.received_ns += later_ns;
    let next = sender.numbers("fan", &["speed"], &seconds(0, 1));
    let number = sink.deliver(&next).await;
    sink.folded(number).await;
    sink.flush().await;
}

/// The second one defines one series more while the first ones are forgotten. Red when definitions are
/// not read back, when what came meanwhile is not kept, and when nothing is forgotten.
#[tokio::test]
async fn a_stream_that_was_silent_or_lost_is_forgotten_and_folds_on() {
    for (is_lost, restarts) in [(false, false), (false, true), (true, false), (true, true)] {
        let world = World::new();
        let mut sink = world.start().await;
        let (mut sender, mut other) = (Sender::new(1), Sender::new(2));
        sink.deliver(&sender.numbers("pump", &["speed", "load"], &seconds(0, 3)))
            .await;
        if is_lost {
            sink.deliver(&decision(&sender, true)).await;
        }
        let later_ns = if is_lost { SECOND } else { 2 * HOUR };
        go_on(&sink, &mut other, later_ns).await;
        assert_eq!(defined(&sink), [1]);
        if restarts {
            sink.stop().await.expect("stops");
            sink = world.start().await;
            assert_eq!(defined(&sink), [1]);
        }
        sender.received_ns = other.received_ns;
        let definitions = v1::Definitions {
            series: vec![sender.define("pump", "heat")],
        };
        let definitions = sender.envelope(v1::record::Record::Definitions(definitions));
        sink.deliver(&definitions).await;
        let mut last = 0;
        for i in 1..4 {
            let next = sender.numbers("pump", &["load", "heat", "speed"], &seconds(3 * i, 3));
            last = sink.deliver(&next).await;
        }
        sink.folded(last).await;
        assert_eq!(sink.fold.counts().dead_letters, 0);
        assert_eq!(defined(&sink), [0, 1]);
        let mut sent = [sender.sent.clone(), other.sent.clone()].concat();
        sent.sort();
        assert_eq!(sink.readings().await, sent);
        sink.stop().await.expect("stops");
    }
}

fn fold(state: &mut State, envelope: &Envelope) {
    let content = prepare::content(envelope, None, 0);
    state.apply(state.position + 1, envelope, content);
}

/// A hundred thousand streams that came, delivered and ended, each with a clock of its own. Red when a Close
/// keeps definitions, or what the clock of its stream was like.
#[test]
fn a_hundred_thousand_closed_streams_leave_their_counts() {
    let mut state = State::load([1; 16], 0, Loaded::default()).expect("nothing");
    for number in 0..100_000_u32 {
        let mut sender = Sender::new(1);
        sender.stream[..4].copy_from_slice(&number.to_be_bytes());
        let mut batch = sender.numbers("pump", &["speed"], &seconds(0, 1));
        batch.clock = Some(ClockSample {
            boot_id: Bytes::copy_from_slice(&sender.stream),
            monotonic_ns: u64::from(number) + 1,
            agent_ns: sender.received_ns,
            sink_ns: sender.received_ns,
            own_machine: false,
        });
        fold(&mut state, &batch);
        let last_sequence = sender.sequence;
        let close = v1::Close { last_sequence };
        fold(
            &mut state,
            &sender.envelope(v1::record::Record::Close(close)),
        );
    }
    assert_eq!(state.streams.len(), 100_000);
    assert_eq!(state.defined.len(), 0);
    assert_eq!(
        state
            .streams
            .iter()
            .map(|one| one.refs.len())
            .sum::<usize>(),
        0
    );
    assert_eq!(state.clocks.steady.len(), 0);
    assert_eq!(state.series.len(), 1);
    let boots = state.clocks.known.iter().map(|(_, boots)| boots.len());
    assert_eq!(boots.sum::<usize>(), 16);
}
