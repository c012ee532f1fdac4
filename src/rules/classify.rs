//! From a precise cause to the recovery pattern it calls for (the table at the head of the product contract).

use crate::model::error_kind::{ErrorClass, ErrorKind};

/// The class of a failure; `staged_files` is what the failing attempt had staged.
pub fn class_of(kind: ErrorKind, staged_files: u64) -> ErrorClass {
    use ErrorKind as K;
    match kind {
        K::VerifyFailed | K::Expectation | K::ProtectedPath | K::Limit => ErrorClass::SilentDrift,
        K::VerifyUnrunnable | K::VerifyTimeout | K::ModifiedAfterVerify | K::Conflict | K::PublishIo | K::Tampered => {
            ErrorClass::PublishFailed
        }
        K::UpstreamOpen => ErrorClass::Cascade,
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
        | K::SpawnFailed
        | K::AgentReported
        | K::ApiAuth
        | K::ApiRateLimit
        | K::ApiOverloaded
        | K::ApiStreamCut
        | K::EmptyOutput
        | K::Unkillable
        | K::Cancelled
        | K::SupervisorDied
        | K::SnapshotFailed => by_what_was_staged(staged_files),
    }
}

fn by_what_was_staged(staged_files: u64) -> ErrorClass {
    if staged_files == 0 { ErrorClass::CleanAbort } else { ErrorClass::PartialWrite }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_agent_is_classed_by_what_it_had_staged() {
        assert_eq!(class_of(ErrorKind::ExitCode, 0), ErrorClass::CleanAbort);
        assert_eq!(class_of(ErrorKind::Timeout, 3), ErrorClass::PartialWrite);
        assert_eq!(class_of(ErrorKind::VerifyFailed, 3), ErrorClass::SilentDrift);
        assert_eq!(class_of(ErrorKind::Conflict, 3), ErrorClass::PublishFailed);
        assert_eq!(class_of(ErrorKind::VerifyUnrunnable, 3), ErrorClass::PublishFailed);
    }
}
