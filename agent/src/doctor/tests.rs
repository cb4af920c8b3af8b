//! What a clock is worth, and what makes a report unwell.

use super::*;

const NOW_NS: i64 = 1_800_000_000_000_000_000;

/// Red when a clock that nobody set is taken for right, or when the side on which it is wrong is mixed up.
#[test]
fn a_clock_is_judged_by_itself_and_by_the_sinks() {
    let line = clocks(5_000_000_000, None);
    assert_eq!(line.verdict, Verdict::Warn);
    assert!(
        line.found
            .contains("1970-01-01T00:00:05Z: it was never set"),
        "{line:?}"
    );
    let line = clocks(NOW_NS, Some(95));
    assert!(line.found.contains("95 s ahead of the sink's"), "{line:?}");
    let line = clocks(NOW_NS, Some(-95));
    assert!(line.found.contains("95 s behind the sink's"), "{line:?}");
    for known in [Some(3), Some(-10), None] {
        let line = clocks(NOW_NS, known);
        assert_eq!(line.verdict, Verdict::Ok, "{line:?}");
        assert!(line.found.starts_with("2027-01-15T08:00:00Z"), "{line:?}");
    }
}

/// Red when a failed check leaves a report well, or one that only warns does not.
#[test]
fn only_a_failure_makes_a_report_unwell() {
    let warned = Line::warn("space", "little is free", "make room");
    let mut report = Report {
        lines: vec![Line::ok("config", "valid"), warned],
    };
    assert!(report.is_well());
    assert!(
        report.to_text().contains("-> make room"),
        "{}",
        report.to_text()
    );
    report
        .lines
        .push(Line::fail("name", "sink.invalid: not known", "check DNS"));
    assert!(!report.is_well());
    assert!(
        report.to_text().ends_with("1 failed, 1 to look at\n"),
        "{}",
        report.to_text()
    );
}
