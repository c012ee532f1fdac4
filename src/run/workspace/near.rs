//! A commit is made of renames: what was staged on another filesystem than the workspace is copied into a hidden directory
//! of the workspace first. That directory goes with the commit, and with it what was displaced: such a run cannot be
//! taken back.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::RunId;
use crate::model::spec::WorkspacePolicy;
use crate::run::ended::Life;
use crate::store::state_dir::make_private_directory;
use crate::store::transaction::{Action, Plan};
use crate::sys::copy_tree::copy_tree;
use crate::sys::walk::Access;
use crate::sys::{durable, mount, remove};

use super::{ASIDE, UPPER};

/// Where a commit takes staged objects from, and where it puts what it takes away; both on the workspace's filesystem.
#[derive(Clone, Debug)]
pub struct Near {
    /// Staged objects, in the form of an overlay's upper layer.
    pub upper: PathBuf,
    /// What is taken away.
    pub aside: PathBuf,
}

/// The hidden directory of a run in its workspace. Its name is protected like the state directory's: of a run that an
/// agent has left half done, nothing is published.
fn hidden(workspace: &Path, run_id: RunId) -> PathBuf {
    workspace.join(format!(".agentguard-{}", run_id.short()))
}

/// Brings what was staged near, if it is not, and makes the place for what is taken away.
pub fn bring(life: &Life, policy: &WorkspacePolicy) -> io::Result<Near> {
    let upper = life.dir.join(UPPER);
    let workspace = policy.path.as_path();
    if mount::place(&upper)? == mount::place(workspace)? {
        let aside = life.dir.join(ASIDE);
        make_private_directory(&aside)?;
        return Ok(Near { upper, aside });
    }
    let hidden = hidden(workspace, life.dir.run_id());
    remove::remove_tree(&hidden)?;
    make_private_directory(&hidden)?;
    let near = Near { upper: hidden.join(UPPER), aside: hidden.join(ASIDE) };
    make_private_directory(&near.aside)?;
    // Notes of removals are devices, which no copy has: they are steps of the plan by themselves.
    copy_tree(&upper, &near.upper, Access::Own).map_err(io::Error::other)?;
    durable::sync_filesystem(File::open(workspace)?)?;
    Ok(near)
}

/// Removes the hidden directory, if there is one. What cannot be removed now is removed by the next command.
pub fn sweep(policy: Option<&WorkspacePolicy>, run_id: RunId) {
    if let Some(policy) = policy {
        let _ = remove::remove_tree(&hidden(policy.path.as_path(), run_id));
    }
}

/// Whether what a commit displaced was kept in a hidden directory, which is gone.
pub fn was_brought(plan: &Plan, run_id: RunId) -> bool {
    let hidden = hidden(plan.root.as_path(), run_id);
    plan.operations.iter().any(|operation| match &operation.action {
        Action::Place { staged: kept, .. }
        | Action::Replace { staged: kept, .. }
        | Action::Remove { aside: kept, .. } => kept.as_path().starts_with(&hidden),
        Action::Adjust { .. } => false,
    })
}
