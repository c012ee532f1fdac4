//! `RunId`: a UUIDv7 (RFC 9562), so that ids sort by the time their run started.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The identity of one run: lower-case, hyphenated UUIDv7. Its 16 bytes are also the W3C trace id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"))]
pub struct RunId(Uuid);

/// The text was not a lower-case hyphenated UUIDv7.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a run id: {0:?}")]
pub struct ParseRunIdError(pub String);

impl RunId {
    /// The id of a run that starts `unix_millis` after the epoch; `random` supplies the other 74 bits.
    pub fn mint(unix_millis: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_millis, &random).into_uuid())
    }

    /// The 16 bytes, most significant first.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id with these bytes; `None` where they are no UUIDv7.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        let id = Uuid::from_bytes(bytes);
        (id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122).then_some(Self(id))
    }

    /// The span (W3C trace context) of a part of the run, in the trace that the run is: the random half of the id with the
    /// part's number in its end. 0 is the run itself, an attempt has its own number. Never all zeros.
    pub fn span_id(&self, part: u32) -> [u8; 8] {
        let bytes = self.as_bytes();
        let mut span: [u8; 8] = std::array::from_fn(|at| bytes[8 + at]);
        for (byte, mixed) in span.iter_mut().rev().zip(part.to_le_bytes()) {
            *byte ^= mixed;
        }
        span
    }

    /// Milliseconds since the Unix epoch at which the run started.
    pub fn unix_millis(&self) -> u64 {
        self.0.as_u128().unbounded_shr(80) as u64
    }

    /// The last eight digits: random, so two runs of the same minute differ; any unique suffix names a run.
    pub fn short(&self) -> String {
        self.to_string().split_off(28)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.as_hyphenated(), out)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for RunId {
    type Err = ParseRunIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseRunIdError(text.to_owned());
        let id = Uuid::try_parse(text).map_err(|_| wrong())?;
        let canonical = id.get_version_num() == 7 && Self(id).to_string() == text;
        canonical.then_some(Self(id)).ok_or_else(wrong)
    }
}

impl TryFrom<String> for RunId {
    type Error = ParseRunIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_carries_its_start_time_and_only_its_canonical_form_parses() {
        let id = RunId::mint(1_764_000_000_123, [0xab; 10]);
        assert_eq!(id.unix_millis(), 1_764_000_000_123);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().ends_with(&id.short()) && id.short().len() == 8);
        assert!(id.to_string().to_uppercase().parse::<RunId>().is_err());
        assert!("../../etc".parse::<RunId>().is_err());
        assert!("6fa459ea-ee8a-4ca4-894e-db77e160355e".parse::<RunId>().is_err(), "a UUIDv4 is no run id");
    }
}
