//! aider prints text: `Tokens: 2.5k sent, 26 received. Cost: $0.01 message, $0.02 session.` for each message, rounded, and an
//! estimate where it streams; a failed call is a line `litellm.<Name>Error: …`, after which it may try again or exit with 0.

use crate::model::Tokens;

use super::adapter::{Adapter, Heard};
use super::api_error::Verdict;
use super::figures::{Entry, Figures};
use super::rounded::rounded;

/// The reader.
#[derive(Debug, Default)]
pub(super) struct Aider {
    is_mine: bool,
    model: Option<String>,
    messages: Vec<Entry>,
    cost_usd: Option<f64>,
    verdict: Option<Verdict>,
}

impl Aider {
    fn figures_of(&mut self, line: &str) -> Heard {
        let (tokens, cost) = line.split_once(" Cost: ").map_or((line, None), |(tokens, cost)| (tokens, Some(cost)));
        let part = |word: &str| {
            let part = tokens.split(", ").find(|part| part.trim_end_matches('.').ends_with(word))?;
            part.split_whitespace().find_map(rounded)
        };
        let (Some(sent), Some(received)) = (part("sent"), part("received")) else { return Heard::Nothing };
        let tokens = Tokens {
            input_uncached: sent,
            input_cached: part("cache hit").unwrap_or(0),
            cache_write: part("cache write").unwrap_or(0),
            output: received,
            ..Tokens::default()
        };
        self.is_mine = true;
        self.messages.push(Entry { model: self.model.clone(), tokens, calls: None });
        // The session's is of all messages so far: the last one counts.
        let session = cost.and_then(|cost| cost.split(", ").find_map(|part| part.trim().strip_suffix(" session.")));
        let amount = session.and_then(|amount| amount.trim_start_matches('$').replace(',', "").parse::<f64>().ok());
        self.cost_usd = amount.filter(|amount| amount.is_finite() && *amount >= 0.0).or(self.cost_usd);
        self.verdict = None;
        Heard::Outcome
    }
}

impl Adapter for Aider {
    fn format(&self) -> &'static str {
        "aider"
    }

    fn text(&mut self, line: &str) -> Heard {
        if line.starts_with("Aider v") {
            self.is_mine = true;
            return Heard::Something;
        }
        if let Some(model) = line.strip_prefix("Model: ").filter(|_| self.is_mine) {
            self.model = model.split(" with ").next().map(str::to_owned);
            return Heard::Something;
        }
        if line.starts_with("Tokens: ") {
            return self.figures_of(line);
        }
        if self.is_mine && line.starts_with("litellm.") && line.contains("Error: ") {
            self.verdict = Some(Verdict::of_error(None, line));
            return Heard::Outcome;
        }
        Heard::Nothing
    }

    fn figures(&self) -> Option<Figures> {
        // The call that words a commit message is in none of them, and they are rounded.
        let figures = Figures { entries: self.messages.clone(), calls: None, cost_usd: self.cost_usd, exact: false };
        figures.unless_nothing()
    }

    fn verdict(&self) -> Option<Verdict> {
        self.verdict.clone()
    }
}
