//! `Call`: one model call, as the meter saw it pass.

use serde::{Deserialize, Serialize};

use super::timestamp::Timestamp;
use super::tokens::Tokens;

/// One model call. No header and no body of it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// When it came from the agent.
    pub time: Timestamp,
    /// The variable whose address it came by.
    pub route: String,
    /// The model, as the answer named it; null where it did not.
    pub model: Option<String>,
    /// The answer's HTTP status; null where there was none.
    pub status: Option<u16>,
    /// To the first byte of the answer's body, in milliseconds; null where there was none.
    pub first_byte_ms: Option<u64>,
    /// To the end of the answer, in milliseconds.
    pub duration_ms: u64,
    /// How long the API asked to be left alone; null where it did not.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
    /// What was used; null where the answer did not say, or was cut before it could.
    pub tokens: Option<Tokens>,
    /// Whether the answer came to its own end.
    pub complete: bool,
}

impl Call {
    /// Whether it may have cost something that nobody knows.
    pub fn is_uncounted(&self) -> bool {
        self.tokens.is_none() && self.status.is_none_or(|status| status < 400)
    }
}
