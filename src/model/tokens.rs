//! `Tokens`: what model calls used, in the one form that every agent's and every API's figures are brought to.

use serde::{Deserialize, Serialize};

/// Tokens of one call, or of several, of one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Input that was not served from a cache.
    pub input_uncached: u64,
    /// Input served from a cache.
    pub input_cached: u64,
    /// Written to a cache.
    pub cache_write: u64,
    /// The part of `cache_write` that is kept for an hour, which costs more.
    #[serde(default)]
    pub cache_write_hour: u64,
    /// Output, reasoning included.
    pub output: u64,
    /// Reasoning, within `output`; null where not told apart.
    pub reasoning: Option<u64>,
}

impl Tokens {
    /// From figures of which the input includes what came from the cache (OpenAI's and Gemini's sense).
    pub fn of_whole_input(input: u64, cached: u64, output: u64, reasoning: Option<u64>) -> Self {
        let input_cached = cached.min(input);
        Self { input_uncached: input - input_cached, input_cached, output, reasoning, ..Self::default() }
    }

    /// All of them; null where they overflow.
    pub fn total(&self) -> Option<u64> {
        self.input_uncached.checked_add(self.input_cached)?.checked_add(self.cache_write)?.checked_add(self.output)
    }

    /// Whether no figure was given: a call is never free of tokens, so zeros mean that nobody counted.
    pub fn is_nothing(&self) -> bool {
        self.input_uncached == 0 && self.input_cached == 0 && self.cache_write == 0 && self.output == 0
    }

    /// Both together, each figure at most the largest number: nonsense must not wrap round to something small.
    #[must_use]
    pub fn and(self, more: Self) -> Self {
        Self {
            input_uncached: self.input_uncached.saturating_add(more.input_uncached),
            input_cached: self.input_cached.saturating_add(more.input_cached),
            cache_write: self.cache_write.saturating_add(more.cache_write),
            cache_write_hour: self.cache_write_hour.saturating_add(more.cache_write_hour),
            output: self.output.saturating_add(more.output),
            reasoning: match (self.reasoning, more.reasoning) {
                (Some(left), Some(right)) => Some(left.saturating_add(right)),
                (known, None) if more.is_nothing() => known,
                (None, known) if self.is_nothing() => known,
                _ => None,
            },
        }
    }

    /// The larger of two reports of the same call: figures grow while an answer streams.
    #[must_use]
    pub fn larger(self, other: Self) -> Self {
        Self {
            input_uncached: self.input_uncached.max(other.input_uncached),
            input_cached: self.input_cached.max(other.input_cached),
            cache_write: self.cache_write.max(other.cache_write),
            cache_write_hour: self.cache_write_hour.max(other.cache_write_hour),
            output: self.output.max(other.output),
            reasoning: self.reasoning.max(other.reasoning),
        }
    }
}
