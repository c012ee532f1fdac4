//! Prices of models: those of the configuration, then those that were imported, then the table that agentguard carries
//! (`prices.tsv`, rebuilt by `scripts/rebuild_prices.py`).
//!
//! A model nobody has a price for costs an unknown amount, never nothing.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::model::price::{LongPrice, Price};
use crate::rules::pricing::{Span, cost_usd};

use super::figures::Figures;
use super::json::dollars;

const CARRIED: &str = include_str!("prices.tsv");

/// What the first line of a table begins with.
const HEAD: &str = "# agentguard-prices 1\t";

/// All prices there are.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    /// Of the configuration.
    own: BTreeMap<String, Price>,
    imported: Option<Table>,
}

/// A table, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The day it is of.
    pub date: String,
    prices: BTreeMap<String, Price>,
}

/// What something cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cost {
    /// US dollars; null where the agent did not say and a model has no price.
    pub usd: Option<f64>,
    /// What is known of them: at least so much was spent.
    pub known_usd: f64,
    /// `reported`, or `priced:` and the day of the table.
    pub source: Option<String>,
    /// Models without a price.
    pub unpriced: Vec<String>,
}

/// Why a table was not read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It is of no known shape.
    #[error("no price table: write LiteLLM's JSON, or what `agentguard prices list --format tsv` prints")]
    Shape,
    /// It has no price.
    #[error("no model with a price in it")]
    Empty,
    /// A line of it is wrong.
    #[error("line {0} is no price: a model, then dollars per million tokens, separated by tabs")]
    Line(usize),
}

impl Prices {
    /// With the configuration's own, and the imported table at `path`, should there be one that can be read.
    pub fn new(own: &BTreeMap<String, Price>, imported: &Path) -> Self {
        let table = std::fs::read_to_string(imported).ok().and_then(|text| Table::parse(&text).ok());
        Self { own: own.iter().map(|(name, price)| (plain(name), *price)).collect(), imported: table }
    }

    /// The price of a model, and where it stands.
    pub fn of(&self, model: &str) -> Option<(Price, String)> {
        let names = names_of(model);
        let find = |table: &BTreeMap<String, Price>| names.iter().find_map(|name| table.get(name).copied());
        if let Some(price) = find(&self.own) {
            return Some((price, "configured".to_owned()));
        }
        if let Some((table, price)) = self.imported.as_ref().and_then(|table| Some((table, find(&table.prices)?))) {
            return Some((price, table.date.clone()));
        }
        names.iter().find_map(|name| carried(name)).map(|price| (price, carried_date().to_owned()))
    }

    /// All of them, the strongest for each name.
    pub fn all(&self) -> BTreeMap<String, (Price, String)> {
        let mut all = BTreeMap::new();
        for (name, price) in carried_rows() {
            all.insert(name.to_owned(), (price, carried_date().to_owned()));
        }
        if let Some(table) = &self.imported {
            all.extend(table.prices.iter().map(|(name, price)| (name.clone(), (*price, table.date.clone()))));
        }
        all.extend(self.own.iter().map(|(name, price)| (name.clone(), (*price, "configured".to_owned()))));
        all
    }

    /// What was used, in dollars: as the agent says, else by the table. A reported zero for tokens that were used is no
    /// cost but a price that the agent does not know.
    pub fn cost(&self, figures: &Figures) -> Cost {
        if let Some(usd) = figures.cost_usd.filter(|usd| *usd > 0.0) {
            return Cost { usd: Some(usd), known_usd: usd, source: Some("reported".to_owned()), unpriced: Vec::new() };
        }
        let mut cost = Cost::default();
        let (mut usd, mut date) = (0.0, String::new());
        for entry in figures.entries.iter().filter(|entry| !entry.tokens.is_nothing()) {
            match entry.model.as_deref().and_then(|model| self.of(model)) {
                Some((price, of)) => {
                    let span = if entry.calls == Some(1) { Span::Call } else { Span::Several };
                    usd += cost_usd(&price, &entry.tokens, span);
                    date = date.max(of);
                }
                None => cost.unpriced.push(entry.model.clone().unwrap_or_else(|| "a model without a name".to_owned())),
            }
        }
        cost.unpriced.sort();
        cost.unpriced.dedup();
        cost.known_usd = usd;
        if cost.unpriced.is_empty() && !date.is_empty() {
            (cost.usd, cost.source) = (Some(usd), Some(format!("priced:{date}")));
        }
        cost
    }
}

