//! What a run tells whoever is watching. Progress may fail silently; the journal may not.

use std::time::Duration;

use crate::model::error_kind::Failure;
use crate::model::{ByteSize, Text};

/// Where a run is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the inputs: files and bytes so far.
    Snapshot {
        /// Files read.
        files: u64,
        /// Bytes read.
        bytes: ByteSize,
    },
    /// The agent is running.
    Running,
    /// Reading what the agent staged.
    Sealing,
    /// A verify command is running.
    Verifying(Text),
    /// The result is being published.
    Publishing,
    /// An attempt has failed and another one will be made.
    Waiting {
        /// The number of the one that failed.
        failed: u32,
        /// The number of the last one that may be made.
        of: u32,
        /// Why it failed.
        why: Failure,
        /// How long until the next one.
        wait: Duration,
    },
}

/// Something a person should know that does not stop the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub String);

/// Receives stages and warnings. Called from several threads.
pub trait Progress: Send + Sync {
    /// The run has come to a stage.
    fn stage(&self, stage: Stage);
    /// Something happened on the way.
    fn warn(&self, warning: Warning);
    /// Something was decided that only the curious want to know.
    fn note(&self, _: &str) {}
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _: Stage) {}
    fn warn(&self, _: Warning) {}
}
