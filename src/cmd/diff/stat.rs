//! `--stat`: how much changed in each file, as a graph that fits the terminal (`show_stats` in git's `diff.c`).

use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::lines::Counts;
use super::pair::{Difference, Pair};
use super::quote::quoted;
use super::rows::{Row, has_content};
use super::style::{Part, Style};
use crate::model::EntryKind;
use crate::model::change::Side;
use crate::model::event::kind_word;

/// Columns where there is no terminal.
const COLUMNS: usize = 80;
/// The fewest columns of a graph.
const LEAST_GRAPH: usize = 6;

/// One line of the statistics.
#[derive(Debug)]
struct Figure {
    name: String,
    what: What,
}

#[derive(Debug)]
enum What {
    Lines(Counts),
    /// Bytes before and after.
    Binary(u64, u64),
    Words(String),
}

/// Statistics being gathered; nothing is written before the last row is known.
#[derive(Debug, Default)]
pub(super) struct Stat {
    figures: Vec<Figure>,
    files: u64,
    total: Counts,
}

impl Stat {
    /// Adds a row.
    pub(super) fn row(&mut self, row: &Row<'_>, pair: &Pair) {
        let what = what(row, pair);
        if let What::Lines(counts) = what {
            self.total.added += counts.added;
            self.total.removed += counts.removed;
        }
        let is_directory = |side: Option<Side>| side.is_none_or(|side| side.kind == EntryKind::Directory);
        self.files += u64::from(!(is_directory(row.before) && is_directory(row.after)));
        // A quoted name is ASCII, and so is any other (`core.quotePath`).
        let name = String::from_utf8_lossy(&quoted(&row.name())).into_owned();
        self.figures.push(Figure { name, what });
    }

    /// Writes all of it; `columns` are those of the terminal, if there is one.
    pub(super) fn finish(&self, style: Style, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
        if self.figures.is_empty() {
            return Ok(());
        }
        let layout = Layout::of(&self.figures, columns.unwrap_or(COLUMNS));
        for figure in &self.figures {
            layout.write(figure, style, out)?;
        }
        writeln!(out, "{}", self.totals())
    }

    fn totals(&self) -> String {
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        let Counts { added, removed } = self.total;
        let mut text = format!(" {} file{} changed", self.files, plural(self.files));
        if added > 0 || removed == 0 {
            text += &format!(", {added} insertion{}(+)", plural(added));
        }
        if removed > 0 || added == 0 {
            text += &format!(", {removed} deletion{}(-)", plural(removed));
        }
        text
    }
}

fn what(row: &Row<'_>, pair: &Pair) -> What {
    let has = |side: Option<Side>| side.is_some_and(has_content);
    if !has(row.before) && !has(row.after) {
        return What::Words(without_content(row));
    }
    let difference = pair.difference();
    match (difference.counts(), difference) {
        (Some(counts), _) => What::Lines(counts),
        (None, Difference::Unshown(why)) => What::Words(why.to_owned()),
        (None, _) => {
            let bytes = |side: Option<Side>| side.map_or(0, |side| side.size);
            What::Binary(bytes(row.before), bytes(row.after))
        }
    }
}

fn without_content(row: &Row<'_>) -> String {
    match (row.before, row.after) {
        (Some(before), Some(after)) if before.kind == after.kind => {
            format!("mode {:04o} -> {:04o}", before.mode, after.mode)
        }
        (Some(before), Some(after)) => format!("{} -> {}", kind_word(before.kind), kind_word(after.kind)),
        (Some(side), None) => format!("{} deleted", kind_word(side.kind)),
        (None, side) => format!("{} created", side.map_or("nothing", |side| kind_word(side.kind))),
    }
}

/// The columns of each part of a line.
#[derive(Debug)]
struct Layout {
    name: usize,
    number: usize,
    graph: usize,
    most: u64,
}

impl Layout {
    /// Shares out the columns as git does: the graph gives way first, down to 3/8 of the line, then the name.
    fn of(figures: &[Figure], columns: usize) -> Self {
        let longest = figures.iter().map(|figure| figure.name.width()).max().unwrap_or(0);
        let (mut most, mut binary, mut number) = (0, 0, 0);
        for figure in figures {
            match figure.what {
                What::Lines(counts) => most = most.max(counts.added + counts.removed),
                What::Binary(before, after) => {
                    binary = binary.max("Bin  ->  bytes".len() + digits(before) + digits(after));
                    number = "Bin".len();
                }
                What::Words(ref words) => binary = binary.max(words.len()),
            }
        }
        number = digits(most).max(number);
        // At least 6 columns for the graph, and 10 for the name.
        let columns = columns.max(16 + LEAST_GRAPH + number);
        let widest = usize::try_from(most).unwrap_or(usize::MAX);
        let mut graph = if widest.saturating_add(4) > binary { widest } else { binary - 4 };
        let mut name = longest;
        if name.saturating_add(number + 6).saturating_add(graph) > columns {
            let share = (columns * 3 / 8).saturating_sub(number + 6);
            if graph > share {
                graph = share.max(LEAST_GRAPH);
            }
            let left = columns - number - 6;
            if name > left - graph {
                name = left - graph;
            } else {
                graph = left - name;
            }
        }
        Self { name, number, graph, most }
    }

    fn write(&self, figure: &Figure, style: Style, out: &mut dyn Write) -> io::Result<()> {
        let name = fitted(&figure.name, self.name);
        let padding = self.name.saturating_sub(name.width());
        write!(out, " {name}{:padding$} | ", "")?;
        match &figure.what {
            What::Words(words) => out.write_all(words.as_bytes())?,
            What::Binary(before, after) => {
                write!(out, "{:>1$} ", "Bin", self.number)?;
                style.write(out, Part::Removed, before.to_string().as_bytes())?;
                out.write_all(b" -> ")?;
                style.write(out, Part::Added, after.to_string().as_bytes())?;
                out.write_all(b" bytes")?;
            }
            What::Lines(counts) => {
                let total = counts.added + counts.removed;
                write!(out, "{total:>0$}{1}", self.number, if total > 0 { " " } else { "" })?;
                let (added, removed) = self.scaled(*counts);
                style.write(out, Part::Added, "+".repeat(added).as_bytes())?;
                style.write(out, Part::Removed, "-".repeat(removed).as_bytes())?;
            }
        }
        out.write_all(b"\n")
    }

    /// Signs of a graph. Whatever is not nothing has one.
    fn scaled(&self, counts: Counts) -> (usize, usize) {
        let Counts { added, removed } = counts;
        let signs = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        if signs(self.most) < self.graph {
            return (signs(added), signs(removed));
        }
        let width = self.graph as u64;
        let scale = |count: u64| if count == 0 { 0 } else { 1 + count * (width - 1) / self.most };
        let total = scale(added + removed).max(if added > 0 && removed > 0 { 2 } else { 0 });
        if added < removed {
            (signs(scale(added)), signs(total - scale(added)))
        } else {
            (signs(total - scale(removed)), signs(scale(removed)))
        }
    }
}

/// A name cut from the left, at a slash where there is one.
fn fitted(name: &str, columns: usize) -> String {
    let mut width = name.width();
    if width <= columns {
        return name.to_owned();
    }
    let mut rest = name.chars();
    while width > columns.saturating_sub(3) {
        width -= rest.next().and_then(|letter| letter.width()).unwrap_or(0);
    }
    let rest = rest.as_str();
    format!("...{}", rest.find('/').map_or(rest, |slash| &rest[slash..]))
}

fn digits(count: u64) -> usize {
    count.to_string().len()
}
