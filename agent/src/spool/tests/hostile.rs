//! A spool whose state files and directory names hold anything: bytes, slots that are sealed and lie, numbers
//! at the ends of their type.
//!
//! It opens, counts, takes new readings and opens again, without a panic; and a state that is not sealed for its
//! stream costs no record: every batch of the test's own list that no sealed slot calls acknowledged is there.
//!
//! Seen red with: slots of any number taken (the generation and the sums overflow), `decode` without its
//! comparison of the checksum (a torn slot takes the whole stream), directory names of any order (the next one
//! overflows) or spelling (the start fails).

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::cases;
use crate::spool::inspect;

const BATCHES: u64 = 6;
const SLOTS: [usize; 2] = [0, 4096];

/// What stands in one slot.
#[derive(Clone, Debug)]
enum Slot {
    AsItWas,
    Bytes(Vec<u8>),
    /// Sealed for the stream, with these flags and numbers.
    Sealed(u16, u64, Vec<u64>),
    /// The same with a bit changed since.
    Torn(u16, u64, Vec<u64>),
}

fn number() -> impl Strategy<Value = u64> {
    let ends = prop_oneof![
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(1 << 63),
        any::<u64>()
    ];
    prop_oneof![9 => 0..9_u64, 1 => Just(1 << 48), 1 => ends]
}

fn slot() -> impl Strategy<Value = Slot> {
    prop_oneof![
        1 => Just(Slot::AsItWas),
        1 => vec(any::<u8>(), 0..512).prop_map(Slot::Bytes),
        4 => sealed().prop_map(|(flags, generation, numbers)| Slot::Sealed(flags, generation, numbers)),
        2 => sealed().prop_map(|(flags, generation, numbers)| Slot::Torn(flags, generation, numbers)),
    ]
}

fn sealed() -> impl Strategy<Value = (u16, u64, Vec<u64>)> {
    (0..4_u16, number(), vec(number(), 26))
}

fn name() -> impl Strategy<Value = String> {
    let order = prop_oneof![number().prop_map(|order| order.to_string()), ".{0,12}"];
    let id = prop_oneof!["[0-9a-f]{32}", "[+0-9A-F]{32}", ".{0,33}"];
    let name = (order, id).prop_map(|(order, id)| format!("{order}-{id}"));
    name.prop_map(|name| name.replace(['/', '\0'], "_"))
}

fn write(state: &mut [u8], at: usize, id: &[u8], slot: &Slot) {
    let bytes = match slot {
        Slot::AsItWas => return,
        Slot::Bytes(bytes) => bytes.clone(),
        Slot::Sealed(flags, generation, numbers) | Slot::Torn(flags, generation, numbers) => {
            let mut bytes = b"WEIRSTRM".to_vec();
            bytes.extend(1_u16.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend([1; 4]);
            bytes.extend(generation.to_le_bytes());
            bytes.extend(id);
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            bytes.resize(508, 0);
            let torn = u32::from(matches!(slot, Slot::Torn(..)));
            bytes.extend((crc32c::crc32c(&bytes) ^ torn).to_le_bytes());
            bytes
        }
    };
    state[at..at + bytes.len()].copy_from_slice(&bytes);
}

/// The most that a sealed slot may claim: through here records may be missing.
fn claimed(slots: &[Slot; 2]) -> u64 {
    let claims = slots.iter().map(|slot| match slot {
        // Bit 1: all records of the stream were dropped to make room.
        Slot::Sealed(flags, ..) if flags & 2 != 0 => Some(u64::MAX),
        // acked_through, known_through, the highest ever acknowledged, dropped_through
        Slot::Sealed(_, _, numbers) => [0, 19, 21, 23].map(|n| numbers[n]).into_iter().max(),
        _ => None,
    });
    claims.flatten().max().unwrap_or(0)
}

async fn lived_with(slots: [Slot; 2], names: Vec<String>) {
    let memory = Memory::new();
    let dir = Path::new("/data");
    let spool = open_on(Arc::new(memory.clone()), config(dir)).await;
    let id = spool.live_stream_id().unwrap();
    spool.append(first_draft(10)).await.unwrap();
    for n in 2..=BATCHES {
        spool.append(draft(n, 10)).await.unwrap();
    }
    spool.finish().await.unwrap();
    drop(spool);
    let paths = memory.paths();
    let path = paths.iter().find(|path| path.ends_with("state")).unwrap();
    let mut state = memory.read(path).unwrap();
    for (at, slot) in SLOTS.iter().zip(&slots) {
        write(&mut state, *at, &id, slot);
    }
    memory.write(path, state);
    for name in &names {
        memory.write(&dir.join("spool").join(name).join("state"), vec![1; 99]);
    }

    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    for held in inspect::streams(storage.as_ref(), &dir.join("spool")).unwrap() {
        held.survey(&storage).unwrap();
    }
    let spool = open_on(Arc::clone(&storage), config(dir)).await;
    let _counted = spool.ledger();
    let found = streams(&spool).into_iter().find(|stream| stream.id == id);
    let there: BTreeSet<u64> = match &found {
        Some(stream) => records(stream).iter().map(|record| record.0).collect(),
        None => BTreeSet::new(),
    };
    let missing: Vec<u64> = (claimed(&slots).saturating_add(1)..=BATCHES)
        .filter(|n| !there.contains(n))
        .collect();
    assert_eq!(missing, Vec::<u64>::new(), "there are {there:?}");
    drop(found);
    spool.append(first_draft(10)).await.unwrap();
    committed(&spool).await;
    let live = spool.live_stream_id().unwrap();
    spool.finish().await.unwrap();
    drop(spool);
    let spool = open_on(storage, config(dir)).await;
    let again = streams(&spool).into_iter().find(|stream| stream.id == live);
    assert_eq!(records(&again.unwrap()), [(1, 0, 10, None)]);
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20, ..cases::cases(60) })]

    #[test]
    fn any_state_is_lived_with(slots in [slot(), slot()], names in vec(name(), 0..3)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(lived_with(slots, names));
    }
}

#[tokio::test]
async fn numbers_at_their_ends_and_foreign_names_are_lived_with() {
    let ends = |number| Slot::Sealed(1, number, vec![number; 26]);
    let names = [
        format!("{}-{:032x}", u64::MAX, 1),
        format!("5-{:032x}", 2),
        format!("0000000005-+{:031x}", 3),
    ];
    for slots in [
        [ends(u64::MAX), Slot::AsItWas],
        [ends(1 << 48), ends(1 << 63)],
    ] {
        lived_with(slots, names.to_vec()).await;
    }
}
