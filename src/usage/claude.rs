//! Claude Code (`--output-format json` and `stream-json`), and whatever speaks like it.
//!
//! `result.modelUsage` has exact figures by model, `result.usage` those of the run; before there is a result, each
//! `assistant` message has its own, told several times while it streams: the largest of each id counts. An API failure is
//! `subtype: "success"` with `is_error: true`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::Tokens;
use crate::model::error_kind::ErrorKind;

use super::adapter::{Adapter, Heard};
use super::api_error::Verdict;
use super::figures::{Entry, Figures};
use super::json::{at, count, dollars, members, parse, status, text};
use super::qwen;

/// Whose figures they are: the same words mean different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// Input without what came from the cache.
    Claude,
    /// Input with it.
    Qwen,
}

/// The reader.
#[derive(Debug)]
pub(super) struct Claude {
    dialect: Dialect,
    model: Option<String>,
    /// Model and tokens by message id.
    messages: BTreeMap<String, (Option<String>, Tokens)>,
    /// By session: figures of its last result.
    results: BTreeMap<String, Figures>,
    verdict: Option<Verdict>,
    is_mine: bool,
    /// Whether a tool was used: an empty answer after work is an answer.
    worked: bool,
}

impl Claude {
    /// For Claude Code.
    pub(super) fn new() -> Self {
        let (messages, results) = Default::default();
        Self { dialect: Dialect::Claude, model: None, messages, results, verdict: None, is_mine: false, worked: false }
    }

    /// For qwen-code.
    pub(super) fn qwen() -> Self {
        Self { dialect: Dialect::Qwen, ..Self::new() }
    }

    fn system(&mut self, line: &Value) -> Heard {
        if text(line, &["subtype"]) != Some("init") {
            return Heard::Nothing;
        }
        let dialect = if line.get("qwen_code_version").is_some() { Dialect::Qwen } else { Dialect::Claude };
        if dialect != self.dialect {
            return Heard::Nothing;
        }
        (self.is_mine, self.worked) = (true, false);
        self.model = text(line, &["model"]).map(str::to_owned);
        Heard::Something
    }

    fn assistant(&mut self, line: &Value) -> Heard {
        let (Some(usage), true) = (at(line, &["message", "usage"]), self.is_mine) else { return Heard::Nothing };
        let content = at(line, &["message", "content"]).and_then(Value::as_array).into_iter().flatten();
        self.worked |= content.into_iter().any(|part| text(part, &["type"]) == Some("tool_use"));
        let id = text(line, &["message", "id"]).unwrap_or_default().to_owned();
        let model = text(line, &["message", "model"]).map(str::to_owned).or_else(|| self.model.clone());
        let tokens = self.tokens(usage);
        let known = self.messages.entry(id).or_insert((model, Tokens::default()));
        known.1 = known.1.larger(tokens);
        Heard::Something
    }

    fn tokens(&self, usage: &Value) -> Tokens {
        match self.dialect {
            Dialect::Claude => tokens(usage),
            Dialect::Qwen => qwen::tokens(usage),
        }
    }

    fn result(&mut self, line: &Value) -> Heard {
        let (Some(usage), Some(subtype)) = (line.get("usage"), text(line, &["subtype"])) else { return Heard::Nothing };
        if usage.get("input_tokens").is_none() || text(line, &["session_id"]).is_none() {
            return Heard::Nothing;
        }
        let is_qwen = usage.get("total_tokens").is_some();
        if !self.is_mine && is_qwen != (self.dialect == Dialect::Qwen) {
            return Heard::Nothing;
        }
        self.is_mine = true;
        let session = text(line, &["session_id"]).unwrap_or_default().to_owned();
        let figures = self.figures_of(line, usage);
        self.results.insert(session, figures);
        self.verdict = self.judge(line, subtype);
        Heard::Outcome
    }

