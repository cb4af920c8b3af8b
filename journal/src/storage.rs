//! What the journal needs of a file system, small enough for a simulated one to stand under it.
//!
//! [`Disk`] is the real one; [`Memory`] keeps files in memory, tells synced bytes and names from others, and can crash,
//! fill up and fail on demand.

mod disk;
mod memory;
mod metered;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use disk::Disk;
pub use memory::{Faults, Memory};
pub use metered::{BLOCK_BYTES, Metered};

/// A directory tree. Names made, renamed or removed survive a crash only after [`Storage::sync_dir`].
pub trait Storage: Send + Sync + fmt::Debug {
    /// Creates a directory and its parents, durably; an existing one is fine.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names in a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates an empty file for reading and writing, or empties the one of that name.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file for reading only, where the storage can tell the difference.
    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path)
    }
    /// Gives a file, or a directory with all it holds, another name in one step; a file replaces what had the name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name. Open files stay readable.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names of a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes a lock that ends with the returned value or the process; `WouldBlock` when someone else has it.
    fn lock(&self, path: &Path) -> io::Result<Lock>;
}

/// A held lock; dropping it lets go.
pub type Lock = Box<dyn Send + Sync>;

/// An open file. Bytes written survive a crash only after a sync.
pub trait File: Send + Sync + fmt::Debug {
    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reserves room so that writes below `length` need no more of it, and makes the file that long with zeros.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Its length.
    fn length(&self) -> io::Result<u64>;
    /// Makes its bytes durable, and of its metadata what reading them needs.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes its bytes and metadata durable.
    fn sync_all(&self) -> io::Result<()>;
}

/// Whether an error says that there is no room, which passes, as opposed to one that does not.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
