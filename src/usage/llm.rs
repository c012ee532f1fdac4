//! `llm -u` prints `Token usage: 1,234 input, 56 output, {"prompt_tokens_details": …}` on standard error, once for each call,
//! and `Error: …` where a call failed.

use serde_json::Value;

use crate::model::Tokens;
use crate::model::error_kind::ErrorKind;

use super::adapter::{Adapter, Heard};
use super::api_error::Verdict;
use super::figures::{Entry, Figures};
use super::json::count;
use super::rounded::rounded;

/// The reader.
#[derive(Debug, Default)]
pub(super) struct Llm {
    calls: Vec<Entry>,
    /// A call without figures.
    uncounted: bool,
    verdict: Option<Verdict>,
}

impl Adapter for Llm {
    fn format(&self) -> &'static str {
        "llm"
    }

    fn text(&mut self, line: &str) -> Heard {
        if let Some(error) = line.strip_prefix("Error: ") {
            // Every other program prints lines that begin so: these are the words of its client library.
            let tells =
                error.starts_with("Error code: ") || matches!(error, "Connection error." | "Request timed out.");
            let verdict = Verdict::of_error(None, error);
            let tells = tells && verdict.kind != ErrorKind::AgentReported;
            self.verdict = tells.then(|| verdict.with_exit_code());
            return if tells { Heard::Outcome } else { Heard::Nothing };
        }
        let Some(told) = line.strip_prefix("Token usage:") else { return Heard::Nothing };
        let (figures, details) = told.split_once('{').map_or((told, None), |(figures, rest)| (figures, Some(rest)));
        let part = |word: &str| {
            let part = figures.split(", ").find(|part| part.trim().trim_end_matches(',').ends_with(word))?;
            part.split_whitespace().find_map(rounded)
        };
        let details: Value =
            details.and_then(|rest| serde_json::from_str(&format!("{{{rest}")).ok()).unwrap_or(Value::Null);
        let cached = count(&details, &["prompt_tokens_details", "cached_tokens"]).unwrap_or(0);
        let reasoning = count(&details, &["completion_tokens_details", "reasoning_tokens"]);
        match (part("input"), part("output")) {
            (Some(input), Some(output)) => {
                let tokens = Tokens::of_whole_input(input, cached, output, reasoning);
                self.calls.push(Entry { model: None, tokens, calls: Some(1) });
            }
            _ => self.uncounted = true,
        }
        self.verdict = None;
        Heard::Outcome
    }

    fn figures(&self) -> Option<Figures> {
        let calls = u64::try_from(self.calls.len()).ok().filter(|_| !self.uncounted);
        Figures { entries: self.calls.clone(), calls, cost_usd: None, exact: !self.uncounted }.unless_nothing()
    }

    fn verdict(&self) -> Option<Verdict> {
        self.verdict.clone()
    }
}
