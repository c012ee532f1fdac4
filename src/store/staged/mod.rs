//! What an agent left in the upper layer of its view, compared with what stood in the workspace when its run began:
//! the changes for people and hashes, and the steps that a commit takes.
//!
//! The upper layer is read by what lies in it, never through a mount: whiteouts in both representations, opaque
//! directories, replaced types, and copies that turn out to be the same again.

mod base;
mod compare;
mod still;
mod upper;

use crate::model::RelPath;
use crate::model::change::ChangeSet;

pub use base::Began;
pub use compare::{CompareError, Workspace, compare};
pub use still::{PlanError, plan};

/// What was staged.
#[derive(Clone, Debug, Default)]
pub struct Staged {
    /// Every path that changes.
    pub changes: ChangeSet,
    /// The steps, sorted by path; none lies below another that takes a whole tree.
    pub steps: Vec<Step>,
    /// Directories that were replaced by new ones: nothing may stand in them that did not when the run began.
    pub replaced: Vec<RelPath>,
    /// Directories that the agent made anew and that stay: nobody else may have changed them, either.
    pub renewed: Vec<Step>,
    /// Files that were written again as they were: only their times are given to those that stand there, where nobody else
    /// has touched them, and only beside other changes.
    pub retimed: Vec<Step>,
    /// Sockets and devices, and files that would be setuid or setgid anew: what the gate refuses.
    pub refused: Vec<Refused>,
}

/// One step of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Relative to the workspace; the staged object is at the same path of the upper layer.
    pub path: RelPath,
    /// What is done.
    pub action: StepKind,
    /// What must stand there.
    pub base: Base,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// The staged object takes a free place; a directory with all that is in it.
    Place,
    /// The staged object takes the place of another one.
    Replace,
    /// What stands there is taken away, a directory with all that is in it.
    Remove,
    /// What stands there stays and gets the staged object's mode, owner and attributes.
    Adjust,
}

/// What a step expects at its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Absent,
    /// What the snapshot says, at this index of it.
    Recorded(u32),
    /// Something that no snapshot holds (git ignores it), last changed before the run began.
    Unrecorded,
}

/// Something that is never published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where it is, relative to the workspace.
    pub path: RelPath,
    /// What it is.
    pub what: &'static str,
}
