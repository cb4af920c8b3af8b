//! What a definition of a series must look like before anything refers to it.

use std::collections::HashSet;

use super::error::{DecodeError, within};
use crate::limits::{MAX_ATTRIBUTES, MAX_NAME_BYTES, MAX_NEW_SERIES};
use crate::v1;

/// Checks one definition: a ref, a device, a metric, a known kind, names under their limits.
/// Unit and source may be empty, an attribute's value too; no name holds a control character.
pub fn check_series(series: &v1::Series) -> Result<(), DecodeError> {
    if series.r#ref == 0 {
        return Err(invalid("series ref", "is 0"));
    }
    required("device", &series.device)?;
    required("metric", &series.metric)?;
    name("unit", &series.unit)?;
    name("source", &series.source)?;
    match v1::Kind::try_from(series.kind) {
        Ok(v1::Kind::Unspecified) => return Err(invalid("kind", "is not specified")),
        Err(_) => return Err(invalid("kind", "is not known to this version")),
        Ok(_) => {}
    }
    let attributes = series.attributes.len() as u64;
    within("number of attributes", attributes, MAX_ATTRIBUTES)?;
    for (key, value) in &series.attributes {
        required("attribute key", key)?;
        name("attribute value", value)?;
    }
    Ok(())
}

/// Checks the definitions of one record: how many, each by itself, and no ref twice.
pub fn check_definitions(definitions: &[v1::Series]) -> Result<(), DecodeError> {
    let count = definitions.len() as u64;
    within("number of new series", count, MAX_NEW_SERIES)?;
    let mut refs = HashSet::with_capacity(definitions.len());
    for series in definitions {
        check_series(series)?;
        if !refs.insert(series.r#ref) {
            return Err(invalid("series ref", "is defined twice in one record"));
        }
    }
    Ok(())
}

fn required(what: &'static str, text: &str) -> Result<(), DecodeError> {
    if text.is_empty() {
        return Err(invalid(what, "is empty"));
    }
    name(what, text)
}

fn name(what: &'static str, text: &str) -> Result<(), DecodeError> {
    within(what, text.len() as u64, MAX_NAME_BYTES)?;
    if text.chars().any(char::is_control) {
        return Err(invalid(what, "holds a control character"));
    }
    Ok(())
}

fn invalid(what: &'static str, fault: &'static str) -> DecodeError {
    DecodeError::Invalid { what, fault }
}

#[cfg(test)]
mod tests;
