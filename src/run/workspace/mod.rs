//! The road of a run that changes a directory in place, from the end of its agent on: seal, judge, commit or hold; and
//! what is decided about it after its end.

pub mod commit;
pub mod decide;
pub mod judge;
pub mod protect;
pub mod seal;

use std::path::PathBuf;
use std::sync::Arc;

use crate::model::spec::WorkspacePolicy;
use crate::store::snapshot::Baseline;
use crate::store::staged::{Began, Workspace};

/// The name of the workspace's root in snapshots and in sealed layers.
pub const ROOT_NAME: &str = "workspace";

/// Directory of a run with what the agent changed, in the form of an overlay's upper layer. After a commit it holds what
/// was displaced, at the same paths.
pub const UPPER: &str = "upper";

/// Directory of a run with what a commit took away.
pub const ASIDE: &str = "removed";

/// The file with the operations of a commit.
pub const PLAN: &str = "plan";

/// The workspace as it was when the run began.
#[derive(Clone, Debug)]
pub struct Origin {
    /// What was asked.
    pub policy: WorkspacePolicy,
    /// What its snapshot says.
    pub baseline: Arc<Baseline>,
    /// When the run began.
    pub began: Began,
    /// Paths in it that are not staged.
    pub skip: Vec<Vec<u8>>,
}

impl Origin {
    /// The same for a comparison.
    pub fn workspace(&self) -> Workspace<'_> {
        Workspace {
            path: self.policy.path.as_path(),
            baseline: &self.baseline,
            root_name: ROOT_NAME.as_bytes(),
            began: self.began,
            skip: &self.skip,
        }
    }
}

/// Paths in a workspace that are not staged: the state directory, and what is passed through.
pub fn skipped_paths(policy: &WorkspacePolicy, state: &std::path::Path) -> Vec<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt as _;
    let own = state.strip_prefix(policy.path.as_path()).ok().map(|inside| inside.as_os_str().as_bytes().to_vec());
    own.into_iter().chain(policy.passthrough.iter().map(|inside| inside.0.clone())).collect()
}

/// The same as absolute paths.
pub fn skipped_directories(policy: &WorkspacePolicy, state: &std::path::Path) -> Vec<PathBuf> {
    let inside = policy.passthrough.iter().map(|inside| policy.path.as_path().join(inside.as_path()));
    std::iter::once(state.to_path_buf()).chain(inside).collect()
}
