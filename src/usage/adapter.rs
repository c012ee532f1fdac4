//! What every reader of an agent's output is: a small state machine over what it prints.

use std::fmt::Debug;

use serde_json::Value;

use super::api_error::Verdict;
use super::figures::Figures;

/// What a line told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing of this agent.
    Nothing,
    /// Something of it.
    Something,
    /// How its work has come out, well or not: until something later says otherwise.
    Outcome,
}

/// The reader of one agent's format.
pub(super) trait Adapter: Debug + Send {
    /// The word for the format, as `--usage` takes it.
    fn format(&self) -> &'static str;

    /// The types of JSON lines that it wants to see.
    fn kinds(&self) -> &'static [&'static str] {
        &[]
    }

    /// A JSON line of one of those types.
    fn json(&mut self, _kind: &str, _line: &[u8]) -> Heard {
        Heard::Nothing
    }

    /// A JSON object of no type, or over several lines.
    fn object(&mut self, _object: &Value) -> Heard {
        Heard::Nothing
    }

    /// A line of text that begins with one of [`super::reader::TEXT_STARTS`], or follows such a line.
    fn text(&mut self, _line: &str) -> Heard {
        Heard::Nothing
    }

    /// What was used, as far as is known by now.
    fn figures(&self) -> Option<Figures>;

    /// How it says that it failed, if it does.
    fn verdict(&self) -> Option<Verdict>;
}
