//! The code agentguard exits with, from how a run ended: the one table behind the contract's.

use crate::model::error_kind::{ErrorKind, Failure, Status};

/// The gate refused the result.
pub const REJECTED: i32 = 120;
/// An upstream breaker is open.
pub const BLOCKED: i32 = 121;
/// Somebody else changed a target.
pub const CONFLICT: i32 = 122;
/// A budget was passed.
pub const OVER_BUDGET: i32 = 123;
/// A timeout fired, as `timeout(1)`.
pub const TIMED_OUT: i32 = 124;
/// agentguard itself failed, or was called wrongly.
pub const GUARD_FAILED: i32 = 125;
/// The command could not be executed.
pub const NOT_EXECUTABLE: i32 = 126;
/// The command was not found.
pub const NOT_FOUND: i32 = 127;

/// How an agent's process ended, as far as exit codes go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentExit {
    /// Its exit code.
    pub code: Option<i32>,
    /// The signal it died of.
    pub signal: Option<i32>,
    /// The signal that told agentguard to stop.
    pub cancelled_by: Option<i32>,
}

/// The guard's exit code.
pub fn exit_code(status: Status, failure: Option<&Failure>, agent: AgentExit) -> i32 {
    let by_signal = |signal: i32| 128 + signal;
    let Some(failure) = failure else {
        return match status {
            Status::Succeeded | Status::Held => 0,
            _ => GUARD_FAILED,
        };
    };
    match failure.kind {
        ErrorKind::Cancelled => agent.cancelled_by.or(agent.signal).map_or(GUARD_FAILED, by_signal),
        ErrorKind::Timeout | ErrorKind::IdleTimeout | ErrorKind::Deadline => TIMED_OUT,
        ErrorKind::BudgetTokens | ErrorKind::BudgetCost | ErrorKind::BudgetCalls | ErrorKind::OutputLimit => {
            OVER_BUDGET
        }
        ErrorKind::Conflict => CONFLICT,
        ErrorKind::UpstreamOpen => BLOCKED,
        ErrorKind::VerifyFailed
        | ErrorKind::VerifyTimeout
        | ErrorKind::VerifyUnrunnable
        | ErrorKind::Expectation
        | ErrorKind::ProtectedPath
        | ErrorKind::Limit
        | ErrorKind::ModifiedAfterVerify => REJECTED,
        ErrorKind::SpawnFailed => agent.code.unwrap_or(GUARD_FAILED),
        ErrorKind::PublishIo
        | ErrorKind::Tampered
        | ErrorKind::SupervisorDied
        | ErrorKind::SnapshotFailed
        | ErrorKind::Unkillable => GUARD_FAILED,
        ErrorKind::ExitCode
        | ErrorKind::Signal
        | ErrorKind::OutOfMemory
        | ErrorKind::AgentReported
        | ErrorKind::ApiAuth
        | ErrorKind::ApiRateLimit
        | ErrorKind::ApiOverloaded
        | ErrorKind::ApiStreamCut
        | ErrorKind::EmptyOutput => match (agent.code, agent.signal) {
            // An agent that exits 0 while its output says it failed must not look like success.
            (Some(0) | None, None) => 1,
            (Some(code), _) => code,
            (None, Some(signal)) => by_signal(signal),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ending_has_the_code_of_the_contract() {
        let code = |kind, agent| exit_code(Status::Failed, Some(&Failure::new(kind, "x")), agent);
        let agent = |code, signal| AgentExit { code, signal, cancelled_by: None };
        assert_eq!(exit_code(Status::Succeeded, None, AgentExit::default()), 0);
        assert_eq!(code(ErrorKind::ExitCode, agent(Some(7), None)), 7);
        assert_eq!(code(ErrorKind::ExitCode, agent(Some(123), None)), 123);
        assert_eq!(code(ErrorKind::Signal, agent(None, Some(9))), 137);
        assert_eq!(code(ErrorKind::Timeout, agent(None, Some(15))), 124);
        assert_eq!(code(ErrorKind::VerifyFailed, agent(Some(0), None)), 120);
        assert_eq!(code(ErrorKind::Conflict, agent(Some(0), None)), 122);
        assert_eq!(code(ErrorKind::SpawnFailed, agent(Some(127), None)), 127);
        assert_eq!(code(ErrorKind::AgentReported, agent(Some(0), None)), 1);
        let cancelled = AgentExit { code: Some(0), signal: None, cancelled_by: Some(15) };
        assert_eq!(code(ErrorKind::Cancelled, cancelled), 143);
    }
}
