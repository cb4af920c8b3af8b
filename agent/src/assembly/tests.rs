//! An agent of given parts: a disk in memory, a clock that stands, no network, one thread.

use std::sync::atomic::Ordering;

use weir_journal::Memory;
use weir_process::clock::ManualClock;

use std::io;

use super::*;
use crate::sensors::Given;

fn parts(memory: &Memory, reads: &Arc<AtomicU64>) -> Parts {
    let counted = Arc::clone(reads);
    let given = Given {
        name: "given".to_owned(),
        device: "pump".to_owned(),
        interval: Duration::from_millis(100),
        metrics: vec!["given.count".to_owned()],
        reading: Arc::new(move |_| Ok(vec![counted.fetch_add(1, Ordering::Relaxed) as f64])),
    };
    let settings = [("WEIR_AGENT_DATA_DIR", "/agent")];
    Parts {
        config: Config::of(&settings).unwrap().sensing(vec![given]),
        ground: Ground {
            storage: Arc::new(memory.clone()),
            clock: Arc::new(ManualClock::new(1_800_000_000_000_000_000)),
            writers: Writers::Tasks(Duration::ZERO),
        },
        dial: Some(Arc::new(|_| {
            Box::pin(async { Err(io::Error::other("there is no network")) })
        })),
        shutdown: Shutdown::new(),
    }
}

/// Every reading is in the spool after a stop, and the next agent finds it. Red when the writer's task is not driven, or
/// when the parts given are not those used (there is no `/agent` here).
#[tokio::test(start_paused = true)]
async fn an_agent_of_given_parts_keeps_what_it_read() {
    let (memory, reads) = (Memory::new(), Arc::new(AtomicU64::new(0)));
    let parts_of_this = parts(&memory, &reads);
    let shutdown = parts_of_this.shutdown.clone();
    let agent = Agent::start(parts_of_this).unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    shutdown.stop();
    assert_eq!(agent.until_stopped().await, Exit::Ok);
    let produced = reads.load(Ordering::Relaxed);
    assert!((99..=101).contains(&produced), "{produced}");

    memory.crash();
    let next = Agent::start(parts(&memory, &reads)).unwrap();
    let totals = next.spool().ledger().totals;
    assert_eq!((totals.produced, totals.spooled), (produced, produced));
}
