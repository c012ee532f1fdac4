//! `agentguard diff RUN RUN`: one line for every fact in which two runs differ.

use std::io::Write;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;

use super::record;
use super::trees::{Listing, PathChange, inputs, outputs, path_changes};
use crate::cmd::render::{cost, duration_between, escape, shell_quote, unless_closed};
use crate::model::spec::RunSpec;
use crate::model::{Digest, RunRecord, Text};
use crate::rules::redact::{REDACTED, redact_text};
use crate::store::run_dir::RunDir;
use crate::store::state_dir::StateDir;

/// Paths that are named after a fact about many.
const NAMED_PATHS: usize = 20;

/// The form of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareForm {
    /// Lines for people.
    Lines,
    /// One JSON object.
    Json,
}

/// How two runs differ.
#[derive(Debug, Serialize)]
struct Comparison {
    first: String,
    second: String,
    facts: Vec<Fact>,
    /// Paths of the inputs; null where one side is not known any more.
    inputs: Option<Vec<PathChange>>,
    outputs: Option<Vec<PathChange>>,
}

/// One fact in which they differ.
#[derive(Debug, Serialize)]
struct Fact {
    fact: String,
    first: Value,
    second: Value,
    /// The same for people.
    #[serde(skip)]
    words: String,
}

/// Says on `out` how the second run differs from the first.
pub fn compare(state: &StateDir, runs: [&str; 2], form: CompareForm, out: &mut dyn Write) -> anyhow::Result<()> {
    let [first, second] = [record(state, runs[0])?, record(state, runs[1])?];
    let mut facts = Facts::default();
    command_facts(&mut facts, state, &first, &second);
    place_facts(&mut facts, &first, &second);
    let inputs = paths(&mut facts, "inputs", [first.input_hash, second.input_hash], || {
        [inputs(state, &first), inputs(state, &second)]
    });
    environment_facts(&mut facts, state, &first, &second);
    end_facts(&mut facts, &first, &second);
    let outputs = paths(&mut facts, "outputs", [first.output_hash, second.output_hash], || {
        [outputs(state, &first), outputs(state, &second)]
    });
    usage_facts(&mut facts, &first, &second);
    let (first, second) = (first.run_id.to_string(), second.run_id.to_string());
    let comparison = Comparison { first, second, facts: facts.0, inputs, outputs };
    let text = match form {
        CompareForm::Lines => comparison.lines(),
        CompareForm::Json => serde_json::to_string_pretty(&comparison).context("write the comparison")? + "\n",
    };
    unless_closed(out.write_all(text.as_bytes()).and_then(|()| out.flush())).context("write the comparison")
}

/// Facts being gathered.
#[derive(Debug, Default)]
struct Facts(Vec<Fact>);

impl Facts {
    /// A fact, if its values differ; `words` shows one of them.
    fn add<T: PartialEq + Serialize>(&mut self, fact: &str, first: &T, second: &T, words: impl Fn(&T) -> String) {
        if first != second {
            self.push(fact, [first, second], format!("{} -> {}", words(first), words(second)));
        }
    }

    fn push<T: Serialize>(&mut self, fact: &str, values: [&T; 2], words: String) {
        // Strings, numbers and lists of them: nothing that JSON has no form for.
        let [first, second] = values.map(|value| serde_json::to_value(value).unwrap_or(Value::Null));
        self.0.push(Fact { fact: fact.to_owned(), first, second, words });
    }
}

fn text(text: &Text) -> String {
    escape(&text.0)
}

fn word(word: &impl Serialize) -> String {
    match serde_json::to_value(word) {
        Ok(Value::String(word)) => escape(word.as_bytes()),
        Ok(Value::Null) | Err(_) => "none".to_owned(),
        Ok(other) => other.to_string(),
    }
}

fn command_facts(facts: &mut Facts, state: &StateDir, first: &RunRecord, second: &RunRecord) {
    facts.add("agent", &first.agent, &second.agent, text);
    facts.add("command", &first.command, &second.command, |command| shell_quote(command));
    let [exact_first, exact_second] = [first, second].map(|run| spec_of(state, run).map(|spec| spec.command));
    if first.command == second.command && exact_first.is_some() && exact_second.is_some() && exact_first != exact_second
    {
        let shown = "differs in what is redacted".to_owned();
        facts.push("command", [&first.command, &second.command], shown);
    }
    facts.add("cwd", &first.cwd, &second.cwd, text);
}

