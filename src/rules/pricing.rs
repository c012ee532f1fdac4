//! What tokens cost. Pure: prices are a parameter.

use crate::model::Tokens;
use crate::model::price::Price;

/// How many calls tokens are of: a long input's price is that of a call, and cannot be told from a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// One.
    Call,
    /// Several, or nobody knows.
    Several,
}

/// A cache entry that is kept for an hour costs twice the input, where no price is known.
const HOUR_FACTOR: f64 = 2.0;

/// US dollars.
pub fn cost_usd(price: &Price, tokens: &Tokens, span: Span) -> f64 {
    let whole_input = tokens.input_uncached.saturating_add(tokens.input_cached).saturating_add(tokens.cache_write);
    let long = price.long.filter(|long| span == Span::Call && whole_input > long.above);
    let (input, output, cached, write) = match long {
        Some(long) => (long.input, long.output, long.cached, long.cache_write.or(price.cache_write)),
        None => (price.input, price.output, price.cached, price.cache_write),
    };
    let hour = price.cache_write_hour.unwrap_or(input * HOUR_FACTOR);
    let cache_write_hour = tokens.cache_write_hour.min(tokens.cache_write);
    let reasoning = tokens.reasoning.unwrap_or(0).min(tokens.output);
    let parts = [
        (tokens.input_uncached, input),
        (tokens.input_cached, cached.unwrap_or(input)),
        (tokens.cache_write - cache_write_hour, write.unwrap_or(input)),
        (cache_write_hour, hour),
        (tokens.output - reasoning, output),
        (reasoning, price.reasoning.unwrap_or(output)),
    ];
    // Numbers of tokens are far below 2^53.
    parts.iter().map(|(count, per_million)| *count as f64 * per_million / 1e6).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::price::LongPrice;

    fn near(left: f64, right: f64) {
        assert!((left - right).abs() < 1e-9, "{left} is not {right}");
    }

    #[test]
    fn each_kind_of_token_has_its_price() {
        let price = Price { input: 3.0, output: 15.0, cached: Some(0.3), cache_write: Some(3.75), ..Price::default() };
        let tokens = Tokens {
            input_uncached: 1_000_000,
            input_cached: 2_000_000,
            cache_write: 1_000_000,
            output: 1_000_000,
            reasoning: Some(500_000),
            ..Tokens::default()
        };
        near(cost_usd(&price, &tokens, Span::Several), 3.0 + 0.6 + 3.75 + 15.0);
        let for_an_hour = Tokens { cache_write_hour: 1_000_000, ..tokens };
        near(cost_usd(&price, &for_an_hour, Span::Several), 3.0 + 0.6 + 6.0 + 15.0);
        let thoughts = Price { reasoning: Some(30.0), ..price };
        near(cost_usd(&thoughts, &tokens, Span::Several), 3.0 + 0.6 + 3.75 + 7.5 + 15.0);
        let bare = Price { input: 2.0, output: 4.0, ..Price::default() };
        near(cost_usd(&bare, &tokens, Span::Several), 2.0 + 4.0 + 2.0 + 4.0);
    }

    #[test]
    fn a_call_with_a_long_input_costs_more_as_a_whole_and_a_sum_of_calls_does_not() {
        let long = LongPrice { above: 200_000, input: 6.0, output: 22.5, cached: None, cache_write: None };
        let price = Price { input: 3.0, output: 15.0, long: Some(long), ..Price::default() };
        let tokens = |input| Tokens { input_uncached: input, output: 100_000, ..Tokens::default() };
        near(cost_usd(&price, &tokens(200_000), Span::Call), 0.6 + 1.5);
        near(cost_usd(&price, &tokens(200_001), Span::Call), 200_001.0 * 6.0 / 1e6 + 2.25);
        near(cost_usd(&price, &tokens(300_000), Span::Several), 0.9 + 1.5);
    }
}
