//! As much of the protobuf wire format as a payload needs, over plain slices.
//!
//! The generated messages would cost an allocation per level and a copy per value; this reads
//! values where they lie. Tests hold it against the generated code, both ways.

use super::error::DecodeError;

/// A field as it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Field<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32,
    Bytes(&'a [u8]),
}

/// Walks the fields of one message.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Bytes behind the last field that was given.
    pub(crate) fn rest(&self) -> usize {
        self.rest.len()
    }

    /// The next field and its number; `None` at the end of the message.
    // Inlined everywhere, it gives nothing through memory: a decoder spends half its time here otherwise.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = take_varint(&mut self.rest)?;
        let number = (key >> 3) as u32;
        if number == 0 || key >> 3 > MAX_FIELD_NUMBER {
            return Err(DecodeError::Malformed("a field number is out of range"));
        }
        let field = match key & 7 {
            0 => Field::Varint(take_varint(&mut self.rest)?),
            1 => Field::Fixed64(*self.take_array::<8>()?),
            2 => {
                let length = take_varint(&mut self.rest)?;
                Field::Bytes(self.take(length)?)
            }
            5 => {
                self.take_array::<4>()?;
                Field::Fixed32
            }
            _ => return Err(DecodeError::Malformed("a field has an unknown wire type")),
        };
        Ok(Some((number, field)))
    }

    #[inline(always)]
    fn take(&mut self, length: u64) -> Result<&'a [u8], DecodeError> {
        let split = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = split.ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn take_array<const N: usize>(&mut self) -> Result<&'a [u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }
}

const MAX_FIELD_NUMBER: u64 = (1 << 29) - 1;
const TRUNCATED: DecodeError = DecodeError::Malformed("a field ends beyond its message");
const WRONG_TYPE: DecodeError = DecodeError::Malformed("a field has the wrong wire type");

impl<'a> Field<'a> {
    #[inline]
    pub(super) fn varint(self) -> Result<u64, DecodeError> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(WRONG_TYPE),
        }
    }

    #[inline]
    pub(super) fn uint32(self) -> Result<u32, DecodeError> {
        u32::try_from(self.varint()?)
            .map_err(|_| DecodeError::Malformed("a 32-bit field holds more"))
    }

    pub(super) fn fixed64(self) -> Result<[u8; 8], DecodeError> {
        match self {
            Self::Fixed64(bytes) => Ok(bytes),
            _ => Err(WRONG_TYPE),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], DecodeError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(WRONG_TYPE),
        }
    }
}

/// Splits one varint off the front of `rest`.
#[inline(always)]
pub(super) fn take_varint(rest: &mut &[u8]) -> Result<u64, DecodeError> {
    if let Some((&byte, after)) = rest.split_first()
        && byte < 0x80
    {
        *rest = after;
        return Ok(u64::from(byte));
    }
    take_long_varint(rest)
}

#[inline(never)]
fn take_long_varint(rest: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0;
    for (at, &byte) in rest.iter().take(10).enumerate() {
        if at == 9 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            *rest = &rest[at + 1..];
            return Ok(value);
        }
    }
    Err(DecodeError::Malformed("a varint does not end"))
}

/// How many varints end in `packed`; exact when `packed` is well formed.
pub(super) fn count_varints(packed: &[u8]) -> usize {
    packed.iter().filter(|byte| **byte < 0x80).count()
}

/// Protobuf's mapping of signed numbers to small unsigned ones.
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Bytes a varint takes.
pub(super) fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Appends a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes a varint field with a number below 16 takes; nothing for the default value.
pub(super) fn uint_field_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

/// Appends a varint field, unless it has the default value.
pub(super) fn put_uint_field(out: &mut Vec<u8>, number: u8, value: u64) {
    if value != 0 {
        out.push(number << 3);
        put_varint(out, value);
    }
}

/// Bytes a length-delimited field with a number below 16 takes, its content included.
pub(super) fn bytes_field_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

/// Appends the key and length of a length-delimited field; the content follows.
pub(super) fn put_bytes_head(out: &mut Vec<u8>, number: u8, length: usize) {
    out.push((number << 3) | 2);
    put_varint(out, length as u64);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_come_back_at_their_length(value in any::<u64>(), shift in 0..64_u32) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            prop_assert_eq!(bytes.len(), varint_len(value));
            prop_assert_eq!(count_varints(&bytes), 1);
            bytes.push(7);
            let mut rest = &bytes[..];
            prop_assert_eq!(take_varint(&mut rest), Ok(value));
            prop_assert_eq!(rest, [7]);
            prop_assert_eq!(unzigzag(zigzag(value.cast_signed())), value.cast_signed());
        }
    }

    #[test]
    fn varints_that_are_cut_or_exceed_64_bits_are_refused() {
        let most = [0xff; 9];
        assert_eq!(
            take_varint(&mut &[&most[..], &[1]].concat()[..]),
            Ok(u64::MAX)
        );
        for bad in [
            &[][..],
            &[0x80],
            &most,
            &[&most[..], &[2]].concat(),
            &[0x80; 11],
        ] {
            assert!(take_varint(&mut &*bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn fields_that_protobuf_does_not_know_are_refused() {
        // Field 0, field 2^29, a group, wire type 6, a length beyond the message.
        let far = [0x80, 0x80, 0x80, 0x80, 0x10, 0];
        for bad in [
            &[0, 0][..],
            &far,
            &[0x0b, 0x0c],
            &[0x0e, 0],
            &[0x0a, 2, 0],
            &[0x0d, 0],
        ] {
            assert!(Fields::new(bad).next().is_err(), "{bad:?}");
        }
    }
}
