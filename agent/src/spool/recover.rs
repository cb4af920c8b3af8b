//! Opening the spool: what earlier runs left is found, counted and made ready to drain.
//!
//! In: the spool's directory. Out: the streams in the order in which they were begun, each with its
//! dictionary and its cumulative counts rebuilt from the records themselves. Content is never a
//! reason to fail: what the journal cannot read is a hole, and the sender closes it with a Skip.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_fault::{Point, point};
use weir_journal::storage::Lock;
use weir_journal::{Committer, Item, Journal, Options, READ_TRIES, ReadError, Reader, Storage};
use weir_process::random;
use weir_proto::{record, v1};

use super::state::{State, StateFile};
use super::stream::{Parts, Stream, preamble};
use super::{Inner, Pending, Spool, SpoolConfig, SpoolError, Writers};

/// Most bytes of appended batches that wait in memory for their commit.
const QUEUE_BYTES: usize = 8 << 20;
const GONE: &str = "gone-";
/// Leaves room for the next one.
const MAX_ORDER: u64 = 1 << 48;
pub(super) const STATE: &str = "state";

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

/// A copy that is whole stands for the stream it was made from, which the agent did not come to remove.
/// One that cannot be removed now is left out all the same: it must not go out again.
fn leave_out_origins(storage: &dyn Storage, spool: &Path, found: &mut Vec<(u64, [u8; 16])>) {
    let mut origins = BTreeSet::new();
    for (order, id) in found.iter() {
        let dir = spool.join(directory_name(*order, id));
        let Some(origin) = origin_of(storage, &dir, *id) else {
            continue;
        };
        if let Err(error) = retire_origin(storage, spool, (origin, *order)) {
            tracing::error!(%error, "cannot remove a stream that had forked: its copy goes out, it does not");
        }
        origins.insert(origin);
    }
    found.retain(|(_, id)| !origins.contains(id));
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
    let state = state.unwrap_or_else(|| guess(&survey, &dir));
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
    if !state.given_up && durable.0 > last.max(settled) {
        tracing::error!(dir = %dir.display(), from = last.max(settled) + 1, through = durable.0, "the end of the spool is missing: these batches were committed and are lost");
    }
    for hole in &recovery.holes {
        tracing::error!(dir = %dir.display(), from = hole.from, through = hole.through, "spool is damaged: these batches are lost");
    }
    if recovery.cut_bytes > 0 {
        tracing::warn!(dir = %dir.display(), bytes = recovery.cut_bytes, "cut a tail that cannot be read: it was never committed, or was damaged since");
    }
}

/// What the records of a stream say.
#[derive(Default)]
struct Survey {
    dictionary: BTreeMap<u32, v1::Series>,
    /// The first record: its sequence and the readings before it.
    first: Option<(u64, u64)>,
    /// The last record: its sequence and the readings through it.
    last: Option<(u64, u64)>,
    /// What Skips name, and what is missing between two records.
    dropping: Vec<Pending>,
}

/// Reads every record's clear-text part; payloads are shared, not copied.
fn survey(journal: &Journal) -> Result<Survey, SpoolError> {
    let mut survey = Survey::default();
    let mut reader = journal.reader(journal.oldest());
    while let Some(item) = insist(&mut reader)? {
        let (number, body) = match item {
            Item::Record { number, body, .. } => (number, body),
            Item::Preamble { body } => (0, body),
            Item::Hole { .. } => continue,
        };
        match record::decode(body).ok().and_then(|record| record.record) {
            Some(v1::record::Record::Batch(batch)) => {
                survey.define(batch.series_defined);
                let header = batch.header.unwrap_or_default();
                survey.count(number, header.readings_before, header.readings);
            }
            Some(v1::record::Record::Skip(skip)) => {
                survey.count(number, skip.readings_before, skip.readings);
                survey.dropping.push(Pending {
                    through: number,
                    reason: skip.reason,
                    readings: skip.readings,
                });
            }
            Some(v1::record::Record::Definitions(definitions)) => survey.define(definitions.series),
            Some(v1::record::Record::Close(_)) | None => {}
        }
    }
    Ok(survey)
}

/// The next item, asked for as often as it takes the journal to give up what the disk refuses.
pub(super) fn insist(reader: &mut Reader) -> Result<Option<Item>, ReadError> {
    let mut tries = 1;
    loop {
        match reader.next() {
            Err(_) if tries < READ_TRIES => tries += 1,
            other => return other,
        }
    }
}

