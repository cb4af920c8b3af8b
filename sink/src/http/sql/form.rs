//! In which form an answer is wanted.
//!
//! In: the header `Accept` (RFC 9110, 12.5.1). Out: of the forms that there are the one of the greatest weight, among equals
//! the one that the client wrote first; none of weight 0. A form weighs what the narrowest range says that it is in.

use std::cmp::Reverse;

use http::{HeaderMap, StatusCode, header};

use crate::http::{JSON, Refusal};

/// Forms of an answer, the one for who does not mind first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Csv,
    Arrow,
}

/// One range of media types, as in `text/*;q=0.5`.
struct Range<'a> {
    media: &'a str,
    /// From 0, not wanted, to 1000.
    weight: u16,
}

impl Form {
    const ALL: [Self; 3] = [Self::Json, Self::Csv, Self::Arrow];

    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// What the client would rather have.
    pub(super) fn wanted(headers: &HeaderMap) -> Result<Self, Refusal> {
        let accept = headers.get_all(header::ACCEPT).iter();
        let accept = accept.filter_map(|value| value.to_str().ok());
        let ranges: Vec<Range> = accept.flat_map(ranges).collect();
        if ranges.is_empty() {
            return Ok(Self::Json);
        }
        let wanted = Self::ALL.into_iter().filter_map(|form| {
            let (place, weight) = form.weighed(&ranges)?;
            (weight > 0).then_some((Reverse(weight), place, form))
        });
        let best = wanted.min_by_key(|(weight, place, _)| (*weight, *place));
        best.map(|(.., form)| form).ok_or_else(|| Refusal {
            status: StatusCode::NOT_ACCEPTABLE,
            kind: "not_acceptable",
            message: "what the header accept asks for is none of what there is: application/json, text/csv and application/vnd.apache.arrow.stream"
                .into(),
            header: None,
        })
    }

    /// Where the narrowest range stands that it is in, and what that says.
    fn weighed(self, ranges: &[Range]) -> Option<(usize, u16)> {
        let within = ranges.iter().enumerate().filter_map(|(place, range)| {
            let width = self.width(range.media)?;
            Some((width, place, range.weight))
        });
        let narrowest = within.min_by_key(|(width, place, _)| (*width, *place));
        narrowest.map(|(_, place, weight)| (place, weight))
    }

    /// How much else is in a range that it is in.
    fn width(self, media: &str) -> Option<u8> {
        let own = self.media_type().split(';').next().unwrap_or_default();
        let group = own.split('/').next().unwrap_or_default();
        if media.eq_ignore_ascii_case(own) {
            return Some(0);
        }
        match media.split_once('/') {
            Some(("*", "*")) => Some(2),
            Some((named, "*")) if named.eq_ignore_ascii_case(group) => Some(1),
            _ => None,
        }
    }
}

fn ranges(accept: &str) -> impl Iterator<Item = Range<'_>> {
    let parts = accept.split(',').map(|part| {
        let mut parts = part.split(';').map(str::trim);
        Range {
            media: parts.next().unwrap_or_default(),
            weight: parts.find_map(weight).unwrap_or(1000),
        }
    });
    parts.filter(|range| !range.media.is_empty())
}

/// Of a parameter that is one, as in `q=0.5`.
fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    let share: f32 = value.trim().parse().ok()?;
    let known = name.trim().eq_ignore_ascii_case("q") && (0.0..=1.0).contains(&share);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 0 and 1000"
    )]
    known.then_some((share * 1000.0) as u16)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn wanted(accept: &[&'static str]) -> Option<Form> {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        match Form::wanted(&headers) {
            Ok(form) => Some(form),
            Err(refusal) => {
                assert_eq!(refusal.status, StatusCode::NOT_ACCEPTABLE);
                None
            }
        }
    }

    /// Mutations: weights that are not looked at; a wide range that counts more than a narrow one; one header alone.
    #[test]
    fn the_form_of_the_greatest_weight_is_taken_and_none_of_weight_0() {
        let (json, csv, arrow) = (Some(Form::Json), Some(Form::Csv), Some(Form::Arrow));
        for (accept, expected) in [
            (&[][..], json),
            (&[""], json),
            (&["*/*"], json),
            (&["application/*"], json),
            (&["text/*"], csv),
            (&["Text/CSV"], csv),
            (&["text/html, text/csv"], csv),
            (&["text/csv, application/json"], csv),
            (&["text/csv;q=0.5, application/json"], json),
            (&["application/json; q=0.001, text/csv ; Q=0.002"], csv),
            (&["text/csv;q=0"], None),
            (&["text/csv;q=0.0, */*"], json),
            (&["*/*, application/json;q=0"], csv),
            (&["application/*, application/json;q=0"], arrow),
            (&["*/*;q=0"], None),
            (&["image/png"], None),
            (
                &["text/csv;header=present;q=0", "application/json;q=0.1"],
                json,
            ),
            (&["text/csv;q=many"], csv),
            (&["application/vnd.apache.arrow.stream"], arrow),
        ] {
            assert_eq!(wanted(accept), expected, "{accept:?}");
        }
    }
}