impl Table {
    /// Reads a table in this program's shape, or LiteLLM's JSON.
    pub fn parse(text: &str) -> Result<Self, TableError> {
        if text.trim_start().starts_with('{') {
            return Self::of_litellm(&serde_json::from_str(text).map_err(|_| TableError::Shape)?);
        }
        let head = text.lines().next().and_then(|line| line.strip_prefix(HEAD)).ok_or(TableError::Shape)?;
        let date = head.split('\t').next().unwrap_or_default().to_owned();
        let mut prices = BTreeMap::new();
        for (at, line) in text.lines().enumerate().skip(1).filter(|(_, line)| !line.is_empty()) {
            let (name, price) = row(line).ok_or(TableError::Line(at + 1))?;
            prices.insert(plain(name), price);
        }
        if prices.is_empty() { Err(TableError::Empty) } else { Ok(Self { date, prices }) }
    }

    fn of_litellm(value: &Value) -> Result<Self, TableError> {
        let mut prices = BTreeMap::new();
        for (name, entry) in value.as_object().ok_or(TableError::Shape)? {
            let per_million = |field: &str| dollars(entry, &[field]).map(|dollars| dollars * 1e6);
            let (Some(input), Some(output)) =
                (per_million("input_cost_per_token"), per_million("output_cost_per_token"))
            else {
                continue;
            };
            let price = Price {
                input,
                output,
                cached: per_million("cache_read_input_token_cost"),
                cache_write: per_million("cache_creation_input_token_cost"),
                cache_write_hour: per_million("cache_creation_input_token_cost_above_1hr"),
                reasoning: per_million("output_cost_per_reasoning_token"),
                long: long_of_litellm(&per_million),
            };
            // The plain name comes first; a provider's prefix says where a model is reached.
            if name.contains('/') {
                prices.entry(plain(name)).or_insert(price);
            } else {
                prices.insert(plain(name), price);
            }
        }
        if prices.is_empty() { Err(TableError::Empty) } else { Ok(Self { date: String::new(), prices }) }
    }

    /// The same with another day.
    #[must_use]
    pub fn dated(self, date: String) -> Self {
        Self { date, ..self }
    }

    /// How many models.
    pub fn models(&self) -> usize {
        self.prices.len()
    }

    /// In this program's shape.
    pub fn to_text(&self, note: &str) -> String {
        let rows = self.prices.iter().map(|(name, price)| line(name, price));
        std::iter::once(format!("{HEAD}{}\t{note}\n", self.date)).chain(rows).collect()
    }
}

fn long_of_litellm(per_million: &impl Fn(&str) -> Option<f64>) -> Option<LongPrice> {
    const THOUSANDS: [u64; 6] = [100, 128, 200, 256, 272, 512];
    THOUSANDS.iter().find_map(|thousands| {
        let field = |name: &str| per_million(&format!("{name}_above_{thousands}k_tokens"));
        Some(LongPrice {
            above: thousands * 1000,
            input: field("input_cost_per_token")?,
            output: field("output_cost_per_token")?,
            cached: field("cache_read_input_token_cost"),
            cache_write: field("cache_creation_input_token_cost"),
        })
    })
}

/// A line of a table.
pub fn line(name: &str, price: &Price) -> String {
    let shown = |amount: Option<f64>| amount.map_or_else(String::new, |amount| format!("{amount}"));
    let mut fields = vec![name.to_owned(), shown(Some(price.input)), shown(Some(price.output))];
    fields.extend([price.cached, price.cache_write, price.cache_write_hour, price.reasoning].map(shown));
    if let Some(long) = &price.long {
        fields.push(long.above.to_string());
        fields.extend([Some(long.input), Some(long.output), long.cached, long.cache_write].map(shown));
    }
    format!("{}\n", fields.join("\t").trim_end_matches('\t'))
}

fn row(line: &str) -> Option<(&str, Price)> {
    let mut fields = line.split('\t');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let values: Vec<&str> = fields.collect();
    let at = |at: usize| -> Option<f64> {
        let amount: f64 = values.get(at)?.parse().ok()?;
        (amount.is_finite() && amount >= 0.0).then_some(amount)
    };
    let long = values
        .get(6)
        .and_then(|above| above.parse().ok())
        .and_then(|above| Some(LongPrice { above, input: at(7)?, output: at(8)?, cached: at(9), cache_write: at(10) }));
    let price = Price {
        input: at(0)?,
        output: at(1)?,
        cached: at(2),
        cache_write: at(3),
        cache_write_hour: at(4),
        reasoning: at(5),
        long,
    };
    Some((name, price))
}

fn carried_rows() -> impl Iterator<Item = (&'static str, Price)> {
    CARRIED.lines().skip(1).filter_map(row)
}

fn carried(name: &str) -> Option<Price> {
    let line = CARRIED.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('\t')))?;
    row(line).map(|(_, price)| price)
}

/// The day of the table that agentguard carries.
fn carried_date() -> &'static str {
    CARRIED
        .lines()
        .next()
        .and_then(|line| line.strip_prefix(HEAD))
        .and_then(|rest| rest.split('\t').next())
        .unwrap_or("")
}

/// A name without the place where the model is reached.
fn plain(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase()
}

