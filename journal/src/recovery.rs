//! Opening: lock, read everything, work out what is there and what is missing, and make the tail durable.
//!
//! Segments before the last one were synced before their successor was started, so what they hold is durable. The last
//! one may hold bytes that were never synced, or whose sync failed. A disk writes the sectors of its last group in any
//! order, so records of it may be missing in front of others: nobody was told of any of them, and from the first that is
//! missing on they are cut like a torn end. What is missing before the last group is damage. The remaining records are copied into a new file, which is
//! synced and takes the old one's name in one step, before any of it counts (`tail`). A segment whose header is
//! damaged is read by what its frames say of each other (`salvage`); one of which no record can be told, or that names
//! another journal, is left where it is and reported as a hole.

mod survey;
mod tail;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use crate::error::OpenError;
use crate::frame::{HeaderFault, SegmentHeader, VERSION};
use crate::handover::{Handover, Limits};
use crate::identity;
use crate::live::Live;
use crate::options::{Hole, Options, RESERVE_BYTES, Recovery};
use crate::segment::{self, Segment};
use crate::shared::{Parts, Shared};
use crate::storage::{Lock, Storage};

use survey::Survey;

/// Opens a directory; see the module.
pub(crate) fn open(
    storage: Arc<dyn Storage>,
    dir: &Path,
    options: Options,
) -> Result<(Shared, Option<Live>), OpenError> {
    storage
        .create_dir(dir)
        .map_err(|source| failed("create", dir, source))?;
    let lock = lock(storage.as_ref(), dir)?;
    let surveys = survey_all(storage.as_ref(), dir, &options)?;
    let id = settle_identity(storage.as_ref(), dir, &options, &surveys)?;
    let surveys = surveys.into_iter().map(|survey| survey.owned_by(id));
    let mut surveys: Vec<Survey> = surveys.collect();
    let void = remove_void(storage.as_ref(), dir, &options, &mut surveys)?;
    if let (None, Some(last)) = (&void, surveys.last_mut()) {
        last.cut_unsynced()
            .map_err(|source| failed("read", &segment::path(dir, last.first), source))?;
    }
    let mut inventory = Inventory::piece_together(surveys);
    if let Some(void) = void {
        inventory.recovery.cut_bytes += void.tail.end - void.tail.start;
        inventory.resume_at(void.first);
    }
    if options.resume_behind >= inventory.recovery.next {
        inventory.resume_at(options.resume_behind + 1);
    }
    let (segments, live, recovery) = inventory.settle(storage.as_ref(), dir, id, &options)?;
    report(dir, &recovery);
    let limits = Limits {
        queue_bytes: options.queue_bytes,
        max_bytes: options.max_bytes,
    };
    let used = segments.iter().map(|segment| segment.bytes).sum();
    let shared = Shared::new(Parts {
        handover: Handover::new(limits, recovery.next, used),
        storage,
        dir: dir.to_owned(),
        options,
        id,
        recovery,
        segments,
        lock,
    });
    Ok((shared, live))
}

