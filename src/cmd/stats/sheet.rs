//! The forms of the statistics.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::row::Row;
use crate::cmd::render::{
    Cell, Paint, Table, cost, csv_row, duration, escape, indent_json, markdown_row, markdown_titles, tokens, truncate,
};
use crate::model::{Text, Timestamp};
use crate::rules::tally::By;

/// The widest name of a group in the table, in terminal columns.
const NAME_WIDTH: usize = 32;

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsFormat {
    /// Columns for people, cut to the width of the terminal where there is one.
    Table {
        /// Terminal columns.
        width: Option<usize>,
        /// Colour or not.
        paint: Paint,
    },
    /// One JSON object: the groups, and the total.
    Json,
    /// A JSON object for each group on a line of its own.
    Jsonl,
    /// RFC 4180, with titles; groups only.
    Csv,
    /// A table for a document.
    Markdown,
}

/// What is written.
pub(super) struct Answer<'a> {
    pub(super) by: &'a By,
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    /// Whether there is a period before to compare with.
    pub(super) trend: bool,
    pub(super) groups: &'a [Row],
    pub(super) total: &'a Row,
    pub(super) damaged_lines: u64,
}

#[derive(Serialize)]
struct Json<'a> {
    by: String,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    groups: &'a [Row],
    total: &'a Row,
    damaged_lines: u64,
}

fn by_word(by: &By) -> String {
    match by {
        By::Agent => "agent".to_owned(),
        By::Class => "class".to_owned(),
        By::Day => "day".to_owned(),
        By::Model => "model".to_owned(),
        By::Label(key) => format!("label:{key}"),
    }
}

