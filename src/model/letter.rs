//! `Letter`: a dead letter, a failed run that waits until it is redriven or acknowledged.

use super::error_kind::ErrorClass;
use super::run_id::RunId;
use super::timestamp::Timestamp;

/// A letter is set aside after so many failed redrives, unless told otherwise.
pub const MAX_RECEIVES: u32 = 3;

/// One failed run and what became of its redrives. Everything else about it is in its line of the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Letter {
    /// The failed run.
    pub run_id: RunId,
    /// Offset of its line in the log.
    pub offset: u64,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// The recovery pattern of its failure.
    pub class: Option<ErrorClass>,
    /// Attempts, over the run and its redrives.
    pub attempts: u32,
    /// Redrives that failed.
    pub receives: u32,
    /// What the run and its redrives cost.
    pub spent: Spent,
    /// Whether it still waits.
    pub fate: Fate,
    /// Offset of the line of its newest redrive; redrives before that are counted already.
    pub newest_redrive: Option<u64>,
    /// Tells agents apart without their names: two agents may share one, so whoever sees an equal one looks at the line.
    pub agent_mark: u64,
}

/// What several runs cost. Unknown is never zero; a run without an attempt had nobody to pay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spent {
    /// Nothing was attempted.
    Nothing,
    /// US dollars, all of them known.
    Known(f64),
    /// At least one attempt's cost is not known.
    Unknown,
}

impl Spent {
    /// US dollars; none where unknown, or where nothing was attempted.
    pub fn known(self) -> Option<f64> {
        match self {
            Self::Known(dollars) => Some(dollars),
            Self::Nothing | Self::Unknown => None,
        }
    }
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It waits.
    Waiting,
    /// A redrive of it succeeded.
    Redriven,
    /// Somebody said that it is done with.
    Acknowledged,
}
