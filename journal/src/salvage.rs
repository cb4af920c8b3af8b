//! Finds the records of a segment whose header is damaged: by what their checksums say of the segment's id.

use std::io;
use std::sync::Arc;

use crate::frame::{self, FRAME_HEADER, SEGMENT_HEADER};
use crate::scanner::{Purse, Scanner};
use crate::seed::Seed;
use crate::storage::File;

/// Candidates looked at: enough for the largest hole of zeros or noise a damaged sector leaves, and a bound on the work
/// that bytes made to look like frames can cause. Their bytes are bounded too, as those behind any damage.
const MOST_CANDIDATES: usize = 4096;

/// The seed two frames agree on, or one frame and the bytes of the header where the id stands. `None` where there are no
/// such two: a single record behind a damaged id cannot be told from noise.
pub(crate) fn find_seed(
    file: &Arc<dyn File>,
    header: &[u8],
    length: u64,
    lenient: bool,
) -> io::Result<Option<Seed>> {
    let start = (SEGMENT_HEADER as u64).min(length);
    let mut scanner = Scanner::new(Arc::clone(file), Seed::of(0), start, length);
    scanner.set_lenient(lenient);
    let mut seen: Vec<Seed> = frame::segment_id_at(header)
        .map(Seed::of)
        .into_iter()
        .collect();
    let mut at = start;
    let mut purse = Purse::new(length - start);
    while seen.len() < MOST_CANDIDATES
        && let Some((head, found)) = scanner.head_from(at)?
    {
        let end = found + (FRAME_HEADER + head.length) as u64;
        at = found + 1;
        if end > length || !purse.affords(head.length) {
            continue;
        }
        let Some(seed) = scanner.seed_of(found, head)? else {
            continue;
        };
        if seen.contains(&seed) {
            return Ok(Some(seed));
        }
        seen.push(seed);
        // A whole frame is followed by the next one, by nothing, or by what was allocated and not written.
        if scanner.is_boundary(end)? {
            at = end;
        }
    }
    Ok(None)
}
