//! Doubles that are decimals, as small integers.
//!
//! Sensors and people write numbers with few digits, so most columns are integers over one
//! power of ten, and the differences of neighbours are small. A column is taken this way only
//! if every value comes back bit by bit; NaN, infinities and -0 therefore never are.
//!
//! Why the decoder's single division is enough: a mantissa of at most 2^53 and a power of ten
//! of at most 10^22 are both exact doubles, and dividing two doubles gives the double nearest
//! to the quotient, which is the one that reading the decimal would have given.

use super::decode::too_many;
use super::error::DecodeError;
use super::wire::{Field, Fields, put_varint, take_varint, unzigzag, zigzag};
use crate::limits::MAX_DECIMAL_EXPONENT;

/// Powers of ten that are exact doubles.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Digits after the point that are tried. A column of more is cheaper as doubles.
const MAX_DIGITS: usize = 9;

/// Mantissas of fractions stay below: rounding by [`ROUND`] is exact up to here.
const MAX_MANTISSA: i64 = 1 << 51;

/// Integers stay below, so that the difference of two of them is an `i64`.
const MAX_INTEGER: f64 = (1_i64 << 62) as f64;

/// Adding and subtracting 1.5 * 2^52 rounds a smaller double to an integer.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// Doubles with integers up to here are all exact.
const MAX_EXACT: i64 = 1 << 53;

/// Finds the exponent for `values`, and replaces `mantissas` by what they are at it. `None`
/// when there is no exponent in reach that brings every value back bit by bit.
pub(super) fn find(values: &[f64], mantissas: &mut Vec<i64>) -> Option<i32> {
    mantissas.clear();
    mantissas.reserve(values.len());
    let mut digits = 0;
    for &value in values {
        let mantissa = match mantissa(value, digits) {
            Some(mantissa) => mantissa,
            None => {
                let (more, mantissa) = (digits + 1..=MAX_DIGITS)
                    .find_map(|more| Some((more, mantissa(value, more)?)))?;
                rescale(mantissas, more - digits)?;
                digits = more;
                mantissa
            }
        };
        mantissas.push(mantissa);
    }
    if digits == 0 {
        return Some(strip_zeros(mantissas));
    }
    Some(-(digits as i32))
}

/// The integer that `value` is 10^-digits times of, if it is so bit by bit.
fn mantissa(value: f64, digits: usize) -> Option<i64> {
    if digits == 0 {
        // The comparison of bits comes last: the cast takes anything.
        let mantissa = value as i64;
        let exact = value.abs() < MAX_INTEGER && (mantissa as f64).to_bits() == value.to_bits();
        return exact.then_some(mantissa);
    }
    let scaled = value * POWERS[digits];
    let rounded = (scaled + ROUND) - ROUND;
    let exact = scaled.abs() < MAX_MANTISSA as f64
        && (rounded / POWERS[digits]).to_bits() == value.to_bits();
    exact.then_some(rounded as i64)
}

/// Brings mantissas found so far to `more` digits.
fn rescale(mantissas: &mut [i64], more: usize) -> Option<()> {
    let factor = POWERS[more] as i64;
    for mantissa in mantissas {
        *mantissa = mantissa
            .checked_mul(factor)
            .filter(|scaled| scaled.abs() < MAX_MANTISSA)?;
    }
    Some(())
}

/// Divides integers by the largest power of ten that divides all of them; says which.
fn strip_zeros(mantissas: &mut [i64]) -> i32 {
    let Some(first) = mantissas.iter().find(|mantissa| **mantissa != 0) else {
        return 0;
    };
    let (mut zeros, mut power) = (0, 1_i64);
    while first % (power * 10) == 0 && zeros < MAX_DIGITS {
        (zeros, power) = (zeros + 1, power * 10);
    }
    let mut largest = 0;
    for mantissa in &*mantissas {
        while mantissa % power != 0 {
            (zeros, power) = (zeros - 1, power / 10);
        }
        if zeros == 0 {
            return 0;
        }
        largest = largest.max(mantissa.abs());
    }
    if largest / power > MAX_EXACT {
        return 0;
    }
    for mantissa in mantissas {
        *mantissa /= power;
    }
    zeros as i32
}

/// Appends the deltas of `mantissas` as a packed field's content.
pub(super) fn put_deltas(out: &mut Vec<u8>, mantissas: &[i64]) {
    let mut former = 0;
    for &mantissa in mantissas {
        put_varint(out, zigzag(mantissa - former));
        former = mantissa;
    }
}

/// Appends the values of a `Decimal` message, at most `expected`.
pub(super) fn read(
    message: &[u8],
    expected: usize,
    values: &mut Vec<f64>,
) -> Result<(), DecodeError> {
    let from = values.len();
    let mut deltas = Deltas {
        mantissa: 0,
        overflow: false,
        from,
        end: from + expected,
        values,
    };
    let mut exponent = 0;
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, field) => exponent = unzigzag(field.varint()?),
            (2, Field::Varint(raw)) => deltas.push(raw)?,
            (2, field) => deltas.packed(field.bytes()?)?,
            _ => {}
        }
    }
    if deltas.overflow {
        return Err(DecodeError::Malformed("a decimal is out of range"));
    }
    let power = usize::try_from(exponent.unsigned_abs())
        .ok()
        .and_then(|digits| POWERS.get(digits))
        .ok_or(BAD_EXPONENT)?;
    let values = &mut values[from..];
    if exponent < 0 {
        values.iter_mut().for_each(|value| *value /= power);
    } else if exponent > 0 {
        values.iter_mut().for_each(|value| *value *= power);
    }
    Ok(())
}

const BAD_EXPONENT: DecodeError = DecodeError::Malformed("a decimal's exponent is out of range");
const _: () = assert!(POWERS.len() == MAX_DECIMAL_EXPONENT as usize + 1);

struct Deltas<'a> {
    mantissa: i64,
    overflow: bool,
    values: &'a mut Vec<f64>,
    /// Where this column's begin, and where they end at most.
    from: usize,
    end: usize,
}

impl Deltas<'_> {
    fn packed(&mut self, mut packed: &[u8]) -> Result<(), DecodeError> {
        while !packed.is_empty() {
            let raw = take_varint(&mut packed)?;
            self.push(raw)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn push(&mut self, raw: u64) -> Result<(), DecodeError> {
        if self.values.len() == self.end {
            return too_many(self.end - self.from);
        }
        let (mantissa, overflow) = self.mantissa.overflowing_add(unzigzag(raw));
        self.mantissa = mantissa;
        self.overflow |= overflow;
        self.values.push(mantissa as f64);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
