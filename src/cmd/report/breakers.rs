//! The circuit breakers on the page: how they stand now, and when they were open, as the runs in the log tell it. What
//! a person decided (`trip`, `reset`) and how runs of other agents tried is in no record: only the present knows it.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::cmd::render::duration;
use crate::model::breaker::{BreakerPolicy, Cause};
use crate::model::error_kind::ErrorKind;
use crate::model::{RunId, Text, Timestamp};
use crate::rules::breaker::{State, Verdict, cooldown, state, verdict};
use crate::store::breakers::Breakers;
use crate::store::run_dir::RunDir;
use crate::store::state_dir::StateDir;

use super::ReportRequest;
use super::chart::{Lane, lanes};
use super::gather::Gathered;
use super::html;
use super::row::Row;
use super::words;

/// Openings that are listed, the newest ones.
const LISTED: usize = 30;
/// Agents that have a lane in the chart.
const LANES: usize = 12;

/// The runs of each agent that breakers count, newest first. Of successes that follow each other only the oldest is
/// kept: it is the one that closed.
#[derive(Debug, Default)]
pub(super) struct Streaks {
    by_agent: HashMap<Text, Vec<Counted>>,
    /// Runs that were refused.
    pub(super) refused: u64,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    verdict: Verdict,
    run: RunId,
    time: Timestamp,
}

/// A time in which a breaker was not closed.
struct Opening {
    agent: Text,
    opened: Timestamp,
    closed: Option<Timestamp>,
    /// The run that opened it.
    by: RunId,
    /// Failures until it closed.
    failures: u64,
}

impl Streaks {
    pub(super) fn take(&mut self, row: &Row) {
        let refused = row.error.as_ref().is_some_and(|error| error.kind == ErrorKind::UpstreamOpen);
        self.refused += u64::from(refused);
        let verdict = verdict(&row.ending());
        if verdict == Verdict::Nothing {
            return;
        }
        let counted = Counted { verdict, run: row.run_id, time: row.end_time };
        let runs = match self.by_agent.get_mut(&row.agent) {
            Some(runs) => runs,
            None => self.by_agent.entry(row.agent.clone()).or_default(),
        };
        match runs.last_mut() {
            Some(last) if last.verdict == Verdict::Success && verdict == Verdict::Success => *last = counted,
            _ => runs.push(counted),
        }
    }

    /// When breakers opened and closed, newest first.
    fn openings(&self, state: &StateDir) -> Vec<Opening> {
        let mut openings = Vec::new();
        for (agent, runs) in &self.by_agent {
            let mut streak: Vec<&Counted> = Vec::new();
            for counted in runs.iter().rev() {
                match counted.verdict {
                    Verdict::Failure => streak.push(counted),
                    _ => openings.extend(opening(state, agent, &std::mem::take(&mut streak), Some(counted.time))),
                }
            }
            openings.extend(opening(state, agent, &streak, None));
        }
        openings.sort_by(|left, right| right.opened.cmp(&left.opened).then_with(|| left.agent.cmp(&right.agent)));
        openings
    }
}

/// What failures in a row came to. The policy is no part of a record: where the directory of the run is gone, the
/// default one is taken for it.
fn opening(state: &StateDir, agent: &Text, streak: &[&Counted], closed: Option<Timestamp>) -> Option<Opening> {
    let policy = || RunDir::of(state, streak.first()?.run).read_spec().ok().map(|spec| spec.breaker);
    let threshold = policy().unwrap_or(BreakerPolicy::default()).threshold;
    let last = streak.get(usize::try_from(threshold.max(1) - 1).ok()?)?;
    let failures = streak.len() as u64;
    Some(Opening { agent: agent.clone(), opened: last.time, closed, by: last.run, failures })
}

/// The section of the page.
pub(super) fn section(
    state: &StateDir,
    request: &ReportRequest,
    gathered: &Gathered,
    now: Timestamp,
) -> anyhow::Result<String> {
    let mut html = standing(state, request, now)?;
    let mut openings = gathered.streaks.openings(state);
    openings.retain(|opening| {
        request.until.is_none_or(|until| opening.opened < until)
            && request.since.is_none_or(|since| opening.closed.is_none_or(|closed| closed >= since))
    });
    if openings.is_empty() {
        html.push_str("<p class=\"note\">No agent failed often enough in a row to open its breaker.</p>\n");
        return Ok(html);
    }
    if let Some((first, last)) = gathered.totals.span {
        html.push_str(&chart(&openings, request, first, last));
    }
    html.push_str(&table(&openings));
    if gathered.streaks.refused > 0 {
        // Writing to a String cannot fail.
        _ = writeln!(
            html,
            "<p class=\"note\">{} runs in the log were not started because what they need was broken.</p>",
            words::count(gathered.streaks.refused)
        );
    }
    Ok(html)
}

