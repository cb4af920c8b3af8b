//! Makes what was recovered from the last segment durable, and keeps aside what was not a frame.
//!
//! The copy is complete and synced under another name before it takes the old one's name, so a crash at any point leaves
//! one of the two. On a full disk the same bytes are written over themselves and synced instead: that needs no room, and
//! a write torn by a crash leaves the same bytes again.

use std::io;
use std::path::Path;
use std::sync::Arc;

use weir_fault::{Point, point};

use crate::frame::{self, FRAME_HEADER, SEGMENT_HEADER, SegmentHeader};
use crate::live::Live;
use crate::recovery::survey::Survey;
use crate::scanner::{Found, Scanner};
use crate::segment::{Draft, Segment};
use crate::storage::{self, Storage};

const COPY_BYTES: usize = 1 << 20;
/// Bounds of what is kept aside.
const CUT_FILE_BYTES: u64 = 1 << 20;
const CUT_FILES: usize = 8;

/// The last segment under a new header, durable, and ready to be written to where there was room for a copy. Its `next` is the survey's.
pub(super) fn renew(
    storage: &dyn Storage,
    dir: &Path,
    header: SegmentHeader,
    survey: &Survey,
    wanted: u64,
) -> io::Result<(Segment, Option<Live>)> {
    let mut segment = Segment {
        first: survey.first,
        next: survey.next,
        seed: survey.seed,
        bytes: survey.length,
    };
    if survey.seed.is_none() {
        return Ok((segment, None));
    }
    keep_aside(storage, dir, survey, header.segment);
    match copy(storage, dir, header, survey, wanted) {
        Ok(live) => {
            segment.seed = Some(live.seed);
            segment.bytes = live.at;
            Ok((segment, Some(live)))
        }
        Err(error) if storage::is_full(&error) => {
            tracing::warn!(dir = %dir.display(), "disk is full: the journal's tail is synced where it is");
            rewrite(storage, dir, survey)?;
            segment.bytes = survey.end();
            Ok((segment, None))
        }
        Err(error) => Err(error),
    }
}

fn copy(
    storage: &dyn Storage,
    dir: &Path,
    header: SegmentHeader,
    survey: &Survey,
    wanted: u64,
) -> io::Result<Live> {
    let frames: u64 = survey.runs.iter().map(|run| run.end - run.start).sum();
    let needed = SEGMENT_HEADER as u64 + frames;
    let head = header.encode();
    let draft = Draft::create(storage, dir, header.first, &head, wanted, needed)?;
    let at = match copy_frames(survey, &header, &draft) {
        Ok(at) => at,
        Err(error) => {
            draft.discard(storage);
            return Err(error);
        }
    };
    let allocated = draft.allocated;
    point(Point::JournalCopied);
    Ok(Live {
        file: draft.publish(storage, dir)?,
        seed: header.seed(),
        first: header.first,
        at,
        allocated,
    })
}

/// Copies frame by frame, sealed anew for the new segment id; answers the offset behind the last one.
fn copy_frames(survey: &Survey, header: &SegmentHeader, draft: &Draft) -> io::Result<u64> {
    let old = survey.seed.expect("only readable segments are copied");
    let mut at = SEGMENT_HEADER as u64;
    let mut buffer = Vec::new();
    for run in &survey.runs {
        let mut scanner = Scanner::new(Arc::clone(&survey.file), old, run.start, run.end);
        scanner.set_lenient(survey.lenient);
        while let Found::Frame(frame) = scanner.next()? {
            let start = buffer.len();
            buffer.resize(start + FRAME_HEADER, 0);
            buffer.extend_from_slice(&frame.body);
            frame::seal(
                &mut buffer[start..],
                header.seed(),
                frame.kind,
                frame.number,
                // All of it is synced before it counts.
                0,
            );
            if buffer.len() >= COPY_BYTES {
                draft.file.write_at(&buffer, at)?;
                at += buffer.len() as u64;
                buffer.clear();
            }
        }
        if scanner.at() != run.end {
            return Err(io::Error::other("the segment changed while it was copied"));
        }
    }
    draft.file.write_at(&buffer, at)?;
    Ok(at + buffer.len() as u64)
}

/// Writes header and frames over themselves and cuts the rest.
fn rewrite(storage: &dyn Storage, dir: &Path, survey: &Survey) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let head = 0..SEGMENT_HEADER as u64;
    for run in std::iter::once(&head).chain(&survey.runs) {
        let mut at = run.start;
        while at < run.end {
            let count = (run.end - at).min(COPY_BYTES as u64) as usize;
            let read = survey.file.read_at(&mut buffer[..count], at)?;
            if read < count {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            survey.file.write_at(&buffer[..count], at)?;
            at += count as u64;
        }
    }
    survey.file.set_len(survey.end())?;
    survey.file.sync_all()?;
    storage.sync_dir(dir)
}

/// Keeps the unreadable bytes for a person to look at, `tag` telling them from others; only as far as it can.
pub(super) fn keep_aside(storage: &dyn Storage, dir: &Path, survey: &Survey, tag: u64) {
    let tail = (!survey.tail.is_empty()).then_some(&survey.tail);
    if survey.bad.is_empty() && tail.is_none() {
        return;
    }
    let kept = || -> io::Result<()> {
        let mut cuts = storage.list(dir)?;
        cuts.retain(|name| name.starts_with("cut-"));
        cuts.sort_unstable();
        for name in cuts.iter().rev().skip(CUT_FILES - 1) {
            storage.remove(&dir.join(name))?;
        }
        let name = format!("cut-{:020}-{:016x}", survey.first, tag);
        let file = storage.create(&dir.join(name))?;
        let mut at = 0;
        for range in survey.bad.iter().chain(tail) {
            let count = (range.end - range.start).min(CUT_FILE_BYTES - at) as usize;
            let mut bytes = vec![0; count];
            let read = survey.file.read_at(&mut bytes, range.start)?;
            file.write_at(&bytes[..read], at)?;
            at += read as u64;
        }
        file.sync_all()
    };
    if let Err(error) = kept() {
        tracing::warn!(dir = %dir.display(), %error, "cannot keep aside what was cut from the journal");
    }
}
