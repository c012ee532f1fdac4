//! What a source says that a run used: entries by model, brought to one form, and whether it is all.

use crate::model::Tokens;
use crate::model::record::Usage;

/// Tokens of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The model, where it was named.
    pub model: Option<String>,
    /// Its tokens.
    pub tokens: Tokens,
    /// How many calls they are of, where that is known: prices of long inputs go by the call.
    pub calls: Option<u64>,
}

/// What one source said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// By model, or by call where each was told of.
    pub entries: Vec<Entry>,
    /// How many calls were made, where that is known.
    pub calls: Option<u64>,
    /// US dollars, where the agent said.
    pub cost_usd: Option<f64>,
    /// Whether the source counts every call, unrounded.
    pub exact: bool,
}

impl Figures {
    /// One entry, exact, of an unknown number of calls.
    pub fn of(model: Option<String>, tokens: Tokens) -> Self {
        Self { entries: vec![Entry { model, tokens, calls: None }], calls: None, cost_usd: None, exact: true }
    }

    /// All tokens.
    pub fn tokens(&self) -> Tokens {
        self.entries.iter().fold(Tokens::default(), |sum, entry| sum.and(entry.tokens))
    }

    /// Nothing, if nothing but zeros was said: calls were made, and nobody counted.
    pub fn unless_nothing(self) -> Option<Self> {
        (!self.tokens().is_nothing()).then_some(self)
    }

    /// Both together, of two different agents.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.entries.extend(more.entries);
        self.calls = self.calls.zip(more.calls).map(|(left, right)| left.saturating_add(right));
        self.cost_usd = self.cost_usd.zip(more.cost_usd).map(|(left, right)| left + right);
        self.exact &= more.exact;
        self
    }

    /// As the record has it.
    pub fn usage(&self, source: &str) -> Usage {
        let tokens = self.tokens();
        let mut models: Vec<String> = self.entries.iter().filter_map(|entry| entry.model.clone()).collect();
        models.sort();
        models.dedup();
        Usage {
            input_uncached: tokens.input_uncached,
            input_cached: tokens.input_cached,
            cache_write: tokens.cache_write,
            output: tokens.output,
            reasoning: tokens.reasoning,
            calls: self.calls,
            models,
            source: source.to_owned(),
            exact: self.exact,
        }
    }
}
