//! Every rule of a definition, broken once.

use super::*;
use crate::v1::RefusedCode;

fn good() -> v1::Series {
    v1::Series {
        r#ref: 1,
        device: "boiler 4 / Küche".into(),
        metric: "system.memory.usage".into(),
        unit: String::new(),
        kind: v1::Kind::Gauge.into(),
        source: String::new(),
        attributes: [
            ("state".into(), "used".into()),
            ("note".into(), String::new()),
        ]
        .into(),
    }
}

type Break = fn(&mut v1::Series);

fn assert_refused(cases: &[(Break, &str)], code: RefusedCode) {
    assert_eq!(check_series(&good()), Ok(()));
    for (break_it, text) in cases {
        let mut series = good();
        break_it(&mut series);
        let error = check_series(&series).unwrap_err();
        assert!(error.to_string().starts_with(text), "{error} is not {text}");
        assert_eq!(error.code(), code, "{error}");
    }
}

#[test]
fn names_and_kinds_that_say_nothing_are_refused() {
    let cases: [(Break, &str); 10] = [
        (|s| s.r#ref = 0, "series ref is 0"),
        (|s| s.device.clear(), "device is empty"),
        (|s| s.metric.clear(), "metric is empty"),
        (|s| s.metric.push('\n'), "metric holds"),
        (|s| s.unit.push('\u{85}'), "unit holds"),
        (|s| s.source.push('\0'), "source holds"),
        (|s| s.kind = 0, "kind is not specified"),
        (|s| s.kind = 99, "kind is not known"),
        (|s| set(s, "", "v"), "attribute key is empty"),
        (|s| set(s, "k", "\x1b[0m"), "attribute value holds"),
    ];
    assert_refused(&cases, RefusedCode::Invalid);
}

#[test]
fn names_beyond_their_limits_are_refused() {
    let cases: [(Break, &str); 5] = [
        (|s| s.device = "d".repeat(257), "device is 257"),
        (|s| s.unit = "é".repeat(129), "unit is 258"),
        (|s| set(s, &"k".repeat(257), "v"), "attribute key is 257"),
        (|s| set(s, "k", &"v".repeat(257)), "attribute value is 257"),
        (
            |s| (0..31).for_each(|n| set(s, &n.to_string(), "v")),
            "number of attributes is 33",
        ),
    ];
    assert_refused(&cases, RefusedCode::TooLarge);
}

fn set(series: &mut v1::Series, key: &str, value: &str) {
    series.attributes.insert(key.into(), value.into());
}

#[test]
fn names_and_attributes_at_their_limits_are_fine() {
    let mut series = good();
    series.device = "d".repeat(256);
    (0..30).for_each(|n| set(&mut series, &n.to_string(), &"v".repeat(256)));
    assert_eq!(series.attributes.len(), MAX_ATTRIBUTES);
    assert_eq!(check_series(&series), Ok(()));
}

#[test]
fn definitions_of_one_record_are_few_and_distinct() {
    let with_ref = |r#ref| v1::Series { r#ref, ..good() };
    assert_eq!(check_definitions(&[with_ref(1), with_ref(2)]), Ok(()));
    let twice = check_definitions(&[with_ref(2), with_ref(1), with_ref(2)]);
    assert_eq!(twice.unwrap_err().code(), RefusedCode::Invalid);
    let bad = check_definitions(&[with_ref(1), with_ref(0)]);
    assert_eq!(bad.unwrap_err().code(), RefusedCode::Invalid);
    let many = vec![v1::Series::default(); MAX_NEW_SERIES + 1];
    assert_eq!(
        check_definitions(&many).unwrap_err().code(),
        RefusedCode::TooLarge
    );
}
