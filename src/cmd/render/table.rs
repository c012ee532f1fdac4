//! Aligned columns that are written as they come: the widths are set by the first rows, so a table of a million rows
//! needs the memory of a few.

use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Rows that are looked at before the widths are set.
const SAMPLE: usize = 200;
/// Between two columns.
const GAP: &str = "  ";
/// A last column that would be narrower than this keeps its text whole: the terminal wraps it.
const LEAST_LAST: usize = 12;

/// Whether colour may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Text only.
    Plain,
    /// SGR colours.
    Colour,
}

/// The colour of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tint {
    /// As the terminal writes.
    Default,
    /// Well.
    Green,
    /// Not yet decided, or stopped on purpose.
    Yellow,
    /// Failed.
    Red,
    /// Of less interest.
    Dim,
}

impl Tint {
    /// The text in this colour; unchanged without one.
    pub fn paint(self, text: &str) -> String {
        if self == Self::Default || text.is_empty() {
            return text.to_owned();
        }
        format!("{}{text}\x1b[0m", self.code())
    }

    fn code(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Green => "\x1b[32m",
            Self::Yellow => "\x1b[33m",
            Self::Red => "\x1b[31m",
            Self::Dim => "\x1b[2m",
        }
    }
}

/// One cell: text without controls, and how it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tint: Tint,
    to_the_right: bool,
}

impl Cell {
    /// Text from the left. It must be escaped already.
    pub fn left(text: impl Into<String>) -> Self {
        Self { text: text.into(), tint: Tint::Default, to_the_right: false }
    }

    /// A figure, to the right.
    pub fn right(text: impl Into<String>) -> Self {
        Self { to_the_right: true, ..Self::left(text) }
    }

    /// The same in a colour.
    #[must_use]
    pub fn tinted(self, tint: Tint) -> Self {
        Self { tint, ..self }
    }
}

/// A table being written. `finish` it, or the last rows are missing.
#[must_use = "rows are held back until the table is finished"]
pub struct Table<'a> {
    out: &'a mut dyn Write,
    paint: Paint,
    width: Option<usize>,
    held: Vec<Vec<Cell>>,
    widths: Vec<usize>,
}

impl<'a> Table<'a> {
    /// A table with this first row; `width` is that of the terminal, `None` where there is none: nothing is cut then.
    pub fn new(out: &'a mut dyn Write, paint: Paint, width: Option<usize>, titles: Vec<Cell>) -> Self {
        let titles = titles.into_iter().map(|title| title.tinted(Tint::Dim)).collect();
        Self { out, paint, width, held: vec![titles], widths: Vec::new() }
    }

    /// Adds a row of as many cells as there are titles.
    pub fn row(&mut self, cells: Vec<Cell>) -> io::Result<()> {
        if !self.widths.is_empty() {
            return self.write_row(&cells);
        }
        self.held.push(cells);
        if self.held.len() > SAMPLE { self.write_held() } else { Ok(()) }
    }

    /// Writes what is held back.
    pub fn finish(mut self) -> io::Result<()> {
        if self.widths.is_empty() { self.write_held() } else { Ok(()) }
    }

    fn write_held(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.held);
        let columns = rows.first().map_or(0, Vec::len);
        self.widths = (0..columns)
            .map(|column| rows.iter().filter_map(|row| Some(row.get(column)?.text.width())).max().unwrap_or(0))
            .collect();
        rows.iter().try_for_each(|row| self.write_row(row))
    }

    fn write_row(&mut self, cells: &[Cell]) -> io::Result<()> {
        let mut line = String::new();
        let mut used = 0;
        for (at, (cell, column)) in cells.iter().zip(&self.widths).enumerate() {
            let last = at + 1 == cells.len();
            let text = if last { cut_last(&cell.text, self.width, used) } else { cell.text.clone() };
            let pad = if last { 0 } else { column.saturating_sub(text.width()) };
            let padding = " ".repeat(pad);
            let shown = self.painted(&text, cell.tint);
            line += &if cell.to_the_right { padding + &shown } else { shown + &padding };
            if !last {
                line += GAP;
                used += column.max(&text.width()) + GAP.len();
            }
        }
        writeln!(self.out, "{}", line.trim_end())
    }

    fn painted(&self, text: &str, tint: Tint) -> String {
        match self.paint {
            Paint::Plain => text.to_owned(),
            Paint::Colour => tint.paint(text),
        }
    }
}

fn cut_last(text: &str, width: Option<usize>, used: usize) -> String {
    match width {
        Some(width) if width >= used + LEAST_LAST => truncate(text, width - used),
        _ => text.to_owned(),
    }
}

/// The text in at most that many terminal columns, `…` for what was cut.
pub fn truncate(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 1;
    for letter in text.chars() {
        used += letter.width().unwrap_or(0);
        if used > columns {
            break;
        }
        cut.push(letter);
    }
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(width: Option<usize>, paint: Paint, rows: &[[&str; 3]]) -> String {
        let mut out = Vec::new();
        let titles = ["NAME", "N", "WHAT"].map(Cell::left).to_vec();
        let mut table = Table::new(&mut out, paint, width, titles);
        for [name, count, what] in rows {
            let cells = vec![Cell::left(*name), Cell::right(*count).tinted(Tint::Red), Cell::left(*what)];
            table.row(cells).expect("a vector takes it");
        }
        table.finish().expect("a vector takes it");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_on_the_screen() {
        let shown = written(None, Paint::Plain, &[["日本", "5", "x"], ["a", "1234", ""]]);
        assert_eq!(shown, "NAME  N     WHAT\n日本     5  x\na     1234\n");
    }

    #[test]
    fn the_last_column_is_cut_to_the_terminal_and_colour_takes_no_room() {
        let long = "a text that is longer than the terminal";
        assert_eq!(written(Some(24), Paint::Plain, &[["a", "1", long]]), "NAME  N  WHAT\na     1  a text that is…\n");
        assert!(written(Some(24), Paint::Colour, &[["a", "1", long]]).ends_with("\x1b[31m1\x1b[0m  a text that is…\n"));
    }

    #[test]
    fn every_row_of_a_long_table_is_written_once_and_in_order() {
        let names: Vec<String> = (0..3 * SAMPLE).map(|at| at.to_string()).collect();
        let rows: Vec<[&str; 3]> = names.iter().map(|name| [name.as_str(), "", ""]).collect();
        let shown = written(None, Paint::Plain, &rows);
        assert_eq!(shown.lines().skip(1).collect::<Vec<_>>(), names);
    }
}
