//! The JSON encoding; its shape is in the parent module.

use std::io::Write;

use arrow::array::{Array, AsArray};
use arrow::error::ArrowError;

use super::cell::{Cell, cell, type_name};
use super::{Answer, time};
use crate::error::QueryError;

const TAKES_ALL: &str = "a Vec takes all bytes";

pub(super) fn encode(answer: &Answer) -> Result<Vec<u8>, QueryError> {
    let mut out = Vec::new();
    out.extend_from_slice(b"{\"columns\":[");
    for (at, field) in answer.schema.fields().iter().enumerate() {
        out.extend_from_slice(if at == 0 {
            b"{\"name\":"
        } else {
            b",{\"name\":"
        });
        text(&mut out, field.name());
        let name = type_name(field.data_type());
        write!(out, ",\"type\":\"{name}\"}}").expect(TAKES_ALL);
    }
    out.extend_from_slice(b"],\"rows\":[");
    let mut first = true;
    for batch in &answer.batches {
        for row in 0..batch.num_rows() {
            out.extend_from_slice(if first { b"[" } else { b",[" });
            first = false;
            for (at, column) in batch.columns().iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                value(&mut out, column.as_ref(), row).map_err(|error| {
                    QueryError::internal("the answer could not be encoded", &error)
                })?;
            }
            out.push(b']');
            answer.check_size(&out)?;
        }
    }
    write!(out, "],\"truncated\":{}}}", answer.truncated).expect(TAKES_ALL);
    Ok(out)
}

/// The value of `array` at `row` as JSON.
pub(super) fn value(out: &mut Vec<u8>, array: &dyn Array, row: usize) -> Result<(), ArrowError> {
    match cell(array, row)? {
        Cell::Null => out.extend_from_slice(b"null"),
        Cell::Bool(value) => write!(out, "{value}").expect(TAKES_ALL),
        Cell::Int(value) => write!(out, "{value}").expect(TAKES_ALL),
        Cell::Uint(value) => write!(out, "{value}").expect(TAKES_ALL),
        Cell::Float32(value) if value.is_finite() => {
            serde_json::to_writer(out, &value).expect(TAKES_ALL);
        }
        Cell::Float64(value) if value.is_finite() => {
            serde_json::to_writer(out, &value).expect(TAKES_ALL);
        }
        Cell::Float32(value) => text(out, not_finite(value.into())),
        Cell::Float64(value) => text(out, not_finite(value)),
        Cell::Number(digits) => out.extend_from_slice(digits.as_bytes()),
        Cell::Text(value) => text(out, value),
        Cell::Rendered(value) => text(out, &value),
        Cell::Moment { seconds, nanos } => {
            out.push(b'"');
            time::moment(out, seconds, nanos);
            out.push(b'"');
        }
        Cell::Day(days) => {
            out.push(b'"');
            time::day(out, days);
            out.push(b'"');
        }
        Cell::List(items) => {
            out.push(b'[');
            for at in 0..items.len() {
                if at > 0 {
                    out.push(b',');
                }
                value(out, items.as_ref(), at)?;
            }
            out.push(b']');
        }
        Cell::Struct(array, row) => object(out, array, row)?,
    }
    Ok(())
}

fn object(out: &mut Vec<u8>, array: &dyn Array, row: usize) -> Result<(), ArrowError> {
    let array = array.as_struct();
    out.push(b'{');
    for (at, (field, column)) in array.fields().iter().zip(array.columns()).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        text(out, field.name());
        out.push(b':');
        value(out, column.as_ref(), row)?;
    }
    out.push(b'}');
    Ok(())
}

/// The name of a float that JSON has no number for.
pub(super) fn not_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

fn text(out: &mut Vec<u8>, value: &str) {
    serde_json::to_writer(out, value).expect(TAKES_ALL);
}
