//! What recovery does with a run whose supervisor is gone: a pure decision over its journal.

use crate::model::error_kind::{ErrorKind, Failure, Status};
use crate::model::event::{CommitPlan, Event, Purpose};

use super::lifecycle::{IllegalTransition, Phase, phase_after};

/// What to do with an unfinished run.
#[derive(Clone, Debug, PartialEq)]
pub enum Recovery {
    /// It never began: sweep what it made, write nothing.
    Forget,
    /// No target was touched: sweep, and settle it as interrupted.
    Drop,
    /// Targets may be mixed: complete the plan.
    RollForward(CommitPlan),
    /// Its targets are all new or all old; only its end is missing.
    Settle {
        /// How it ended.
        status: Status,
        /// Why it failed, where it did and no event says so.
        failure: Option<Failure>,
    },
    /// It had ended and was taken up again; only the end of that is missing.
    Close {
        /// What it was taken up for.
        purpose: Purpose,
        /// Null: it was done.
        failure: Option<Failure>,
    },
    /// It is over: make sure that the log has its line.
    Append,
}

/// The decision for a journal. A journal that no run of this program can have written is an error.
pub fn decide(events: &[Event]) -> Result<Recovery, IllegalTransition> {
    Ok(match phase_after(events)? {
        Phase::Absent => Recovery::Forget,
        Phase::Committing | Phase::Recommitting => match events.last() {
            Some(Event::CommitIntended(plan)) => Recovery::RollForward(plan.clone()),
            _ => Recovery::Drop,
        },
        Phase::Committed => Recovery::Settle { status: Status::Succeeded, failure: None },
        Phase::Aborted => Recovery::Settle { status: Status::Failed, failure: None },
        Phase::Interrupted => Recovery::Settle { status: Status::Interrupted, failure: Some(supervisor_died()) },
        Phase::Settled => Recovery::Append,
        Phase::Recommitted => Recovery::Close { purpose: purpose_of(events), failure: None },
        Phase::Reaborted => Recovery::Close { purpose: purpose_of(events), failure: aborted(events) },
        Phase::Reopened => match purpose_of(events) {
            // Dropping what is held has no half way: it is done again.
            Purpose::Discard => Recovery::Close { purpose: Purpose::Discard, failure: None },
            purpose => Recovery::Close { purpose, failure: Some(supervisor_died()) },
        },
        phase => {
            debug_assert!(phase.may_be_dropped());
            Recovery::Drop
        }
    })
}

/// What a run was last taken up for.
pub fn purpose_of(events: &[Event]) -> Purpose {
    let last = events.iter().rev().find_map(|event| match event {
        Event::Reopened(reopened) => Some(reopened.purpose),
        _ => None,
    });
    last.unwrap_or(Purpose::Apply)
}

fn aborted(events: &[Event]) -> Option<Failure> {
    events.iter().rev().find_map(|event| match event {
        Event::CommitAborted(aborted) => Some(aborted.failure.clone()),
        _ => None,
    })
}

/// The failure of a run whose supervisor died before its end.
pub fn supervisor_died() -> Failure {
    Failure::new(ErrorKind::SupervisorDied, "the supervisor died before the run had ended; nothing was published")
}
