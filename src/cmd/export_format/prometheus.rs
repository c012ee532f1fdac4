//! Sums of all runs in the text format of Prometheus, for the node exporter's textfile collector: base units, counters
//! that end in `_total`, no timestamps, and labels of few values (agents beyond the first few hundred are one).

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::Export;
use crate::cmd::render::escape;
use crate::model::{RunRecord, Text};
use crate::rules::breaker::{State, state};
use crate::store::breakers::Breakers;
use crate::store::state_dir::StateDir;
use crate::sys::clock;

/// Agents that have series of their own.
const AGENTS: usize = 200;
/// Characters of a label's value.
const LABEL: usize = 100;
/// The label of all other agents.
const OTHERS: &str = "(other agents)";

/// Sums.
pub(super) struct Prometheus {
    state: Option<StateDir>,
    agents: BTreeMap<String, Sums>,
    runs: BTreeMap<(String, String, String), u64>,
}

#[derive(Default)]
struct Sums {
    attempts: u64,
    published: u64,
    runs: u64,
    seconds: f64,
    tokens: [u64; 4],
    without_tokens: u64,
    dollars: f64,
    without_cost: u64,
    last_run: f64,
    last_success: Option<f64>,
}

const TOKEN_TYPES: [&str; 4] = ["input_uncached", "input_cached", "cache_write", "output"];

impl Prometheus {
    pub(super) fn new(state: Option<StateDir>) -> Self {
        Self { state, agents: BTreeMap::new(), runs: BTreeMap::new() }
    }

    /// The value of the agent's label. Names that look the same are the same series.
    fn label(&self, agent: &Text) -> String {
        let label = label(agent);
        let known = self.agents.contains_key(&label) || self.agents.len() < AGENTS;
        if known { label } else { OTHERS.to_owned() }
    }

    /// Breakers that are remembered; those of other agents are closed.
    fn breakers(&self) -> BTreeMap<String, bool> {
        let mut open: BTreeMap<String, bool> = self.agents.keys().map(|agent| (agent.clone(), false)).collect();
        let Some(state_dir) = &self.state else { return open };
        let breakers = Breakers::at(state_dir);
        let now = clock::now();
        for agent in breakers.agents().unwrap_or_default() {
            let Ok(Some(breaker)) = breakers.read(&agent) else { continue };
            // One that would let a run through to try is not closed either.
            let is_open = state(&breaker, now) != State::Closed;
            let label = self.label(&agent);
            *open.entry(label).or_default() |= is_open;
        }
        open
    }
}

impl Export for Prometheus {
    fn add(&mut self, _: &[u8], run: &RunRecord, _: &mut dyn Write) -> io::Result<()> {
        let agent = self.label(&run.agent);
        let class = run.error_class.map(|class| class.to_string()).unwrap_or_default();
        *self.runs.entry((agent.clone(), run.status.to_string(), class)).or_default() += 1;
        let seconds = |micros: i64| micros as f64 / 1e6;
        let sums = self.agents.entry(agent).or_default();
        sums.runs += 1;
        sums.attempts += run.attempts.len() as u64;
        sums.published += u64::from(run.published);
        sums.seconds += seconds(run.end_time.unix_micros() - run.start_time.unix_micros()).max(0.0);
        match &run.usage {
            Some(usage) => {
                let counts = [usage.input_uncached, usage.input_cached, usage.cache_write, usage.output];
                sums.tokens.iter_mut().zip(counts).for_each(|(sum, count)| *sum = sum.saturating_add(count));
            }
            None => sums.without_tokens += 1,
        }
        match run.cost_usd {
            Some(dollars) => sums.dollars += dollars,
            None => sums.without_cost += 1,
        }
        let end = seconds(run.end_time.unix_micros());
        sums.last_run = sums.last_run.max(end);
        if run.error_class.is_none() {
            sums.last_success = Some(sums.last_success.unwrap_or(0.0).max(end));
        }
        Ok(())
    }

