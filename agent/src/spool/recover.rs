//! Opening the spool: what earlier runs left is found, counted and made ready to drain.
//!
//! In: the spool's directory. Out: the streams in the order in which they were begun, each with its
//! dictionary and its cumulative counts rebuilt from the records themselves. Content is never a
//! reason to fail: what the journal cannot read is a hole, and the sender closes it with a Skip.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use weir_fault::{Point, point};
use weir_journal::storage::Lock;
use weir_journal::{Committer, Journal, Options, Storage};
use weir_proto::v1;

use super::directory::{
    GONE, STATE, directory_name, draw_id, fault, hex, parse_name, remove_tree, retire_directory,
};
use super::origin::leave_out_origins;
use super::state::{State, StateFile};
use super::stream::{Parts, Stream, preamble};
use super::survey::{guess, survey};
use super::{Inner, Spool, SpoolConfig, SpoolError, Writers};

/// Most bytes of appended batches that wait in memory for their commit.
const QUEUE_BYTES: usize = 8 << 20;
/// What an earlier run left.
pub(crate) struct Recovered {
    pub(crate) streams: VecDeque<Arc<Stream>>,
    pub(crate) next_order: u64,
    pub(crate) lock: Lock,
}

/// Reads the spool's directory; creates it when it is missing.
pub(crate) fn recover(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    config: &SpoolConfig,
) -> Result<Recovered, SpoolError> {
    storage.create_dir(dir).map_err(fault("create", dir))?;
    let lock = storage.lock(&dir.join("lock")).map_err(|source| {
        if source.kind() == io::ErrorKind::WouldBlock {
            let path = dir.to_owned();
            return SpoolError::Locked { path };
        }
        fault("lock", dir)(source)
    })?;
    let mut found = Vec::new();
    for name in storage.list(dir).map_err(fault("list", dir))? {
        if name.starts_with(GONE) {
            remove_tree(storage.as_ref(), &dir.join(&name))?;
        } else if let Some((order, id)) = parse_name(&name) {
            found.push((order, id));
        }
    }
    found.sort_unstable();
    let next_order = found.last().map_or(1, |(order, _)| order + 1);
    leave_out_origins(storage.as_ref(), dir, &mut found);
    let mut streams = VecDeque::new();
    for (order, id) in found {
        let stream = open_old(storage, dir, (order, id), config)?;
        streams.extend(stream.map(Arc::new));
    }
    Ok(Recovered {
        streams,
        next_order,
        lock,
    })
}

impl Spool {
    /// Begins a new stream and makes it the live one. Its id is synced before its first record.
    pub(crate) fn begin_stream(
        &self,
        inner: &mut Inner,
        dictionary: BTreeMap<u32, v1::Series>,
    ) -> Result<Arc<Stream>, SpoolError> {
        let shared = &self.shared;
        let name = (inner.next_order, draw_id()?);
        let created = create(
            &shared.storage,
            &shared.dir,
            name,
            &shared.config,
            dictionary,
        );
        let (stream, writer) = created.inspect_err(|_| {
            // What stays behind is removed at the next start.
            let dir = shared.dir.join(directory_name(name.0, &name.1));
            let _ = remove_tree(shared.storage.as_ref(), &dir);
        })?;
        inner.next_order += 1;
        stream.journal.set_commit_interval(self.commit_interval());
        match shared.writers {
            Writers::Threads => drop(
                writer
                    .spawn()
                    .map_err(fault("start the writer of", &stream.dir))?,
            ),
            Writers::Tasks(latency) => drop(tokio::spawn(writer.drive_slowly(latency))),
        }
        let stream = Arc::new(stream);
        inner.streams.push_back(Arc::clone(&stream));
        tracing::info!(stream = %hex(&stream.id), "began a stream");
        Ok(stream)
    }
}

fn create(
    storage: &Arc<dyn Storage>,
    spool: &Path,
    (order, id): (u64, [u8; 16]),
    config: &SpoolConfig,
    dictionary: BTreeMap<u32, v1::Series>,
) -> Result<(Stream, Committer), SpoolError> {
    let dir = spool.join(directory_name(order, &id));
    storage.create_dir(&dir).map_err(fault("create", &dir))?;
    let file = StateFile::create(storage.as_ref(), &dir.join(STATE), id)
        .map_err(fault("create the state of", &dir))?;
    storage.sync_dir(&dir).map_err(fault("sync", &dir))?;
    let (journal, writer) = Journal::open(Arc::clone(storage), &dir, options(config, id))?;
    point(Point::AgentBegan);
    if !dictionary.is_empty() {
        journal.set_preamble(Some(preamble(&dictionary)));
    }
    let stream = Stream::new(Parts {
        id: journal.id(),
        dir,
        journal,
        idle_writer: None,
        file,
        state: State::default(),
        dictionary,
        durable: (0, 0),
        uncounted: 0,
        dropping: Vec::new(),
    });
    Ok((stream, writer))
}