impl Survey {
    fn define(&mut self, series: Vec<v1::Series>) {
        for one in series {
            self.dictionary.entry(one.r#ref).or_insert(one);
        }
    }

    fn count(&mut self, number: u64, before: u64, readings: u64) {
        if let Some((_, through)) = self.last {
            self.miss(number - 1, before.saturating_sub(through));
        }
        self.first.get_or_insert((number, before));
        self.last = Some((number, before.saturating_add(readings)));
    }

    fn miss(&mut self, through: u64, readings: u64) {
        if readings > 0 {
            self.dropping.push(Pending {
                through,
                reason: v1::DropReason::Damaged.into(),
                readings,
            });
        }
    }

    /// What is missing before the first record and behind the last one, too.
    fn miss_ends(&mut self, state: &State, durable: (u64, u64)) {
        let account = &state.account;
        if let Some((number, before)) = self.first {
            let known = state.dropped_readings.max(account.readings_through);
            self.miss(number - 1, before.saturating_sub(known));
        }
        let through = self
            .last
            .map_or(account.readings_through, |(_, through)| through);
        let known = through.max(state.dropped_readings);
        self.miss(durable.0, durable.1.saturating_sub(known));
    }

    /// The end of the stream: its last sequence and the readings through it, from the records or,
    /// where they were dropped or damaged, from what was noted before.
    fn durable(&self, last: u64, state: &State) -> (u64, u64) {
        let (sequence, readings) = self.last.unwrap_or_default();
        let through = last.max(state.known_through).max(state.account.peak().0);
        let readings = if state.known_through > sequence {
            state.known_readings.max(readings)
        } else {
            readings
        };
        (through, readings.max(state.account.peak().1))
    }

    /// How many sequences at the end neither a record nor a note counts.
    fn uncounted(&self, through: u64, state: &State) -> u64 {
        let (sequence, _) = self.last.unwrap_or_default();
        let noted = state.known_through.max(state.account.peak().0);
        through - sequence.max(noted).min(through)
    }
}

/// Where both slots of a state file are damaged: what lies before the first record was acknowledged,
/// for nothing else removes it without a trace.
fn guess(survey: &Survey, dir: &Path) -> State {
    let mut state = State::default();
    if let Some((first, readings_before)) = survey.first
        && first > 1
    {
        tracing::warn!(dir = %dir.display(), "state file is damaged: the acknowledged count is taken from the records");
        state.announced = true;
        state.account.acked_through = first - 1;
        state.account.readings_through = readings_before;
        state.account.stored = readings_before;
    }
    state
}

/// Takes the stream that was copied to that of order `copy` out of the spool, if it is there: before it, the one it was
/// itself copied from.
pub(super) fn retire_origin(
    storage: &dyn Storage,
    spool: &Path,
    (origin, copy): ([u8; 16], u64),
) -> Result<(), SpoolError> {
    for name in storage.list(spool).map_err(fault("list", spool))? {
        let found = parse_name(&name).filter(|(order, id)| *id == origin && *order < copy);
        let Some((order, id)) = found else { continue };
        let dir = spool.join(name);
        if let Some(origin) = origin_of(storage, &dir, id) {
            retire_origin(storage, spool, (origin, order))?;
        }
        retire_directory(storage, spool, &dir)?;
    }
    Ok(())
}

/// Of which stream this is a whole copy. What cannot be read now is reported where the stream is opened.
fn origin_of(storage: &dyn Storage, dir: &Path, id: [u8; 16]) -> Option<[u8; 16]> {
    let state = StateFile::look(storage, &dir.join(STATE), id);
    let state = state.ok().flatten()?;
    state.copied_from.filter(|_| !state.partial)
}

/// Takes a stream's directory out of the spool: first its name, then its content.
pub(crate) fn retire_directory(
    storage: &dyn Storage,
    spool: &Path,
    dir: &Path,
) -> Result<(), SpoolError> {
    let name = dir
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let gone: PathBuf = spool.join(format!("{GONE}{name}"));
    match storage.rename(dir, &gone) {
        // Somebody removed it already.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed.map_err(fault("retire", dir))?,
    }
    storage.sync_dir(spool).map_err(fault("sync", spool))?;
    point(Point::AgentRetired);
    remove_tree(storage, &gone)
}

fn remove_tree(storage: &dyn Storage, dir: &Path) -> Result<(), SpoolError> {
    for name in storage.list(dir).map_err(fault("list", dir))? {
        let path = dir.join(name);
        storage.remove(&path).map_err(fault("remove", &path))?;
    }
    storage.remove_dir(dir).map_err(fault("remove", dir))
}

/// Removes a stream's segments; identity and state stay.
pub(crate) fn remove_segments(storage: &dyn Storage, dir: &Path) -> Result<(), SpoolError> {
    for name in storage.list(dir).map_err(fault("list", dir))? {
        if name.ends_with(".seg") {
            let path = dir.join(name);
            storage.remove(&path).map_err(fault("remove", &path))?;
        }
    }
    storage.sync_dir(dir).map_err(fault("sync", dir))
}

pub(crate) fn fault(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    let path = path.to_owned();
    move |source| SpoolError::Io {
        doing,
        path,
        source,
    }
}

/// A new stream's id, from the system and nothing else: a generator seeded in this process would draw
/// the same in both halves of a cloned machine.
fn draw_id() -> Result<[u8; 16], SpoolError> {
    random::id().map_err(fault("draw a stream id from", Path::new(random::SYSTEM)))
}

fn directory_name(order: u64, id: &[u8; 16]) -> String {
    format!("{order:010}-{}", hex(id))
}

pub(super) fn parse_name(name: &str) -> Option<(u64, [u8; 16])> {
    let (order, id) = name.split_once('-')?;
    if id.len() != 32 {
        return None;
    }
    let id = u128::from_str_radix(id, 16).ok()?.to_be_bytes();
    let order = order.parse().ok().filter(|order| *order < MAX_ORDER)?;
    // What is not spelled as we do is not ours, and would be looked for under another name.
    (directory_name(order, &id) == name).then_some((order, id))
}

/// An id as people and file names spell it.
pub(crate) fn hex(id: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*id))
}
