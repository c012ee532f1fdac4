//! The log, read once from its newest line to its oldest, as what the page is made of. Memory is bounded by what is
//! shown, not by the length of the log; only times of failures and the ids of dead letters grow with it.

use std::collections::HashSet;
use std::io::Write;
use std::ops::AddAssign;
use std::rc::Rc;

use crate::cmd::render::{escape, unless_closed};
use crate::model::{RunId, Timestamp};
use crate::rules::run_ref::is_failure;
use crate::store::letters::Letters;
use crate::store::log::{Line, RunLog};
use crate::store::state_dir::StateDir;

use super::ReportRequest;
use super::agents::Agents;
use super::breakers::Streaks;
use super::histogram::Histogram;
use super::island::Island;
use super::row::{CLASSES, Row};

/// Rows that are there without a script.
pub(super) const PLAIN_ROWS: usize = 200;
/// Failures that are told in detail.
pub(super) const DETAILED: usize = 50;
/// Dead letters that are named.
pub(super) const DEAD_NAMED: usize = 100;
/// Runs in each list of the most.
const TOP: usize = 10;
/// Damaged lines that are named; the others are counted.
const DAMAGES_NAMED: u64 = 20;

/// What the page is made of.
pub(super) struct Gathered {
    pub(super) totals: Totals,
    /// Milliseconds of every run.
    pub(super) durations: Vec<u32>,
    pub(super) history: Histogram<Slice>,
    pub(super) agents: Agents,
    pub(super) slowest: Top,
    pub(super) costliest: Top,
    pub(super) dead: Vec<Rc<Row>>,
    pub(super) failures: Vec<Rc<Row>>,
    pub(super) newest: Vec<Rc<Row>>,
    pub(super) island: Island,
    pub(super) streaks: Streaks,
    pub(super) damaged: u64,
}

/// Counts of all runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) runs: u64,
    pub(super) succeeded: u64,
    pub(super) published: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
    pub(super) retried: u64,
    pub(super) dead: u64,
    pub(super) tokens: u64,
    pub(super) tokens_known: u64,
    pub(super) cost: f64,
    pub(super) cost_known: u64,
    /// Start of the oldest and of the newest run.
    pub(super) span: Option<(Timestamp, Timestamp)>,
}

/// What a bar is made of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slice {
    pub(super) by_class: [u64; CLASSES.len()],
    pub(super) tokens: u64,
    pub(super) cost: f64,
}

impl AddAssign for Slice {
    fn add_assign(&mut self, other: Self) {
        self.by_class.iter_mut().zip(other.by_class).for_each(|(sum, count)| *sum += count);
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.cost += other.cost;
    }
}

/// The runs with most of something, the most first.
#[derive(Debug, Default)]
pub(super) struct Top(pub(super) Vec<(f64, Rc<Row>)>);

impl Top {
    fn offer(&mut self, value: f64, run: &Rc<Row>) {
        let at = self.0.partition_point(|(kept, _)| *kept >= value);
        if at < TOP {
            self.0.insert(at, (value, Rc::clone(run)));
            self.0.truncate(TOP);
        }
    }
}

/// Reads the log.
pub(super) fn gather(state: &StateDir, request: &ReportRequest, warn: &mut dyn Write) -> anyhow::Result<Gathered> {
    let log = RunLog::at(state.path());
    let mut gathered = Gathered::new();
    let waiting = waiting(state, warn)?;
    for line in log.newest_first()? {
        let line = line?;
        let Some(row) = gathered.parse(&line, &log, warn)? else { continue };
        if !request.agents.is_empty() && !request.agents.contains(&row.agent) {
            continue;
        }
        gathered.streaks.take(&row);
        let began = row.start_time;
        if request.since.is_some_and(|since| began < since) || request.until.is_some_and(|until| began >= until) {
            continue;
        }
        let is_dead = waiting.contains(&row.run_id);
        gathered.take(row, is_dead);
    }
    Ok(gathered)
}

