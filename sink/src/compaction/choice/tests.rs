//! What is merged when, by lists of files alone.

use super::*;
use crate::catalog::Extent;

fn file(name: u32, date: &str, rows: u64) -> DataFile {
    DataFile {
        path: format!("{date}/{name:03}"),
        tenant: "default".into(),
        date: date.into(),
        bytes: rows,
        rows,
        min_ns: 0,
        max_ns: 0,
        max_received_ns: 0,
        from: 0,
        through: 0,
        crc: None,
        extent: None,
    }
}

const RULES: Rules = Rules {
    min_files: 8,
    max_rows: 2 << 20,
    full_rows: 1 << 20,
};

#[test]
fn files_of_one_size_are_merged_before_a_large_one_is_rewritten() {
    let mut live: Vec<DataFile> = (0..7).map(|i| file(i, "2026-03-01", 10_000)).collect();
    live.push(file(7, "2026-03-01", 100_000));
    live.push(file(8, "2026-03-01", 2 << 20));
    let chosen = RULES.choose(&live, "2026-03-01");
    assert_eq!(chosen.map(|f| f.len()), Some(8), "in the end all small");
    live.push(file(9, "2026-03-01", 10_000));
    let chosen = RULES.choose(&live, "2026-03-01").expect("eight small ones");
    assert!(chosen.iter().all(|file| file.rows == 10_000));
    let tight = Rules {
        max_rows: 75_000,
        ..RULES
    };
    let none = tight.choose(&live, "2026-03-01");
    assert_eq!(none, None, "not beyond the limit of rows");
    let past = [
        file(0, "2026-02-01", 5),
        file(1, "2026-02-01", 5),
        file(0, "2026-03-01", 5),
    ];
    let chosen = RULES.choose(&past, "2026-03-01");
    assert_eq!(chosen.expect("a day that is over"), past[..2]);
}

fn placed(name: u32, rows: u64, first: &str, last: &str) -> DataFile {
    let place = |text: &str| {
        let (metric, device) = text.split_at(1);
        Place {
            metric: metric.into(),
            device: device.into(),
        }
    };
    let extent = Extent {
        first: place(first),
        last: place(last),
        devices: ("".into(), "".into()),
    };
    DataFile {
        extent: Some(extent),
        ..file(name, "2026-03-01", rows)
    }
}

/// Red when files are chosen though they follow each other, or are left though any may hold a place; and when a file
/// of one place, which nothing makes narrower, is merged for ever.
#[test]
fn large_files_are_merged_where_most_of_them_may_hold_the_same_place() {
    let full = RULES.full_rows;
    let mut live: Vec<DataFile> = (0..20)
        .map(|i| {
            let first = format!("{}1", char::from(b'a' + i));
            let last = format!("{}0", char::from(b'b' + i));
            placed(u32::from(i), full, &first, &last)
        })
        .collect();
    assert_eq!(RULES.choose(&live, "2026-03-01"), None, "in order");
    assert_eq!(RULES.choose(&live, "2026-03-02"), None, "and for good");
    live.extend((20..26).map(|i| placed(i, full, "c5", "e5")));
    let six = RULES.choose(&live, "2026-03-02").expect("the day is over");
    assert_eq!(six.len(), 7, "and the one beside them");
    assert_eq!(RULES.choose(&live, "2026-03-01").map(|f| f.len()), None);
    live.extend((26..40).map(|i| placed(i, full, "d5", "d5")));
    assert_eq!(RULES.choose(&live, "2026-03-01"), None, "one place each");
    live.push(file(40, "2026-03-01", full / 8));
    let chosen = RULES.choose(&live, "2026-03-01").expect("any may be in it");
    assert!(chosen.len() == 8 && chosen[0] == live[live.len() - 1]);

    let two = [placed(0, full / 2, "a", "c"), placed(1, full / 2, "b", "d")];
    assert_eq!(RULES.choose(&two, "2026-03-01"), None);
    assert_eq!(
        RULES.choose(&two, "2026-03-02").expect("they fit into one"),
        two
    );
}
