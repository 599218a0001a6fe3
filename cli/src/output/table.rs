//! Plain tables: a header, columns set apart by spaces, no borders, so that grep and awk can use them.

use super::{or_dash, printable};
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table as Grid};
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
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Self {
        let mut table = Self::headless();
        table.grid.set_header(header);
        table
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
        let cell = |cell: String| or_dash(printable(&cell).replace('\n', " "));
        self.grid.add_row(cells.map(cell));
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
