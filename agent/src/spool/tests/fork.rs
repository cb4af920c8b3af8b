//! A forked stream: what is not proven moves to a copy, holes and all, and half a copy never counts.

use std::fs;
use std::path::PathBuf;

use weir_journal::storage::Faults;

use super::*;
use crate::sender::set_aside::set_aside;

#[tokio::test]
async fn a_forked_stream_moves_what_is_not_proven_to_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(config(dir.path())).await;
    spool.append(first_draft(10)).await.unwrap();
    for n in 2..=5 {
        spool.append(draft(n, 10)).await.unwrap();
    }
    committed(&spool).await;
    let forked = oldest(&spool);
    ack(&spool, &forked, 2);
    let before = spool.ledger().totals;
    let moved = spool.fork(&forked).await.unwrap();
    assert_eq!(moved, 30);
    // Mutation: a fork that forgets what was proven.
    assert_eq!(spool.ledger().totals, before);
    let held = streams(&spool);
    assert_eq!(held.len(), 2);
    assert!(held.iter().all(|stream| stream.id != forked.id));
    assert_eq!(
        records(&held[0]),
        [(1, 0, 10, None), (2, 10, 10, None), (3, 20, 10, None)]
    );
    assert_eq!(held[0].dictionary(), BTreeMap::from([(1, series(1))]));
    // The batcher goes on with its refs: the new stream defines them again.
    spool.append(draft(6, 10)).await.unwrap();
    assert_eq!(held[1].dictionary(), BTreeMap::from([(1, series(1))]));
}

/// The sink has refused batch 4, and the Skip in its place is not acknowledged. Mutation: the letters not asked, so
/// that the batch goes out again and its letter is a second copy of it.
#[tokio::test]
async fn a_batch_that_was_set_aside_moves_as_a_skip() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(config(dir.path())).await;
    spool.append(first_draft(10)).await.unwrap();
    for n in 2..=5 {
        spool.append(draft(n, 10)).await.unwrap();
    }
    committed(&spool).await;
    let forked = oldest(&spool);
    ack(&spool, &forked, 2);
    set_aside(&spool, &forked, 4, ("malformed", "as the test says")).unwrap();
    assert_eq!(spool.fork(&forked).await.unwrap(), 30);
    let refused = Some(v1::DropReason::Refused);
    let copy = oldest(&spool);
    assert_eq!(
        records(&copy),
        [(1, 0, 10, None), (2, 10, 10, refused), (3, 20, 10, None)]
    );
    let replayed = spool.replay(None).await.unwrap();
    assert_eq!((replayed.letters, replayed.readings), (1, 10));
}

/// Names in the spool's directory.
fn names(data_dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(data_dir.join("spool")).unwrap();
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    entries.map(|entry| name(entry.unwrap())).collect()
}

fn segments(stream: &Stream) -> Vec<PathBuf> {
    let files = fs::read_dir(&stream.dir).unwrap();
    let mut found: Vec<PathBuf> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    found.sort();
    found
}

/// 50 batches of 100 readings in several segments; 2 acknowledged, the oldest segment dropped.
async fn several_segments(data_dir: &Path) -> Arc<Stream> {
    let spool = open(tight(data_dir, Overflow::Block)).await;
    spool.append(first_draft(100)).await.unwrap();
    for n in 2..=50 {
        spool.append(draft(n, 100)).await.unwrap();
    }
    committed(&spool).await;
    let live = oldest(&spool);
    ack(&spool, &live, 2);
    let (_, through) = live.drop_oldest().unwrap().unwrap();
    assert!(through > 2, "{through}");
    spool.finish().await.unwrap();
    live
}

