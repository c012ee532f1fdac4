//! The one table of a run's life: it judges events while a run lives and when recovery reads a dead run's journal.

use crate::model::event::Event;

/// Where a run is between two events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing was written yet.
    Absent,
    /// The run exists.
    Started,
    /// Its inputs are stored.
    Snapshotted,
    /// An attempt may be running.
    Attempting,
    /// The attempt has ended.
    Attempted,
    /// What it staged was read and hashed.
    Sealed,
    /// The gate let it pass.
    Accepted,
    /// The gate refused it.
    Rejected,
    /// Targets may be in any mixture of old and new: only forward, or back as a whole.
    Committing,
    /// Every target is new.
    Committed,
    /// Every target is old again.
    Aborted,
    /// Recovery took the place of a dead supervisor.
    Interrupted,
    /// Over.
    Settled,
    /// Taken up again after its end; nothing was touched.
    Reopened,
    /// The same as [`Phase::Committing`], of a run that was taken up again.
    Recommitting,
    /// Every path is what was decided.
    Recommitted,
    /// Every path is what it was before the decision.
    Reaborted,
}

/// Every phase, for tests that walk the table.
pub const PHASES: [Phase; 17] = [
    Phase::Absent,
    Phase::Started,
    Phase::Snapshotted,
    Phase::Attempting,
    Phase::Attempted,
    Phase::Sealed,
    Phase::Accepted,
    Phase::Rejected,
    Phase::Committing,
    Phase::Committed,
    Phase::Aborted,
    Phase::Interrupted,
    Phase::Settled,
    Phase::Reopened,
    Phase::Recommitting,
    Phase::Recommitted,
    Phase::Reaborted,
];

/// An event came where the table has no arrow: a damaged journal, or a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event} cannot follow {phase:?}")]
pub struct IllegalTransition {
    /// Where the run was.
    pub phase: Phase,
    /// The event's name.
    pub event: &'static str,
}

impl Phase {
    /// Where the run is after `event`.
    pub fn next(self, event: &Event) -> Result<Self, IllegalTransition> {
        use Phase as P;
        match (self, event) {
            (P::Absent, Event::Started(_)) => Ok(P::Started),
            (P::Started, Event::Snapshotted(_)) => Ok(P::Snapshotted),
            (P::Snapshotted | P::Sealed | P::Rejected, Event::AttemptStarted(_)) => Ok(P::Attempting),
            (P::Attempting, Event::Called(_)) => Ok(P::Attempting),
            (P::Attempting, Event::AttemptEnded(_)) => Ok(P::Attempted),
            (P::Attempted, Event::Sealed(_)) => Ok(P::Sealed),
            (P::Sealed, Event::VerifyEnded(_)) => Ok(P::Sealed),
            (P::Sealed, Event::Judged(judged)) if judged.rejection.is_none() => Ok(P::Accepted),
            (P::Sealed, Event::Judged(_)) => Ok(P::Rejected),
            (P::Accepted, Event::CommitIntended(_)) => Ok(P::Committing),
            (P::Committing, Event::CommitDone(_)) => Ok(P::Committed),
            (P::Committing, Event::CommitAborted(_)) => Ok(P::Aborted),
            (phase, Event::Interrupted(_)) if phase.may_be_dropped() => Ok(P::Interrupted),
            (phase, Event::Settled(_)) if phase.may_settle() => Ok(P::Settled),
            (P::Settled, Event::Reopened(_)) => Ok(P::Reopened),
            (P::Reopened, Event::CommitIntended(_)) => Ok(P::Recommitting),
            (P::Recommitting, Event::CommitDone(_)) => Ok(P::Recommitted),
            (P::Recommitting, Event::CommitAborted(_)) => Ok(P::Reaborted),
            (P::Reopened | P::Recommitted | P::Reaborted, Event::Closed(_)) => Ok(P::Settled),
            (phase, event) => Err(IllegalTransition { phase, event: name(event) }),
        }
    }

    /// Whether a run whose supervisor died here is simply dropped: no target was touched.
    pub fn may_be_dropped(self) -> bool {
        matches!(
            self,
            Self::Started
                | Self::Snapshotted
                | Self::Attempting
                | Self::Attempted
                | Self::Sealed
                | Self::Accepted
                | Self::Rejected
        )
    }

    /// Whether a run may end here. Not while targets may be mixed.
    fn may_settle(self) -> bool {
        self.may_be_dropped() || matches!(self, Self::Committed | Self::Aborted | Self::Interrupted)
    }
}

/// The phase after a whole journal.
pub fn phase_after(events: &[Event]) -> Result<Phase, IllegalTransition> {
    events.iter().try_fold(Phase::Absent, |phase, event| phase.next(event))
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Started(_) => "started",
        Event::Snapshotted(_) => "snapshotted",
        Event::AttemptStarted(_) => "attempt_started",
        Event::Called(_) => "called",
        Event::AttemptEnded(_) => "attempt_ended",
        Event::Sealed(_) => "sealed",
        Event::VerifyEnded(_) => "verify_ended",
        Event::Judged(_) => "judged",
        Event::CommitIntended(_) => "commit_intended",
        Event::CommitDone(_) => "commit_done",
        Event::CommitAborted(_) => "commit_aborted",
        Event::Interrupted(_) => "interrupted",
        Event::Settled(_) => "settled",
        Event::Reopened(_) => "reopened",
        Event::Closed(_) => "closed",
    }
}