/// The failed runs that were neither redriven with success nor acknowledged. They are a part of the page, not a condition
/// of it: where they cannot be told, none is named.
fn waiting(state: &StateDir, warn: &mut dyn Write) -> anyhow::Result<HashSet<RunId>> {
    match Letters::at(state).waiting() {
        Ok(letters) => Ok(letters.into_iter().map(|letter| letter.run_id).collect()),
        Err(error) => {
            let what = format!("{:#}", anyhow::Error::from(error).context("the dead letters cannot be told"));
            unless_closed(writeln!(warn, "agentguard: warning: {}", escape(what.as_bytes())))?;
            Ok(HashSet::new())
        }
    }
}

impl Gathered {
    fn new() -> Self {
        Self {
            totals: Totals::default(),
            durations: Vec::new(),
            history: Histogram::new(),
            agents: Agents::default(),
            slowest: Top::default(),
            costliest: Top::default(),
            dead: Vec::new(),
            failures: Vec::new(),
            newest: Vec::new(),
            island: Island::default(),
            streaks: Streaks::default(),
            damaged: 0,
        }
    }

    fn parse(&mut self, line: &Line, log: &RunLog, warn: &mut dyn Write) -> anyhow::Result<Option<Row>> {
        match serde_json::from_slice(&line.bytes) {
            Ok(row) => Ok(Some(row)),
            Err(error) => {
                self.damaged += 1;
                if self.damaged <= DAMAGES_NAMED {
                    let place = log.locate(line.offset);
                    let (path, offset) = (escape(place.path.as_os_str().as_encoded_bytes()), place.offset);
                    let what = escape(error.to_string().as_bytes());
                    unless_closed(writeln!(warn, "{path}: the line at byte {offset} is damaged: {what}"))?;
                }
                Ok(None)
            }
        }
    }

    fn take(&mut self, row: Row, is_dead: bool) {
        self.totals.take(&row, is_dead);
        let millis = row.millis();
        self.durations.push(u32::try_from(millis).unwrap_or(u32::MAX));
        let mut slice =
            Slice { tokens: row.tokens_used.unwrap_or(0), cost: row.cost_usd.unwrap_or(0.0), ..Slice::default() };
        slice.by_class[row.class()] = 1;
        self.history.add(row.start_time.unix_micros().div_euclid(1_000_000), slice);
        self.agents.take(&row);
        self.island.take(&row);
        let row = Rc::new(row);
        self.slowest.offer(millis as f64, &row);
        if let Some(cost) = row.cost_usd {
            self.costliest.offer(cost, &row);
        }
        let lists = [
            (&mut self.newest, PLAIN_ROWS, true),
            (&mut self.failures, DETAILED, is_failure(row.status)),
            (&mut self.dead, DEAD_NAMED, is_dead),
        ];
        for (list, most, wanted) in lists {
            if wanted && list.len() < most {
                list.push(Rc::clone(&row));
            }
        }
    }
}

impl Totals {
    fn take(&mut self, row: &Row, is_dead: bool) {
        self.runs += 1;
        self.succeeded += u64::from(row.error_class.is_none());
        self.published += u64::from(row.published);
        self.failed += u64::from(is_failure(row.status));
        self.cancelled += u64::from(row.status == crate::model::Status::Cancelled);
        self.retried += u64::from(row.attempts.len() > 1);
        self.dead += u64::from(is_dead);
        self.tokens = self.tokens.saturating_add(row.tokens_used.unwrap_or(0));
        self.tokens_known += u64::from(row.tokens_used.is_some());
        self.cost += row.cost_usd.unwrap_or(0.0);
        self.cost_known += u64::from(row.cost_usd.is_some());
        let start = row.start_time;
        self.span = Some(self.span.map_or((start, start), |(first, last)| (first.min(start), last.max(start))));
    }
}
