//! `agentguard failed list`.

use std::io::{self, Write};

use anyhow::Context as _;
use serde::Serialize;

use super::LetterFilters;
use crate::cmd::render::{
    Cell, Paint, Table, Tint, cost, csv_row, duration_between, escape, local_time, markdown_row, markdown_titles,
    truncate, unless_closed,
};
use crate::model::letter::Letter;
use crate::model::{ErrorClass, ErrorKind, RunId, RunRecord, Text, Timestamp};
use crate::rules::letters::is_poison;
use crate::store::letters::Letters;
use crate::store::state_dir::StateDir;
use crate::sys::clock;

/// The widest agent name in the table, in terminal columns.
const AGENT_WIDTH: usize = 24;

/// What to list and how.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// Which letters.
    pub filters: LetterFilters,
    /// At most so many, the newest.
    pub limit: Option<usize>,
    /// So many failed redrives set a letter aside.
    pub max_receives: u32,
    /// In which form.
    pub format: ListFormat,
}

/// The form of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFormat {
    /// Columns for people, cut to the width of the terminal where there is one.
    Table {
        /// Terminal columns.
        width: Option<usize>,
        /// Colour or not.
        paint: Paint,
    },
    /// One JSON array.
    Json,
    /// One JSON object per line.
    Jsonl,
    /// RFC 4180, with titles.
    Csv,
    /// A table for a document.
    Markdown,
}

/// Where a letter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    /// The next redrive takes it.
    Waiting,
    /// A redrive is at it.
    Redriving,
    /// It is left alone until somebody names it.
    SetAside,
}

#[derive(Debug, Serialize)]
struct Row {
    run_id: RunId,
    agent: Text,
    state: Place,
    failed_at: Timestamp,
    age_seconds: i64,
    error_class: Option<ErrorClass>,
    error_kind: Option<ErrorKind>,
    attempts: u32,
    receives: u32,
    cost_usd: Option<f64>,
    message: Option<String>,
}

const CSV_TITLES: [&str; 11] = [
    "run_id",
    "agent",
    "state",
    "failed_at",
    "age_seconds",
    "error_class",
    "error_kind",
    "attempts",
    "receives",
    "cost_usd",
    "message",
];

/// Lists the letters that wait, newest first; returns how many more there are than the limit lets through.
pub fn list(state: &StateDir, request: &ListRequest, out: &mut dyn Write) -> anyhow::Result<usize> {
    let letters = Letters::at(state);
    let mut found = letters.waiting()?;
    let may_pass = request.filters.may_pass();
    found.retain(|letter| may_pass(letter));
    found.reverse();
    let limit = request.limit.unwrap_or(usize::MAX);
    let left = found.len().saturating_sub(limit);
    found.truncate(limit);
    let now = clock::now();
    let mut sheet = Sheet::begin(request.format, out)?;
    for letter in &found {
        let Some(row) = row(&letters, letter, request, now)? else { continue };
        match sheet.add(&row, now) {
            // The reader has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(left),
            written => written.context("write the list of dead letters")?,
        }
    }
    unless_closed(sheet.finish()).context("write the list of dead letters")?;
    Ok(left)
}

fn row(letters: &Letters, letter: &Letter, request: &ListRequest, now: Timestamp) -> anyhow::Result<Option<Row>> {
    let record: Option<RunRecord> = letters.line(letter.offset)?.and_then(|line| line.record().ok());
    // Its line was good when it was indexed; whatever happened to it since, the rest is listed.
    let Some(record) = record else { return Ok(None) };
    if !request.filters.agents.is_empty() && !request.filters.agents.contains(&record.agent) {
        return Ok(None);
    }
    let (kind, message) = record.error.map(|error| (error.kind, error.message)).unzip();
    Ok(Some(Row {
        run_id: letter.run_id,
        agent: record.agent,
        state: match () {
            () if letters.is_claimed(letter.run_id) => Place::Redriving,
            () if is_poison(letter, request.max_receives) => Place::SetAside,
            () => Place::Waiting,
        },
        failed_at: letter.end,
        age_seconds: (now.unix_micros() - letter.end.unix_micros()).div_euclid(1_000_000).max(0),
        error_class: letter.class,
        error_kind: kind,
        attempts: letter.attempts,
        receives: letter.receives,
        cost_usd: letter.spent.known(),
        message,
    }))
}

