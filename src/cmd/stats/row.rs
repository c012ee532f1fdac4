//! One row of the statistics: what programs read. Unknown is null, never zero.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::Text;
use crate::rules::tally::{CLASSES, Group, Key};

/// The figures of one group.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Null for runs that have none, for what came after the most groups there can be, and for the total.
    pub(super) group: Option<Text>,
    /// Whether this row is what came after the most groups there can be.
    pub(super) others: bool,
    pub(super) runs: u64,
    pub(super) published: u64,
    pub(super) succeeded: u64,
    pub(super) cancelled: u64,
    pub(super) success_rate: Option<f64>,
    pub(super) success_rate_low: Option<f64>,
    pub(super) success_rate_high: Option<f64>,
    pub(super) classes: BTreeMap<String, u64>,
    pub(super) kinds: BTreeMap<String, u64>,
    pub(super) duration_p50_ms: Option<f64>,
    pub(super) duration_p95_ms: Option<f64>,
    pub(super) tokens: Option<u64>,
    pub(super) tokens_unknown: u64,
    pub(super) cost_usd: Option<f64>,
    pub(super) cost_p50_usd: Option<f64>,
    pub(super) cost_p95_usd: Option<f64>,
    pub(super) cost_per_published_usd: Option<f64>,
    pub(super) cost_unknown: u64,
    pub(super) runs_before: u64,
    pub(super) success_rate_change: Option<f64>,
    pub(super) cost_change_usd: Option<f64>,
}

impl Row {
    /// Of a group; of all runs where there is no key.
    pub(super) fn of(key: Option<&Key>, group: &Group) -> Self {
        let (low, high) = group.success_interval().unzip();
        let counted = CLASSES.iter().zip(group.classes).filter(|(_, count)| *count > 0);
        let millis = |micros: f64| micros / 1000.0;
        Self {
            group: match key {
                Some(Key::Named(name)) => Some(Text(name.clone())),
                _ => None,
            },
            others: key == Some(&Key::Others),
            runs: group.runs,
            published: group.published,
            succeeded: group.succeeded,
            cancelled: group.cancelled,
            success_rate: group.success_rate(),
            success_rate_low: low,
            success_rate_high: high,
            classes: counted.map(|(class, count)| (class.to_string(), count)).collect(),
            kinds: group.kinds.iter().map(|(kind, count)| (kind.to_string(), *count)).collect(),
            duration_p50_ms: group.durations.percentile(50).map(millis),
            duration_p95_ms: group.durations.percentile(95).map(millis),
            tokens: group.tokens_sum(),
            tokens_unknown: group.runs - group.tokens_known,
            cost_usd: group.cost_sum(),
            cost_p50_usd: group.costs.percentile(50),
            cost_p95_usd: group.costs.percentile(95),
            cost_per_published_usd: group.cost_per_published(),
            cost_unknown: group.runs - group.costs.count(),
            runs_before: group.before.runs,
            success_rate_change: group.success_change(),
            cost_change_usd: group.cost_change(),
        }
    }
}
