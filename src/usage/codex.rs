//! codex `exec --json`: `turn.completed.usage` is cumulative over its thread, so that the last of each counts; a turn that
//! failed has none. In text mode standard error ends with `tokens used` and a number of another meaning (without what came
//! from the cache): no figure of ours can be made of it.

use crate::model::Tokens;
use crate::model::error_kind::ErrorKind;

use super::adapter::{Adapter, Heard};
use super::api_error::Verdict;
use super::figures::Figures;
use super::json::{at, count, parse, text};

/// The reader.
#[derive(Debug, Default)]
pub(super) struct Codex {
    /// Last figures of each thread, in the order of their beginning.
    threads: Vec<Option<Tokens>>,
    verdict: Option<Verdict>,
    /// The last error that was not yet followed by a result.
    error: Option<Verdict>,
    /// Whether a turn is going on: what others print after it is none of it.
    in_turn: bool,
    /// Whether the turn said or did something.
    worked: bool,
}

/// Items that are work, or an answer.
const WORK: [&[u8]; 5] =
    [b"\"agent_message\"", b"\"command_execution\"", b"\"file_change\"", b"\"mcp_tool_call\"", b"\"web_search\""];

impl Codex {
    fn completed(&mut self, line: &[u8]) -> Heard {
        let Some(line) = parse(line) else { return Heard::Nothing };
        let number = |key: &str| count(&line, &["usage", key]);
        if let (Some(input), Some(output)) = (number("input_tokens"), number("output_tokens")) {
            let cached = number("cached_input_tokens").unwrap_or(0);
            let write = number("cache_write_input_tokens").unwrap_or(0);
            let mut tokens = Tokens::of_whole_input(input, cached, output, number("reasoning_output_tokens"));
            tokens.cache_write = write.min(tokens.input_uncached);
            tokens.input_uncached -= tokens.cache_write;
            if let Some(thread) = self.threads.last_mut() {
                *thread = Some(tokens);
            }
        }
        (self.error, self.in_turn) = (None, false);
        let is_empty = !std::mem::take(&mut self.worked);
        self.verdict = is_empty.then(|| Verdict::new(ErrorKind::EmptyOutput, "its turn said and did nothing"));
        Heard::Outcome
    }

    fn failed(&mut self, line: &[u8], path: &[&str]) -> Option<Verdict> {
        let line = parse(line)?;
        at(&line, path)?;
        Some(Verdict::of_error(None, text(&line, path).unwrap_or("its turn failed")))
    }
}

impl Adapter for Codex {
    fn format(&self) -> &'static str {
        "codex"
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["thread.started", "turn.started", "turn.completed", "turn.failed", "item.completed", "error"]
    }

    fn json(&mut self, kind: &str, line: &[u8]) -> Heard {
        if kind == "thread.started" {
            self.threads.push(None);
            return Heard::Something;
        }
        if self.threads.is_empty() {
            return Heard::Nothing;
        }
        match kind {
            "turn.started" => (self.worked, self.in_turn) = (false, true),
            "item.completed" => {
                self.worked = self.worked || WORK.iter().any(|word| memchr::memmem::find(line, word).is_some());
            }
            "turn.completed" => return self.completed(line),
            _ if !self.in_turn => return Heard::Nothing,
            "turn.failed" => {
                self.in_turn = false;
                self.verdict = self.failed(line, &["error", "message"]);
                return Heard::Outcome;
            }
            _ => {
                self.error = self.failed(line, &["message"]).map(Verdict::with_exit_code);
                return Heard::Outcome;
            }
        }
        Heard::Something
    }

    fn figures(&self) -> Option<Figures> {
        let known: Vec<Tokens> = self.threads.iter().flatten().copied().collect();
        let tokens = known.iter().fold(Tokens::default(), |sum, tokens| sum.and(*tokens));
        // A thread that failed has called, and says nothing of it.
        let exact = known.len() == self.threads.len() && self.error.is_none();
        Figures { exact, ..Figures::of(None, tokens) }.unless_nothing()
    }

    fn verdict(&self) -> Option<Verdict> {
        self.verdict.clone().or_else(|| self.error.clone())
    }
}