impl Answer<'_> {
    pub(super) fn write(&self, format: StatsFormat, out: &mut dyn Write) -> io::Result<()> {
        match format {
            StatsFormat::Table { width, paint } => self.table(width, paint, out),
            StatsFormat::Json => {
                let (groups, total, damaged_lines) = (self.groups, self.total, self.damaged_lines);
                let (since, until) = (self.since, self.until);
                let json = Json { by: by_word(self.by), since, until, groups, total, damaged_lines };
                out.write_all(indent_json(&serde_json::to_vec(&json)?)?.as_bytes())
            }
            StatsFormat::Jsonl => self.groups.iter().try_for_each(|row| {
                serde_json::to_writer(&mut *out, row)?;
                out.write_all(b"\n")
            }),
            StatsFormat::Csv => self.csv(out),
            StatsFormat::Markdown => {
                let titles = self.titles();
                markdown_titles(out, &titles)?;
                self.rows().try_for_each(|(name, row)| markdown_row(out, &self.shown(name, row)))
            }
        }
    }

    /// The groups, and the total where there is more than one.
    fn rows(&self) -> impl Iterator<Item = (String, &Row)> {
        let total = (self.groups.len() > 1).then(|| ("total".to_owned(), self.total));
        self.groups.iter().map(|row| (self.name(row), row)).chain(total)
    }

    fn name(&self, row: &Row) -> String {
        match (&row.group, self.by) {
            (Some(name), _) => name.to_string_lossy().into_owned(),
            (None, _) if row.others => "(all others)".to_owned(),
            (None, By::Class) => "(no failure)".to_owned(),
            (None, _) => "(none)".to_owned(),
        }
    }

    fn table(&self, width: Option<usize>, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
        let mut titles: Vec<Cell> = self.titles().iter().map(|title| Cell::right(title.to_uppercase())).collect();
        if let (Some(first), Some(title)) = (titles.first_mut(), self.titles().first()) {
            *first = Cell::left(truncate(&escape(title.to_uppercase().as_bytes()), NAME_WIDTH));
        }
        // The last column is cut to the terminal: that of the failures, in words.
        titles.push(Cell::left("FAILURES"));
        let mut table = Table::new(out, paint, width, titles);
        for (name, row) in self.rows() {
            let mut shown = self.shown(name, row).into_iter();
            let name = shown.next().unwrap_or_default();
            let mut cells = vec![Cell::left(truncate(&escape(name.as_bytes()), NAME_WIDTH))];
            cells.extend(shown.take(self.titles().len() - 1).map(Cell::right));
            cells.push(Cell::left(failures(row)));
            table.row(cells)?;
        }
        table.finish()
    }

    fn titles(&self) -> Vec<&str> {
        let first = match self.by {
            By::Agent => "Agent",
            By::Class => "Class",
            By::Day => "Day (UTC)",
            By::Model => "Model",
            By::Label(key) => key,
        };
        let mut titles = vec![first, "Runs", "Published", "Success", "95 %", "p50", "p95", "Tokens", "Cost"];
        titles.extend(["Cost p50", "Cost p95", "Per published"]);
        if self.trend {
            titles.extend(["Before", "Δ Success", "Δ Cost"]);
        }
        titles
    }

    /// One row for people, the name not escaped yet.
    fn shown(&self, name: String, row: &Row) -> Vec<String> {
        let interval = match (row.success_rate_low, row.success_rate_high) {
            (Some(low), Some(high)) => format!("{:.0}–{:.0} %", low * 100.0, high * 100.0),
            _ => "-".to_owned(),
        };
        let mut shown = vec![
            name,
            row.runs.to_string(),
            row.published.to_string(),
            row.success_rate.map_or_else(dash, |rate| format!("{:.1} %", rate * 100.0)),
            interval,
            millis(row.duration_p50_ms),
            millis(row.duration_p95_ms),
            with_unknown(tokens(row.tokens), row.tokens_unknown, row.tokens.is_some()),
            with_unknown(cost(row.cost_usd), row.cost_unknown, row.cost_usd.is_some()),
            cost(row.cost_p50_usd),
            cost(row.cost_p95_usd),
            at_least(cost(row.cost_per_published_usd), row),
        ];
        if self.trend {
            shown.push(row.runs_before.to_string());
            shown.push(row.success_rate_change.map_or_else(dash, |change| format!("{:+.1} pp", change * 100.0)));
            shown.push(row.cost_change_usd.map_or_else(dash, signed_cost));
        }
        shown
    }

    fn csv(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut titles: Vec<String> = vec![by_word(self.by)];
        titles.extend(FIGURES.iter().map(|(title, _)| (*title).to_owned()));
        csv_row(out, &titles)?;
        for row in self.groups {
            let mut values = vec![match &row.group {
                Some(Text(name)) => String::from_utf8_lossy(name).into_owned(),
                None if row.others => "(all others)".to_owned(),
                None => String::new(),
            }];
            values.extend(FIGURES.iter().map(|(_, value)| value(row)));
            csv_row(out, &values)?;
        }
        Ok(())
    }
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A title of the CSV, and what stands below it.
type Figure = (&'static str, fn(&Row) -> String);

/// What stands in CSV after the group's name; unknown is empty.
const FIGURES: [Figure; 24] = [
    ("runs", |row| row.runs.to_string()),
    ("published", |row| row.published.to_string()),
    ("succeeded", |row| row.succeeded.to_string()),
    ("cancelled", |row| row.cancelled.to_string()),
    ("success_rate", |row| text(row.success_rate)),
    ("success_rate_low", |row| text(row.success_rate_low)),
    ("success_rate_high", |row| text(row.success_rate_high)),
    ("clean_abort", |row| class(row, "clean_abort")),
    ("partial_write", |row| class(row, "partial_write")),
    ("silent_drift", |row| class(row, "silent_drift")),
    ("cascade", |row| class(row, "cascade")),
    ("publish_failed", |row| class(row, "publish_failed")),
    ("duration_p50_ms", |row| text(row.duration_p50_ms)),
    ("duration_p95_ms", |row| text(row.duration_p95_ms)),
    ("tokens", |row| text(row.tokens)),
    ("tokens_unknown", |row| row.tokens_unknown.to_string()),
    ("cost_usd", |row| text(row.cost_usd)),
    ("cost_p50_usd", |row| text(row.cost_p50_usd)),
    ("cost_p95_usd", |row| text(row.cost_p95_usd)),
    ("cost_per_published_usd", |row| text(row.cost_per_published_usd)),
    ("cost_unknown", |row| row.cost_unknown.to_string()),
    ("runs_before", |row| row.runs_before.to_string()),
    ("success_rate_change", |row| text(row.success_rate_change)),
    ("cost_change_usd", |row| text(row.cost_change_usd)),
];

fn class(row: &Row, word: &str) -> String {
    row.classes.get(word).copied().unwrap_or(0).to_string()
}

fn dash() -> String {
    "-".to_owned()
}

fn millis(millis: Option<f64>) -> String {
    millis.map_or_else(dash, |millis| duration(Duration::from_secs_f64(millis / 1000.0)))
}

/// A sum, and how many runs are not in it.
fn with_unknown(sum: String, unknown: u64, is_known: bool) -> String {
    match unknown {
        1.. if is_known => format!("{sum} (+{unknown}?)"),
        _ => sum,
    }
}

/// What is not known can only add to it.
fn at_least(cost: String, row: &Row) -> String {
    if row.cost_unknown > 0 && row.cost_per_published_usd.is_some() { format!("≥{cost}") } else { cost }
}

fn signed_cost(dollars: f64) -> String {
    let sign = if dollars < 0.0 { "-" } else { "+" };
    format!("{sign}{}", cost(Some(dollars.abs())))
}

/// The failure classes, the most frequent first.
fn failures(row: &Row) -> String {
    let mut counted: Vec<(&String, &u64)> = row.classes.iter().collect();
    counted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    counted.iter().map(|(class, count)| format!("{class} {count}")).collect::<Vec<_>>().join(", ")
}
