//! GitHub Copilot CLI: its JSON lines have no tokens; the file of `--usage-output-file` has them by model, and the text on
//! standard error has them rounded (`Tokens ↑ 2.5k (2.0k cached) • ↓ 112 (14 reasoning)`).

use serde_json::Value;

use crate::model::Tokens;
use crate::model::error_kind::ErrorKind;

use super::adapter::{Adapter, Heard};
use super::api_error::Verdict;
use super::figures::{Entry, Figures};
use super::json::{at, count, members, parse, status, text};
use super::rounded::rounded;

/// The reader.
#[derive(Debug, Default)]
pub(super) struct Copilot {
    figures: Option<Figures>,
    error: Option<Verdict>,
    verdict: Option<Verdict>,
}

/// Figures of the file that `--usage-output-file` names.
pub(super) fn of_file(file: &Value) -> Option<Figures> {
    let entries: Vec<Entry> = members(file, &["modelMetrics"])
        .map(|(model, metrics)| {
            let number = |key: &str| count(metrics, &["usage", key]).unwrap_or(0);
            let reasoning = count(metrics, &["usage", "reasoningTokens"]);
            let mut tokens = Tokens::of_whole_input(
                number("inputTokens"),
                number("cacheReadTokens"),
                number("outputTokens"),
                reasoning,
            );
            tokens.cache_write = number("cacheWriteTokens").min(tokens.input_uncached);
            tokens.input_uncached -= tokens.cache_write;
            Entry { model: Some(model.clone()), tokens, calls: count(metrics, &["requests", "count"]) }
        })
        .collect();
    let calls = entries.iter().try_fold(0_u64, |sum, entry| sum.checked_add(entry.calls?));
    Figures { entries, calls, cost_usd: None, exact: true }.unless_nothing()
}

impl Adapter for Copilot {
    fn format(&self) -> &'static str {
        "copilot"
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["session.error", "model.call_final_result", "result"]
    }

    fn json(&mut self, kind: &str, line: &[u8]) -> Heard {
        let Some(line) = parse(line) else { return Heard::Nothing };
        match kind {
            "session.error" => {
                let message = text(&line, &["data", "message"]).unwrap_or("it reported an error");
                self.error = Some(Verdict::of_error(status(&line, &["data", "statusCode"]), message));
                Heard::Something
            }
            "model.call_final_result" => {
                if text(&line, &["data", "result"]) == Some("success") {
                    self.error = None;
                }
                Heard::Something
            }
            _ => {
                let is_mine = at(&line, &["usage", "premiumRequests"]).is_some();
                let Some(code) = line.get("exitCode").and_then(Value::as_i64).filter(|_| is_mine) else {
                    return Heard::Nothing;
                };
                let unsaid = || Verdict::new(ErrorKind::AgentReported, "its result is not a success");
                self.verdict = (code != 0).then(|| self.error.clone().unwrap_or_else(unsaid));
                Heard::Outcome
            }
        }
    }

    fn text(&mut self, line: &str) -> Heard {
        let Some((sent, received)) = line
            .strip_prefix("Tokens")
            .and_then(|rest| rest.split_once('↑'))
            .and_then(|(_, rest)| rest.split_once('↓'))
        else {
            return Heard::Nothing;
        };
        let first = |part: &str| part.split_whitespace().find_map(rounded);
        let inside = |part: &str, word: &str| {
            let (before, _) = part.split_once(word)?;
            before.rsplit(['(', ',', ' ']).find(|text| !text.is_empty()).and_then(rounded)
        };
        let (Some(input), Some(output)) = (first(sent), first(received)) else { return Heard::Nothing };
        let cached = inside(sent, "cached").unwrap_or(0);
        let tokens = Tokens::of_whole_input(input, cached, output, inside(received, "reasoning"));
        self.figures = Figures { exact: false, ..Figures::of(None, tokens) }.unless_nothing();
        Heard::Something
    }

    fn figures(&self) -> Option<Figures> {
        self.figures.clone()
    }

    fn verdict(&self) -> Option<Verdict> {
        self.verdict.clone()
    }
}
