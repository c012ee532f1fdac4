//! The whole vocabulary of outcomes: `Status`, `ErrorClass` (six values with `null`) and `ErrorKind` (the precise
//! cause). The words are the contract of the run record; nothing else may invent one.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The result was published, or there was nothing to publish.
    Succeeded,
    /// The agent failed, or agentguard could not do its part.
    Failed,
    /// The gate refused the result.
    Rejected,
    /// Not spawned: an upstream breaker is open.
    Blocked,
    /// Somebody told the run to stop.
    Cancelled,
    /// The supervisor died; written by the next command.
    Interrupted,
    /// Verified and kept for `apply` or `discard`.
    Held,
}

/// The recovery pattern a failure calls for; `null` in the record means success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The agent failed and had staged nothing.
    CleanAbort,
    /// The agent failed after it had staged something.
    PartialWrite,
    /// The agent reported success and the gate found the output wrong.
    SilentDrift,
    /// Something upstream is broken.
    Cascade,
    /// The result could not be judged or published.
    PublishFailed,
}

/// The precise cause of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each name is the word of the contract and says what happened")]
pub enum ErrorKind {
    ExitCode,
    Signal,
    OutOfMemory,
    Timeout,
    IdleTimeout,
    Deadline,
    BudgetTokens,
    BudgetCost,
    BudgetCalls,
    OutputLimit,
    SpawnFailed,
    AgentReported,
    ApiAuth,
    ApiRateLimit,
    ApiOverloaded,
    ApiStreamCut,
    EmptyOutput,
    Unkillable,
    VerifyFailed,
    VerifyTimeout,
    VerifyUnrunnable,
    Expectation,
    ProtectedPath,
    Limit,
    ModifiedAfterVerify,
    Conflict,
    PublishIo,
    UpstreamOpen,
    Tampered,
    Cancelled,
    SupervisorDied,
    SnapshotFailed,
}

/// Writes the snake_case word that serde uses, so that messages and JSON agree.
fn write_word(value: &impl Serialize, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => out.write_str(&word),
        _ => Err(fmt::Error),
    }
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_word(self, out)
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_word(self, out)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_word(self, out)
    }
}

/// The `error` object of a record: what happened, in one fragment, and at most one thing to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// The precise cause.
    pub kind: ErrorKind,
    /// A lower-case fragment that names the object.
    pub message: String,
    /// What to do, where there is something to do.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
