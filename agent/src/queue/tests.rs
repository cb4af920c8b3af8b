//! The queue's promises, one task at a time; the interleavings are in the race tests.

use proptest::prelude::*;

use crate::queue::{Closed, Drops, Overflow, Queue, Weight};

const LIMIT: Weight = Weight {
    bytes: 100,
    readings: 10,
};

fn weigh(readings: u64) -> Weight {
    Weight {
        bytes: readings as usize,
        readings,
    }
}

fn drain(queue: &Queue<u64>) -> Vec<u64> {
    std::iter::from_fn(|| queue.try_pop()).collect()
}

#[tokio::test]
async fn hands_items_over_in_order() {
    let queue = Queue::new(LIMIT, Overflow::Block);
    for item in 0..5 {
        queue.push(item, weigh(2)).await.unwrap();
    }
    assert_eq!(drain(&queue), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn drop_oldest_gives_up_the_front_and_counts_it() {
    let queue = Queue::new(LIMIT, Overflow::DropOldest);
    for item in 0..5 {
        queue.push(item, weigh(4)).await.unwrap();
    }
    assert_eq!(
        queue.take_drops(),
        Drops {
            oldest: 12,
            newest: 0
        }
    );
    assert_eq!(
        queue.take_drops(),
        Drops::default(),
        "drops are reported once"
    );
    assert_eq!(drain(&queue), [3, 4]);
}

#[tokio::test]
async fn drop_newest_refuses_at_the_door_and_counts_it() {
    let queue = Queue::new(LIMIT, Overflow::DropNewest);
    for item in 0..5 {
        queue.push(item, weigh(4)).await.unwrap();
    }
    assert_eq!(
        queue.take_drops(),
        Drops {
            oldest: 0,
            newest: 12
        }
    );
    assert_eq!(drain(&queue), [0, 1]);
}

#[tokio::test]
async fn block_waits_for_room() {
    let queue = Queue::new(LIMIT, Overflow::Block);
    queue.push(0, weigh(10)).await.unwrap();
    let pusher = queue.clone();
    let waiting = tokio::spawn(async move { pusher.push(1, weigh(10)).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "a full queue makes the push wait");
    assert_eq!(queue.pop().await, Some(0));
    waiting.await.unwrap().unwrap();
    assert_eq!(queue.pop().await, Some(1));
}

#[tokio::test]
async fn bytes_bound_it_as_well_as_readings() {
    let queue = Queue::new(LIMIT, Overflow::DropNewest);
    queue
        .push(
            0,
            Weight {
                bytes: 60,
                readings: 1,
            },
        )
        .await
        .unwrap();
    queue
        .push(
            1,
            Weight {
                bytes: 60,
                readings: 1,
            },
        )
        .await
        .unwrap();
    assert_eq!(drain(&queue), [0]);
}

#[tokio::test]
async fn lets_an_oversized_item_through_an_empty_queue() {
    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest] {
        let queue = Queue::new(LIMIT, overflow);
        queue.push(0, weigh(1_000)).await.unwrap();
        assert_eq!(drain(&queue), [0]);
    }
}

#[tokio::test]
async fn close_refuses_pushes_and_lets_the_rest_be_taken() {
    let queue = Queue::new(LIMIT, Overflow::Block);
    queue.push(0, weigh(10)).await.unwrap();
    let pusher = queue.clone();
    let waiting = tokio::spawn(async move { pusher.push(1, weigh(10)).await });
    tokio::task::yield_now().await;
    queue.close();
    assert_eq!(waiting.await.unwrap(), Err(Closed));
    assert_eq!(queue.push(2, weigh(1)).await, Err(Closed));
    assert_eq!(queue.pop().await, Some(0));
    assert_eq!(queue.pop().await, None);
}

#[tokio::test]
async fn a_waiting_taker_is_woken() {
    let queue = Queue::new(LIMIT, Overflow::Block);
    let taker = queue.clone();
    let waiting = tokio::spawn(async move { taker.pop().await });
    tokio::task::yield_now().await;
    queue.push(7, weigh(1)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Some(7));
}

#[derive(Debug, Clone)]
enum Step {
    Push(u64),
    Pop,
    Report,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![3 => (0_u64..15).prop_map(Step::Push), 2 => Just(Step::Pop), 1 => Just(Step::Report)];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn readings_in_equal_readings_out_plus_dropped(steps in steps(), oldest in any::<bool>()) {
        let overflow = if oldest { Overflow::DropOldest } else { Overflow::DropNewest };
        let queue = Queue::new(LIMIT, overflow);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut pushed, mut taken, mut dropped) = (0, 0, 0);
        let count = |drops: Drops| drops.oldest + drops.newest;
        for step in steps {
            match step {
                Step::Push(readings) => {
                    runtime.block_on(queue.push(readings, weigh(readings))).unwrap();
                    pushed += readings;
                }
                Step::Pop => taken += queue.try_pop().unwrap_or(0),
                Step::Report => dropped += count(queue.take_drops()),
            }
            let totals = queue.totals();
            prop_assert_eq!(totals.pushed, totals.taken + totals.dropped_oldest + totals.dropped_newest + totals.held.readings);
        }
        taken += drain(&queue).iter().sum::<u64>();
        dropped += count(queue.take_drops());
        prop_assert_eq!(pushed, taken + dropped);
    }
}
