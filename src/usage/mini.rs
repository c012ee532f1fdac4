//! mini-swe-agent: exact figures are in its trajectory file, by message; it prints only `Saved trajectory to 'FILE'`. A cost of
//! zero is that of a model whose price it does not know.

use serde_json::Value;

use crate::model::Tokens;
use crate::model::error_kind::ErrorKind;

use super::adapter::{Adapter, Heard};
use super::api_error::Verdict;
use super::figures::{Entry, Figures};
use super::json::{at, count, dollars, text};

/// What a trajectory tells.
pub(super) fn of_file(file: &Value) -> (Option<Figures>, Option<Verdict>) {
    if at(file, &["info", "model_stats"]).is_none() {
        return (None, None);
    }
    let messages = at(file, &["messages"]).and_then(Value::as_array).into_iter().flatten();
    let entries: Vec<Entry> = messages
        .filter_map(|message| at(message, &["extra", "response"]))
        .filter_map(|response| Some((response, at(response, &["usage"])?)))
        .map(|(response, usage)| {
            let number = |path: &[&str]| count(usage, path).unwrap_or(0);
            let tokens = Tokens::of_whole_input(
                number(&["prompt_tokens"]),
                number(&["prompt_tokens_details", "cached_tokens"]),
                number(&["completion_tokens"]),
                count(usage, &["completion_tokens_details", "reasoning_tokens"]),
            );
            Entry { model: text(response, &["model"]).map(str::to_owned), tokens, calls: Some(1) }
        })
        .collect();
    let uncounted = entries.iter().any(|entry| entry.tokens.is_nothing());
    let calls = count(file, &["info", "model_stats", "api_calls"]);
    let cost_usd = dollars(file, &["info", "model_stats", "instance_cost"]).filter(|cost| *cost > 0.0);
    let figures = Figures { entries, calls, cost_usd, exact: !uncounted }.unless_nothing();
    (figures, verdict(file))
}

fn verdict(file: &Value) -> Option<Verdict> {
    let status = text(file, &["info", "exit_status"]).filter(|status| *status != "Submitted")?;
    let last = at(file, &["messages"]).and_then(Value::as_array).and_then(|messages| messages.last());
    let said = last.and_then(|last| text(last, &["extra", "exception_str"])).unwrap_or_default();
    let verdict = Verdict::of_error(None, &format!("{status}: {said}"));
    let is_format = status.contains("FormatError") || status.contains("LimitsExceeded");
    Some(if is_format { Verdict { kind: ErrorKind::AgentReported, ..verdict } } else { verdict })
}

/// The reader of what it prints: an error of its model's library, with which it exits.
#[derive(Debug, Default)]
pub(super) struct Mini {
    verdict: Option<Verdict>,
}

impl Adapter for Mini {
    fn format(&self) -> &'static str {
        "mini"
    }

    fn text(&mut self, line: &str) -> Heard {
        if !(line.starts_with("litellm.") && line.contains("Error: ")) {
            return Heard::Nothing;
        }
        self.verdict = Some(Verdict::of_error(None, line).with_exit_code());
        Heard::Outcome
    }

    fn figures(&self) -> Option<Figures> {
        None
    }

    fn verdict(&self) -> Option<Verdict> {
        self.verdict.clone()
    }
}

/// The file that a line names.
pub(super) fn named_file(line: &str) -> Option<&str> {
    line.trim().strip_prefix("Saved trajectory to '")?.strip_suffix('\'')
}
