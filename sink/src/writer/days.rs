//! Which day's file a row belongs to.

use std::collections::BTreeMap;

use super::Picked;
use crate::fold::rows::{DAY_NS, Rows};

/// Days since 1970-01-01, UTC, that a reading is filed under.
fn day_of(time: i64, received: i64) -> i64 {
    let early = received.saturating_sub(2 * DAY_NS);
    let late = received.saturating_add(DAY_NS);
    let filed = if (early..=late).contains(&time) {
        time
    } else {
        received
    };
    filed.div_euclid(DAY_NS)
}

/// The rows of each day, in order of time; rows of one moment in order of arrival.
pub(crate) fn split(rows: &Rows) -> BTreeMap<i64, Picked> {
    if rows.is_empty() {
        return BTreeMap::new();
    }
    match whole_day(rows) {
        Some(day) => BTreeMap::from([(day, in_order(rows))]),
        None => by_day(rows),
    }
}

/// All rows, in order of time; rows of one moment in order of arrival.
pub(crate) fn in_order(rows: &Rows) -> Picked {
    if rows.ascending {
        Picked::Range(0..rows.len())
    } else {
        Picked::List(by_time(rows))
    }
}

/// The one day all rows belong to, if there is one.
fn whole_day(rows: &Rows) -> Option<i64> {
    let mut days = rows.stretches().map(|(range, mark)| {
        let times = &rows.times[range];
        let (least, most) = if rows.ascending {
            (times[0], times[times.len() - 1])
        } else {
            times
                .iter()
                .fold((i64::MAX, i64::MIN), |(l, m), t| (l.min(*t), m.max(*t)))
        };
        // Both ends filed under the day they were observed: then so is all between them.
        let day = least.div_euclid(DAY_NS);
        let ends = [least, most];
        ends.iter()
            .all(|end| end.div_euclid(DAY_NS) == day && day_of(*end, mark.received.at_ns) == day)
            .then_some(day)
    });
    let first = days.next()??;
    days.all(|day| day == Some(first)).then_some(first)
}

fn by_time(rows: &Rows) -> Vec<u32> {
    let count = u32::try_from(rows.len()).expect("the buffer's limit in bytes is below 2^32 rows");
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_by_key(|row| rows.times[*row as usize]);
    order
}

fn by_day(rows: &Rows) -> BTreeMap<i64, Picked> {
    let mut days: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for row in by_time(rows) {
        let time = rows.times[row as usize];
        let day = day_of(time, rows.mark_at(row as usize).received.at_ns);
        days.entry(day).or_default().push(row);
    }
    days.into_iter()
        .map(|(day, list)| (day, Picked::List(list)))
        .collect()
}

/// `YYYY-MM-DD` of a day counted from 1970-01-01, in the proleptic Gregorian calendar
/// (the algorithm of H. Hinnant's `civil_from_days`).
pub(crate) fn date_of(day: i64) -> String {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
