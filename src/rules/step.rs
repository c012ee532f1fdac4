//! The life of one attempt as a pure function: events in, one action out. Timeouts, escalation and cancellation
//! are decided here and nowhere else, so they are tested without a process.

/// What happened to a running attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptEvent {
    /// The agent's process ended.
    Exited(ProcessEnd),
    /// agentguard was sent this signal.
    Signalled(i32),
    /// It has reached a limit; never [`StopCause::Cancelled`].
    Reached(StopCause),
    /// The grace between TERM and KILL is over.
    GraceElapsed,
}

/// How a process ended: exactly one of the two is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProcessEnd {
    /// It exited with this code.
    Code(i32),
    /// It died of this signal.
    Signal(i32),
}

/// Why an attempt is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopCause {
    /// `--timeout`.
    Timeout,
    /// `--deadline`, over all attempts.
    Deadline,
    /// `--idle-timeout`.
    Idle,
    /// `--max-output`.
    Output,
    /// `--max-files`, `--max-bytes`, or the disk is full but for what others need.
    Staged,
    /// `--max-tokens`, over all attempts.
    Tokens,
    /// `--max-cost-usd`, over all attempts, or what may be spent in a day.
    Cost,
    /// `--max-calls`, over all attempts.
    Calls,
    /// Somebody sent agentguard this signal.
    Cancelled(i32),
}

/// What the loop does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Nothing: wait for the next event.
    Wait,
    /// Send TERM to the whole tree and start the grace.
    Terminate,
    /// Send KILL to the whole tree.
    Kill,
    /// The attempt is over.
    Finish(AttemptOutcome),
}

/// How an attempt was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptOutcome {
    /// How its process ended.
    pub end: ProcessEnd,
    /// Why it had been stopped, if it had: whatever the process then exited with, this is the cause.
    pub stopped: Option<StopCause>,
}

/// Where an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptState {
    /// Left alone.
    Running,
    /// TERM was sent.
    Stopping(StopCause),
    /// KILL was sent.
    Killing(StopCause),
    /// It ended; nothing more is expected.
    Over,
}

impl AttemptState {
    /// Why it is being stopped, if it is.
    pub fn stopped(self) -> Option<StopCause> {
        match self {
            Self::Stopping(cause) | Self::Killing(cause) => Some(cause),
            Self::Running | Self::Over => None,
        }
    }
}

/// One decision. The first cause of a stop stays its cause; a second signal kills at once.
pub fn step(state: &mut AttemptState, event: AttemptEvent) -> Action {
    use AttemptState as S;
    let (next, action) = match (*state, event) {
        (S::Over, _) => (S::Over, Action::Wait),
        (S::Running, AttemptEvent::Exited(end)) => (S::Over, Action::Finish(AttemptOutcome { end, stopped: None })),
        (S::Stopping(cause) | S::Killing(cause), AttemptEvent::Exited(end)) => {
            (S::Over, Action::Finish(AttemptOutcome { end, stopped: Some(cause) }))
        }
        (S::Running, AttemptEvent::Signalled(signal)) => (S::Stopping(StopCause::Cancelled(signal)), Action::Terminate),
        (S::Running, AttemptEvent::Reached(cause)) => (S::Stopping(cause), Action::Terminate),
        (S::Stopping(cause), AttemptEvent::Signalled(_) | AttemptEvent::GraceElapsed) => {
            (S::Killing(cause), Action::Kill)
        }
        // KILL again: a process may have been forked between the first sweep and now.
        (S::Killing(cause), AttemptEvent::Signalled(_)) => (S::Killing(cause), Action::Kill),
        (state @ S::Running, AttemptEvent::GraceElapsed)
        | (state @ S::Stopping(_), AttemptEvent::Reached(_))
        | (state @ S::Killing(_), AttemptEvent::Reached(_) | AttemptEvent::GraceElapsed) => (state, Action::Wait),
    };
    *state = next;
    action
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAUSES: [StopCause; 9] = [
        StopCause::Timeout,
        StopCause::Deadline,
        StopCause::Idle,
        StopCause::Output,
        StopCause::Staged,
        StopCause::Tokens,
        StopCause::Cost,
        StopCause::Calls,
        StopCause::Cancelled(2),
    ];

    fn states() -> Vec<AttemptState> {
        let stopped =
            CAUSES.into_iter().flat_map(|cause| [AttemptState::Stopping(cause), AttemptState::Killing(cause)]);
        [AttemptState::Running, AttemptState::Over].into_iter().chain(stopped).collect()
    }

    fn events() -> Vec<AttemptEvent> {
        let others = [
            AttemptEvent::Exited(ProcessEnd::Code(0)),
            AttemptEvent::Exited(ProcessEnd::Signal(9)),
            AttemptEvent::Signalled(2),
            AttemptEvent::GraceElapsed,
        ];
        others.into_iter().chain(CAUSES[..8].iter().map(|cause| AttemptEvent::Reached(*cause))).collect()
    }

    #[test]
    fn every_state_has_an_answer_to_every_event_and_only_an_exit_ends_an_attempt() {
        for state in states() {
            for event in events() {
                let mut after = state;
                let action = step(&mut after, event);
                let exited = matches!(event, AttemptEvent::Exited(_));
                let finished = matches!(action, Action::Finish(_));
                assert_eq!(finished, exited && state != AttemptState::Over, "{state:?} {event:?}");
                assert_eq!(after == AttemptState::Over, exited || state == AttemptState::Over);
            }
        }
    }

    #[test]
    fn the_first_cause_of_a_stop_stays_its_cause() {
        let mut state = AttemptState::Running;
        assert_eq!(step(&mut state, AttemptEvent::Reached(StopCause::Timeout)), Action::Terminate);
        assert_eq!(step(&mut state, AttemptEvent::Signalled(2)), Action::Kill);
        let end = ProcessEnd::Code(0);
        let over = step(&mut state, AttemptEvent::Exited(end));
        assert_eq!(over, Action::Finish(AttemptOutcome { end, stopped: Some(StopCause::Timeout) }));
    }

    #[test]
    fn grace_is_followed_by_kill_and_a_second_signal_does_not_wait_for_it() {
        let mut patient = AttemptState::Running;
        assert_eq!(step(&mut patient, AttemptEvent::Signalled(15)), Action::Terminate);
        assert_eq!(step(&mut patient, AttemptEvent::GraceElapsed), Action::Kill);
        let mut hasty = AttemptState::Running;
        assert_eq!(step(&mut hasty, AttemptEvent::Signalled(2)), Action::Terminate);
        assert_eq!(step(&mut hasty, AttemptEvent::Signalled(2)), Action::Kill);
    }
}
