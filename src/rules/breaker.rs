//! The circuit breaker as a pure state machine: closed, open for a cool-down, then half open, where one run at a time
//! goes through as a probe. Time and the question whether a run is alive are parameters.
//!
//! ```text
//! closed ── threshold failures in a row, or tripped ──→ open ── cool-down ──→ half open
//!   ↑                                                    ↑                       │
//!   ├──── success of the agent, or of the probe ─────────┼───────────────────────┤
//!   └ reset                                              └─ failure (longer) ────┘
//! ```

use std::time::Duration;

use crate::model::breaker::{Breaker, BreakerPolicy, Cause, Counted, CountedFailure, Ending, KEPT_FAILURES, Opened};
use crate::model::error_kind::{ErrorKind, Status};
use crate::model::{RunId, Timestamp};

/// The cool-down doubles with each failed probe, so often: of 10 minutes at most 2 hours 40 become.
const MOST_DOUBLINGS: u32 = 4;

/// The longest message of a failure that is kept, in bytes.
const MESSAGE_BYTES: usize = 200;

/// What a run's end says about its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Success,
    /// It is broken.
    Failure,
    /// Nothing.
    Nothing,
}

/// Where a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything goes through.
    Closed,
    /// Nothing does.
    Open,
    /// One run at a time does.
    HalfOpen,
}

/// What a breaker says to a run that asks to go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It may go.
    Free,
    /// It may go if it takes the lease.
    Probe,
    /// It may not: the cool-down is not over.
    CoolingDown {
        /// When it is.
        until: Timestamp,
    },
    /// It may not: another run has the lease.
    Probing {
        /// That run.
        run: RunId,
    },
}

/// How the run that has ended stands to the breaker's agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It was a run of the agent.
    Own,
    /// It was a run of something that needs the agent: only a probe's end says something.
    Dependent,
}

/// What a run's end did to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: nothing needs to be written.
    None,
    /// Something that nobody needs to be told.
    Noted,
    /// It has opened, or opened again.
    Opened,
    /// It is closed again.
    Closed,
}

/// What a run's end says about its agent: success, a failure that is the agent's own, or nothing, because a person, another
/// process or agentguard itself stood in the way. A replay is a look at the past, unless it published.
pub fn verdict(ending: &Ending) -> Verdict {
    if ending.replay_of.is_some() && !ending.published {
        return Verdict::Nothing;
    }
    match (ending.status, &ending.error) {
        (Status::Succeeded | Status::Held, _) => Verdict::Success,
        (Status::Blocked | Status::Cancelled | Status::Interrupted, _) => Verdict::Nothing,
        (Status::Failed | Status::Rejected, Some(error)) if is_counted(error.kind, ending.exit_code) => {
            Verdict::Failure
        }
        (Status::Failed | Status::Rejected, _) => Verdict::Nothing,
    }
}

fn is_counted(kind: ErrorKind, exit_code: Option<i32>) -> bool {
    use ErrorKind as K;
    match kind {
        K::ExitCode
        | K::Signal
        | K::OutOfMemory
        | K::Timeout
        | K::IdleTimeout
        | K::Deadline
        | K::BudgetTokens
        | K::BudgetCost
        | K::BudgetCalls
        | K::OutputLimit
        | K::AgentReported
        | K::ApiAuth
        | K::ApiRateLimit
        | K::ApiOverloaded
        | K::ApiStreamCut
        | K::EmptyOutput
        | K::VerifyFailed
        | K::VerifyTimeout
        | K::Expectation
        | K::ProtectedPath
        | K::Limit
        | K::ModifiedAfterVerify => true,
        // A missing command has the code of a shell; a view that could not be had has none, and is not the agent's fault.
        K::SpawnFailed => exit_code.is_some(),
        K::Unkillable
        | K::VerifyUnrunnable
        | K::Conflict
        | K::PublishIo
        | K::UpstreamOpen
        | K::Tampered
        | K::Cancelled
        | K::SupervisorDied
        | K::SnapshotFailed => false,
    }
}

/// Where the breaker is now.
pub fn state(breaker: &Breaker, now: Timestamp) -> State {
    match &breaker.opened {
        None => State::Closed,
        Some(opened) if is_due(opened, now) => State::HalfOpen,
        Some(_) => State::Open,
    }
}

/// Whether the cool-down is over. Of a clock that was set back too: more than the whole cool-down cannot be left.
fn is_due(opened: &Opened, now: Timestamp) -> bool {
    let left = opened.next_probe.unix_micros().saturating_sub(now.unix_micros());
    left <= 0 || left > micros(cooldown(opened))
}

