//! What a memory disk consists of: bytes and names as they are, and as they are on the platter.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Faults;

const SECTOR: usize = 512;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) durable_names: BTreeMap<PathBuf, u64>,
    pub(super) locks: BTreeMap<PathBuf, Arc<()>>,
    pub(super) last_inode: u64,
    pub(super) life: u64,
    pub(super) capacity: Option<u64>,
    pub(super) faults: Faults,
    /// A file that cannot be read, and where.
    pub(super) unreadable: Option<(PathBuf, Range<u64>)>,
    pub(super) syncs: u64,
    pub(super) operations: u64,
}

#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) bytes: Vec<u8>,
    pub(super) durable: Vec<u8>,
}

impl State {
    /// Goes back to what is durable; of the other sectors those that survive.
    pub(super) fn lose_power(&mut self, mut survives: impl FnMut() -> bool) {
        self.life += 1;
        self.names = self.durable_names.clone();
        self.locks.clear();
        for inode in self.inodes.values_mut() {
            let mut after = inode.durable.clone();
            for (index, sector) in inode.bytes.chunks(SECTOR).enumerate() {
                let at = index * SECTOR;
                let old = after.get(at..(at + sector.len()).min(after.len()));
                if old != Some(sector) && survives() {
                    let end = at + sector.len();
                    if after.len() < end {
                        after.resize(end, 0);
                    }
                    after[at..end].copy_from_slice(sector);
                }
            }
            inode.bytes.clone_from(&after);
            inode.durable = after;
        }
        let used: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|inode, _| used.contains(inode));
    }

    /// The disk's answer to a read of these bytes.
    pub(super) fn may_read(&self, inode: u64, asked: Range<u64>) -> io::Result<()> {
        match &self.unreadable {
            Some((path, bad)) if self.names.get(path) == Some(&inode) => {
                if asked.start < bad.end && bad.start < asked.end {
                    return Err(io::Error::other("input/output error"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Counts an operation that changes the disk.
    pub(super) fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        count_down(&mut self.faults.operations_left)
    }

    pub(super) fn add_inode(&mut self) -> u64 {
        self.last_inode += 1;
        self.last_inode
    }

    pub(super) fn used(&self) -> u64 {
        let linked: BTreeSet<&u64> = self.names.values().collect();
        let lengths = linked
            .into_iter()
            .map(|inode| self.inodes[inode].bytes.len() as u64);
        lengths.sum()
    }

    pub(super) fn grow(&mut self, inode: u64, length: usize) -> io::Result<()> {
        let now = self.inodes[&inode].bytes.len();
        if length <= now {
            return Ok(());
        }
        let more = (length - now) as u64;
        if self
            .capacity
            .is_some_and(|capacity| self.used() + more > capacity)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = self.inodes.get_mut(&inode).expect("handles keep inodes");
        inode.bytes.resize(length, 0);
        Ok(())
    }

    /// A directory's new name is durable at once: what it holds is what tests lose.
    pub(super) fn rename_dir(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let moved = |path: &Path| path.strip_prefix(from).ok().map(|rest| to.join(rest));
        if !self.names.keys().any(|path| moved(path).is_some()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        for names in [&mut self.names, &mut self.durable_names] {
            *names = std::mem::take(names)
                .into_iter()
                .map(|(path, inode)| (moved(&path).unwrap_or(path), inode))
                .collect();
        }
        Ok(())
    }
}

pub(super) fn count_down(left: &mut Option<u64>) -> io::Result<()> {
    match left {
        None => Ok(()),
        Some(0) => Err(io::Error::other("the disk failed")),
        Some(count) => {
            *count -= 1;
            Ok(())
        }
    }
}
