//! The stream that a copy was made from: it counts until the copy is whole, and never from then on.

use std::collections::BTreeSet;
use std::path::Path;

use weir_journal::Storage;

use super::SpoolError;
use super::directory::{STATE, directory_name, fault, parse_name, retire_directory};
use super::state::StateFile;

/// A copy that is whole stands for the stream it was made from, which the agent did not come to remove.
/// One that cannot be removed now is left out all the same: it must not go out again.
pub(super) fn leave_out_origins(
    storage: &dyn Storage,
    spool: &Path,
    found: &mut Vec<(u64, [u8; 16])>,
) {
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
