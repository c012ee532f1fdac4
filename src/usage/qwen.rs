//! qwen-code: Claude Code's shape (see [`super::claude`]) with OpenAI's meaning: input includes what came from the cache. Each
//! message's figures add up to those of the result, so only the result counts.

use serde_json::Value;

use crate::model::Tokens;

use super::json::count;

/// Figures of a `usage` object.
pub(super) fn tokens(usage: &Value) -> Tokens {
    let number = |key: &str| count(usage, &[key]).unwrap_or(0);
    Tokens::of_whole_input(number("input_tokens"), number("cache_read_input_tokens"), number("output_tokens"), None)
}
