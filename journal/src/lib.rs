//! Weir's journal: numbered records, appended, committed in groups, read back and released.
//!
//! It is the agent's spool and the sink's write-ahead log. Records go in through [`Journal::try_append`], come out
//! through a [`Reader`] once an `fdatasync` covers them, and leave with [`Journal::release`]. It promises:
//!
//! * a number is *durable* only after the sync that covers it has returned; readers see durable records only;
//! * opening never fails for content: a torn tail is cut and kept aside, damage is reported as exact ranges of numbers;
//! * a recovered tail is copied and synced before any of it counts as durable;
//! * after a failed write or sync nothing more is accepted: the journal is poisoned and says why;
//! * a full disk loses nothing: what waits stays queued and is written when there is room.
//!
//! # Format, version 2
//!
//! One directory is one journal. All integers are little-endian; checksums are CRC-32C.
//!
//! | file | content |
//! |---|---|
//! | `identity` | the journal's id, see below |
//! | `lock` | empty, locked by the process that has the journal open |
//! | `<first>.seg` | a segment; `first` is the number of its first record, 20 decimal digits |
//! | `<first>.new` | a segment being prepared; removed at open, becomes `.seg` by rename once its content is synced |
//! | `cut-<first>-<segment id>` | unreadable bytes found at open in the last segment, for a person to look at |
//!
//! `identity`, 32 bytes:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | `WEIRJID` and a zero byte |
//! | 8 | 4 | format version, 1 or 2 |
//! | 12 | 16 | journal id, random |
//! | 28 | 4 | checksum of bytes 0 to 28 |
//!
//! A segment is a header, then frames without gaps, then zeros as far as it was allocated. Segment header, 64 bytes:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | `WEIRSEG` and a zero byte |
//! | 8 | 4 | format version, 2; a reader refuses a newer one by name, so later versions keep bytes 0 to 12 and 60 to 64 |
//! | 12 | 16 | journal id |
//! | 28 | 8 | segment id, random |
//! | 36 | 8 | number of the first record |
//! | 44 | 16 | zero |
//! | 60 | 4 | checksum of bytes 0 to 60 |
//!
//! Frame, 24 bytes and the body:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 4 | sync word, `F7 57 45 52` |
//! | 4 | 1 | kind: 0 preamble, 1 to 15 the caller's, others reserved |
//! | 5 | 3 | records before this one in its group; in version 1 zero |
//! | 8 | 8 | record number, from 1 to 2^62; in a preamble the number of the record that follows it |
//! | 16 | 4 | length of the body, at most 16 MiB |
//! | 20 | 4 | checksum of the segment id, bytes 0 to 20 and the body |
//! | 24 | length | body |
//!
//! A preamble has no number of its own; it stands at the head of a segment and says what readers of that segment need.
//! A group is written in one go after the sync of the one before it, so a frame proves that what stands before its group was
//! durable, whether or not its own group ever was. Version 1 is read like a journal of groups of one.
//!
//! Numbers rise by one from frame to frame; where they jump, the records between are a hole. The segment id under the
//! checksum keeps bytes of another file, or a frame inside a body, from being taken for a frame.

mod committer;
mod error;
mod frame;
mod frames;
mod handover;
mod identity;
mod inspect;
mod journal;
mod live;
mod options;
mod reader;
mod recovery;
mod salvage;
mod scanner;
mod seed;
mod segment;
mod shared;
pub mod storage;
mod sync;
pub mod watch;

pub use committer::Committer;
pub use error::{AppendError, OpenError, ReadError};
pub use frame::MAX_BODY_BYTES;
pub use frames::{Frames, Sealed};
pub use inspect::{Finding, Inspector};
pub use journal::Journal;
pub use options::{Hole, Options, Progress, READ_TRIES, RESERVE_BYTES, Recovery, Stats};
pub use reader::{Item, Reader};
pub use storage::{Disk, File, Memory, Metered, Storage};
