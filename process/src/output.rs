//! What a person or a script reads from a command: lines, tables, JSON. The only place that prints.
//!
//! Standard output carries answers, standard error everything else. A reader that has gone away (`| head`) is not an
//! error: output ends quietly. Text that came from devices is shown with its control characters escaped, so that a
//! name cannot steer the terminal; machine-readable output is not touched.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

/// Writes text to standard output as it is, and flushes it.
///
/// # Errors
/// When standard output cannot be written, unless its reader has gone.
pub fn text(text: &str) -> io::Result<()> {
    bytes(text.as_bytes())
}

/// Writes bytes to standard output as they are, and flushes them.
///
/// # Errors
/// When standard output cannot be written, unless its reader has gone.
pub fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    quiet(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Writes one line to standard output.
///
/// # Errors
/// When standard output cannot be written, unless its reader has gone.
pub fn line(line: &str) -> io::Result<()> {
    text(&format!("{line}\n"))
}

/// Writes a value to standard output as indented JSON.
///
/// # Errors
/// When the value cannot be shown as JSON, or standard output cannot be written.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    let shown = serde_json::to_string_pretty(value)?;
    line(&shown)
}

/// Writes one line to standard error: what went wrong, or what goes on. Nothing can be done when that fails.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Takes "the reader has gone" for a good end.
fn quiet(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under headings, in columns as wide as their widest cell.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings and no rows.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Align)>) -> Self {
        let columns = columns
            .into_iter()
            .map(|(name, align)| (printable(name), align))
            .collect();
        let rows = Vec::new();
        Self { columns, rows }
    }

    /// Adds a row; missing cells are empty, surplus ones are left out.
    pub fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let mut row: Vec<String> = cells
            .into_iter()
            .map(|cell| printable(cell.as_ref()))
            .collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text: headings, a rule, the rows; each line ends in a newline and has no blanks at its end.
    pub fn render(&self) -> String {
        let mut widths: Vec<usize> = self.columns.iter().map(|(name, _)| width(name)).collect();
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(width(cell));
            }
        }
        let names: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        let mut out = String::new();
        for row in [&names, &rules].into_iter().chain(&self.rows) {
            self.render_row(&mut out, row, &widths);
        }
        out
    }

    fn render_row(&self, out: &mut String, row: &[String], widths: &[usize]) {
        let mut shown = String::new();
        for (index, (cell, (_, align))) in row.iter().zip(&self.columns).enumerate() {
            let blanks = " ".repeat(widths[index] - width(cell));
            let gap = if index == 0 { "" } else { "  " };
            let _ = match align {
                Align::Left => write!(shown, "{gap}{cell}{blanks}"),
                Align::Right => write!(shown, "{gap}{blanks}{cell}"),
            };
        }
        out.push_str(shown.trim_end());
        out.push('\n');
    }

    /// Writes the table to standard output.
    ///
    /// # Errors
    /// When standard output cannot be written, unless its reader has gone.
    pub fn print(&self) -> io::Result<()> {
        text(&self.render())
    }
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

/// Text on one line, without anything that steers a terminal.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// What went wrong and why, each thing once: many errors quote their cause already.
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_numbers_stand_right() {
        let mut table = Table::new([("metric", Align::Left), ("value", Align::Right)]);
        table.row(["temp", "21.5"]);
        table.row(["système", "1000.25"]);
        let expected = "\
metric     value
-------  -------
temp        21.5
système  1000.25
";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn short_rows_are_filled_and_lines_have_no_blanks_at_the_end() {
        let mut table = Table::new([("a", Align::Left), ("b", Align::Left)]);
        table.row(["x"]);
        table.row(["y", "long cell", "surplus"]);
        assert!(table.render().lines().all(|line| line.trim_end() == line));
        assert_eq!(table.len(), 2);
        assert!(!table.render().contains("surplus"));
    }

    #[test]
    fn a_device_name_cannot_steer_the_terminal() {
        let mut table = Table::new([("device", Align::Left)]);
        table.row(["\u{1b}[31mred\nnext"]);
        let text = table.render();
        assert!(!text.contains('\u{1b}'));
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is() {
        assert!(quiet(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(quiet(Err(io::ErrorKind::StorageFull.into())).is_err());
    }
}