/// A list being written.
enum Sheet<'a> {
    Table(Table<'a>),
    Json { out: &'a mut dyn Write, separator: &'static str },
    Jsonl(&'a mut dyn Write),
    Csv(&'a mut dyn Write),
    Markdown(&'a mut dyn Write),
}

impl<'a> Sheet<'a> {
    fn begin(format: ListFormat, out: &'a mut dyn Write) -> io::Result<Self> {
        Ok(match format {
            ListFormat::Table { width, paint } => Self::Table(Table::new(out, paint, width, titles())),
            ListFormat::Json => Self::Json { out, separator: "[\n" },
            ListFormat::Jsonl => Self::Jsonl(out),
            ListFormat::Csv => {
                csv_row(out, &CSV_TITLES)?;
                Self::Csv(out)
            }
            ListFormat::Markdown => {
                let titles = ["Run", "Age", "Agent", "State", "Class", "Kind", "Attempts", "Receives", "Cost", "Error"];
                markdown_titles(out, &titles)?;
                Self::Markdown(out)
            }
        })
    }

    fn add(&mut self, row: &Row, now: Timestamp) -> io::Result<()> {
        match self {
            Self::Table(table) => table.row(cells(row, now)),
            Self::Json { out, separator } => {
                out.write_all(std::mem::replace(separator, ",\n").as_bytes())?;
                Ok(serde_json::to_writer(out, row)?)
            }
            Self::Jsonl(out) => {
                serde_json::to_writer(&mut *out, row)?;
                out.write_all(b"\n")
            }
            Self::Csv(out) => csv_row(*out, &values(row)),
            Self::Markdown(out) => markdown_row(*out, &shown(row, now)),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Table(table) => table.finish(),
            Self::Json { out, separator: "[\n" } => out.write_all(b"[]\n"),
            Self::Json { out, .. } => out.write_all(b"\n]\n"),
            Self::Jsonl(_) | Self::Csv(_) | Self::Markdown(_) => Ok(()),
        }
    }
}

fn titles() -> Vec<Cell> {
    let mut titles = ["RUN", "AGE", "AGENT", "STATE", "CLASS", "KIND"].map(Cell::left).to_vec();
    titles.extend(["ATTEMPTS", "RECEIVES", "COST"].map(Cell::right));
    titles.push(Cell::left("ERROR"));
    titles
}

fn cells(row: &Row, now: Timestamp) -> Vec<Cell> {
    let [run, age, agent, state, class, kind, attempts, receives, cost, error] = shown(row, now);
    let tint = match row.state {
        Place::Waiting => Tint::Default,
        Place::Redriving => Tint::Yellow,
        Place::SetAside => Tint::Red,
    };
    let agent = Cell::left(truncate(&escape(agent.as_bytes()), AGENT_WIDTH));
    let mut cells = vec![Cell::left(run), Cell::left(age), agent, Cell::left(state).tinted(tint)];
    cells.extend([class, kind].map(Cell::left));
    cells.extend([attempts, receives, cost].map(Cell::right));
    cells.push(Cell::left(escape(error.as_bytes())));
    cells
}

/// For people; names are not escaped yet.
fn shown(row: &Row, now: Timestamp) -> [String; 10] {
    let dash = || "-".to_owned();
    let state = match row.state {
        Place::Waiting => "waiting",
        Place::Redriving => "redriving",
        Place::SetAside => "set aside",
    };
    let age = match duration_between(row.failed_at, now).as_str() {
        "-" => local_time(row.failed_at),
        age => age.to_owned(),
    };
    [
        row.run_id.short(),
        age,
        row.agent.to_string_lossy().into_owned(),
        state.to_owned(),
        row.error_class.map_or_else(dash, |class| class.to_string()),
        row.error_kind.map_or_else(dash, |kind| kind.to_string()),
        row.attempts.to_string(),
        row.receives.to_string(),
        cost(row.cost_usd),
        row.message.clone().unwrap_or_default(),
    ]
}

/// For programs, in the order of the titles; unknown is empty.
fn values(row: &Row) -> [String; 11] {
    let word = |place| match place {
        Place::Waiting => "waiting",
        Place::Redriving => "redriving",
        Place::SetAside => "set_aside",
    };
    [
        row.run_id.to_string(),
        row.agent.to_string_lossy().into_owned(),
        word(row.state).to_owned(),
        row.failed_at.to_string(),
        row.age_seconds.to_string(),
        row.error_class.map(|class| class.to_string()).unwrap_or_default(),
        row.error_kind.map(|kind| kind.to_string()).unwrap_or_default(),
        row.attempts.to_string(),
        row.receives.to_string(),
        row.cost_usd.map(|dollars| dollars.to_string()).unwrap_or_default(),
        row.message.clone().unwrap_or_default(),
    ]
}
