//! `Price`: what a model costs, in US dollars per million tokens.

use serde::{Deserialize, Serialize};

/// Prices of one model. What is not set costs what stands beside it: see [`crate::rules::pricing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Price {
    /// Input that was not served from a cache.
    pub input: f64,
    /// Output.
    pub output: f64,
    /// Input served from a cache.
    #[serde(default)]
    pub cached: Option<f64>,
    /// Written to a cache.
    #[serde(default)]
    pub cache_write: Option<f64>,
    /// Written to a cache that keeps it for an hour.
    #[serde(default)]
    pub cache_write_hour: Option<f64>,
    /// Reasoning, where it costs something else than output.
    #[serde(default)]
    pub reasoning: Option<f64>,
    /// A call with a long input costs this instead, all of it.
    #[serde(default)]
    pub long: Option<LongPrice>,
}

/// Prices of calls with a long input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LongPrice {
    /// Input tokens beyond which a call is one.
    pub above: u64,
    /// As in [`Price`].
    pub input: f64,
    /// As in [`Price`].
    pub output: f64,
    /// As in [`Price`].
    #[serde(default)]
    pub cached: Option<f64>,
    /// As in [`Price`].
    #[serde(default)]
    pub cache_write: Option<f64>,
}
