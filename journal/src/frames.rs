//! Records that are appended together: built one behind the other in one buffer, shared from there on.

use bytes::Bytes;

use crate::frame::FRAME_HEADER;

/// Records on their way to [`crate::Journal::try_append_all`].
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Where each frame ends.
    ends: Vec<usize>,
}

/// The same, ready to be appended. Clones share the bytes.
#[derive(Debug, Clone)]
pub struct Sealed {
    bytes: Bytes,
    ends: Vec<usize>,
}

impl Frames {
    /// With room for so many records of so many bytes together.
    pub fn with_room(records: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes + records * FRAME_HEADER),
            ends: Vec::with_capacity(records),
        }
    }

    /// Adds a record: `write` appends its body to what is given, and changes nothing before it.
    pub fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let begin = self.bytes.len() + FRAME_HEADER;
        self.bytes.resize(begin, 0);
        write(&mut self.bytes);
        debug_assert!(self.bytes.len() >= begin, "what stood there was changed");
        self.ends.push(self.bytes.len());
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Nothing more is added.
    pub fn seal(self) -> Sealed {
        Sealed {
            bytes: self.bytes.into(),
            ends: self.ends,
        }
    }
}

impl Sealed {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bodies in order; they share the bytes.
    pub fn bodies(&self) -> impl Iterator<Item = Bytes> + '_ {
        self.frames().map(|frame| frame.slice(FRAME_HEADER..))
    }

    /// Room for the header, then the body.
    pub(crate) fn frames(&self) -> impl ExactSizeIterator<Item = Bytes> + '_ {
        self.ends.iter().enumerate().map(|(index, end)| {
            let begin = index.checked_sub(1).map_or(0, |former| self.ends[former]);
            self.bytes.slice(begin..*end)
        })
    }
}