#[tokio::test]
async fn holes_at_the_start_in_the_middle_and_at_the_end_move_as_skips() {
    let dir = tempfile::tempdir().unwrap();
    let left = several_segments(dir.path()).await;
    let files = segments(&left);
    assert!(files.len() >= 4, "{files:?}");
    drop(left);
    let mut bytes = fs::read(&files[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&files[1], bytes).unwrap();
    fs::remove_file(files.last().unwrap()).unwrap();

    let spool = open(tight(dir.path(), Overflow::Block)).await;
    let forked = oldest(&spool);
    assert_eq!(forked.durable(), (50, 5000));
    let readable = records(&forked).len() as u64 * 100;
    assert_eq!(spool.fork(&forked).await.unwrap(), 4800);
    let copy = oldest(&spool);
    let found = records(&copy);
    let mut before = 0;
    for (_, readings_before, readings, _) in &found {
        assert_eq!(*readings_before, before);
        before += readings;
    }
    assert_eq!((before, copy.durable().1), (4800, 4800));
    let skipped: Vec<_> = found.iter().filter(|record| record.3.is_some()).collect();
    assert_eq!(skipped.len(), 3, "{skipped:?}");
    assert_eq!(skipped[0].0, 1);
    assert_eq!(skipped[0].3, Some(v1::DropReason::SpoolOldest));
    assert_eq!(skipped[1].3, Some(v1::DropReason::Damaged));
    assert_eq!(skipped[2].0, found.len() as u64);
    let lost: u64 = skipped.iter().map(|record| record.2).sum();
    assert_eq!(lost + readable, 4800);
}

#[tokio::test]
async fn a_stream_that_was_given_up_moves_as_one_skip() {
    let dir = tempfile::tempdir().unwrap();
    let config = tight(dir.path(), Overflow::DropOldest);
    let spool = open(config.clone()).await;
    for n in 1..=4 {
        spool.append(draft(n, 100)).await.unwrap();
    }
    committed(&spool).await;
    drop(spool);
    let spool = open(config).await;
    for n in 1..=200 {
        spool.append(draft(n, 100)).await.unwrap();
    }
    let forked = oldest(&spool);
    assert!(forked.is_given_up());
    assert_eq!(spool.fork(&forked).await.unwrap(), 400);
    let skip = (1, 0, 400, Some(v1::DropReason::SpoolOldest));
    assert_eq!(records(&oldest(&spool)), [skip]);
}

#[tokio::test]
async fn a_fork_that_fails_leaves_no_copy_behind() {
    let dir = tempfile::tempdir().unwrap();
    drop(several_segments(dir.path()).await);
    let spool = open(tight(dir.path(), Overflow::Block)).await;
    let forked = oldest(&spool);
    fs::remove_file(&segments(&forked)[1]).unwrap();
    let before = names(dir.path());
    for _ in 0..2 {
        let error = spool.fork(&forked).await.unwrap_err();
        assert!(matches!(error, SpoolError::Read(_)), "{error}");
        assert_eq!(names(dir.path()), before);
    }
    assert_eq!(oldest(&spool).id, forked.id);
}

#[tokio::test]
async fn a_forked_stream_that_cannot_be_removed_is_counted_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let left = several_segments(dir.path()).await;
    let id = left.id;
    let in_the_way = left.dir.file_name().unwrap().to_str().unwrap().to_owned();
    drop(left);
    let spool = open(tight(dir.path(), Overflow::Block)).await;
    let in_the_way = dir.path().join("spool").join(format!("gone-{in_the_way}"));
    fs::create_dir(&in_the_way).unwrap();
    fs::write(in_the_way.join("file"), b"here").unwrap();
    let forked = oldest(&spool);
    assert_eq!(spool.fork(&forked).await.unwrap(), 4800);
    assert!(streams(&spool).iter().all(|stream| stream.id != id));
    // Delivered while the other could still not go: both stay, so that neither counts again.
    let copy = oldest(&spool);
    ack(&spool, &copy, u64::MAX);
    copy.checkpoint().unwrap();
    spool.retire(&copy).await.unwrap();
    drop((spool, forked, copy));
    fs::remove_file(in_the_way.join("file")).unwrap();
    let spool = open(tight(dir.path(), Overflow::Block)).await;
    assert_eq!(spooled(&spool), 0);
    let copy = oldest(&spool);
    spool.retire(&copy).await.unwrap();
    drop((spool, copy));
    let spool = open(tight(dir.path(), Overflow::Block)).await;
    assert!(streams(&spool).iter().all(|stream| stream.is_live()));
}

/// Readings that would still go to a sink.
fn spooled(spool: &Spool) -> u64 {
    streams(spool)
        .iter()
        .map(|stream| stream.view(Some(0)).spooled)
        .sum()
}

/// A stream of an earlier run, 30 readings of its 50 not proven to be stored.
async fn thirty_unproven() -> (Memory, SpoolConfig) {
    let memory = Memory::new();
    let config = config(Path::new("/data"));
    let spool = open_on(Arc::new(memory.clone()), config.clone()).await;
    spool.append(first_draft(10)).await.unwrap();
    for n in 2..=5 {
        spool.append(draft(n, 10)).await.unwrap();
    }
    committed(&spool).await;
    ack(&spool, &oldest(&spool), 2);
    spool.finish().await.unwrap();
    (memory.duplicate(), config)
}