/// The names under which a model's price may stand, the most exact first: as told, without a provider's prefix and suffix,
/// without the day of the version.
fn names_of(model: &str) -> Vec<String> {
    let name = plain(model);
    let mut names = vec![name.clone()];
    // us.anthropic.claude-x-v1:0, claude-x[1m], claude-x@20250101
    let bare = name.split(['[', '@']).next().unwrap_or(&name);
    let bare = bare.rsplit_once("anthropic.").map_or(bare, |(_, rest)| rest);
    let bare = bare.split_once("-v1:").map_or(bare, |(before, _)| before);
    names.push(bare.to_owned());
    names.push(bare.trim_end_matches("-latest").to_owned());
    names.push(undated(bare).to_owned());
    names.dedup();
    names
}

/// Without a day at its end: `-20250929` or `-2025-09-29`.
fn undated(name: &str) -> &str {
    let is_digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((before, day)) = name.rsplit_once('-')
        && is_digits(day, 8)
    {
        return before;
    }
    let parts: Vec<&str> = name.rsplitn(4, '-').collect();
    match parts.as_slice() {
        [day, month, year, before] if is_digits(day, 2) && is_digits(month, 2) && is_digits(year, 4) => before,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Tokens;

    fn none() -> Prices {
        Prices::new(&BTreeMap::new(), Path::new("/nonexistent"))
    }

    #[test]
    fn every_line_of_the_carried_table_is_a_price_and_its_day_is_known() {
        assert_eq!(carried_rows().count(), CARRIED.lines().count() - 1);
        assert!(carried_rows().count() > 300);
        assert_eq!(carried_date().len(), "2026-01-01".len());
        let table = Table::parse(CARRIED).expect("a table");
        let again = Table::parse(&table.to_text("x")).expect("a table");
        assert_eq!(table, again);
    }

    #[test]
    fn a_model_is_found_under_the_names_that_providers_give_it() {
        let price = |model: &str| none().of(model).map(|(price, _)| price.input);
        let plain = price("claude-sonnet-4-5").expect("a price");
        for name in [
            "anthropic/claude-sonnet-4-5",
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "claude-sonnet-4-5-20250929",
            "claude-sonnet-4-5[1m]",
            "openrouter/anthropic/Claude-Sonnet-4-5",
        ] {
            assert_eq!(price(name), Some(plain), "{name}");
        }
        assert_eq!(price("gpt-4o-2030-01-31"), price("gpt-4o"));
        assert_eq!(price("stub-model"), None);
        assert_eq!(price(""), None);
    }

    #[test]
    fn an_unknown_price_makes_the_cost_unknown_and_is_named() {
        let tokens = Tokens { input_uncached: 1_000_000, output: 1_000_000, ..Tokens::default() };
        let known = Figures::of(Some("gpt-5".to_owned()), tokens);
        let cost = none().cost(&known);
        assert_eq!(cost.usd, Some(11.25));
        assert!(cost.source.expect("a source").starts_with("priced:20"));
        let unknown = known.clone().and(Figures::of(Some("stub-model".to_owned()), tokens));
        let cost = none().cost(&unknown);
        assert_eq!((cost.usd, cost.source, cost.unpriced), (None, None, vec!["stub-model".to_owned()]));
        let reported = Figures { cost_usd: Some(0.5), ..unknown };
        assert_eq!(none().cost(&reported).usd, Some(0.5));
    }

    #[test]
    fn litellms_file_can_be_imported_and_own_prices_are_stronger() {
        let text = r#"{"sample_spec": {"input_cost_per_token": "x"},
            "x/m": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6,
                    "input_cost_per_token_above_200k_tokens": 2e-6, "output_cost_per_token_above_200k_tokens": 4e-6}}"#;
        let table = Table::parse(text).expect("a table").dated("2026-01-02".to_owned());
        assert_eq!(table.models(), 1);
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("prices.tsv");
        std::fs::write(&path, table.to_text("x")).expect("written");
        let imported = Prices::new(&BTreeMap::new(), &path);
        let (price, date) = imported.of("m").expect("a price");
        assert_eq!((price.input, price.long.map(|long| long.above), date.as_str()), (1.0, Some(200_000), "2026-01-02"));
        let own = BTreeMap::from([("m".to_owned(), Price { input: 7.0, output: 8.0, ..Price::default() })]);
        assert_eq!(Prices::new(&own, &path).of("x/M").map(|(price, _)| price.input), Some(7.0));
    }

    #[test]
    fn what_is_no_table_is_refused() {
        for text in ["", "hello", "{", "[]", "{\"a\": 1}", "# agentguard-prices 1\t2026-01-01\tx\n"] {
            assert!(Table::parse(text).is_err(), "{text}");
        }
        let wrong = format!("{HEAD}2026-01-01\tx\nm\t-1\t2\n");
        assert!(matches!(Table::parse(&wrong), Err(TableError::Line(2))));
    }
}
