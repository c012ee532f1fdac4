//! `Breaker`: what is remembered of an agent so that whatever depends on it is not started while it is broken. Kept as
//! `breakers/<agent>.json`; everything in it can be found out again from the run log, except what a person decided.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error_kind::{ErrorKind, Failure, Status};
use super::record::RunRecord;
use super::run_id::RunId;
use super::text::Text;
use super::timestamp::Timestamp;

/// How many failures are kept by name.
pub const KEPT_FAILURES: usize = 3;

/// When an agent's breaker opens, and what it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerPolicy {
    /// This many counted failures in a row open it.
    pub threshold: u32,
    /// From its opening to the first probe.
    pub cooldown: Duration,
    /// Whose open breaker refuses the run.
    pub refusal: Refusal,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { threshold: 3, cooldown: Duration::from_secs(600), refusal: Refusal::Upstream }
    }
}

/// Whose open breaker refuses a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Those of the agents it needs.
    Upstream,
    /// The same, and that of its own agent.
    UpstreamAndSelf,
    /// None. Its end is counted all the same.
    Never,
}

/// An agent's breaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// Whose it is.
    pub agent: Text,
    /// Since when it is open, or closed; null: it never was anything but closed.
    pub since: Option<Timestamp>,
    /// Counted failures since the last success.
    pub consecutive: u32,
    /// The newest of them, oldest first.
    pub failures: Vec<CountedFailure>,
    /// Null while it is closed.
    pub opened: Option<Opened>,
    /// Runs that were counted and may come to be counted again, because they are not done with.
    pub counted: Vec<Counted>,
}

/// A failure that was counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedFailure {
    /// The run.
    pub run_id: RunId,
    /// When it ended.
    pub time: Timestamp,
    /// The precise cause.
    pub kind: ErrorKind,
    /// In words, cut short.
    pub message: String,
}

/// A breaker that is not closed: open until `next_probe`, half open from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// What opened it.
    pub cause: Cause,
    /// The cool-down of the first opening; that of later ones is a multiple.
    pub cooldown: Duration,
    /// Probes that have failed since.
    pub failed_probes: u32,
    /// When the first probe may go.
    pub next_probe: Timestamp,
    /// The run that has the lease. It is worth something only while that run is alive.
    pub probe: Option<RunId>,
}

/// What opened a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The agent's failures.
    Failures,
    /// A person.
    Tripped,
}

/// A run that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The run.
    pub run_id: RunId,
    /// The live run whose mark says that it is not done with: itself, or the run around it.
    pub mark: RunId,
}

impl Breaker {
    /// The breaker of an agent of which nothing is known.
    pub fn closed(agent: Text) -> Self {
        Self { agent, since: None, consecutive: 0, failures: Vec::new(), opened: None, counted: Vec::new() }
    }
}

/// The part of a run's record that breakers look at.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Ending {
    /// The run.
    pub run_id: RunId,
    /// When it ended.
    pub end_time: Timestamp,
    /// How.
    pub status: Status,
    /// Whose it was.
    pub agent: Text,
    /// Whether its result is in place.
    pub published: bool,
    /// The agent's exit code.
    pub exit_code: Option<i32>,
    /// What went wrong.
    pub error: Option<Failure>,
    /// Agents it depends on.
    pub needs: Vec<String>,
    /// The run around it.
    pub parent_run_id: Option<RunId>,
    /// The run it replays.
    pub replay_of: Option<RunId>,
}

impl From<&RunRecord> for Ending {
    fn from(record: &RunRecord) -> Self {
        Self {
            run_id: record.run_id,
            end_time: record.end_time,
            status: record.status,
            agent: record.agent.clone(),
            published: record.published,
            exit_code: record.exit_code,
            error: record.error.clone(),
            needs: record.needs.clone(),
            parent_run_id: record.parent_run_id,
            replay_of: record.replay_of,
        }
    }
}
