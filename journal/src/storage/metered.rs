//! Counts what is written to a storage, as flash memory sees it.
//!
//! In: another storage. Out: the same, and how many bytes its device has to take at least. Counted are whole blocks of 4096
//! bytes: those that a write touches, and one for each sync, of a file or a directory, for what the file system notes down
//! of its own. A record of 100 bytes with a sync of its own thus counts 8192. Not counted: what the device moves about
//! inside, and zeros written where a file system cannot reserve room.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{File, Lock, Storage};

/// The grain in which is counted: a page of the usual file systems.
pub const BLOCK_BYTES: u64 = 4096;

/// A storage whose writes are counted.
#[derive(Debug)]
pub struct Metered {
    storage: Arc<dyn Storage>,
    written: Arc<AtomicU64>,
}

impl Metered {
    /// Counts what goes to `storage` from now on.
    pub fn new(storage: Arc<dyn Storage>) -> Metered {
        Metered {
            storage,
            written: Arc::default(),
        }
    }

    /// The count, in bytes; it rises with every write.
    pub fn written(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.written)
    }

    fn file(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(MeteredFile {
            file,
            written: self.written(),
        })
    }
}

impl Storage for Metered {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.storage.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.storage.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.storage.create(path).map(|file| self.file(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.storage.open(path).map(|file| self.file(file))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.storage.open_to_read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.storage.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.storage.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.storage.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.written.fetch_add(BLOCK_BYTES, Ordering::Relaxed);
        self.storage.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.storage.lock(path)
    }
}

#[derive(Debug)]
struct MeteredFile {
    file: Arc<dyn File>,
    written: Arc<AtomicU64>,
}

impl MeteredFile {
    fn sync(&self) {
        self.written.fetch_add(BLOCK_BYTES, Ordering::Relaxed);
    }
}

impl File for MeteredFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let touched = touched(bytes.len() as u64, offset);
        self.written.fetch_add(touched, Ordering::Relaxed);
        self.file.write_at(bytes, offset)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.file.allocate(length)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync();
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync();
        self.file.sync_all()
    }
}

/// Bytes of the blocks that a write of so many bytes touches.
fn touched(bytes: u64, offset: u64) -> u64 {
    if bytes == 0 {
        return 0;
    }
    let end = offset.saturating_add(bytes);
    (end.div_ceil(BLOCK_BYTES) - offset / BLOCK_BYTES) * BLOCK_BYTES
}

#[cfg(test)]
mod tests {
    use super::super::Memory;
    use super::*;

    /// Red when a write counts its bytes instead of its blocks, or a sync counts nothing.
    #[test]
    fn counts_touched_blocks_and_one_per_sync() {
        let storage = Metered::new(Arc::new(Memory::new()));
        let written = storage.written();
        storage.create_dir(Path::new("/d")).unwrap();
        let file = storage.create(Path::new("/d/f")).unwrap();
        let mut seen = 0;
        let mut more = |blocks: u64, what: &str| {
            let now = written.load(Ordering::Relaxed);
            assert_eq!(now - seen, blocks * BLOCK_BYTES, "{what}");
            seen = now;
        };
        file.write_at(&[1; 100], 0).unwrap();
        more(1, "a little");
        file.write_at(&[1; 100], 4050).unwrap();
        more(2, "across a border");
        file.write_at(&[1; 4096], 4096).unwrap();
        more(1, "a whole block");
        file.write_at(&[], 4096).unwrap();
        more(0, "nothing");
        file.sync_data().unwrap();
        file.sync_all().unwrap();
        storage.sync_dir(Path::new("/d")).unwrap();
        more(3, "syncs");
        storage
            .open(Path::new("/d/f"))
            .unwrap()
            .write_at(&[1], 0)
            .unwrap();
        more(1, "a file opened again");
    }
}
