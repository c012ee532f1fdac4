//! Which runs are meant: the filters that `log` and `stats` share.

use crate::model::error_kind::{ErrorClass, ErrorKind, Status};
use crate::model::facts::{Facts, Wanted};
use crate::model::{Text, Timestamp};

/// Which runs; an empty list lets all through, and all that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct RunFilters {
    /// Of one of these agents.
    pub agents: Vec<Text>,
    /// Ended in one of these ways.
    pub statuses: Vec<Status>,
    /// Failed in one of these ways.
    pub classes: Vec<ErrorClass>,
    /// For one of these causes.
    pub kinds: Vec<ErrorKind>,
    /// With all of these labels.
    pub labels: Vec<(String, String)>,
    /// Started then or later.
    pub since: Option<Timestamp>,
    /// Started before then.
    pub until: Option<Timestamp>,
    /// Cost so many dollars or more; a cost that is not known is none.
    pub min_cost: Option<f64>,
    /// Cost so many dollars or less; a cost that is not known is none.
    pub max_cost: Option<f64>,
    /// With this in the message or the hint of its failure.
    pub grep: Option<String>,
}

impl RunFilters {
    /// What must be read of a run to judge it.
    pub fn wanted(&self) -> Wanted {
        Wanted { words: self.grep.is_some(), labels: !self.labels.is_empty(), models: false }
    }

    /// Whether the run is meant.
    pub fn let_through(&self, run: &Facts<'_>) -> bool {
        self.since.is_none_or(|since| run.start >= since.unix_micros()) && self.let_through_before(run)
    }

    /// The same, whenever it started before the end of the time that is meant.
    pub fn let_through_before(&self, run: &Facts<'_>) -> bool {
        fn among<T: PartialEq>(wanted: &[T], value: Option<&T>) -> bool {
            wanted.is_empty() || value.is_some_and(|value| wanted.contains(value))
        }
        (self.agents.is_empty() || self.agents.iter().any(|agent| agent.0 == *run.agent))
            && among(&self.statuses, Some(&run.status))
            && among(&self.classes, run.class.as_ref())
            && among(&self.kinds, run.kind.as_ref())
            && self.until.is_none_or(|until| run.start < until.unix_micros())
            && self.min_cost.is_none_or(|least| run.cost.is_some_and(|cost| cost >= least))
            && self.max_cost.is_none_or(|most| run.cost.is_some_and(|cost| cost <= most))
            && self.labels.iter().all(|(key, value)| run.labels.get(key) == Some(value))
            && self.grep.as_ref().is_none_or(|text| run.words.iter().any(|words| words.contains(text.as_str())))
    }

    /// Bytes that the line of every run that is meant holds, if there are such: what tells most apart comes first. Lines are
    /// written by one serialiser, so a value looks the same in all of them.
    pub fn needle(&self) -> Option<Vec<u8>> {
        if let Some((key, value)) = self.labels.first() {
            return Some(format!("{}:{}", json(key)?, json(value)?).into_bytes());
        }
        if let Some(text) = self.grep.as_ref().filter(|text| !text.is_empty()) {
            let quoted = json(text)?;
            return Some(quoted.as_bytes()[1..quoted.len() - 1].to_vec());
        }
        let field = |name: &str, value: String| Some(format!("\"{name}\":{value}").into_bytes());
        match (self.kinds.as_slice(), self.agents.as_slice(), self.classes.as_slice(), self.statuses.as_slice()) {
            ([kind], ..) => field("kind", json(kind)?),
            (_, [agent], ..) => field("agent", json(agent)?),
            (_, _, [class], _) => field("error_class", json(class)?),
            (_, _, _, [status]) => field("status", json(status)?),
            _ => None,
        }
    }
}

fn json(value: &impl serde::Serialize) -> Option<String> {
    serde_json::to_string(value).ok()
}
