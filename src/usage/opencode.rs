//! opencode `run --format json`: each `step_finish` has the figures of one call, to be added up; the call that invents a
//! title is told nowhere, so that they are never all.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::model::Tokens;
use crate::model::error_kind::ErrorKind;

use super::adapter::{Adapter, Heard};
use super::api_error::Verdict;
use super::figures::{Entry, Figures};
use super::json::{at, count, dollars, parse, status, text};

/// The reader.
#[derive(Debug, Default)]
pub(super) struct OpenCode {
    steps: Vec<Entry>,
    seen: BTreeSet<String>,
    cost_usd: f64,
    verdict: Option<Verdict>,
    /// Whether it said or did anything.
    worked: bool,
}

impl OpenCode {
    fn step(&mut self, line: &Value) -> Heard {
        let Some(told) = at(line, &["part", "tokens"]) else { return Heard::Nothing };
        let id = text(line, &["part", "id"]).unwrap_or_default();
        if !id.is_empty() && !self.seen.insert(id.to_owned()) {
            return Heard::Something;
        }
        let number = |path: &[&str]| count(told, path).unwrap_or(0);
        let reasoning = number(&["reasoning"]);
        let tokens = Tokens {
            input_uncached: number(&["input"]),
            input_cached: number(&["cache", "read"]),
            cache_write: number(&["cache", "write"]),
            output: number(&["output"]).saturating_add(reasoning),
            reasoning: Some(reasoning),
            ..Tokens::default()
        };
        self.steps.push(Entry { model: None, tokens, calls: Some(1) });
        self.cost_usd += dollars(line, &["part", "cost"]).unwrap_or(0.0);
        self.verdict = match text(line, &["part", "reason"]) {
            Some("unknown" | "error") => {
                Some(Verdict::new(ErrorKind::ApiStreamCut, "an answer ended without a reason"))
            }
            Some("stop") if !self.worked => Some(Verdict::new(ErrorKind::EmptyOutput, "its answer was empty")),
            _ => None,
        };
        Heard::Outcome
    }

    fn error(&mut self, line: &Value) -> Heard {
        let has_data = at(line, &["error", "data"]).is_some_and(Value::is_object);
        if !has_data || text(line, &["error", "name"]).is_none() || text(line, &["sessionID"]).is_none() {
            return Heard::Nothing;
        }
        let message = text(line, &["error", "data", "message"]).or_else(|| text(line, &["error", "name"]));
        let headers = at(line, &["error", "data", "responseHeaders", "retry-after"]).and_then(Value::as_str);
        let wait = headers.map(|seconds| format!(" (retry-after: {seconds})")).unwrap_or_default();
        let words = format!("{}{wait}", message.unwrap_or("it reported an error"));
        self.verdict = Some(Verdict::of_error(status(line, &["error", "data", "statusCode"]), &words));
        Heard::Outcome
    }
}

impl Adapter for OpenCode {
    fn format(&self) -> &'static str {
        "opencode"
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["step_finish", "error", "text", "tool_use"]
    }

    fn json(&mut self, kind: &str, line: &[u8]) -> Heard {
        if matches!(kind, "text" | "tool_use") {
            self.worked = true;
            return Heard::Nothing;
        }
        let Some(line) = parse(line) else { return Heard::Nothing };
        if kind == "error" { self.error(&line) } else { self.step(&line) }
    }

    fn figures(&self) -> Option<Figures> {
        let cost_usd = (self.cost_usd > 0.0).then_some(self.cost_usd);
        Figures { entries: self.steps.clone(), calls: None, cost_usd, exact: false }.unless_nothing()
    }

    fn verdict(&self) -> Option<Verdict> {
        self.verdict.clone()
    }
}
