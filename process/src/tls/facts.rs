//! What a certificate says of itself, for people: names, issuer, times.
//!
//! In: DER, which may be anybody's. Out: [`Facts`], or nothing where it is not a certificate. Whether it can be trusted
//! is not decided here; rustls does that. A reader of its own, as a full one costs the agent a tenth of its size.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// In the names of a certificate (RFC 5280, 4.2.1.6).
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;
const IP_ADDRESS: u8 = 0x87;

const OID_ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
const OID_COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The common name of whom it is for; empty where there is none.
    pub subject: String,
    /// The common name of who signed it, or what else its name is made of.
    pub issuer: String,
    /// Its number at its issuer, big endian.
    pub serial: Vec<u8>,
    /// Not good before.
    pub not_before: SystemTime,
    /// Not good after.
    pub not_after: SystemTime,
    /// Host names and addresses it is for.
    pub names: Vec<String>,
    /// URIs it is for.
    pub uris: Vec<String>,
}

impl Facts {
    /// Those of a certificate in DER.
    pub fn of(der: &[u8]) -> Option<Self> {
        let mut certificate = Der(der).expect(SEQUENCE)?;
        let mut body = certificate.expect(SEQUENCE)?;
        if body.0.first() == Some(&VERSION) {
            body.next()?;
        }
        let serial = body.expect(INTEGER)?.0.to_vec();
        body.expect(SEQUENCE)?;
        let issuer = name(body.expect(SEQUENCE)?)?;
        let mut validity = body.expect(SEQUENCE)?;
        let not_before = time(validity.next()?)?;
        let not_after = time(validity.next()?)?;
        let subject = name(body.expect(SEQUENCE)?)?;
        body.expect(SEQUENCE)?;
        let (mut names, mut uris) = (Vec::new(), Vec::new());
        while let Some((tag, content)) = body.next() {
            if tag == EXTENSIONS {
                alternative_names(content, &mut names, &mut uris)?;
            }
        }
        Some(Self {
            subject,
            issuer,
            serial,
            not_before,
            not_after,
            names,
            uris,
        })
    }

    /// Seconds until it ends; negative when it has.
    pub fn seconds_left(&self, now: SystemTime) -> i64 {
        match self.not_after.duration_since(now) {
            Ok(left) => seconds(left),
            Err(over) => -seconds(over.duration()),
        }
    }

    /// Its end, in seconds since 1970.
    pub fn not_after_seconds(&self) -> i64 {
        match self.not_after.duration_since(UNIX_EPOCH) {
            Ok(since) => seconds(since),
            Err(before) => -seconds(before.duration()),
        }
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Bytes that are a row of tagged values.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value with its tag.
    fn next(&mut self) -> Option<(u8, Der<'a>)> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first & 0x80 != 0 {
            let digits = usize::from(first & 0x7f);
            // A certificate is far smaller than three of them can say.
            if !(1..=3).contains(&digits) || rest.len() < digits {
                return None;
            }
            length = rest[..digits]
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = &rest[digits..];
        }
        let content = rest.get(..length)?;
        self.0 = &rest[length..];
        Some((tag, Der(content)))
    }

    /// The next value, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<Der<'a>> {
        let (found, content) = self.next()?;
        (found == tag).then_some(content)
    }
}

/// The common name where there is one, else all parts.
fn name(mut parts: Der<'_>) -> Option<String> {
    let mut all = Vec::new();
    while !parts.0.is_empty() {
        let mut set = parts.expect(SET)?;
        let mut pair = set.expect(SEQUENCE)?;
        let kind = pair.expect(OID)?;
        let (_, text) = pair.next()?;
        let text = String::from_utf8_lossy(text.0).into_owned();
        if kind.0 == OID_COMMON_NAME {
            return Some(text);
        }
        all.push(text);
    }
    Some(all.join(", "))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time((tag, text): (u8, Der<'_>)) -> Option<SystemTime> {
    let text = std::str::from_utf8(text.0).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, text.len()) {
        (UTC_TIME, 12) => {
            let century = if text < "50" { "20" } else { "19" };
            (format!("{century}{}", &text[..2]), &text[2..])
        }
        (GENERALIZED_TIME, 14) => (text[..4].to_owned(), &text[4..]),
        _ => return None,
    };
    let (month, day) = (&rest[..2], &rest[2..4]);
    let (hour, minute, second) = (&rest[4..6], &rest[6..8], &rest[8..10]);
    let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    // Certificates without an end are given the year 9999 (RFC 5280, 4.1.2.5), which is the last one that parses.
    humantime::parse_rfc3339(&text).ok()
}

fn alternative_names(
    mut wrapped: Der<'_>,
    names: &mut Vec<String>,
    uris: &mut Vec<String>,
) -> Option<()> {
    let mut extensions = wrapped.expect(SEQUENCE)?;
    while !extensions.0.is_empty() {
        let mut extension = extensions.expect(SEQUENCE)?;
        if extension.expect(OID)?.0 != OID_ALTERNATIVE_NAMES {
            continue;
        }
        // A flag may stand between.
        let mut value = extension.next()?;
        if value.0 != OCTETS {
            value = extension.next()?;
        }
        let mut found = value.1.expect(SEQUENCE)?;
        while let Some((tag, content)) = found.next() {
            match tag {
                DNS_NAME => names.push(String::from_utf8_lossy(content.0).into_owned()),
                URI => uris.push(String::from_utf8_lossy(content.0).into_owned()),
                IP_ADDRESS => names.extend(address(content.0)),
                _ => {}
            }
        }
    }
    Some(())
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(sixteen).to_string())
}
