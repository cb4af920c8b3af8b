//! A bar per work: points per CPU-second, as an SVG that needs nothing else.

use crate::work::Measured;

const WIDTH: f64 = 760.0;
const LABEL: f64 = 420.0;
const ROW: f64 = 26.0;

/// The chart.
pub(super) fn of(works: &[(Measured, bool)]) -> String {
    let most = works
        .iter()
        .map(|(one, _)| one.points_per_cpu_second())
        .fold(1.0, f64::max);
    let height = ROW * (works.len() as f64 + 1.5);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"18\" font-weight=\"bold\">Million points per CPU-second, durable and in Parquet</text>\n",
    );
    for (row, (one, merging)) in works.iter().enumerate() {
        let value = one.points_per_cpu_second();
        let y = ROW * (row as f64 + 1.2);
        let length = (WIDTH - LABEL - 60.0) * value / most;
        let name = format!(
            "{}{}",
            one.work,
            if *merging { ", with compaction" } else { "" }
        );
        svg += &format!(
            "<text x=\"10\" y=\"{:.0}\">{name}</text>\n\
             <rect x=\"{LABEL}\" y=\"{y:.0}\" width=\"{length:.0}\" height=\"16\" fill=\"#2a6f97\"/>\n\
             <text x=\"{:.0}\" y=\"{:.0}\">{:.2}</text>\n",
            y + 12.0,
            LABEL + length + 6.0,
            y + 12.0,
            value / 1e6,
        );
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails when a bar is measured by something else than the largest.
    #[test]
    fn the_largest_bar_is_the_longest() {
        let work = |name, cpu_ns_per_point| Measured {
            work: name,
            points: 1,
            cpu_ns_per_point,
            wire_bytes_per_point: 1.0,
            disk_bytes_per_point: 1.0,
            ack_p50_ms: 1.0,
            ack_p99_ms: 1.0,
            closed: true,
        };
        let svg = of(&[(work("fast", 100.0), false), (work("slow", 400.0), true)]);
        assert!(
            svg.contains("width=\"280\"") && svg.contains("width=\"70\""),
            "{svg}"
        );
        assert!(svg.contains("slow, with compaction") && svg.contains(">2.50<"));
    }
}
