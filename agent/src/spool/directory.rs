//! Names and directories of streams: how they are spelled, how one comes out of the spool.

use std::io;
use std::path::{Path, PathBuf};

use weir_fault::{Point, point};
use weir_journal::Storage;
use weir_process::random;

use super::SpoolError;

/// Begins the name of a directory that is on its way out.
pub(super) const GONE: &str = "gone-";
/// Leaves room for the next one.
const MAX_ORDER: u64 = 1 << 48;
/// The state of a stream, in its directory.
pub(super) const STATE: &str = "state";

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

pub(super) fn remove_tree(storage: &dyn Storage, dir: &Path) -> Result<(), SpoolError> {
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
pub(super) fn draw_id() -> Result<[u8; 16], SpoolError> {
    random::id().map_err(fault("draw a stream id from", Path::new(random::SYSTEM)))
}

pub(super) fn directory_name(order: u64, id: &[u8; 16]) -> String {
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