    fn finish(self: Box<Self>, out: &mut dyn Write) -> io::Result<()> {
        let runs = self.runs.iter().map(|((agent, status, class), count)| {
            (format!("agent=\"{agent}\",status=\"{status}\",class=\"{class}\""), *count as f64)
        });
        family(out, "agentguard_runs_total", "counter", "Runs that ended, by how.", runs)?;
        let of = |value: fn(&Sums) -> f64| {
            self.agents.iter().map(move |(agent, sums)| (format!("agent=\"{agent}\""), value(sums)))
        };
        family(out, "agentguard_attempts_total", "counter", "Attempts of all runs.", of(|sums| sums.attempts as f64))?;
        let published = of(|sums| sums.published as f64);
        family(out, "agentguard_published_runs_total", "counter", "Runs whose result was published.", published)?;
        duration(out, &self.agents)?;
        // A sum of nothing that is known is unknown, and not zero.
        let with_usage = self.agents.iter().filter(|(_, sums)| sums.without_tokens < sums.runs);
        let tokens = with_usage.flat_map(|(agent, sums)| {
            let labels = TOKEN_TYPES.map(|kind| format!("agent=\"{agent}\",type=\"{kind}\""));
            labels.into_iter().zip(sums.tokens.map(|count| count as f64))
        });
        family(out, "agentguard_tokens_total", "counter", "Tokens of the runs whose usage is known.", tokens)?;
        let unknown = of(|sums| sums.without_tokens as f64);
        family(out, "agentguard_runs_without_usage_total", "counter", "Runs whose usage is not known.", unknown)?;
        let with_cost = self.agents.iter().filter(|(_, sums)| sums.without_cost < sums.runs);
        let dollars = with_cost.map(|(agent, sums)| (format!("agent=\"{agent}\""), sums.dollars));
        family(
            out,
            "agentguard_cost_dollars_total",
            "counter",
            "US dollars of the runs whose cost is known.",
            dollars,
        )?;
        let unknown = of(|sums| sums.without_cost as f64);
        family(out, "agentguard_runs_without_cost_total", "counter", "Runs whose cost is not known.", unknown)?;
        let last = of(|sums| sums.last_run);
        family(out, "agentguard_last_run_timestamp_seconds", "gauge", "When the newest run ended.", last)?;
        let last =
            self.agents.iter().filter_map(|(agent, sums)| Some((format!("agent=\"{agent}\""), sums.last_success?)));
        family(out, "agentguard_last_success_timestamp_seconds", "gauge", "When the newest good run ended.", last)?;
        let open = self.breakers();
        let open = open.iter().map(|(agent, open)| (format!("agent=\"{agent}\""), f64::from(u8::from(*open))));
        family(out, "agentguard_breaker_open", "gauge", "1 while the agent's circuit breaker is not closed.", open)
    }
}

/// A summary without quantiles: sum and count of seconds.
fn duration(out: &mut dyn Write, agents: &BTreeMap<String, Sums>) -> io::Result<()> {
    const NAME: &str = "agentguard_run_duration_seconds";
    if agents.is_empty() {
        return Ok(());
    }
    writeln!(out, "# HELP {NAME} How long runs took.\n# TYPE {NAME} summary")?;
    agents.iter().try_for_each(|(agent, sums)| {
        writeln!(out, "{NAME}_sum{{agent=\"{agent}\"}} {}", sums.seconds)?;
        writeln!(out, "{NAME}_count{{agent=\"{agent}\"}} {}", sums.runs)
    })
}

/// One family of series; nothing where it has none.
fn family(
    out: &mut dyn Write,
    name: &str,
    kind: &str,
    help: &str,
    series: impl Iterator<Item = (String, f64)>,
) -> io::Result<()> {
    let mut series = series.peekable();
    if series.peek().is_none() {
        return Ok(());
    }
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
    for (labels, value) in series {
        // A sum that has overflowed is written as Prometheus has it.
        if value.is_infinite() {
            writeln!(out, "{name}{{{labels}}} +Inf")?;
        } else {
            writeln!(out, "{name}{{{labels}}} {value}")?;
        }
    }
    Ok(())
}

/// A label's value: what is no text is spelled out, then quotes and backslashes are escaped as the format says.
fn label(agent: &Text) -> String {
    let shown: String = escape(&agent.0[..agent.0.len().min(4 * LABEL)]).chars().take(LABEL).collect();
    shown.replace('\\', "\\\\").replace('"', "\\\"")
}
