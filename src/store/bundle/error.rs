//! Why a bundle cannot be written or taken.

use std::io;
use std::path::PathBuf;

use crate::model::{Digest, RunId};
use crate::store::journal::JournalError;
use crate::store::log::{AppendError, ReadError};
use crate::store::run_dir::RunDirError;
use crate::store::snapshot::{CaptureError, LoadError, MaterialiseError, StoreError};
use crate::store::state_dir::StateDirError;

/// Why a bundle cannot be written or taken; nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The bundle's stream failed: no zstd, no tar, or the disk.
    #[error("cannot {step} the bundle")]
    Stream {
        /// What was being done.
        step: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Its beginning is not that of a bundle.
    #[error("this is no bundle: {0}")]
    NotBundle(String),
    /// It was written by a newer agentguard.
    #[error("the bundle has the newer format {0}; this agentguard reads up to 1")]
    Newer(u32),
    /// It ends too early.
    #[error("the bundle is truncated: {0} is missing")]
    Truncated(String),
    /// Something in it must not be there.
    #[error("the bundle is refused: {0}")]
    Refused(String),
    /// It would unpack to more than is allowed.
    #[error("the bundle would unpack to {declared} bytes, more than {limit}: --limit SIZE lets it")]
    TooLarge {
        /// What its header says.
        declared: u64,
        /// What is allowed.
        limit: u64,
    },
    /// An entry is not what the header or its own name says.
    #[error("{name} in the bundle is not what it is said to be: {what}")]
    Forged {
        /// Which entry.
        name: String,
        /// In which way.
        what: String,
    },
    /// The run is here, and is another one.
    #[error("run {0} is in this log already, and not as the bundle has it: it is not imported")]
    Differs(RunId),
    /// The run has not ended.
    #[error("run {0} has not ended: it cannot be exported")]
    Unsettled(RunId),
    /// A content that was kept is lost or damaged.
    #[error("the content {digest} of run {run_id} cannot be read")]
    Content {
        /// Whose.
        run_id: RunId,
        /// Which.
        digest: Digest,
        /// Why not.
        source: Box<LoadError>,
    },
    /// A file could not be read or written.
    #[error("cannot {step} {path:?}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A run's directory.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// A run's journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A snapshot.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The snapshot store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What staging started from could not be read.
    #[error("cannot read what staging started from")]
    Base(#[source] CaptureError),
    /// What staging started from could not be written.
    #[error("cannot write what staging started from")]
    Materialise(#[source] MaterialiseError),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// The log could not be read.
    #[error(transparent)]
    ReadLog(#[from] ReadError),
    /// The log could not be written.
    #[error(transparent)]
    AppendLog(#[from] AppendError),
}

impl BundleError {
    /// A failed step on a path.
    pub(super) fn at(step: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { step, path, source }
    }

    /// An entry that is not what it should be.
    pub(super) fn forged(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Forged { name: name.into(), what: what.into() }
    }
}
