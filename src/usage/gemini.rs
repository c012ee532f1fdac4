//! gemini-cli: `-o json` is one document with `stats.models.<m>.tokens` (repeated under `roles`, which must not be added), or
//! with an `error`, on standard error; `-o stream-json` ends with a `result` whose output leaves out the thoughts: they are
//! the total less input and output. Its exit code is the HTTP status modulo 256.

use serde_json::Value;

use crate::model::Tokens;
use crate::model::error_kind::ErrorKind;

use super::adapter::{Adapter, Heard};
use super::api_error::Verdict;
use super::figures::{Entry, Figures};
use super::json::{count, members, parse, status, text};

/// The reader.
#[derive(Debug, Default)]
pub(super) struct Gemini {
    figures: Option<Figures>,
    verdict: Option<Verdict>,
    /// Whether a stream of this format has begun.
    streams: bool,
}

impl Gemini {
    fn stats(&mut self, object: &Value, entry: impl Fn(&str, &Value) -> Entry) {
        let entries: Vec<Entry> =
            members(object, &["stats", "models"]).map(|(model, told)| entry(model, told)).collect();
        let calls = entries.iter().map(|entry| entry.calls).try_fold(0_u64, |sum, calls| sum.checked_add(calls?));
        let calls = calls.filter(|calls| *calls > 0);
        let told = Figures { entries, calls, cost_usd: None, exact: true };
        self.figures = match (self.figures.take(), told.unless_nothing()) {
            (Some(before), Some(more)) => Some(before.and(more)),
            (before, more) => before.or(more),
        };
    }

    fn error(object: &Value) -> Option<Verdict> {
        let message = text(object, &["error", "message"])?;
        let code = status(object, &["error", "code"]).filter(|code| *code >= 400);
        let verdict = Verdict::of_error(code, message);
        let cut =
            text(object, &["error", "type"]) == Some("INVALID_STREAM") && verdict.kind == ErrorKind::AgentReported;
        Some(if cut { Verdict { kind: ErrorKind::ApiStreamCut, ..verdict } } else { verdict })
    }
}

fn of_document(model: &str, told: &Value) -> Entry {
    let number = |key: &str| count(told, &["tokens", key]).unwrap_or(0);
    let output = number("candidates").saturating_add(number("thoughts"));
    let mut tokens = Tokens::of_whole_input(number("prompt"), number("cached"), output, Some(number("thoughts")));
    tokens.input_uncached = tokens.input_uncached.saturating_add(number("tool"));
    let calls = count(told, &["api", "totalRequests"]);
    let failed = count(told, &["api", "totalErrors"]).unwrap_or(0);
    Entry { model: Some(model.to_owned()), tokens, calls: calls.map(|calls| calls.saturating_sub(failed)) }
}

fn of_stream(model: &str, told: &Value) -> Entry {
    let number = |key: &str| count(told, &[key]).unwrap_or(0);
    let (input, total, answer) = (number("input_tokens"), number("total_tokens"), number("output_tokens"));
    let output = total.saturating_sub(input).max(answer);
    let tokens = Tokens::of_whole_input(input, number("cached"), output, Some(output - answer));
    Entry { model: Some(model.to_owned()), tokens, calls: None }
}

impl Adapter for Gemini {
    fn format(&self) -> &'static str {
        "gemini"
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["init", "result"]
    }

    fn json(&mut self, kind: &str, line: &[u8]) -> Heard {
        let Some(line) = parse(line) else { return Heard::Nothing };
        if kind == "init" {
            let is_mine = text(&line, &["session_id"]).is_some() && text(&line, &["model"]).is_some();
            self.streams |= is_mine;
            return if is_mine { Heard::Something } else { Heard::Nothing };
        }
        let Some(ended) = text(&line, &["status"]).filter(|_| self.streams) else { return Heard::Nothing };
        self.stats(&line, of_stream);
        let unsaid = || Verdict::new(ErrorKind::AgentReported, "its result is not a success");
        self.verdict = (ended == "error").then(|| Self::error(&line).unwrap_or_else(unsaid));
        Heard::Outcome
    }

    fn object(&mut self, object: &Value) -> Heard {
        let has_stats = members(object, &["stats", "models"]).next().is_some();
        let has_error = text(object, &["error", "type"]).is_some() && text(object, &["error", "message"]).is_some();
        if text(object, &["session_id"]).is_none() || !(has_stats || has_error) {
            return Heard::Nothing;
        }
        self.stats(object, of_document);
        let is_empty = text(object, &["response"]).is_some_and(|response| response.trim().is_empty());
        let worked = count(object, &["stats", "tools", "totalCalls"]).is_some_and(|calls| calls > 0);
        let nothing = || Verdict::new(ErrorKind::EmptyOutput, "its answer was empty");
        self.verdict = Self::error(object).or_else(|| (is_empty && !worked).then(nothing));
        Heard::Outcome
    }

    fn figures(&self) -> Option<Figures> {
        self.figures.clone()
    }

    fn verdict(&self) -> Option<Verdict> {
        self.verdict.clone()
    }
}
