//! The CSV encoding; its rules are in the parent module.

use std::io::Write;

use arrow::array::Array;
use arrow::error::ArrowError;

use super::cell::{Cell, cell};
use super::{Answer, json, time};
use crate::error::QueryError;

const TAKES_ALL: &str = "a Vec takes all bytes";

pub(super) fn encode(answer: &Answer) -> Result<Vec<u8>, QueryError> {
    let mut out = Vec::new();
    for (at, field) in answer.schema.fields().iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        text(&mut out, field.name());
    }
    out.extend_from_slice(b"\r\n");
    for batch in &answer.batches {
        for row in 0..batch.num_rows() {
            for (at, column) in batch.columns().iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                value(&mut out, column.as_ref(), row).map_err(|error| {
                    QueryError::internal("the answer could not be encoded", &error)
                })?;
            }
            out.extend_from_slice(b"\r\n");
            answer.check_size(&out)?;
        }
    }
    Ok(out)
}

fn value(out: &mut Vec<u8>, array: &dyn Array, row: usize) -> Result<(), ArrowError> {
    match cell(array, row)? {
        Cell::Null => {}
        Cell::Bool(value) => write!(out, "{value}").expect(TAKES_ALL),
        Cell::Int(value) => write!(out, "{value}").expect(TAKES_ALL),
        Cell::Uint(value) => write!(out, "{value}").expect(TAKES_ALL),
        Cell::Float32(value) if value.is_finite() => {
            serde_json::to_writer(out, &value).expect(TAKES_ALL);
        }
        Cell::Float64(value) if value.is_finite() => {
            serde_json::to_writer(out, &value).expect(TAKES_ALL);
        }
        Cell::Float32(value) => text(out, json::not_finite(value.into())),
        Cell::Float64(value) => text(out, json::not_finite(value)),
        Cell::Number(digits) => out.extend_from_slice(digits.as_bytes()),
        Cell::Text(value) => text(out, value),
        Cell::Rendered(value) => text(out, &value),
        Cell::Moment { seconds, nanos } => time::moment(out, seconds, nanos),
        Cell::Day(days) => time::day(out, days),
        Cell::List(_) | Cell::Struct(..) => {
            let mut nested = Vec::new();
            json::value(&mut nested, array, row)?;
            text(out, &String::from_utf8_lossy(&nested));
        }
    }
    Ok(())
}

/// Quoted where the text would be read as something else; the empty text too, as absent is written without quotes.
fn text(out: &mut Vec<u8>, value: &str) {
    if !value.is_empty() && !value.contains(['"', ',', '\r', '\n']) {
        out.extend_from_slice(value.as_bytes());
        return;
    }
    out.push(b'"');
    out.extend_from_slice(value.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}
