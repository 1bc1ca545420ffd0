//! Rows under headings, in columns that stand under each other.

use std::io::{self, Write};

use super::text;

/// A column.
pub(super) struct Column {
    name: &'static str,
    is_right: bool,
}

/// A column of text.
pub(super) const fn left(name: &'static str) -> Column {
    Column {
        name,
        is_right: false,
    }
}

/// A column of numbers.
pub(super) const fn right(name: &'static str) -> Column {
    Column {
        name,
        is_right: true,
    }
}

/// A table that is written page by page: a long one is not held in memory, and a column only ever gets wider. What
/// people write themselves belongs into the last column: how wide it is in a terminal, only the terminal knows.
pub(super) struct Table<const N: usize> {
    columns: [Column; N],
    widths: [usize; N],
    has_begun: bool,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(columns: [Column; N]) -> Self {
        Self {
            widths: columns.each_ref().map(|column| column.name.len()),
            columns,
            has_begun: false,
        }
    }

    /// Writes some rows, and the headings above the first.
    pub(super) fn write(
        &mut self,
        out: &mut impl Write,
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> io::Result<()> {
        let rows: Vec<_> = rows
            .into_iter()
            .map(|row| row.map(|cell| text::shown(&cell)))
            .collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        if !std::mem::replace(&mut self.has_begun, true) {
            let names = self.columns.each_ref().map(|column| column.name.to_owned());
            self.line(out, &names)?;
        }
        rows.iter().try_for_each(|row| self.line(out, row))
    }

    fn line(&self, out: &mut impl Write, row: &[String; N]) -> io::Result<()> {
        let mut line = String::new();
        for ((cell, width), column) in row.iter().zip(self.widths).zip(&self.columns) {
            let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, behind) = match column.is_right {
                true => (gap.as_str(), ""),
                false => ("", gap.as_str()),
            };
            for part in [before, cell, behind, "  "] {
                line.push_str(part);
            }
        }
        writeln!(out, "{}", line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other_and_pages_go_on() {
        let mut table = Table::new([left("NAME"), right("COUNT"), left("TITLE")]);
        let mut out = Vec::new();
        let row = |name: &str, count: &str, title: &str| [name, count, title].map(str::to_owned);
        table
            .write(
                &mut out,
                [row("a", "1", "One"), row("longer", "1000000", "")],
            )
            .unwrap();
        table
            .write(&mut out, [row("b\u{1b}[0m", "2", "Zwei\nDrei")])
            .unwrap();
        let expected = "\
NAME      COUNT  TITLE
a             1  One
longer  1000000
b\\u{1b}[0m        2  Zwei\\nDrei
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_table_of_nothing_has_its_headings() {
        let mut out = Vec::new();
        Table::new([left("NAME"), left("TITLE")])
            .write(&mut out, [])
            .unwrap();
        assert_eq!(out, b"NAME  TITLE\n");
    }
}
