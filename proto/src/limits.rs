//! The limits of `weir.v1`: constants that every sink accepts, so that an agent can stay under
//! them without asking, and that every sink enforces, so that no peer can make it grow.
//! `docs/protocol.md` has the same table.

/// The one version of the protocol this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// One gRPC message of an agent: a batch of the largest size with its definitions fits.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// One gRPC message of a sink: answers are short, and an agent may be a small machine.
pub const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Records of one request: a record that holds next to nothing costs memory all the same.
pub const MAX_REQUEST_RECORDS: usize = 65_536;

/// The payload of one batch as it travels, compressed or not.
pub const MAX_BATCH_BYTES: usize = 4 << 20;

/// The payload of one batch once decompressed.
pub const MAX_DECODED_BYTES: usize = 16 << 20;

/// Readings of one batch. Also bounds the moments of all its blocks together.
pub const MAX_BATCH_READINGS: usize = 1_000_000;

/// Columns of all blocks of one batch together: a column costs memory beyond its readings.
pub const MAX_BATCH_COLUMNS: usize = 262_144;

/// Places in the columns of one batch, absent ones included: columns times moments over all
/// blocks. An absent value costs one bit on the wire and a byte in memory.
pub const MAX_BATCH_CELLS: usize = 4 * MAX_BATCH_READINGS;

/// Series that one batch may define.
pub const MAX_NEW_SERIES: usize = 65_536;

/// Bytes of one name: device, metric, unit, source, the key or the value of an attribute.
pub const MAX_NAME_BYTES: usize = 256;

/// Attributes of one series.
pub const MAX_ATTRIBUTES: usize = 32;

/// Bytes of one text value.
pub const MAX_TEXT_BYTES: usize = 64 << 10;

/// Powers of ten a decimal column may be scaled by, up or down: beyond 22 a power of ten is no
/// longer an exact double, and the value would not be the nearest one.
pub const MAX_DECIMAL_EXPONENT: i32 = 22;

/// Bytes of a stream id and of a boot id.
pub const ID_BYTES: usize = 16;
