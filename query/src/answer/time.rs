//! Moments and days as RFC 3339 text, without a calendar library: UTC only, any year.

use std::io::Write;

const DAY_SECONDS: i64 = 86_400;

/// `seconds` since 1970 and `nanos` within the second, as `2026-01-02T03:04:05.000000006Z`.
pub(super) fn moment(out: &mut Vec<u8>, seconds: i64, nanos: u32) {
    day(out, seconds.div_euclid(DAY_SECONDS));
    let second = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    write!(out, "T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z").expect("a Vec takes all bytes");
}

/// Nanoseconds since 1970 as [`moment`] writes them.
pub(crate) fn text_of_ns(ns: i64) -> String {
    const SECOND: i64 = 1_000_000_000;
    let nanos = u32::try_from(ns.rem_euclid(SECOND)).expect("less than a second");
    let mut text = Vec::new();
    moment(&mut text, ns.div_euclid(SECOND), nanos);
    String::from_utf8_lossy(&text).into_owned()
}

/// `days` since 1970 as `2026-01-02`.
///
/// The Gregorian calendar repeats every 400 years = 146,097 days; years are counted from March, so that the leap day is
/// the last of a year and the months before it have a fixed pattern of lengths (153 days in five).
pub(super) fn day(out: &mut Vec<u8>, days: i64) {
    const ERA_DAYS: i64 = 146_097;
    // Days from 0000-03-01 to 1970-01-01.
    const TO_1970: i64 = 719_468;
    let since = days + TO_1970;
    let era = since.div_euclid(ERA_DAYS);
    let in_era = since.rem_euclid(ERA_DAYS);
    let year_of_era = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    write!(out, "{year:04}-{month:02}-{day:02}").expect("a Vec takes all bytes");
}
