//! Walks the frames of one segment through a window of the file, and finds the next whole frame behind damage.
//!
//! Bodies are slices of the window, so small records cost no read and no copy of their own. Used by recovery and by
//! readers alike: both see the same holes.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::frame::{self, FRAME_HEADER, Head, SYNC_WORD};
use crate::seed::Seed;
use crate::storage::File;

const WINDOW_BYTES: usize = 256 << 10;
const PAGE_BYTES: usize = 4096;
/// How often a page the disk refuses is asked for.
const PAGE_TRIES: u32 = 3;
/// Stands in for what cannot be read: neither a sync word nor the zeros of unused room.
const UNREADABLE: u8 = 0xFF;
/// Bytes of claimed bodies that are checked behind one damage, for each byte there is: what looks like frames may
/// be chosen by a peer. Beyond it only bodies that are cheap to check are.
const CHECKED_PER_BYTE: u64 = 16;
const CHEAP_BODY: usize = 64 << 10;
static ZERO_PAGE: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// A whole frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) number: u64,
    /// Records before it in its group.
    pub(crate) behind: u32,
    pub(crate) body: Bytes,
    /// Offset of its first byte.
    pub(crate) at: u64,
}

/// What stands at the scanner's place.
#[derive(Debug)]
pub(crate) enum Found {
    Frame(Frame),
    /// No whole frame.
    Bad,
    /// The limit.
    End,
}

/// What may still be spent on bodies that are only claimed.
pub(crate) struct Purse(u64);

impl Purse {
    /// For damage in so many bytes.
    pub(crate) fn new(bytes: u64) -> Purse {
        Purse(bytes.saturating_mul(CHECKED_PER_BYTE))
    }

