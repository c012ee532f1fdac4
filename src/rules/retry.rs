//! When a failed attempt is followed by another, and after how long. Pure: chance is a parameter.

use std::time::Duration;

use crate::model::error_kind::{ErrorClass, ErrorKind, Failure};
use crate::model::spec::{RetryOn, RetryPolicy};

/// Why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// All that were asked for were made.
    Spent,
    /// This failure is not one to try again after.
    NotRetryable,
}

/// What becomes of a run whose attempt number `made` (from 1) has failed. `Ok`: the longest wait before the next one.
pub fn next(policy: &RetryPolicy, made: u32, failure: &Failure, class: ErrorClass) -> Result<Duration, Stop> {
    if !is_retryable(policy, failure.kind, class) {
        return Err(Stop::NotRetryable);
    }
    if made > policy.retries {
        return Err(Stop::Spent);
    }
    Ok(longest_wait(policy, made))
}

/// Doubled with each attempt, up to the cap.
pub fn longest_wait(policy: &RetryPolicy, made: u32) -> Duration {
    let factor = 1_u32.checked_shl(made.saturating_sub(1)).unwrap_or(u32::MAX);
    policy.backoff.saturating_mul(factor).min(policy.backoff_max)
}

/// Full jitter: anything up to the longest wait, so that many that failed together do not come back together.
/// `chance` is in 0..1.
pub fn wait(longest: Duration, chance: f64) -> Duration {
    longest.mul_f64(chance.clamp(0.0, 1.0))
}

fn is_retryable(policy: &RetryPolicy, kind: ErrorKind, class: ErrorClass) -> bool {
    match kind {
        // Somebody wanted an end, the run's time or budget is over, or what failed was not the attempt.
        ErrorKind::Cancelled
        | ErrorKind::Deadline
        | ErrorKind::BudgetTokens
        | ErrorKind::BudgetCost
        | ErrorKind::BudgetCalls
        | ErrorKind::UpstreamOpen
        | ErrorKind::Unkillable
        | ErrorKind::Conflict
        | ErrorKind::PublishIo
        | ErrorKind::Tampered
        | ErrorKind::ModifiedAfterVerify
        | ErrorKind::SupervisorDied
        | ErrorKind::SnapshotFailed => false,
        // The next attempt would find the same key and the same missing command: only for who names them.
        ErrorKind::ApiAuth | ErrorKind::SpawnFailed => policy.on.contains(&RetryOn::Kind(kind)),
        _ => policy.on.iter().any(|on| match on {
            RetryOn::Class(wanted) => *wanted == class,
            RetryOn::Kind(wanted) => *wanted == kind,
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(retries: u32) -> RetryPolicy {
        RetryPolicy { retries, ..RetryPolicy::default() }
    }

    fn failed(kind: ErrorKind) -> Failure {
        Failure::new(kind, "x")
    }

    #[test]
    fn attempts_are_counted_and_classes_asked() {
        let abort = ErrorClass::CleanAbort;
        assert_eq!(next(&policy(0), 1, &failed(ErrorKind::ExitCode), abort), Err(Stop::Spent));
        assert_eq!(next(&policy(2), 1, &failed(ErrorKind::ExitCode), abort), Ok(Duration::from_secs(1)));
        assert_eq!(next(&policy(2), 2, &failed(ErrorKind::ExitCode), abort), Ok(Duration::from_secs(2)));
        assert_eq!(next(&policy(2), 3, &failed(ErrorKind::ExitCode), abort), Err(Stop::Spent));
        let drift = ErrorClass::SilentDrift;
        assert_eq!(next(&policy(2), 1, &failed(ErrorKind::VerifyFailed), drift), Err(Stop::NotRetryable));
        let asked = RetryPolicy { on: vec![RetryOn::Class(drift)], ..policy(2) };
        assert!(next(&asked, 1, &failed(ErrorKind::VerifyFailed), drift).is_ok());
        assert_eq!(next(&asked, 1, &failed(ErrorKind::ExitCode), abort), Err(Stop::NotRetryable));
    }

    #[test]
    fn a_missing_command_and_a_wrong_key_are_retried_only_where_they_are_named() {
        for kind in [ErrorKind::SpawnFailed, ErrorKind::ApiAuth] {
            assert_eq!(next(&policy(2), 1, &failed(kind), ErrorClass::CleanAbort), Err(Stop::NotRetryable));
            let named = RetryPolicy { on: vec![RetryOn::Kind(kind)], ..policy(2) };
            assert!(next(&named, 1, &failed(kind), ErrorClass::CleanAbort).is_ok());
        }
        let everything = RetryPolicy { on: vec![RetryOn::Kind(ErrorKind::Cancelled)], ..policy(2) };
        assert_eq!(
            next(&everything, 1, &failed(ErrorKind::Cancelled), ErrorClass::CleanAbort),
            Err(Stop::NotRetryable)
        );
    }

    proptest! {
        #[test]
        fn waits_grow_to_the_cap_and_stay_within_it(
            base in 1_u64..100_000, cap in 1_u64..1_000_000, made in 1_u32..200, chance in 0.0_f64..1.0,
        ) {
            let (backoff, backoff_max) = (Duration::from_millis(base), Duration::from_millis(cap));
            let policy = RetryPolicy { backoff, backoff_max, ..policy(u32::MAX) };
            let longest = longest_wait(&policy, made);
            // The model, in plain numbers.
            let model = (u128::from(base) << (made - 1).min(64)).min(u128::from(cap));
            prop_assert_eq!(longest.as_millis(), model);
            prop_assert!(longest_wait(&policy, made + 1) >= longest);
            prop_assert!(wait(longest, chance) <= longest);
        }
    }
}
