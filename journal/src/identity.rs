//! The file that holds the journal's id; the layout is in the crate's documentation.
//!
//! Every segment carries the id too: whichever of the two is damaged is restored from the other.

use std::io;
use std::path::Path;

use crate::frame::{HeaderFault, VERSION};
use crate::storage::Storage;

/// Name of the file.
pub(crate) const NAME: &str = "identity";

const MAGIC: [u8; 8] = *b"WEIRJID\0";
const LENGTH: usize = 32;

/// The id on file; `None` when there is no such file.
pub(crate) fn read(
    storage: &dyn Storage,
    dir: &Path,
) -> io::Result<Option<Result<[u8; 16], HeaderFault>>> {
    let file = match storage.open_to_read(&dir.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = [0; LENGTH];
    if file.read_at(&mut bytes, 0)? < LENGTH {
        return Ok(Some(Err(HeaderFault::Damaged)));
    }
    Ok(Some(decode(&bytes)))
}

/// Puts the id on file, durably, in one step.
pub(crate) fn write(storage: &dyn Storage, dir: &Path, id: [u8; 16]) -> io::Result<()> {
    let draft = dir.join("identity.new");
    let file = storage.create(&draft)?;
    file.write_at(&encode(id), 0)?;
    file.sync_all()?;
    storage.rename(&draft, &dir.join(NAME))?;
    storage.sync_dir(dir)
}

fn encode(id: [u8; 16]) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..28].copy_from_slice(&id);
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; LENGTH]) -> Result<[u8; 16], HeaderFault> {
    let crc = u32::from_le_bytes(bytes[28..].try_into().expect("four bytes"));
    if bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..28]) != crc {
        return Err(HeaderFault::Damaged);
    }
    let version = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
    if version > VERSION {
        return Err(HeaderFault::Newer(version));
    }
    Ok(bytes[12..28].try_into().expect("sixteen bytes"))
}