/// The cool-down after so many failed probes.
pub fn cooldown(opened: &Opened) -> Duration {
    opened.cooldown.saturating_mul(1 << opened.failed_probes.min(MOST_DOUBLINGS))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn after(time: Timestamp, duration: Duration) -> Timestamp {
    // The last instant that chrono can write: a cool-down of a thousand years is one.
    const LAST: i64 = 253_402_300_799_000_000;
    Timestamp::from_unix_micros(time.unix_micros().saturating_add(micros(duration)).min(LAST))
}

/// Asks whether a run may go through. `is_alive` tells whether the holder of the lease still holds it.
pub fn ask(breaker: &Breaker, now: Timestamp, is_alive: impl FnOnce(RunId) -> bool) -> Passage {
    let Some(opened) = &breaker.opened else { return Passage::Free };
    match opened.probe {
        Some(run) if is_alive(run) => Passage::Probing { run },
        _ if is_due(opened, now) => Passage::Probe,
        _ => Passage::CoolingDown { until: opened.next_probe },
    }
}

/// Gives the lease to a run that was told [`Passage::Probe`].
pub fn lend(breaker: &mut Breaker, run: RunId) {
    if let Some(opened) = &mut breaker.opened {
        opened.probe = Some(run);
    }
}

/// Whether this run has the lease.
pub fn is_probe(breaker: &Breaker, run: RunId) -> bool {
    breaker.opened.as_ref().is_some_and(|opened| opened.probe == Some(run))
}

/// Takes the end of a run into account. A run that was counted before changes nothing.
pub fn settle(
    breaker: &mut Breaker,
    ending: &Ending,
    relation: Relation,
    policy: &BreakerPolicy,
    mark: RunId,
) -> Change {
    if breaker.counted.iter().any(|counted| counted.run_id == ending.run_id) {
        return Change::None;
    }
    let was_probe = is_probe(breaker, ending.run_id);
    if relation == Relation::Dependent && !was_probe {
        return Change::None;
    }
    let change = match (verdict(ending), relation) {
        (Verdict::Nothing, _) => release(breaker, ending.run_id),
        (Verdict::Success, _) => succeed(breaker, ending, was_probe),
        (Verdict::Failure, Relation::Own) => fail(breaker, ending, was_probe, policy),
        (Verdict::Failure, Relation::Dependent) => reopen(breaker, ending.end_time, was_probe),
    };
    if change != Change::None {
        breaker.counted.push(Counted { run_id: ending.run_id, mark });
    }
    change
}

fn release(breaker: &mut Breaker, run: RunId) -> Change {
    match &mut breaker.opened {
        Some(opened) if opened.probe == Some(run) => {
            opened.probe = None;
            Change::Noted
        }
        _ => Change::None,
    }
}

fn succeed(breaker: &mut Breaker, ending: &Ending, was_probe: bool) -> Change {
    match &breaker.opened {
        // A person wanted it open: until the cool-down is over the agent has no say in that.
        Some(opened) if opened.cause == Cause::Tripped && !was_probe && !is_due(opened, ending.end_time) => {
            return Change::None;
        }
        None if breaker.consecutive == 0 => return Change::None,
        _ => {}
    }
    let was_open = breaker.opened.is_some();
    close(breaker, ending.end_time);
    if was_open { Change::Closed } else { Change::Noted }
}

fn close(breaker: &mut Breaker, time: Timestamp) {
    if breaker.opened.take().is_some() {
        breaker.since = Some(time);
    }
    breaker.consecutive = 0;
    breaker.failures.clear();
}

fn fail(breaker: &mut Breaker, ending: &Ending, was_probe: bool, policy: &BreakerPolicy) -> Change {
    breaker.consecutive = breaker.consecutive.saturating_add(1);
    if let Some(error) = &ending.error {
        let message = error.message.chars().scan(0, |bytes, letter| {
            *bytes += letter.len_utf8();
            (*bytes <= MESSAGE_BYTES).then_some(letter)
        });
        let message = message.collect();
        let (run_id, time, kind) = (ending.run_id, ending.end_time, error.kind);
        breaker.failures.push(CountedFailure { run_id, time, kind, message });
        let surplus = breaker.failures.len().saturating_sub(KEPT_FAILURES);
        breaker.failures.drain(..surplus);
    }
    match breaker.opened {
        Some(_) => reopen(breaker, ending.end_time, was_probe),
        None if breaker.consecutive >= policy.threshold => {
            open(breaker, ending.end_time, Cause::Failures, policy.cooldown);
            Change::Opened
        }
        None => Change::Noted,
    }
}

fn open(breaker: &mut Breaker, time: Timestamp, cause: Cause, cooldown: Duration) {
    breaker.since = Some(time);
    let next_probe = after(time, cooldown);
    breaker.opened = Some(Opened { cause, cooldown, failed_probes: 0, next_probe, probe: None });
}

/// The cool-down begins again; it is longer once it was over, or where a probe went before its time.
fn reopen(breaker: &mut Breaker, time: Timestamp, was_probe: bool) -> Change {
    let Some(opened) = &mut breaker.opened else { return Change::None };
    let longer = was_probe || is_due(opened, time);
    if longer {
        opened.failed_probes = opened.failed_probes.saturating_add(1);
    }
    if was_probe {
        opened.probe = None;
    }
    opened.next_probe = after(time, cooldown(opened));
    if longer { Change::Opened } else { Change::Noted }
}

/// Opens the breaker for so long, whatever it was.
pub fn trip(breaker: &mut Breaker, now: Timestamp, cooldown: Duration) {
    open(breaker, now, Cause::Tripped, cooldown);
}

/// Closes the breaker and forgets the failures.
pub fn reset(breaker: &mut Breaker, now: Timestamp) {
    close(breaker, now);
}
