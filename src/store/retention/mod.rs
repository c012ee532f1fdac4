//! Removing what is kept no longer: directories of runs, what only they relied on, and what is of no use to anybody.
//!
//! A run's directory leaves `runs/` whole, by one rename into the trash; that is durable before anything is removed that it
//! relied on. So a crash at any point leaves runs that have all they need, and files that nobody needs, which the next
//! `gc` removes. All of it happens under `kept.lock`; only what lies in the trash is removed afterwards. The log's lines
//! stay.

mod remove;
mod survey;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::RunId;
use crate::rules::retention::{Protection, Reason};

pub use remove::carry_out;
pub use survey::{Survey, survey};

/// How long `gc` waits for runs that are just reading their inputs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What goes, or has gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Runs that lose their directory, with what it takes, oldest first.
    pub runs: Vec<(RunId, Reason, u64)>,
    /// How many files of the snapshot store nobody needs then, and what they take.
    pub store: (u64, u64),
    /// Other things: displaced trees, damaged files, stale caches, what killed captures left.
    pub remains: (u64, u64),
    /// Runs that would go and stay, and why.
    pub protected: Vec<(RunId, Protection)>,
    /// What could not be done, in words.
    pub warnings: Vec<String>,
}

impl Removal {
    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.runs.iter().map(|(_, _, bytes)| bytes).sum::<u64>() + self.store.1 + self.remains.1
    }
}

/// Why nothing, or not all, was removed. Whatever is left is whole.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// Runs are reading their inputs.
    #[error("other commands have been reading what is kept for {0:?}: try again when they are done")]
    Busy(Duration),
    /// The kernel said no.
    #[error("cannot {step} {path:?}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
}

impl RetentionError {
    fn at(step: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { step, path, source }
    }
}
