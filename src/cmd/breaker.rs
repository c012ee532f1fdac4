//! `agentguard breaker`: which agents are broken and what waits for them; and a person's word on it.

use std::io::Write;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::render::{Cell, Paint, Table, Tint, escape, indent_json, local_time, truncate};
use crate::model::breaker::{Breaker, Cause, CountedFailure};
use crate::model::{RunId, Text, Timestamp};
use crate::rules::breaker::{State, cooldown, reset, state, trip};
use crate::rules::nearest::nearest;
use crate::rules::upstream::{Needs, dependents};
use crate::run::breaker::rebuilt;
use crate::store::breakers::{BreakerError, Breakers, Locked};
use crate::store::state_dir::StateDir;
use crate::sys::clock;

/// The widest agent name in the table, in terminal columns.
const AGENT_WIDTH: usize = 24;

/// The form of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListForm {
    /// Columns for people, cut to the width of the terminal where there is one.
    Table {
        /// Terminal columns.
        width: Option<usize>,
        /// Colour or not.
        paint: Paint,
    },
    /// One JSON array.
    Json,
}

/// What a person decides about a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Everything goes through again.
    Reset,
    /// Nothing that needs the agent does, for so long.
    Trip(std::time::Duration),
}

/// Whose breakers are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Of these agents.
    Of(Vec<String>),
    /// Of all that are not closed.
    All,
}

/// One breaker, as it is listed.
#[derive(Debug, Serialize)]
struct Row {
    agent: Text,
    state: &'static str,
    since: Option<Timestamp>,
    consecutive: u32,
    cause: Option<Cause>,
    cooldown_ms: Option<u64>,
    next_probe: Option<Timestamp>,
    probe: Option<RunId>,
    failures: Vec<CountedFailure>,
    needs: Vec<String>,
    blocks: Vec<Text>,
}

/// Lists the breakers of all agents that ever ran, the open ones first; what was damaged is named on `warn`.
pub fn list(state_dir: &StateDir, form: ListForm, out: &mut dyn Write, warn: &mut dyn Write) -> anyhow::Result<()> {
    let breakers = Breakers::at(state_dir);
    let needs = breakers.needs()?;
    let now = clock::now();
    let mut rows = Vec::with_capacity(needs.len());
    let mut agents: Vec<Text> = needs.keys().cloned().collect();
    // One that was tripped before it ever ran.
    agents.extend(breakers.agents()?.into_iter().filter(|agent| !needs.contains_key(agent)));
    for agent in agents {
        let breaker = match breakers.read(&agent) {
            Err(BreakerError::Damaged { .. }) => {
                let mut locked = breakers.lock()?;
                let breaker = locked.read(&agent)?;
                say_rebuilt(&locked, warn)?;
                breaker
            }
            read => read?.unwrap_or_else(|| Breaker::closed(agent)),
        };
        rows.push(row(&breakers, breaker, &needs, now));
    }
    rows.sort_by(|left, right| (left.state == "closed", &left.agent).cmp(&(right.state == "closed", &right.agent)));
    match form {
        ListForm::Json => {
            let json = serde_json::to_vec(&rows).context("list the breakers")?;
            out.write_all(indent_json(&json)?.as_bytes())?;
        }
        ListForm::Table { width, paint } => table(&rows, width, paint, out)?,
    }
    Ok(())
}

fn say_rebuilt(locked: &Locked<'_>, warn: &mut dyn Write) -> anyhow::Result<()> {
    for agent in locked.rebuilt() {
        writeln!(warn, "agentguard: warning: {}", escape(rebuilt(agent).as_bytes()))?;
    }
    Ok(())
}

fn row(breakers: &Breakers, breaker: Breaker, needs: &Needs, now: Timestamp) -> Row {
    let state = state(&breaker, now);
    let opened = breaker.opened.as_ref();
    let blocks = if state == State::Closed { Vec::new() } else { dependents(&breaker.agent, needs) };
    Row {
        state: match state {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
        },
        since: match (state, opened) {
            // A clock that was set back has the cool-down end before it began.
            (State::HalfOpen, Some(opened)) => Some(opened.next_probe.min(now)),
            _ => breaker.since,
        },
        consecutive: breaker.consecutive,
        cause: opened.map(|opened| opened.cause),
        cooldown_ms: opened.map(|opened| u64::try_from(cooldown(opened).as_millis()).unwrap_or(u64::MAX)),
        next_probe: opened.map(|opened| opened.next_probe),
        probe: opened.and_then(|opened| opened.probe).filter(|run| breakers.is_alive(*run)),
        needs: needs.get(&breaker.agent).cloned().unwrap_or_default(),
        failures: breaker.failures,
        agent: breaker.agent,
        blocks,
    }
}

