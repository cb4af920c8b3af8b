//! A decision that a spool is lost, and that it is not, through the whole fold.

use bytes::Bytes;

use super::sender::{Sender, seconds};
use super::world::{Running, World};
use crate::envelope::Envelope;

pub(super) fn decision(sender: &Sender, lost: bool) -> Envelope {
    Envelope {
        received_ns: sender.received_ns + 5,
        tenant: crate::model::DEFAULT_TENANT.into(),
        agent: sender.agent.clone(),
        stream_id: Bytes::copy_from_slice(&sender.stream),
        lost: Some(lost),
        ..Envelope::default()
    }
}

async fn lost_at(sink: &Running, number: u64) -> i64 {
    sink.folded(number).await;
    sink.fold.streams()[0].lost_at_ns
}

/// Fails when the catalog forgets the mark, or a batch does not clear it.
#[tokio::test]
async fn a_lost_spool_stays_lost_over_restarts_until_it_delivers() {
    for flushes in [false, true] {
        let world = World::new();
        let mut sink = world.start().await;
        let mut sender = Sender::new(1);
        sink.deliver(&sender.numbers("pump", &["speed"], &seconds(0, 3)))
            .await;
        let number = sink.deliver(&decision(&sender, true)).await;
        let at_ns = sender.received_ns + 5;
        assert_eq!(lost_at(&sink, number).await, at_ns);
        assert_eq!(sink.fold.streams()[0].last_seen_ns, sender.received_ns);
        if flushes {
            sink.flush().await;
        }
        sink.kill().await;
        sink = world.start().await;
        assert_eq!(lost_at(&sink, number).await, at_ns);
        let next = sender.numbers("pump", &["speed"], &seconds(3, 3));
        let number = sink.deliver(&next).await;
        assert_eq!(lost_at(&sink, number).await, 0);
        let number = sink.journal(&decision(&sender, true)).await;
        assert_eq!(lost_at(&sink, number).await, at_ns);
        let number = sink.journal(&decision(&sender, false)).await;
        assert_eq!(lost_at(&sink, number).await, 0);
        assert_eq!(sink.readings().await, sender.sorted());
        assert_eq!(sink.fold.counts().dead_letters, 0);
        sink.stop().await.expect("stops");
    }
}
