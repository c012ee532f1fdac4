//! `agentguard log`: the runs, newest first.

use std::io::{self, BufWriter, Write};

use anyhow::Context as _;

use super::render::{
    Cell, Paint, Table, Tint, cost, duration_between, escape, local_time, tokens, truncate, unless_closed,
};
use crate::model::{ErrorClass, RunRecord, Status, Text, Timestamp};
use crate::store::log::{Damage, Line, LineHead, RunLog};

/// The widest agent name in the table, in terminal columns.
const AGENT_WIDTH: usize = 24;

/// What to list and how.
#[derive(Clone, Debug)]
pub struct LogRequest {
    /// Which runs.
    pub filters: LogFilters,
    /// At most that many.
    pub limit: Option<usize>,
    /// In which form.
    pub format: LogFormat,
}

/// Which runs; an empty list lets all through.
#[derive(Clone, Debug, Default)]
pub struct LogFilters {
    /// Of one of these agents.
    pub agents: Vec<Text>,
    /// Ended in one of these ways.
    pub statuses: Vec<Status>,
    /// Failed in one of these ways.
    pub classes: Vec<ErrorClass>,
    /// Started then or later.
    pub since: Option<Timestamp>,
    /// Started before then.
    pub until: Option<Timestamp>,
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

impl LogFilters {
    fn let_through(&self, run: &LineHead) -> bool {
        fn among<T: PartialEq>(wanted: &[T], value: Option<&T>) -> bool {
            wanted.is_empty() || value.is_some_and(|value| wanted.contains(value))
        }
        among(&self.agents, Some(&run.agent))
            && among(&self.statuses, Some(&run.status))
            && among(&self.classes, run.error_class.as_ref())
            && self.since.is_none_or(|since| run.start_time >= since)
            && self.until.is_none_or(|until| run.start_time < until)
    }
}

/// Lists runs on `out`, newest first; damaged lines are named on `warn` with their offset and passed over.
pub fn log(log: &RunLog, request: &LogRequest, out: &mut dyn Write, warn: &mut dyn Write) -> anyhow::Result<LogAnswer> {
    let mut out = BufWriter::new(out);
    let mut list = List::begin(request.format, &mut out);
    let mut answer = LogAnswer::default();
    for line in log.newest_first()? {
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

/// A line to list, with its record where it was read already.
struct Listed<'a> {
    line: &'a [u8],
    record: RunRecord,
}

fn wanted<'a>(line: &'a Line, filters: &LogFilters) -> Result<Option<Listed<'a>>, Damage> {
    if !filters.let_through(&line.head()?) {
        return Ok(None);
    }
    Ok(Some(Listed { line: &line.bytes, record: line.record()? }))
}

/// A list being written.
enum List<'a> {
    Table(Table<'a>),
    Json { out: &'a mut dyn Write, separator: &'static str },
    Jsonl(&'a mut dyn Write),
}

impl<'a> List<'a> {
    fn begin(format: LogFormat, out: &'a mut dyn Write) -> Self {
        match format {
            LogFormat::Table { width, paint } => Self::Table(Table::new(out, paint, width, titles())),
            LogFormat::Json => Self::Json { out, separator: "[\n" },
            LogFormat::Jsonl => Self::Jsonl(out),
        }
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
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Table(table) => table.finish(),
            Self::Json { out, separator: "[\n" } => out.write_all(b"[]\n"),
            Self::Json { out, .. } => out.write_all(b"\n]\n"),
            Self::Jsonl(_) => Ok(()),
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
