//! How each kind of value is read, and what is said when it cannot be.
//!
//! Every function takes the text and answers the value or the rest of the sentence that begins with the variable's
//! name: what could not be read, and what to write in its place.

use std::net::SocketAddr;
use std::time::Duration;

use url::Url;

use super::table::Kind;

/// Whether `text` can be read as `kind`.
pub(super) fn check(kind: Kind, text: &str) -> Result<(), String> {
    match kind {
        Kind::Duration => duration(text).map(drop),
        Kind::Bytes => bytes(text).map(drop),
        Kind::Count => count(text).map(drop),
        Kind::Rate => rate(text).map(drop),
        Kind::Bool => boolean(text).map(drop),
        Kind::Url => url(text).map(drop),
        Kind::Address => address(text).map(drop),
        Kind::Choice(words) => choice(text, words).map(drop),
        Kind::Path | Kind::Text => Ok(()),
    }
}

/// No setting waits longer: sums of a few such times and clocks still fit everywhere.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    // Months and years have no fixed length, and `1M` is more often a slip of the shift key than a month.
    let calendar = text
        .split(|c: char| !c.is_alphabetic())
        .any(|unit| unit == "M" || unit.starts_with("mo") || unit.starts_with('y'));
    match humantime::parse_duration(text) {
        Ok(value) if value > LONGEST => Err(format!(
            "{text} is too long: write at most {}d",
            LONGEST.as_secs() / 86_400
        )),
        Ok(value) if !calendar => Ok(value),
        _ => Err(format!(
            "cannot read {text:?} as a duration: write a number and a unit, as in 250ms, 5s or 1m"
        )),
    }
}

/// A size in bytes, such as `64KiB`, `4MiB` or plain bytes.
///
/// # Errors
/// What cannot be read, and what to write in its place.
pub fn bytes(text: &str) -> Result<u64, String> {
    let fault = || {
        format!(
            "cannot read {text:?} as a size: write bytes or a number and a unit, as in 65536, 64KiB or 4MiB"
        )
    };
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(fault()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(fault);
    }
    let fraction: f64 = number.parse().map_err(|_| fault())?;
    let value = fraction * factor as f64;
    // Above 2^53 a double no longer holds every whole number.
    if factor == 1 || !value.is_finite() || value > 9e15 {
        return Err(fault());
    }
    Ok(value.round() as u64)
}

/// A whole number from 0.
///
/// # Errors
/// What cannot be read, and what to write in its place.
pub fn count(text: &str) -> Result<u64, String> {
    text.replace('_', "")
        .parse()
        .map_err(|_| format!("cannot read {text:?} as a count: write a whole number, as in 1000"))
}

/// A finite number from 0 that may have a fraction.
///
/// # Errors
/// What cannot be read, and what to write in its place.
pub fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err(format!(
            "cannot read {text:?} as a number: write a number that is not negative, as in 0.5 or 20"
        )),
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!(
            "cannot read {text:?} as yes or no: write true or false"
        )),
    }
}

pub(super) fn url(text: &str) -> Result<Url, String> {
    // `localhost:4317` parses as the scheme `localhost`: that is never what was meant.
    let url = text.contains("://").then(|| Url::parse(text));
    match url {
        Some(Ok(url)) => Ok(url),
        Some(Err(error)) => Err(format!(
            "cannot read {:?} as a URL ({}): write it as in http://127.0.0.1:4317",
            hide_userinfo(text),
            error
        )),
        None => Err(format!(
            "cannot read {:?} as a URL: write it with its scheme, as in http://127.0.0.1:4317",
            hide_userinfo(text)
        )),
    }
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("cannot read {text:?} as an address: write an IP address and a port, as in 127.0.0.1:4317, 0.0.0.0:4317 or [::]:4317")
    })
}

pub(super) fn choice<'a>(text: &str, words: &[&'a str]) -> Result<&'a str, String> {
    let word = words.iter().find(|word| word.eq_ignore_ascii_case(text));
    word.copied()
        .ok_or_else(|| format!("{text:?} is not a choice: write {}", list(words)))
}

/// `a`, `a or b`, `a, b or c`.
fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// A URL without what may be a password in it.
pub(super) fn hide_userinfo(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        Some(at) => format!("{scheme}://***{}", &rest[at..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_units_and_fractions_and_no_calendar() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2days"), Ok(Duration::from_secs(172_800)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for text in ["5", "5 parsecs", "1M", "2 months", "1y", "-1s", "s", "1e3s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_take_binary_and_decimal_units_and_never_overflow() {
        assert_eq!(bytes("65536"), Ok(65_536));
        assert_eq!(bytes("64KiB"), Ok(65_536));
        assert_eq!(bytes("64 kib"), Ok(65_536));
        assert_eq!(bytes("4MB"), Ok(4_000_000));
        assert_eq!(bytes("1.5GiB"), Ok(3 << 29));
        assert_eq!(bytes("18446744073709551615"), Ok(u64::MAX));
        for text in [
            "",
            "4M",
            "KiB",
            "1.5",
            "1..5MiB",
            "99999999TiB",
            "-1",
            "1 2",
        ] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_and_rates_refuse_what_they_cannot_hold() {
        assert_eq!(count("1_000"), Ok(1000));
        assert_eq!(rate("0.5"), Ok(0.5));
        for text in ["1.5", "-1", "1e3", "_"] {
            assert!(count(text).is_err(), "{text}");
        }
        for text in ["inf", "NaN", "-0.1", "fast"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_need_a_scheme_and_faults_hide_passwords() {
        assert!(url("http://sink:4317").is_ok());
        assert!(url("localhost:4317").is_err());
        let message = url("http://user:hunter2@:bad/").unwrap_err();
        assert!(!message.contains("hunter2"), "{message}");
        assert_eq!(hide_userinfo("http://a/@b"), "http://a/@b");
    }

    #[test]
    fn choices_are_listed_in_words() {
        assert_eq!(choice("Block", &["block", "drop"]), Ok("block"));
        let message = choice("x", &["a", "b", "c"]).unwrap_err();
        assert_eq!(message, "\"x\" is not a choice: write a, b or c");
    }
}