    /// Whether a body of this length is to be checked; then it is paid for.
    pub(crate) fn affords(&mut self, body: usize) -> bool {
        let affords = body as u64 <= self.0 || body <= CHEAP_BODY;
        self.0 = self.0.saturating_sub(body as u64);
        affords
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Scanner {
    file: Arc<dyn File>,
    seed: Seed,
    at: u64,
    limit: u64,
    window: Bytes,
    window_at: u64,
    lenient: bool,
}

impl Scanner {
    /// Starts at `at`; bytes from `limit` on are not looked at.
    pub(crate) fn new(file: Arc<dyn File>, seed: Seed, at: u64, limit: u64) -> Scanner {
        Scanner {
            file,
            seed,
            at,
            limit,
            window: Bytes::new(),
            window_at: at,
            lenient: false,
        }
    }

    /// Whether pages that cannot be read count as damage instead of ending the scan with the error.
    pub(crate) fn set_lenient(&mut self, lenient: bool) {
        self.lenient = lenient;
    }

    /// Offset of what comes next.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Goes back to a frame it has stepped over.
    pub(crate) fn back_to(&mut self, at: u64) {
        self.at = at;
    }

    /// More bytes may be looked at.
    pub(crate) fn extend(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// The frame here, stepping over it; stays where it is when there is none.
    pub(crate) fn next(&mut self) -> io::Result<Found> {
        if self.at >= self.limit {
            return Ok(Found::End);
        }
        match self.frame_at(self.at)? {
            Some(frame) => {
                self.at += (FRAME_HEADER + frame.body.len()) as u64;
                Ok(Found::Frame(frame))
            }
            None => Ok(Found::Bad),
        }
    }

    /// From damage to the next whole frame numbered `floor` or more; false, and to the limit, when there is none.
    pub(crate) fn resync(&mut self, floor: u64) -> io::Result<bool> {
        let mut at = self.at + 1;
        let mut purse = Purse::new(self.limit.saturating_sub(at));
        while let Some(candidate) = self.find_sync_word(at)? {
            let body = self.claimed_body(candidate)?;
            if purse.affords(body)
                && let Some(frame) = self.frame_at(candidate)?
                && frame.number >= floor
            {
                self.at = candidate;
                return Ok(true);
            }
            at = candidate + 1;
        }
        self.at = self.limit;
        Ok(false)
    }

    /// Offset behind the last byte that is not zero, from the scanner's place to its limit.
    pub(crate) fn end_of_content(&mut self) -> io::Result<u64> {
        let mut at = self.at;
        let mut end = self.at;
        while at < self.limit {
            let window = self.view(at, PAGE_BYTES)?;
            if window.is_empty() {
                break;
            }
            for page in window.chunks(PAGE_BYTES) {
                if let Some(last) = last_content(page) {
                    end = at + last as u64 + 1;
                }
                at += page.len() as u64;
            }
        }
        Ok(end)
    }

    /// The fixed part of what may be a frame at or behind `at`, whatever its checksum says, and where it stands.
    pub(crate) fn head_from(&mut self, mut at: u64) -> io::Result<Option<(Head, u64)>> {
        while let Some(candidate) = self.find_sync_word(at)? {
            let window = self.view(candidate, FRAME_HEADER)?;
            if let Some(head) = frame::head(&window) {
                return Ok(Some((head, candidate)));
            }
            at = candidate + 1;
        }
        Ok(None)
    }

    /// The seed that makes a whole frame of what stands here; `None` where the file ends before.
    pub(crate) fn seed_of(&mut self, at: u64, head: Head) -> io::Result<Option<Seed>> {
        let length = FRAME_HEADER + head.length;
        let window = self.view(at, length)?;
        Ok((window.len() >= length).then(|| frame::seed_of(&window[..length])))
    }

    /// Whether a frame may end here: the limit, the next frame or zeros follow.
    pub(crate) fn is_boundary(&mut self, at: u64) -> io::Result<bool> {
        let window = self.view(at, SYNC_WORD.len())?;
        let follows = &window[..window.len().min(SYNC_WORD.len())];
        Ok(follows == SYNC_WORD || follows.iter().all(|byte| *byte == 0))
    }

    /// Reads like the file does. Lenient, it goes on page by page where the disk refuses, and fills in for a page that
    /// is refused again and again: the frames there are damaged then, and are found to be.
    fn fill(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let whole = self.file.read_at(buffer, offset);
        if whole.is_ok() || !self.lenient {
            return whole;
        }
        let length = self.file.length()?;
        let end = length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut filled = 0;
        while filled < end {
            let at = offset + filled as u64;
            let rest = PAGE_BYTES - (at % PAGE_BYTES as u64) as usize;
            let page = &mut buffer[filled..end.min(filled + rest)];
            let mut tries = 1..=PAGE_TRIES;
            if !tries.any(|_| {
                self.file
                    .read_at(page, at)
                    .is_ok_and(|read| read == page.len())
            }) {
                page.fill(UNREADABLE);
            }
            filled += page.len();
        }
        Ok(end)
    }

    /// How long the body at `at` says it is, as far as there is room for it; 0 where there is no head.
    fn claimed_body(&mut self, at: u64) -> io::Result<usize> {
        let window = self.view(at, FRAME_HEADER)?;
        let head = frame::head(&window).filter(|head| {
            let end = at + (FRAME_HEADER + head.length) as u64;
            end <= self.limit
        });
        Ok(head.map_or(0, |head| head.length))
    }

    fn frame_at(&mut self, at: u64) -> io::Result<Option<Frame>> {
        let window = self.view(at, FRAME_HEADER)?;
        let Some(head) = frame::head(&window) else {
            return Ok(None);
        };
        let length = FRAME_HEADER + head.length;
        if at + length as u64 > self.limit {
            return Ok(None);
        }
        let window = self.view(at, length)?;
        if window.len() < length || !frame::is_whole(&window[..length], self.seed) {
            return Ok(None);
        }
        Ok(Some(Frame {
            kind: head.kind,
            number: head.number,
            behind: head.behind,
            body: window.slice(FRAME_HEADER..length),
            at,
        }))
    }

    fn find_sync_word(&mut self, mut at: u64) -> io::Result<Option<u64>> {
        loop {
            let window = self.view(at, FRAME_HEADER)?;
            if window.len() < FRAME_HEADER {
                return Ok(None);
            }
            if let Some(found) = sync_word_in(&window) {
                return Ok(Some(at + found as u64));
            }
            at += (window.len() - (SYNC_WORD.len() - 1)) as u64;
        }
    }

    /// What the window holds from `at` on: at least `want` bytes unless the limit or the file ends before.
    fn view(&mut self, at: u64, want: usize) -> io::Result<Bytes> {
        let left = self.limit.saturating_sub(at);
        let want = want.min(usize::try_from(left).unwrap_or(usize::MAX));
        let held_end = self.window_at + self.window.len() as u64;
        let inside = at >= self.window_at && at <= held_end;
        if inside && at + want as u64 <= held_end {
            return Ok(self.window.slice((at - self.window_at) as usize..));
        }
        let size = want.max(WINDOW_BYTES.min(left as usize));
        let kept = if inside {
            self.window.slice((at - self.window_at) as usize..)
        } else {
            Bytes::new()
        };
        let mut buffer = vec![0; size];
        buffer[..kept.len()].copy_from_slice(&kept);
        let read = self.fill(&mut buffer[kept.len()..], at + kept.len() as u64)?;
        buffer.truncate(kept.len() + read);
        self.window = Bytes::from(buffer);
        self.window_at = at;
        Ok(self.window.clone())
    }
}

fn last_content(page: &[u8]) -> Option<usize> {
    if page == &ZERO_PAGE[..page.len()] {
        return None;
    }
    page.iter().rposition(|byte| *byte != 0)
}

fn sync_word_in(bytes: &[u8]) -> Option<usize> {
    let mut base = 0;
    while base < bytes.len() {
        let end = (base + PAGE_BYTES).min(bytes.len());
        if bytes[base..end] != ZERO_PAGE[..end - base] {
            let reach = (end + SYNC_WORD.len() - 1).min(bytes.len());
            let found = bytes[base..reach]
                .windows(SYNC_WORD.len())
                .position(|word| word == SYNC_WORD);
            if let Some(found) = found {
                return Some(base + found);
            }
        }
        base = end;
    }
    None
}
