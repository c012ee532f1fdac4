//! `agentguard log`: the runs, newest first.

use std::io::{self, BufWriter, Write};

use anyhow::Context as _;

use super::export_format::{self, Export, ExportFormat};
use super::render::{
    Cell, Paint, Table, Tint, cost, csv_row, duration_between, escape, local_time, markdown_row, markdown_titles,
    tokens, truncate, unless_closed,
};
use crate::model::{RunRecord, Status};
use crate::rules::filter::RunFilters;
use crate::store::log::{Damage, Line, ReadError, RunLog};

/// The widest agent name in the table, in terminal columns.
const AGENT_WIDTH: usize = 24;

/// What to list and how.
#[derive(Clone, Debug)]
pub struct LogRequest {
    /// Which runs.
    pub filters: RunFilters,
    /// At most that many.
    pub limit: Option<usize>,
    /// In which form.
    pub format: LogFormat,
}

/// The form of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Columns for people, cut to the width of the terminal where there is one.
    Table {
        /// Terminal columns.
        width: Option<usize>,
        /// Colour or not.
        paint: Paint,
    },
    /// One JSON array.
    Json,
    /// The lines as they are stored, byte for byte.
    Jsonl,
    /// RFC 4180, with titles.
    Csv,
    /// A table for a document.
    Markdown,
    /// For another program.
    Export(ExportFormat),
}

/// What was listed. Any damaged line should make the exit code 1: the answer is good and not complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct LogAnswer {
    /// Runs listed.
    pub shown: usize,
    /// Lines met that are no records.
    pub damaged: usize,
}

/// Lists runs on `out`, newest first; damaged lines are named on `warn` with their offset and passed over.
pub fn log(log: &RunLog, request: &LogRequest, out: &mut dyn Write, warn: &mut dyn Write) -> anyhow::Result<LogAnswer> {
    let mut out = BufWriter::new(out);
    let mut list = List::begin(request.format, log, &mut out).context("write the list of runs")?;
    let mut answer = LogAnswer::default();
    for line in newest_first(log, &request.filters)? {
        if request.limit.is_some_and(|limit| answer.shown >= limit) {
            break;
        }
        match wanted(&line?, &request.filters) {
            Ok(None) => {}
            Ok(Some(run)) => {
                answer.shown += 1;
                match list.add(&run) {
                    // The reader has seen enough: reading on would be for nobody.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(answer),
                    written => written.context("write the list of runs")?,
                }
            }
            Err(damage) => {
                answer.damaged += 1;
                let place = log.locate(damage.offset);
                let path = escape(place.path.as_os_str().as_encoded_bytes());
                unless_closed(writeln!(warn, "{path}: {}", Damage { offset: place.offset, ..damage }))?;
            }
        }
    }
    unless_closed(list.finish().and_then(|()| out.flush())).context("write the list of runs")?;
    Ok(answer)
}

/// The lines that may be of a run that is meant.
fn newest_first(
    log: &RunLog,
    filters: &RunFilters,
) -> Result<Box<dyn Iterator<Item = Result<Line, ReadError>>>, ReadError> {
    match filters.needle() {
        Some(needle) => Ok(Box::new(log.newest_with(&needle)?)),
        None => Ok(Box::new(log.newest_first()?)),
    }
}

/// A line to list, with its record where it was read already.
struct Listed<'a> {
    line: &'a [u8],
    record: RunRecord,
}

fn wanted<'a>(line: &'a Line, filters: &RunFilters) -> Result<Option<Listed<'a>>, Damage> {
    if !filters.let_through(&line.facts(filters.wanted())?) {
        return Ok(None);
    }
    Ok(Some(Listed { line: &line.bytes, record: line.record()? }))
}