fn options(config: &SpoolConfig, id: [u8; 16]) -> Options {
    Options {
        segment_bytes: segment_bytes(config),
        // The limit is over all streams, so it is the spool's to keep.
        max_bytes: 0,
        queue_bytes: QUEUE_BYTES,
        commit_interval: config.commit_interval,
        id: Some(id),
        give_up_unreadable: true,
        ..Options::default()
    }
}

/// At most an eighth of the limit, so that giving up one segment gives up little.
pub(crate) fn segment_bytes(config: &SpoolConfig) -> u64 {
    config.segment_bytes.min(config.max_bytes / 8).max(4096)
}

/// Opens a stream of an earlier run; none when it never held anything and no sink knows of it,
/// or when it is a copy that did not become whole.
fn open_old(
    storage: &Arc<dyn Storage>,
    spool: &Path,
    (order, id): (u64, [u8; 16]),
    config: &SpoolConfig,
) -> Result<Option<Stream>, SpoolError> {
    let dir = spool.join(directory_name(order, &id));
    if never_began(storage.as_ref(), &dir, id)? {
        retire_directory(storage.as_ref(), spool, &dir)?;
        return Ok(None);
    }
    let (journal, writer) = Journal::open(Arc::clone(storage), &dir, options(config, id))?;
    let id = journal.id();
    let path = dir.join(STATE);
    let (file, state) = match StateFile::open(storage.as_ref(), &path, id) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = StateFile::create(storage.as_ref(), &path, id);
            (file.map_err(fault("create the state of", &dir))?, None)
        }
        other => other.map_err(fault("read the state of", &dir))?,
    };
    let mut survey = survey(&journal)?;
    let mut state = state.unwrap_or_else(|| guess(&survey, &dir));
    // A later record says so itself.
    let (last_record, _) = survey.last.unwrap_or_default();
    state.ends_lost &= state.known_through > last_record;
    let last = journal.recovery().next - 1;
    let empty = last == 0 && state.known_through == 0 && !state.announced;
    if empty || state.partial {
        drop((journal, writer));
        retire_directory(storage.as_ref(), spool, &dir)?;
        return Ok(None);
    }
    let durable = survey.durable(last, &state);
    let uncounted = survey.uncounted(durable.0, &state);
    survey.miss_ends(&state, durable);
    report(&journal, &dir, durable, &state);
    Ok(Some(Stream::new(Parts {
        id,
        dir,
        journal,
        idle_writer: Some(writer),
        file,
        state,
        dictionary: survey.dictionary,
        durable,
        uncounted,
        dropping: survey.dropping,
    })))
}

/// Whether an opening ended, for want of room or of power, before it had anything to keep.
fn never_began(storage: &dyn Storage, dir: &Path, id: [u8; 16]) -> Result<bool, SpoolError> {
    let names = storage.list(dir).map_err(fault("list", dir))?;
    if names.iter().any(|name| name.ends_with(".seg")) {
        return Ok(false);
    }
    match StateFile::look(storage, &dir.join(STATE), id) {
        Ok(state) => Ok(state.is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(fault("read the state of", dir)(error)),
    }
}

fn report(journal: &Journal, dir: &Path, durable: (u64, u64), state: &State) {
    let recovery = journal.recovery();
    let account = &state.account;
    tracing::info!(
        dir = %dir.display(),
        acked_through = account.acked_through,
        last_sequence = durable.0,
        readings = durable.1.saturating_sub(account.readings_through),
        "found an earlier stream"
    );
    let settled = account.peak().0.max(state.dropped_through);
    if !state.given_up && recovery.oldest > settled + 1 {
        tracing::error!(dir = %dir.display(), from = settled + 1, through = recovery.oldest - 1, "the head of the spool is missing, and this agent did not remove it: these batches are lost");
    }
    let last = recovery.next - 1;
    if state.ends_lost {
        tracing::warn!(dir = %dir.display(), "readings were dropped before the agent ended, and there was no room to say so: they are counted now");
    } else if !state.given_up && durable.0 > last.max(settled) {
        tracing::error!(dir = %dir.display(), from = last.max(settled) + 1, through = durable.0, "the end of the spool is missing: these batches were committed and are lost");
    }
    for hole in &recovery.holes {
        tracing::error!(dir = %dir.display(), from = hole.from, through = hole.through, "spool is damaged: these batches are lost");
    }
    if recovery.cut_bytes > 0 {
        tracing::warn!(dir = %dir.display(), bytes = recovery.cut_bytes, "cut a tail that cannot be read: it was never committed, or was damaged since");
    }
}