fn table(rows: &[Row], width: Option<usize>, paint: Paint, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut titles = vec![Cell::left("AGENT"), Cell::left("STATE"), Cell::left("SINCE"), Cell::right("FAILED")];
    titles.extend([Cell::left("NEXT PROBE"), Cell::left("BLOCKS")]);
    let mut table = Table::new(out, paint, width, titles);
    for row in rows {
        let blocks: Vec<String> = row.blocks.iter().map(|agent| escape(&agent.0)).collect();
        let next = match (row.probe, row.next_probe) {
            (Some(run), _) => format!("run {} tries", run.short()),
            (None, Some(_)) if row.state == "half_open" => "the next run".to_owned(),
            (None, next) => next.map_or_else(|| "-".to_owned(), local_time),
        };
        let (word, tint) = match row.state {
            "closed" => ("closed", Tint::Green),
            "open" => ("open", Tint::Red),
            _ => ("half open", Tint::Yellow),
        };
        table.row(vec![
            Cell::left(truncate(&escape(&row.agent.0), AGENT_WIDTH)),
            Cell::left(word).tinted(tint),
            Cell::left(row.since.map_or_else(|| "-".to_owned(), local_time)),
            Cell::right(row.consecutive.to_string()),
            Cell::left(next),
            Cell::left(blocks.join(" ")),
        ])?;
    }
    Ok(table.finish()?)
}

/// Carries out what a person decided, and says it.
pub fn decide(
    state_dir: &StateDir,
    whose: &Whose,
    decision: Decision,
    out: &mut dyn Write,
    warn: &mut dyn Write,
) -> anyhow::Result<()> {
    let breakers = Breakers::at(state_dir);
    let needs = breakers.needs()?;
    let with_breaker = breakers.agents()?;
    let named: Vec<Text> = match whose {
        Whose::All => with_breaker.clone(),
        Whose::Of(names) => names.iter().map(|name| Text::from(name.as_str())).collect(),
    };
    for agent in named.iter().filter(|agent| !needs.contains_key(agent) && !with_breaker.contains(agent)) {
        let names: Vec<_> = needs.keys().map(Text::to_string_lossy).collect();
        let near = nearest(&agent.to_string_lossy(), names.iter().map(AsRef::as_ref))
            .map_or_else(String::new, |near| format!(": did you mean {near:?}?"));
        let what = format!("no run of agent {:?} is known here{near}", agent.to_string_lossy());
        if decision == Decision::Reset {
            bail!(what);
        }
        writeln!(warn, "agentguard: warning: {}", escape(what.as_bytes()))?;
    }
    let mut locked = breakers.lock()?;
    let mut changed = 0;
    for agent in named {
        let mut breaker = locked.read(&agent)?;
        let name = escape(&agent.0);
        let was_well = breaker.opened.is_none() && breaker.consecutive == 0;
        match decision {
            Decision::Reset if was_well && *whose == Whose::All => continue,
            Decision::Reset if was_well => writeln!(out, "{name} was closed and had not failed")?,
            Decision::Reset => {
                reset(&mut breaker, clock::now());
                writeln!(out, "{name} is closed; its failures are forgotten")?;
            }
            Decision::Trip(cooldown) => {
                trip(&mut breaker, clock::now(), cooldown);
                let until = breaker.opened.as_ref().map(|opened| local_time(opened.next_probe)).unwrap_or_default();
                writeln!(out, "{name} is open until {until}: what needs it is refused")?;
            }
        }
        locked.write(breaker)?;
        changed += 1;
    }
    say_rebuilt(&locked, warn)?;
    if changed == 0 {
        writeln!(out, "no breaker is open")?;
    }
    Ok(())
}