/// Breakers that are not closed now.
fn standing(state_dir: &StateDir, request: &ReportRequest, now: Timestamp) -> anyhow::Result<String> {
    let breakers = Breakers::at(state_dir);
    // Where nothing was built there is nothing that the openings do not tell, and it would take another look at the log.
    let names = if breakers.is_built() { breakers.agents()? } else { Vec::new() };
    let peek = if names.is_empty() { None } else { Some(breakers.peek()?) };
    let mut items = String::new();
    for agent in names.iter().filter(|agent| request.agents.is_empty() || request.agents.contains(agent)).take(LISTED) {
        let Some(breaker) = peek.as_ref().map(|peek| peek.read(agent)).transpose()? else { continue };
        let Some(opened) = &breaker.opened else { continue };
        let (word, next) = match state(&breaker, now) {
            State::HalfOpen => ("half open", "the next run that needs it tries".to_owned()),
            _ => ("open", format!("next try at {}", words::time(opened.next_probe))),
        };
        let why = match opened.cause {
            Cause::Failures => format!("failed {} times in a row", breaker.consecutive),
            Cause::Tripped => "tripped by hand".to_owned(),
        };
        let long = duration(cooldown(opened));
        // Writing to a String cannot fail.
        _ = writeln!(
            items,
            "<li><b>{}</b> is <span class=\"bad\">{word}</span>: {why}; {next} (cool-down {long})</li>",
            html::name(agent)
        );
    }
    Ok(match items.is_empty() {
        true => "<p>No breaker is open now.</p>\n".to_owned(),
        false => format!("<ul>\n{items}</ul>\n"),
    })
}

fn chart(openings: &[Opening], request: &ReportRequest, first: Timestamp, last: Timestamp) -> String {
    let start = request.since.map_or(first, |since| since.max(first));
    let ends = openings.iter().map(|opening| opening.closed.unwrap_or(opening.opened));
    let last = ends.fold(last, Timestamp::max);
    let mut order: Vec<&Text> = Vec::new();
    for opening in openings {
        if !order.contains(&&opening.agent) && order.len() < LANES {
            order.push(&opening.agent);
        }
    }
    let lanes_of: Vec<Lane> = order
        .iter()
        .map(|agent| Lane {
            name: html::text(&agent.0, 20),
            spans: openings
                .iter()
                .filter(|opening| opening.agent == **agent)
                .map(|opening| (opening.opened, opening.closed.unwrap_or(last)))
                .collect(),
        })
        .collect();
    lanes(&lanes_of, start, last)
}

fn table(openings: &[Opening]) -> String {
    let mut table = String::from(
        "<div class=\"wide tall\" tabindex=\"0\"><table><thead><tr><th>Agent</th><th>Opened</th><th>Closed</th><th class=\"n\">For</th>\
         <th class=\"n\">Failures in a row</th><th>Opened by run</th></tr></thead><tbody>\n",
    );
    for opening in openings.iter().take(LISTED) {
        let (closed, lasted) = match opening.closed {
            Some(closed) => (words::time(closed), words::millis(super::row::millis_between(opening.opened, closed))),
            None => ("no success since".to_owned(), words::UNKNOWN.to_owned()),
        };
        // Writing to a String cannot fail.
        _ = writeln!(
            table,
            "<tr><td>{}</td><td>{}</td><td>{closed}</td><td class=\"n\">{lasted}</td><td class=\"n\">{}</td>\
             <td><code>{}</code></td></tr>",
            html::name(&opening.agent),
            words::time(opening.opened),
            words::count(opening.failures),
            opening.by.short(),
        );
    }
    table.push_str("</tbody></table></div>\n");
    if openings.len() > LISTED {
        // Writing to a String cannot fail.
        _ = writeln!(
            table,
            "<p class=\"note\">The newest {LISTED} of {} are listed.</p>",
            words::count(openings.len() as u64)
        );
    }
    table
}
