//! What of a record is on the page: read from the stored line, the rest is skipped.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::breaker::Ending;
use crate::model::error_kind::Failure;
use crate::model::record::{AttemptRecord, VerifyRecord};
use crate::model::{ErrorClass, RunId, Status, Text, Timestamp};

/// One run.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Row {
    pub(super) run_id: RunId,
    pub(super) start_time: Timestamp,
    pub(super) end_time: Timestamp,
    pub(super) status: Status,
    pub(super) tokens_used: Option<u64>,
    pub(super) cost_usd: Option<f64>,
    pub(super) error_class: Option<ErrorClass>,
    pub(super) agent: Text,
    pub(super) command: Vec<Text>,
    pub(super) published: bool,
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) error: Option<Failure>,
    pub(super) attempts: Vec<AttemptRecord>,
    pub(super) verify: Vec<VerifyRecord>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) replay_of: Option<RunId>,
    pub(super) redrive_of: Option<RunId>,
}

impl Row {
    /// How long it took; zero where the clock went backwards.
    pub(super) fn millis(&self) -> u64 {
        millis_between(self.start_time, self.end_time)
    }

    /// What breakers look at.
    pub(super) fn ending(&self) -> Ending {
        Ending {
            run_id: self.run_id,
            end_time: self.end_time,
            status: self.status,
            agent: self.agent.clone(),
            published: self.published,
            exit_code: self.exit_code,
            error: self.error.clone(),
            needs: Vec::new(),
            parent_run_id: None,
            replay_of: self.replay_of,
        }
    }

    /// Which colour it has: 0 is well, then the classes in the order of the contract.
    pub(super) fn class(&self) -> usize {
        match self.error_class {
            None => 0,
            Some(ErrorClass::CleanAbort) => 1,
            Some(ErrorClass::PartialWrite) => 2,
            Some(ErrorClass::SilentDrift) => 3,
            Some(ErrorClass::Cascade) => 4,
            Some(ErrorClass::PublishFailed) => 5,
        }
    }
}

/// Milliseconds from one instant to the other; zero where the clock went backwards.
pub(super) fn millis_between(start: Timestamp, end: Timestamp) -> u64 {
    u64::try_from(end.unix_micros().saturating_sub(start.unix_micros()) / 1000).unwrap_or(0)
}

/// The words for [`Row::class`].
pub(super) const CLASSES: [&str; 6] =
    ["succeeded", "clean_abort", "partial_write", "silent_drift", "cascade", "publish_failed"];
