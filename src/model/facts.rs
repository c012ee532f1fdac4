//! `Facts`: the part of a run's record that runs are filtered and tallied by.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::error_kind::{ErrorClass, ErrorKind, Status};

/// What is known of one run. Times are microseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts<'a> {
    /// When it began.
    pub start: i64,
    /// When it ended.
    pub end: i64,
    /// How.
    pub status: Status,
    /// The recovery pattern of its failure.
    pub class: Option<ErrorClass>,
    /// The precise cause of its failure.
    pub kind: Option<ErrorKind>,
    /// The agent's name.
    pub agent: Cow<'a, [u8]>,
    /// Tokens; none where unknown.
    pub tokens: Option<u64>,
    /// US dollars; none where unknown.
    pub cost: Option<f64>,
    /// Whether its result is in place.
    pub published: bool,
    /// The message and the hint of its failure. Empty unless wanted.
    pub words: Vec<String>,
    /// Its labels. Empty unless wanted.
    pub labels: BTreeMap<String, String>,
    /// The models it used. Empty unless wanted.
    pub models: Vec<String>,
}

/// Which of the parts that cost more to read are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Message and hint of the failure.
    pub words: bool,
    /// Labels.
    pub labels: bool,
    /// Models.
    pub models: bool,
}

impl Wanted {
    /// What either wants.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            words: self.words || other.words,
            labels: self.labels || other.labels,
            models: self.models || other.models,
        }
    }
}