/// The power goes after every single write, rename and sync of a fork: what was not proven is there
/// once, in the copy or in the stream it is made of. Fails when a start keeps the forked stream beside a
/// copy that is whole, or when the copy counts before it is whole.
#[tokio::test]
async fn a_fork_that_ends_anywhere_leaves_each_reading_once() {
    let (memory, config) = thirty_unproven().await;
    let (mut moved, mut cuts) = (false, 0);
    while !moved {
        let disk = memory.duplicate();
        let spool = open_on(Arc::new(disk.clone()), config.clone()).await;
        let forked = oldest(&spool);
        assert_eq!(spooled(&spool), 30);
        disk.set_faults(Faults {
            operations_left: Some(cuts),
            ..Faults::default()
        });
        let fork = spool.fork(&forked);
        let fork = tokio::time::timeout(Duration::from_secs(10), fork).await;
        moved = fork.expect("ends in time").is_ok()
            && disk
                .paths()
                .iter()
                .all(|path| !path.starts_with(&forked.dir));
        let left_over = disk
            .paths()
            .iter()
            .any(|path| path.to_string_lossy().contains("gone-"));
        moved &= !left_over;
        disk.crash();
        disk.set_faults(Faults::default());
        let after = open_on(Arc::new(disk.duplicate()), config.clone()).await;
        assert_eq!(
            spooled(&after),
            30,
            "the power went after {cuts} operations"
        );
        let again = open_on(Arc::new(disk.duplicate()), config.clone()).await;
        assert_eq!(spooled(&again), 30, "and again");
        cuts += 1;
    }
    assert!(cuts > 10, "{cuts}");
}

/// A disk with one stream of an earlier run, a small batch and large ones, and room for a copy of the
/// small one only.
pub(crate) async fn no_room_for_a_copy() -> (Memory, SpoolConfig, Spool) {
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let config = config(Path::new("/data"));
    let spool = open_on(Arc::clone(&storage), config.clone()).await;
    spool.append(first_draft(10)).await.unwrap();
    for n in 2..=4 {
        spool.append(draft(n, 400_000)).await.unwrap();
    }
    spool.finish().await.unwrap();
    drop(spool);
    let spool = open_on(storage, config.clone()).await;
    let used: usize = memory
        .paths()
        .iter()
        .map(|path| memory.read(path).unwrap().len())
        .sum();
    memory.set_capacity(Some(used as u64 + (512 << 10)));
    (memory, config, spool)
}

#[tokio::test]
async fn half_a_copy_is_gone_after_a_restart() {
    let (memory, config, spool) = no_room_for_a_copy().await;
    let forked = oldest(&spool);
    let before = memory.paths().len();
    let fork = spool.fork(&forked);
    let cut = tokio::time::timeout(Duration::from_millis(300), fork).await;
    assert!(cut.is_err(), "the disk is full: {cut:?}");
    assert!(memory.paths().len() > before);
    memory.crash();
    memory.set_capacity(None);
    let after = open_on(Arc::new(memory.duplicate()), config).await;
    let held = streams(&after);
    assert_eq!(held.len(), 2);
    assert_eq!((held[0].id, held[0].durable()), (forked.id, (4, 1_200_010)));
}

/// Mutation: a copy whose writer is ended (`seal`): it goes whole or not at all.
#[tokio::test]
async fn a_copy_gives_room_back_by_segments() {
    let dir = tempfile::tempdir().unwrap();
    drop(several_segments(dir.path()).await);
    let spool = open(tight(dir.path(), Overflow::Block)).await;
    spool.fork(&oldest(&spool)).await.unwrap();
    let copy = oldest(&spool);
    assert!(copy.is_ended());
    let (last, _) = copy.durable();
    let (from, through) = copy
        .drop_oldest()
        .unwrap()
        .expect("one of several segments");
    assert!(
        from == 1 && through < last / 2,
        "{from} to {through} of {last}"
    );
    let before = copy.bytes();
    ack(&spool, &copy, last - 1);
    assert!(copy.release(1).unwrap());
    assert!(copy.bytes() < before);
}

/// Mutation: no end to the wait for room.
#[tokio::test]
async fn a_fork_that_finds_no_room_ends_and_leaves_all_as_it_was() {
    let (memory, _config, spool) = no_room_for_a_copy().await;
    let forked = oldest(&spool);
    let (files, bytes) = (memory.paths().len(), spool.size().0);
    let (late, deadline) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(20));
        late.send(())
    });
    tokio::time::pause();
    let error = tokio::select! {
        forked = spool.fork(&forked) => forked.unwrap_err(),
        _ = deadline => panic!("it waits for ever"),
    };
    tokio::time::resume();
    assert!(error.is_full(), "{error}");
    assert_eq!(oldest(&spool).id, forked.id);
    assert_eq!((memory.paths().len(), spool.size().0), (files, bytes));
    memory.set_capacity(None);
    assert_eq!(spool.fork(&forked).await.unwrap(), 1_200_010);
}

/// Mutation: `Inner::bytes` without the copies.
#[tokio::test]
async fn what_is_being_copied_takes_room_of_the_spool() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(config(dir.path())).await;
    let (before, _) = spool.size();
    let copy = spool.begin_copy().unwrap();
    copy.append_skip(v1::DropReason::Damaged.into(), 5).unwrap();
    assert!(copy.bytes() > 0);
    assert_eq!(spool.size().0, before + copy.bytes());
    spool.discard_copy(&copy).await;
    assert_eq!(spool.size().0, before);
}