/// A list being written.
enum List<'a> {
    Table(Table<'a>),
    Json { out: &'a mut dyn Write, separator: &'static str },
    Jsonl(&'a mut dyn Write),
    Csv(&'a mut dyn Write),
    Markdown(&'a mut dyn Write),
    Export { out: &'a mut dyn Write, export: Box<dyn Export> },
}

impl<'a> List<'a> {
    fn begin(format: LogFormat, log: &RunLog, out: &'a mut dyn Write) -> io::Result<Self> {
        Ok(match format {
            LogFormat::Table { width, paint } => Self::Table(Table::new(out, paint, width, titles())),
            LogFormat::Json => Self::Json { out, separator: "[\n" },
            LogFormat::Jsonl => Self::Jsonl(out),
            LogFormat::Csv => {
                csv_row(out, &CSV_TITLES)?;
                Self::Csv(out)
            }
            LogFormat::Markdown => {
                markdown_titles(out, &["Run", "Started", "Agent", "Status", "Took", "Tokens", "Cost", "Result"])?;
                Self::Markdown(out)
            }
            LogFormat::Export(format) => Self::Export { out, export: export_format::begin(format, log) },
        })
    }

    fn add(&mut self, run: &Listed<'_>) -> io::Result<()> {
        match self {
            Self::Table(table) => table.row(row(&run.record)),
            Self::Json { out, separator } => {
                out.write_all(std::mem::replace(separator, ",\n").as_bytes())?;
                out.write_all(run.line)
            }
            Self::Jsonl(out) => {
                out.write_all(run.line)?;
                out.write_all(b"\n")
            }
            Self::Csv(out) => csv_row(*out, &values(&run.record)),
            Self::Markdown(out) => markdown_row(*out, &shown(&run.record)),
            Self::Export { out, export } => export.add(run.line, &run.record, out),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Table(table) => table.finish(),
            Self::Json { out, separator: "[\n" } => out.write_all(b"[]\n"),
            Self::Json { out, .. } => out.write_all(b"\n]\n"),
            Self::Jsonl(_) | Self::Csv(_) | Self::Markdown(_) => Ok(()),
            Self::Export { out, export } => export.finish(out),
        }
    }
}

fn titles() -> Vec<Cell> {
    let [run, started, agent, status, took, tokens, cost, result] =
        ["RUN", "STARTED", "AGENT", "STATUS", "TOOK", "TOKENS", "COST", "RESULT"];
    let mut titles = [run, started, agent, status].map(Cell::left).to_vec();
    titles.extend([took, tokens, cost].map(Cell::right));
    titles.push(Cell::left(result));
    titles
}

const CSV_TITLES: [&str; 16] = [
    "run_id",
    "start_time",
    "end_time",
    "agent",
    "status",
    "error_class",
    "error_kind",
    "error",
    "exit_code",
    "published",
    "attempts",
    "tokens_used",
    "cost_usd",
    "targets",
    "replay_of",
    "redrive_of",
];

/// For programs, in the order of the titles; unknown is empty.
fn values(run: &RunRecord) -> Vec<String> {
    fn or_empty<T: ToString>(value: Option<T>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    let targets: Vec<_> = run.targets.iter().map(|target| target.to_string_lossy()).collect();
    vec![
        run.run_id.to_string(),
        run.start_time.to_string(),
        run.end_time.to_string(),
        run.agent.to_string_lossy().into_owned(),
        run.status.to_string(),
        or_empty(run.error_class),
        or_empty(run.error.as_ref().map(|error| error.kind)),
        or_empty(run.error.as_ref().map(|error| &error.message)),
        or_empty(run.exit_code),
        run.published.to_string(),
        run.attempts.len().to_string(),
        or_empty(run.tokens_used),
        or_empty(run.cost_usd),
        targets.join(" "),
        or_empty(run.replay_of),
        or_empty(run.redrive_of),
    ]
}

/// For a document; names are not escaped yet.
fn shown(run: &RunRecord) -> [String; 8] {
    [
        run.run_id.short(),
        local_time(run.start_time),
        run.agent.to_string_lossy().into_owned(),
        outcome(run),
        duration_between(run.start_time, run.end_time),
        tokens(run.tokens_used),
        cost(run.cost_usd),
        // Escaped already, like everything that is made for a terminal.
        result(run),
    ]
}

fn row(run: &RunRecord) -> Vec<Cell> {
    vec![
        Cell::left(run.run_id.short()),
        Cell::left(local_time(run.start_time)),
        Cell::left(truncate(&escape(&run.agent.0), AGENT_WIDTH)),
        Cell::left(outcome(run)).tinted(status_tint(run.status)),
        Cell::right(duration_between(run.start_time, run.end_time)),
        Cell::right(tokens(run.tokens_used)),
        Cell::right(cost(run.cost_usd)),
        Cell::left(result(run)),
    ]
}

fn outcome(run: &RunRecord) -> String {
    match run.error_class {
        Some(class) => format!("{} {class}", run.status),
        None => run.status.to_string(),
    }
}

/// Green is well, red is failed, yellow is somebody's decision.
pub(super) fn status_tint(status: Status) -> Tint {
    match status {
        Status::Succeeded => Tint::Green,
        Status::Held | Status::Cancelled => Tint::Yellow,
        Status::Failed | Status::Rejected | Status::Blocked | Status::Interrupted => Tint::Red,
    }
}

/// What came of the run in a few words: the failure, or what was published where.
fn result(run: &RunRecord) -> String {
    if let Some(error) = &run.error {
        return escape(error.message.as_bytes());
    }
    let targets: Vec<String> = run.targets.iter().map(|target| escape(&target.0)).collect();
    let targets = targets.join(" ");
    match run.changes {
        Some(changes) if run.published => {
            format!("{targets} +{} ~{} -{}", changes.created, changes.modified, changes.deleted).trim_start().to_owned()
        }
        _ if run.published => targets,
        _ => format!("{targets} not published").trim_start().to_owned(),
    }
}
