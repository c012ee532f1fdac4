//! What the agent and the verify commands find in their environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::model::{RunId, Text};
use crate::rules::placeholder;
use crate::view::staging::Staging;

use super::scene::Private;

/// Variables to set (`None`: to remove) on top of the guard's own environment.
pub type Variables = Vec<(OsString, Option<OsString>)>;

/// Where one attempt has its things.
#[derive(Clone, Debug)]
pub struct AttemptPlaces {
    /// The run.
    pub run_id: RunId,
    /// From 1.
    pub number: u32,
    /// The run whose agent started agentguard.
    pub parent: Option<RunId>,
    /// Where a publishing agent writes; `None` in workspace mode.
    pub staging: Option<Staging>,
    /// Where the agent finds it.
    pub seen_staging: Option<PathBuf>,
    /// The frozen inputs as the agent finds them, where there are any.
    pub seen_inputs: Option<PathBuf>,
    /// The run's private directory.
    pub private: Private,
    /// The working directory, where it is not the caller's.
    pub moved_cwd: Option<PathBuf>,
    /// Where it finds why the attempt before failed.
    pub feedback: Option<SeenFeedback>,
    /// The workspace, and where agentguards inside keep their state, if there is a view.
    pub nested: Option<Nested>,
}

/// The file with the reason for the failure of the attempt before.
#[derive(Clone, Debug)]
pub struct SeenFeedback {
    /// Where the agent finds it; empty before the first failure.
    pub path: PathBuf,
    /// Whether there was one.
    pub has_failed: bool,
}

/// What an agentguard inside needs to know of the one around it.
#[derive(Clone, Debug)]
pub struct Nested {
    /// The workspace.
    pub workspace: PathBuf,
    /// A state directory for runs in it, on a filesystem that can hold layers.
    pub state: PathBuf,
}

/// Below the private directory: the agent's temporary directory.
pub const TEMPORARY: &str = "tmp";
/// Below the private directory: where the agent may report its usage.
pub const USAGE: &str = "usage.jsonl";
/// Below the private directory: why the attempt before failed.
pub const FEEDBACK: &str = "feedback";
/// Below the private directory: the state directory of agentguards inside.
pub const NESTED_STATE: &str = "state";
/// Below the private directory: where a publishing agent finds its staging directory.
pub const STAGING: &str = "staging";
/// Below the private directory on the host: what is shown over directories that are one of several outputs.
pub const IN_PLACE: &str = "outputs";
/// Below the private directory: where the agent finds its frozen inputs.
pub const INPUTS: &str = "inputs";

/// Names the workspace of the agentguard around this one.
pub const OUTER_WORKSPACE: &str = "AGENTGUARD_OUTER_WORKSPACE";
/// Names the state directory for runs in it.
pub const OUTER_STATE: &str = "AGENTGUARD_OUTER_STATE";

/// Variables of an agentguard around this one that mean something to an agentguard inside: its places, and its options,
/// which were given to that one and not to those that the agent starts.
fn of_an_outer_guard(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"AGENTGUARD_") && name != "AGENTGUARD_STATE_DIR"
}

impl AttemptPlaces {
    /// The variables of the contract. `recorded` are values a replay brings along.
    pub fn variables(&self, recorded: &[(Text, Text)]) -> Variables {
        let outer = std::env::vars_os().filter(|(name, _)| of_an_outer_guard(name));
        let mut variables: Variables = outer.map(|(name, _)| (name, None)).collect();
        for (name, value) in recorded {
            variables.push((name.as_os_str().to_owned(), Some(value.as_os_str().to_owned())));
        }
        let mut set = |name: &str, value: OsString| variables.push((name.into(), Some(value)));
        set("AGENTGUARD_RUN_ID", self.run_id.to_string().into());
        set("AGENTGUARD_ATTEMPT", self.number.to_string().into());
        if let Some(staging) = &self.seen_staging {
            set("AGENTGUARD_STAGING", staging.clone().into());
        }
        if let Some(inputs) = &self.seen_inputs {
            set("AGENTGUARD_INPUTS", inputs.clone().into());
        }
        set("AGENTGUARD_USAGE", self.private.seen.join(USAGE).into());
        if let Some(feedback) = self.feedback.as_ref().filter(|feedback| feedback.has_failed) {
            set("AGENTGUARD_FEEDBACK", feedback.path.clone().into());
        }
        if let Some(nested) = &self.nested {
            set(OUTER_WORKSPACE, nested.workspace.clone().into());
            set(OUTER_STATE, nested.state.clone().into());
        }
        if let Some(cwd) = &self.moved_cwd {
            set("PWD", cwd.clone().into());
        }
        if let Some(parent) = self.parent {
            set("AGENTGUARD_PARENT_RUN_ID", parent.to_string().into());
        }
        set("TMPDIR", self.private.seen.join(TEMPORARY).into());
        set("TRACEPARENT", trace_parent(self.run_id, self.number).into());
        variables
    }

    /// The arguments with `{staging}`, `{inputs}` and `{feedback}` replaced.
    pub fn arguments(&self, command: &[Text]) -> Vec<OsString> {
        let staging = Text::from(self.seen_staging.as_deref().unwrap_or(Path::new("{staging}")));
        let inputs = Text::from(self.seen_inputs.as_deref().unwrap_or(Path::new("{inputs}")));
        let feedback = self.feedback.as_ref().map_or(Path::new("{feedback}"), |feedback| &feedback.path);
        let feedback = Text::from(feedback);
        let values: [(&str, &[u8]); 3] =
            [("{staging}", &staging.0), ("{inputs}", &inputs.0), ("{feedback}", &feedback.0)];
        command.iter().map(|argument| placeholder::expand(argument, &values).as_os_str().to_owned()).collect()
    }
}

/// W3C trace context: the trace id is the run's 16 bytes, the parent span that of the attempt, so that each attempt's calls
/// can be told apart.
fn trace_parent(run_id: RunId, number: u32) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("00-{}-{}-01", hex(run_id.as_bytes()), hex(&run_id.span_id(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_id_is_the_run_id_and_each_attempt_has_its_span() {
        let run_id = RunId::mint(1_764_000_000_000, [7; 10]);
        let (first, second) = (trace_parent(run_id, 1), trace_parent(run_id, 2));
        assert_ne!(first, second);
        let parts: Vec<&str> = first.split('-').collect();
        assert_eq!(parts[1], run_id.to_string().replace('-', ""));
        assert_eq!((parts[0], parts[2].len(), parts[3]), ("00", 16, "01"));
    }
}
