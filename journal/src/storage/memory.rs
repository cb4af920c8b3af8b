//! Files in memory that behave as a disk does when the power goes: only what was synced is there afterwards.
//!
//! Bytes and names are kept twice, as they are and as they are on the platter. [`Memory::crash`] goes back to the
//! platter; [`Memory::crash_torn`] lets a part of the unsynced bytes survive, in 512-byte sectors chosen by a seed. It can
//! be bounded in size, and told to fail a sync or a write. Open files of before a crash answer with an error.

mod state;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{File, Lock, Storage};
use crate::shared::hold;
use state::{Inode, State, count_down};

/// See the module. Clones share the files.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    disk: Arc<Mutex<State>>,
}

/// What is to go wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Syncs of files fail after this many more have succeeded.
    pub syncs_left: Option<u64>,
    /// Everything that changes the disk fails after this many more operations have succeeded: the power went in between.
    pub operations_left: Option<u64>,
    /// Syncs of files and directories say yes and do nothing.
    pub lying_syncs: bool,
}

#[derive(Debug)]
struct Handle {
    disk: Arc<Mutex<State>>,
    inode: u64,
    life: u64,
}

impl Memory {
    /// An empty one without bounds.
    pub fn new() -> Memory {
        Memory::default()
    }

    /// Power loss: everything unsynced is gone, locks are free.
    pub fn crash(&self) {
        hold(&self.disk).lose_power(|| false);
    }

    /// Power loss in the middle of writing back: each unsynced sector survives or not, as the seed says.
    pub fn crash_torn(&self, seed: u64) {
        let mut state = seed | 1;
        hold(&self.disk).lose_power(move || {
            // Marsaglia's xorshift64.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state & 1 == 1
        });
    }

    /// Bounds the bytes of all files together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        hold(&self.disk).capacity = bytes;
    }

    /// From now on a file cannot be read where these bytes are asked for; an empty range makes it whole again.
    pub fn set_unreadable(&self, path: &Path, bytes: std::ops::Range<u64>) {
        hold(&self.disk).unreadable = Some((path.to_owned(), bytes));
    }

    /// What is to go wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        hold(&self.disk).faults = faults;
    }

    /// Paths of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        hold(&self.disk).names.keys().cloned().collect()
    }

    /// Content of a file as it is.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let state = hold(&self.disk);
        let inode = state.names.get(path)?;
        Some(state.inodes[inode].bytes.clone())
    }

    /// Puts a file there, durably.
    pub fn write(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = hold(&self.disk);
        let inode = state.add_inode();
        let durable = bytes.clone();
        state.inodes.insert(inode, Inode { bytes, durable });
        state.names.insert(path.to_owned(), inode);
        state.durable_names.insert(path.to_owned(), inode);
    }

    /// A copy that shares nothing, as it is now.
    pub fn duplicate(&self) -> Memory {
        let copy = Memory::new();
        for path in self.paths() {
            if let Some(bytes) = self.read(&path) {
                copy.write(&path, bytes);
            }
        }
        copy
    }

    /// Syncs of files so far.
    pub fn syncs(&self) -> u64 {
        hold(&self.disk).syncs
    }

    /// Operations so far that change the disk.
    pub fn operations(&self) -> u64 {
        hold(&self.disk).operations
    }

    fn handle(&self, inode: u64, life: u64) -> Arc<dyn File> {
        Arc::new(Handle {
            disk: Arc::clone(&self.disk),
            inode,
            life,
        })
    }
}

impl Storage for Memory {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inside = |path: &PathBuf| {
            let name = path.strip_prefix(dir).ok()?.iter().next()?.to_str()?;
            Some(name.to_owned())
        };
        // Paths are sorted, so what one directory holds stands together.
        let mut names: Vec<String> = self.paths().iter().filter_map(inside).collect();
        names.dedup();
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = hold(&self.disk);
        state.operate()?;
        let inode = state.add_inode();
        state.inodes.insert(inode, Inode::default());
        state.names.insert(path.to_owned(), inode);
        Ok(self.handle(inode, state.life))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let state = hold(&self.disk);
        let inode = state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(*inode, state.life))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = hold(&self.disk);
        state.operate()?;
        let Some(inode) = state.names.remove(from) else {
            return state.rename_dir(from, to);
        };
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = hold(&self.disk);
        state.operate()?;
        state.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn remove_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = hold(&self.disk);
        state.operate()?;
        if state.faults.lying_syncs {
            return Ok(());
        }
        state
            .durable_names
            .retain(|path, _| path.parent() != Some(dir));
        let names: Vec<(PathBuf, u64)> = state
            .names
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir))
            .map(|(path, inode)| (path.clone(), *inode))
            .collect();
        state.durable_names.extend(names);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let mut state = hold(&self.disk);
        if let Some(held) = state.locks.get(path)
            && Arc::strong_count(held) > 1
        {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let lock = Arc::new(());
        state.locks.insert(path.to_owned(), Arc::clone(&lock));
        Ok(Box::new(lock))
    }
}

impl Handle {
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = hold(&self.disk);
        if state.life != self.life {
            return Err(io::Error::other("the power was lost"));
        }
        Ok(state)
    }
}

impl File for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.alive()?;
        let bytes = &state.inodes[&self.inode].bytes;
        let start = (offset as usize).min(bytes.len());
        state.may_read(self.inode, offset..offset + buffer.len() as u64)?;
        let count = buffer.len().min(bytes.len() - start);
        buffer[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.alive()?;
        state.operate()?;
        let start = offset as usize;
        state.grow(self.inode, start + bytes.len())?;
        let inode = state
            .inodes
            .get_mut(&self.inode)
            .expect("handles keep inodes");
        inode.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut state = self.alive()?;
        state.operate()?;
        state.grow(self.inode, length as usize)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.alive()?;
        state.operate()?;
        state.grow(self.inode, length as usize)?;
        let inode = state
            .inodes
            .get_mut(&self.inode)
            .expect("handles keep inodes");
        inode.bytes.truncate(length as usize);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.alive()?.inodes[&self.inode].bytes.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.alive()?;
        state.operate()?;
        count_down(&mut state.faults.syncs_left)?;
        state.syncs += 1;
        if !state.faults.lying_syncs {
            let inode = state
                .inodes
                .get_mut(&self.inode)
                .expect("handles keep inodes");
            inode.durable.clone_from(&inode.bytes);
        }
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}
