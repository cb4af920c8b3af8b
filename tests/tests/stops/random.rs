//! SIGTERM at random moments, at one side or at both.

use std::time::Duration;

use weir_tests::chance::Chance;
use weir_tests::world::Sink;

use crate::{Counted, SINK, stop_sink, stopped};

const ROUNDS: u64 = 10;

/// Either side, or both at once, is stopped at a random moment under load, and started again.
/// Red when a stop drops what is in the buffer, in the queue or not committed, when the sink
/// acknowledges what it then does not keep, or when a stop waits for its grace to end.
#[tokio::test]
async fn stops_at_random_moments_lose_and_double_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    let mut sink = Sink::start(place.path(), SINK).await;
    let mut agent = Counted::start(place.path(), "random", &sink.url()).await;
    let mut chance = Chance::new(7);
    for _ in 0..ROUNDS {
        // Sleeping is the point: nothing is waited for but the moment.
        tokio::time::sleep(Duration::from_millis(chance.below(400))).await;
        match chance.below(3) {
            0 => {
                agent.stop().await;
                agent.restart().await;
            }
            1 => {
                stop_sink(&mut sink).await;
                sink.restart().await;
            }
            _ => {
                sink.ask_to_stop();
                agent.stop().await;
                stopped(&mut sink).await;
                agent.restart().await;
                sink.restart().await;
            }
        }
    }
    agent.finish(&sink).await;
}