    fn figures_of(&self, line: &Value, usage: &Value) -> Figures {
        let by_model: Vec<Entry> = members(line, &["modelUsage"])
            .map(|(model, usage)| Entry { model: Some(model.clone()), tokens: model_tokens(usage), calls: None })
            .collect();
        let mut figures = Figures::of(self.model.clone(), self.tokens(usage));
        if by_model.iter().any(|entry| !entry.tokens.is_nothing()) {
            figures.entries = by_model;
        }
        figures.cost_usd = dollars(line, &["total_cost_usd"]);
        figures
    }

    fn judge(&self, line: &Value, subtype: &str) -> Option<Verdict> {
        let said = text(line, &["result"]).unwrap_or_default();
        let listed = at(line, &["errors"]).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let errors = listed.collect::<Vec<_>>().join("; ");
        let words = if errors.is_empty() { said } else { &errors };
        let is_error = at(line, &["is_error"]).and_then(Value::as_bool).unwrap_or(false);
        // Claude Code has a word for it; qwen-code only says so.
        let tells_of_api = self.dialect == Dialect::Qwen && said.starts_with("[API Error");
        if is_error || tells_of_api {
            let words = if words.is_empty() { subtype } else { words };
            return Some(Verdict::of_error(status(line, &["api_error_status"]), words));
        }
        if subtype.starts_with("error") {
            let words = if words.is_empty() { subtype } else { words };
            return Some(Verdict::new(ErrorKind::AgentReported, words));
        }
        let one_turn = count(line, &["num_turns"]).is_none_or(|turns| turns <= 1);
        let is_empty =
            at(line, &["result"]).is_some() && line.get("structured_output").is_none() && said.trim().is_empty();
        (is_empty && one_turn && !self.worked).then(|| Verdict::new(ErrorKind::EmptyOutput, "its answer was empty"))
    }
}

/// Figures of which the input does not include what the cache has to do with.
fn tokens(usage: &Value) -> Tokens {
    let number = |key: &str| count(usage, &[key]).unwrap_or(0);
    let hour = count(usage, &["cache_creation", "ephemeral_1h_input_tokens"]).unwrap_or(0);
    Tokens {
        input_uncached: number("input_tokens"),
        input_cached: number("cache_read_input_tokens"),
        cache_write: number("cache_creation_input_tokens").max(hour),
        cache_write_hour: hour,
        output: number("output_tokens"),
        reasoning: None,
    }
}

/// The same by another spelling.
fn model_tokens(usage: &Value) -> Tokens {
    let number = |key: &str| count(usage, &[key]).unwrap_or(0);
    Tokens {
        input_uncached: number("inputTokens"),
        input_cached: number("cacheReadInputTokens"),
        cache_write: number("cacheCreationInputTokens"),
        output: number("outputTokens"),
        ..Tokens::default()
    }
}

impl Adapter for Claude {
    fn format(&self) -> &'static str {
        match self.dialect {
            Dialect::Claude => "claude",
            Dialect::Qwen => "qwen",
        }
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["system", "assistant", "result"]
    }

    fn json(&mut self, kind: &str, line: &[u8]) -> Heard {
        // Most lines of other agents, which use the same words.
        if kind == "assistant" && !self.is_mine {
            return Heard::Nothing;
        }
        let Some(line) = parse(line) else { return Heard::Nothing };
        match kind {
            "system" => self.system(&line),
            "assistant" => self.assistant(&line),
            _ => self.result(&line),
        }
    }

    fn figures(&self) -> Option<Figures> {
        if !self.is_mine {
            return None;
        }
        let told = self.results.values().cloned().reduce(Figures::and).and_then(Figures::unless_nothing);
        told.or_else(|| {
            let entries = self.messages.values();
            let entries =
                entries.map(|(model, tokens)| Entry { model: model.clone(), tokens: *tokens, calls: Some(1) });
            // Output is counted while it streams: what stands here is some of it.
            let figures = Figures { entries: entries.collect(), calls: None, cost_usd: None, exact: false };
            figures.unless_nothing()
        })
    }

    fn verdict(&self) -> Option<Verdict> {
        self.verdict.clone()
    }
}
