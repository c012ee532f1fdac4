//! pi `--mode json`: the same usage appears up to five times for a message; only its `message_end` counts. Whatever
//! happens, it exits with 0.

use serde_json::Value;

use crate::model::Tokens;
use crate::model::error_kind::ErrorKind;

use super::adapter::{Adapter, Heard};
use super::api_error::Verdict;
use super::figures::{Entry, Figures};
use super::json::{at, count, dollars, parse, text};

/// The reader.
#[derive(Debug, Default)]
pub(super) struct Pi {
    calls: Vec<Entry>,
    cost_usd: f64,
    /// A call without figures.
    uncounted: bool,
    /// Whether a tool was used: an empty answer after work is an answer.
    worked: bool,
    verdict: Option<Verdict>,
}

impl Pi {
    fn message(&mut self, line: &Value) -> Heard {
        let Some(message) = line.get("message") else { return Heard::Nothing };
        if text(message, &["role"]) != Some("assistant") || message.get("stopReason").is_none() {
            return Heard::Nothing;
        }
        let number = |key: &str| count(message, &["usage", key]).unwrap_or(0);
        let tokens = Tokens {
            input_uncached: number("input"),
            input_cached: number("cacheRead"),
            cache_write: number("cacheWrite"),
            output: number("output"),
            ..Tokens::default()
        };
        let reason = text(message, &["stopReason"]).unwrap_or_default();
        self.uncounted |= tokens.is_nothing();
        self.calls.push(Entry { model: text(message, &["model"]).map(str::to_owned), tokens, calls: Some(1) });
        self.cost_usd += dollars(message, &["usage", "cost", "total"]).unwrap_or(0.0);
        self.worked |= reason == "toolUse";
        let said = text(message, &["errorMessage"]);
        let is_empty = at(message, &["content"]).and_then(Value::as_array).is_some_and(Vec::is_empty);
        self.verdict = match reason {
            "error" => Some(Verdict::of_error(None, said.unwrap_or("a call failed"))),
            "aborted" => Some(Verdict::new(ErrorKind::AgentReported, said.unwrap_or("it was aborted"))),
            "stop" if is_empty && !self.worked => Some(Verdict::new(ErrorKind::EmptyOutput, "its answer was empty")),
            _ => None,
        };
        Heard::Outcome
    }
}

impl Adapter for Pi {
    fn format(&self) -> &'static str {
        "pi"
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["message_end"]
    }

    fn json(&mut self, _kind: &str, line: &[u8]) -> Heard {
        parse(line).map_or(Heard::Nothing, |line| self.message(&line))
    }

    fn figures(&self) -> Option<Figures> {
        let counted = self.calls.iter().filter(|call| !call.tokens.is_nothing()).cloned().collect();
        let calls = u64::try_from(self.calls.len()).ok();
        let cost_usd = (self.cost_usd > 0.0).then_some(self.cost_usd);
        Figures { entries: counted, calls, cost_usd, exact: !self.uncounted }.unless_nothing()
    }

    fn verdict(&self) -> Option<Verdict> {
        self.verdict.clone()
    }
}