fn place_facts(facts: &mut Facts, first: &RunRecord, second: &RunRecord) {
    facts.add("mode", &first.mode, &second.mode, word);
    facts.add("targets", &first.targets, &second.targets, |targets| {
        targets.iter().map(text).collect::<Vec<_>>().join(" ")
    });
    let [view_first, view_second] = [first, second].map(|run| &run.isolation);
    facts.add("view", &view_first.view, &view_second.view, word);
    facts.add("isolation", &view_first.level, &view_second.level, word);
    facts.add("landlock", &view_first.landlock_abi, &view_second.landlock_abi, word);
    facts.add("network", &view_first.network, &view_second.network, word);
}

fn environment_facts(facts: &mut Facts, state: &StateDir, first: &RunRecord, second: &RunRecord) {
    let (Some(first), Some(second)) = (spec_of(state, first), spec_of(state, second)) else { return };
    let (first, second) = (first.environment, second.environment);
    let names: std::collections::BTreeSet<&Text> = first.keys().chain(second.keys()).collect();
    for name in names {
        let values = [first.get(name), second.get(name)];
        if values[0] == values[1] {
            continue;
        }
        let shown = values.map(|value| value.map(|value| redacted(name, value)));
        let words = |value: &Option<Text>| value.as_ref().map_or_else(|| "not set".to_owned(), text);
        let fact = format!("environment {}", text(name));
        match &shown {
            [one, other] if one == other => facts.push(&fact, [one, other], "differs in what is redacted".to_owned()),
            [one, other] => facts.add(&fact, one, other, words),
        }
    }
}

/// A value, unless its name or its shape says that it is secret.
fn redacted(name: &Text, value: &Text) -> Text {
    let assignment = Text([&name.0[..], b"=", &value.0].concat());
    if redact_text(&assignment) == assignment { value.clone() } else { REDACTED.into() }
}

fn end_facts(facts: &mut Facts, first: &RunRecord, second: &RunRecord) {
    facts.add("status", &first.status, &second.status, word);
    facts.add("error class", &first.error_class, &second.error_class, word);
    let kind = |run: &RunRecord| run.error.as_ref().map(|error| error.kind);
    facts.add("error", &kind(first), &kind(second), word);
    facts.add("exit code", &first.exit_code, &second.exit_code, word);
    facts.add("signal", &first.signal, &second.signal, word);
    facts.add("published", &first.published, &second.published, word);
}

fn usage_facts(facts: &mut Facts, first: &RunRecord, second: &RunRecord) {
    facts.add("tokens", &first.tokens_used, &second.tokens_used, |count| {
        count.map_or_else(|| "unknown".to_owned(), |count| count.to_string())
    });
    facts.add("cost", &first.cost_usd, &second.cost_usd, |dollars| {
        dollars.map_or_else(|| "unknown".to_owned(), |dollars| cost(Some(dollars)))
    });
    // A person sees no difference of microseconds.
    let took = |run: &RunRecord| duration_between(run.start_time, run.end_time);
    facts.add("duration", &took(first), &took(second), Clone::clone);
}

/// The fact that paths differ, and which.
fn paths(
    facts: &mut Facts,
    fact: &str,
    hashes: [Option<Digest>; 2],
    listings: impl FnOnce() -> [anyhow::Result<Listing>; 2],
) -> Option<Vec<PathChange>> {
    let [first, second] = listings();
    match (first, second) {
        (Ok(first), Ok(second)) => {
            let changes = path_changes(&first, &second);
            if !changes.is_empty() {
                facts.push(fact, [&hashes[0], &hashes[1]], lines_of(&changes));
            }
            Some(changes)
        }
        (Err(error), _) | (_, Err(error)) => {
            if hashes[0] != hashes[1] {
                let why = escape(format!("{error:#}").as_bytes());
                facts.push(fact, [&hashes[0], &hashes[1]], format!("differ; in which paths is not known: {why}"));
            }
            None
        }
    }
}

/// Counts, then the first paths, a line each.
fn lines_of(changes: &[PathChange]) -> String {
    let count = |word| changes.iter().filter(|change| change.what == word).count();
    let mut lines = format!("{} added, {} removed, {} changed", count("added"), count("removed"), count("changed"));
    for change in changes.iter().take(NAMED_PATHS) {
        lines += &format!("\n  {:<7}  {}", change.what, text(&change.path));
    }
    if changes.len() > NAMED_PATHS {
        lines += &format!("\n  and {} more", changes.len() - NAMED_PATHS);
    }
    lines
}

fn spec_of(state: &StateDir, run: &RunRecord) -> Option<RunSpec> {
    RunDir::of(state, run.run_id).read_spec().ok()
}

impl Comparison {
    fn lines(&self) -> String {
        if self.facts.is_empty() {
            return format!("runs {} and {} do not differ\n", self.first, self.second);
        }
        self.facts.iter().map(|fact| format!("{}: {}\n", fact.fact, fact.words)).collect()
    }
}
