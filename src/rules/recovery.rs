//! What recovery does with a run whose supervisor is gone: a pure decision over its journal.

use crate::model::error_kind::{ErrorKind, Failure, Status};
use crate::model::event::{CommitPlan, Event};

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
    /// It is over: make sure that the log has its line.
    Append,
}

/// The decision for a journal. A journal that no run of this program can have written is an error.
pub fn decide(events: &[Event]) -> Result<Recovery, IllegalTransition> {
    Ok(match phase_after(events)? {
        Phase::Absent => Recovery::Forget,
        Phase::Committing => match events.last() {
            Some(Event::CommitIntended(plan)) => Recovery::RollForward(plan.clone()),
            _ => Recovery::Drop,
        },
        Phase::Committed => Recovery::Settle { status: Status::Succeeded, failure: None },
        Phase::Aborted => Recovery::Settle { status: Status::Failed, failure: None },
        Phase::Interrupted => Recovery::Settle { status: Status::Interrupted, failure: Some(supervisor_died()) },
        Phase::Settled => Recovery::Append,
        phase => {
            debug_assert!(phase.may_be_dropped());
            Recovery::Drop
        }
    })
}

/// The failure of a run whose supervisor died before its end.
pub fn supervisor_died() -> Failure {
    Failure::new(ErrorKind::SupervisorDied, "the supervisor died before the run had ended; nothing was published")
}