/// A number for the segment that begins with `first`, which nobody else has drawn. The standard library's hash keys come
/// from the system's randomness, which is all that is wanted here, so no other source is named. With a salt it follows
/// from the two, and the salt is the caller's to draw anew for each opening.
pub(crate) fn draw(salt: Option<u64>, first: u64) -> u64 {
    let Some(salt) = salt else {
        return RandomState::new().hash_one(std::process::id());
    };
    // Neighbouring numbers give distant ones: the finaliser of MurmurHash3, which never gives two the same.
    let mut mixed = salt ^ first;
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

/// What the surveys say together.
struct Inventory {
    /// All but the last segment.
    segments: VecDeque<Segment>,
    last: Option<Survey>,
    recovery: Recovery,
}

impl Inventory {
    fn piece_together(mut surveys: Vec<Survey>) -> Inventory {
        let oldest = surveys.first().map_or(1, |survey| survey.first);
        let mut recovery = Recovery {
            oldest,
            next: oldest,
            ..Recovery::default()
        };
        let ends: Vec<u64> = surveys.iter().skip(1).map(|survey| survey.first).collect();
        for (survey, end) in surveys.iter_mut().zip(&ends) {
            survey.bound_guess(*end);
        }
        for survey in &surveys {
            add_hole(&mut recovery.holes, recovery.next, survey.first);
            for hole in survey.holes() {
                let from = hole.from.max(recovery.next);
                add_hole(&mut recovery.holes, from, hole.through + 1);
            }
            recovery.next = recovery.next.max(survey.next);
            recovery.damaged_bytes += survey.damaged_bytes();
        }
        let last = surveys.pop();
        if let Some(last) = &last {
            recovery.cut_bytes += last.tail.end - last.tail.start;
        }
        let mut segments = VecDeque::with_capacity(surveys.len() + 2);
        for (survey, next) in surveys.into_iter().zip(ends) {
            recovery.damaged_bytes += survey.tail.end - survey.tail.start;
            segments.push_back(survey.into_sealed(next));
        }
        Inventory {
            segments,
            last,
            recovery,
        }
    }

    /// The next record gets at least this number.
    fn resume_at(&mut self, number: u64) {
        let recovery = &mut self.recovery;
        if self.last.is_none() {
            recovery.oldest = number;
            recovery.next = number;
        }
        add_hole(&mut recovery.holes, recovery.next, number);
        recovery.next = recovery.next.max(number);
    }

    /// Makes the last segment durable and ready to be written to.
    fn settle(
        mut self,
        storage: &dyn Storage,
        dir: &Path,
        journal: [u8; 16],
        options: &Options,
    ) -> Result<(VecDeque<Segment>, Option<Live>, Recovery), OpenError> {
        let mut live = None;
        if let Some(last) = self.last {
            let used: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
            let mut wanted = options.effective_segment_bytes();
            if options.max_bytes > 0 {
                wanted = wanted.min((options.max_bytes + RESERVE_BYTES).saturating_sub(used));
            }
            let path = segment::path(dir, last.first);
            let header = SegmentHeader {
                journal,
                segment: draw(options.salt, last.first),
                first: last.first,
            };
            let (segment, renewed) = tail::renew(storage, dir, header, &last, wanted)
                .map_err(|source| failed("recover", &path, source))?;
            live = renewed;
            // One without records that is not written to any more has the name its successor will take.
            if live.is_some() || last.first < self.recovery.next {
                self.segments.push_back(Segment {
                    next: self.recovery.next,
                    ..segment
                });
            }
        }
        Ok((self.segments, live, self.recovery))
    }
}

fn lock(storage: &dyn Storage, dir: &Path) -> Result<Lock, OpenError> {
    let path = dir.join("lock");
    storage.lock(&path).map_err(|source| {
        if source.kind() == io::ErrorKind::WouldBlock {
            OpenError::Locked {
                dir: dir.to_owned(),
            }
        } else {
            failed("lock", &path, source)
        }
    })
}

/// Every segment, in order of their numbers. They are independent of each other, so several threads may read them.
fn survey_all(
    storage: &dyn Storage,
    dir: &Path,
    options: &Options,
) -> Result<Vec<Survey>, OpenError> {
    let names = storage
        .list(dir)
        .map_err(|source| failed("list", dir, source))?;
    for name in names.iter().filter(|name| segment::is_draft(name)) {
        let path = dir.join(name);
        storage
            .remove(&path)
            .map_err(|source| failed("remove", &path, source))?;
    }
    let mut firsts: Vec<u64> = names
        .iter()
        .filter_map(|name| segment::first_of(name))
        .collect();
    firsts.sort_unstable();
    let threads = options.scan_threads.clamp(1, firsts.len().max(1));
    let survey = |thread: usize| -> Vec<_> {
        let share = firsts.iter().skip(thread).step_by(threads);
        let lenient = options.give_up_unreadable;
        share
            .map(|first| (*first, Survey::of(storage, dir, *first, lenient)))
            .collect()
    };
    let survey = &survey;
    let mut surveys = thread::scope(|scope| {
        let start = |thread| {
            let builder = thread::Builder::new().name("weir-scan".to_owned());
            (thread, builder.spawn_scoped(scope, move || survey(thread)))
        };
        let helpers: Vec<_> = (1..threads).map(start).collect();
        let mut surveys = survey(0);
        for (thread, helper) in helpers {
            surveys.extend(match helper {
                Ok(helper) => helper.join().unwrap_or_else(|panic| resume_unwind(panic)),
                // There are no more threads to be had.
                Err(_) => survey(thread),
            });
        }
        surveys
    });
    surveys.sort_unstable_by_key(|(first, _)| *first);
    surveys.into_iter().map(|(_, survey)| survey).collect()
}

/// A last segment with neither header nor records is taken away, what it holds kept aside.
fn remove_void(
    storage: &dyn Storage,
    dir: &Path,
    options: &Options,
    surveys: &mut Vec<Survey>,
) -> Result<Option<Survey>, OpenError> {
    let Some(void) = surveys.pop_if(|last| last.is_void()) else {
        return Ok(None);
    };
    tail::keep_aside(storage, dir, &void, draw(options.salt, void.first));
    let path = segment::path(dir, void.first);
    storage
        .remove(&path)
        .and_then(|()| storage.sync_dir(dir))
        .map_err(|source| failed("remove", &path, source))?;
    Ok(Some(void))
}

/// The journal's id: from its file, else from its segments, else given or drawn; on file when this returns.
fn settle_identity(
    storage: &dyn Storage,
    dir: &Path,
    options: &Options,
    surveys: &[Survey],
) -> Result<[u8; 16], OpenError> {
    let path = dir.join(identity::NAME);
    let on_file = identity::read(storage, dir).map_err(|source| failed("read", &path, source))?;
    match on_file {
        Some(Ok(id)) => return Ok(id),
        Some(Err(HeaderFault::Newer(found))) => {
            return Err(OpenError::NewerVersion {
                path,
                found,
                supported: VERSION,
            });
        }
        Some(Err(HeaderFault::Damaged)) | None => {}
    }
    let in_segments = surveys.iter().find_map(Survey::journal);
    let id = in_segments.or(options.id).unwrap_or_else(|| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&draw(options.salt, 0).to_le_bytes());
        id[8..].copy_from_slice(&draw(options.salt, u64::MAX).to_le_bytes());
        id
    });
    match identity::write(storage, dir, id) {
        Err(error) if in_segments.is_some() => {
            tracing::warn!(path = %path.display(), %error, "cannot restore the journal's identity, its segments still have it");
        }
        other => other.map_err(|source| failed("write", &path, source))?,
    }
    Ok(id)
}

/// Adds `from..end` where it is not empty, joined to the hole before it where they touch.
fn add_hole(holes: &mut Vec<Hole>, from: u64, end: u64) {
    if from >= end {
        return;
    }
    match holes.last_mut() {
        Some(last) if last.through + 1 >= from => last.through = last.through.max(end - 1),
        _ => holes.push(Hole {
            from,
            through: end - 1,
        }),
    }
}

fn report(dir: &Path, recovery: &Recovery) {
    let dir = dir.display();
    if recovery.cut_bytes > 0 {
        tracing::warn!(%dir, bytes = recovery.cut_bytes, next = recovery.next, "cut a torn tail from the journal");
    }
    for hole in &recovery.holes {
        tracing::error!(%dir, from = hole.from, through = hole.through, "records of the journal cannot be read");
    }
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}
