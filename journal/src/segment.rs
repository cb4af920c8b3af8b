//! Segment files: their names, and how one comes into being so that a crash leaves either all of it or nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::frame::MAX_NUMBER;
use crate::seed::Seed;
use crate::storage::{self, File, Storage};

/// Room asked for when the disk has none for a whole segment.
const SMALL_BYTES: u64 = 256 << 10;

/// What the journal knows of a segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Number of its first record, and its name.
    pub(crate) first: u64,
    /// Number behind its last one; records that are missing up to the next segment belong to it.
    pub(crate) next: u64,
    /// What its frames are checked with; `None` when neither its header nor its frames tell.
    pub(crate) seed: Option<Seed>,
    /// Durable bytes: readers look no further.
    pub(crate) bytes: u64,
}

/// A segment being prepared under a name that open ignores.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) file: Arc<dyn File>,
    pub(crate) allocated: u64,
    draft_path: PathBuf,
    path: PathBuf,
}

/// Path of a segment.
pub(crate) fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.seg"))
}

/// The first number in a segment's name.
pub(crate) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let first = digits.parse().ok()?;
    (1..=MAX_NUMBER).contains(&first).then_some(first)
}

/// Whether a name is that of a segment nobody finished preparing.
pub(crate) fn is_draft(name: &str) -> bool {
    name.strip_suffix(".new")
        .is_some_and(|digits| digits.len() == 20)
}

impl Draft {
    /// Creates and allocates the file and writes how it begins. Asks for `wanted` bytes, and when the disk has no room
    /// for that, for little more than `needed`.
    pub(crate) fn create(
        storage: &dyn Storage,
        dir: &Path,
        first: u64,
        head: &[u8],
        wanted: u64,
        needed: u64,
    ) -> io::Result<Draft> {
        let path = path(dir, first);
        let draft_path = path.with_extension("new");
        let file = storage.create(&draft_path)?;
        let mut draft = Draft {
            file,
            allocated: wanted.max(needed),
            draft_path,
            path,
        };
        match draft.fill(head, needed) {
            Ok(()) => Ok(draft),
            Err(error) => {
                draft.discard(storage);
                Err(error)
            }
        }
    }

    fn fill(&mut self, head: &[u8], needed: u64) -> io::Result<()> {
        let small = needed.max(SMALL_BYTES);
        match self.file.allocate(self.allocated) {
            Err(error) if storage::is_full(&error) && small < self.allocated => {
                self.file.set_len(0)?;
                self.file.allocate(small)?;
                self.allocated = small;
            }
            other => other?,
        }
        self.file.write_at(head, 0)
    }

    /// Makes the content durable, then the name; from here on the segment counts.
    pub(crate) fn publish(self, storage: &dyn Storage, dir: &Path) -> io::Result<Arc<dyn File>> {
        let published = self
            .file
            .sync_all()
            .and_then(|()| storage.rename(&self.draft_path, &self.path))
            .and_then(|()| storage.sync_dir(dir));
        match published {
            Ok(()) => Ok(self.file),
            Err(error) => {
                self.discard(storage);
                Err(error)
            }
        }
    }

    /// Gives the room back; a draft that stays behind is removed at open.
    pub(crate) fn discard(&self, storage: &dyn Storage) {
        if let Err(error) = storage.remove(&self.draft_path) {
            tracing::debug!(path = %self.draft_path.display(), %error, "draft of a segment stays until the next start");
        }
    }
}
