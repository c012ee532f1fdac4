//! Continue's `cn -p --format json` tells of no tokens: `{"response", "status", "note"}`, or `{"status": "error", "message"}` on
//! standard error.

use serde_json::Value;

use crate::model::error_kind::ErrorKind;

use super::adapter::{Adapter, Heard};
use super::api_error::Verdict;
use super::figures::Figures;
use super::json::text;

/// The reader.
#[derive(Debug, Default)]
pub(super) struct Cn {
    verdict: Option<Verdict>,
}

impl Adapter for Cn {
    fn format(&self) -> &'static str {
        "cn"
    }

    fn object(&mut self, object: &Value) -> Heard {
        match (text(object, &["status"]), text(object, &["message"]), text(object, &["response"])) {
            // Others print such a line too.
            (Some("error"), Some(message), None) => {
                self.verdict = Some(Verdict::of_error(None, message).with_exit_code());
            }
            (Some("success"), _, Some(response)) if text(object, &["note"]).is_some() => {
                let nothing = || Verdict::new(ErrorKind::EmptyOutput, "its answer was empty");
                self.verdict = response.trim().is_empty().then(nothing);
            }
            _ => return Heard::Nothing,
        }
        Heard::Outcome
    }

    fn figures(&self) -> Option<Figures> {
        None
    }

    fn verdict(&self) -> Option<Verdict> {
        self.verdict.clone()
    }
}
