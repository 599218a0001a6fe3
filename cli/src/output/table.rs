//! Plain tables: a header, columns set apart by spaces, no borders, so that grep and awk can use them.

use super::{or_dash, printable};
use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table as Grid, Width};
use std::fmt;

/// The space between columns.
const GAP: u16 = 2;

/// A table that is being filled.
#[derive(Debug)]
pub(crate) struct Table {
    grid: Grid,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new<const N: usize>(header: [&'static str; N]) -> Self {
        Self::with_header(header)
    }

    /// A table with columns whose number is known late.
    pub(crate) fn with_header(header: impl IntoIterator<Item = &'static str>) -> Self {
        let mut table = Self::headless();
        table.grid.set_header(header);
        table
    }

    /// A table whose columns are at least this wide, which then are as wide as its own: portions of a table line up.
    pub(crate) fn align(&mut self, widths: &mut Vec<u16>) {
        let own = self.grid.column_max_content_widths();
        widths.resize(widths.len().max(own.len()), 0);
        for ((width, own), column) in widths.iter_mut().zip(own).zip(self.grid.column_iter_mut()) {
            *width = own.max(*width);
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(*width + GAP)));
        }
    }

    /// A table of names and values: facts about one thing.
    pub(crate) fn headless() -> Self {
        let mut grid = Grid::new();
        // never wrapped: a row is a line
        grid.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        Self { grid }
    }

    /// Adds a row; what is empty becomes a dash.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.add(cells);
    }

    /// Adds a row to a table whose number of columns is known late; what is empty becomes a dash.
    pub(crate) fn add(&mut self, cells: impl IntoIterator<Item = String>) {
        let cell = |cell: String| or_dash(printable(&cell).replace('\n', " "));
        self.grid.add_row(cells.into_iter().map(cell));
    }

    /// Adds a fact to a table without header.
    pub(crate) fn fact(&mut self, name: &str, value: impl Into<String>) {
        self.row([name.to_owned(), value.into()]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut grid = self.grid.clone();
        for column in grid.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        for (index, line) in grid.lines().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let mut table = Table::new(["NAME", "PORTS", "STALE"]);
        table.row(["payments.shop".into(), "80/http,81/tcp".into(), String::new()]);
        table.row(["a.b".into(), String::new(), "12s".into()]);
        let expected = "\
NAME           PORTS           STALE
payments.shop  80/http,81/tcp  -
a.b            -               12s";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn portions_line_up() {
        let mut widths = Vec::new();
        let mut first = Table::new(["NAME", "PORTS", "STALE"]);
        first.row(["payments.shop".into(), "80/http".into(), "1".into()]);
        first.align(&mut widths);
        let mut second = Table::headless();
        second.row(["a.b".into(), "80/http,81/tcp".into(), String::new()]);
        second.align(&mut widths);
        let mut third = Table::headless();
        third.row(["c.d".into(), "1".into(), "2".into()]);
        third.align(&mut widths);
        let expected = "\
NAME           PORTS    STALE
payments.shop  80/http  1
a.b            80/http,81/tcp  -
c.d            1               2";
        assert_eq!([first, second, third].map(|table| table.to_string()).join("\n"), expected);
    }

    #[test]
    fn a_row_is_a_line_without_control_characters() {
        let mut table = Table::headless();
        table.fact("cause", "one\ntwo\u{1b}[2J");
        table.fact("much longer", "x".repeat(300));
        let text = table.to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert_eq!(text.lines().next(), Some("cause        one two?[2J"));
    }

    #[test]
    fn a_table_without_rows_has_its_header() {
        assert_eq!(Table::new(["A", "B"]).to_string(), "A  B");
    }
}
