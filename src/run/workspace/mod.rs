//! The road of a run that changes a directory in place, from the end of its agent on: seal, judge, commit or hold; and
//! what is decided about it after its end.

pub mod commit;
pub mod decide;
pub mod judge;
pub mod near;
pub mod protect;
pub mod seal;

use std::sync::Arc;

use crate::model::error_kind::{ErrorKind, Status};
use crate::model::spec::{Hold, OnConflict, PublishPolicy, WorkspacePolicy};
use crate::rules::exit_code::AgentExit;
use crate::rules::lifecycle::Phase;
use crate::store::snapshot::Baseline;
use crate::store::staged::{Began, Workspace};

use super::commit::Committed;
use super::ended::{Ended, Life, Stage};
use super::progress::{Progress, Stage as Shown, Warning};
use seal::SealedWorkspace;

/// Applies an accepted result, holds it, or drops it if that was asked for.
pub fn publish(accepted: SealedWorkspace, progress: &Arc<dyn Progress>) -> Stage<Committed> {
    let SealedWorkspace { life, origin, agent, sealed, staged, .. } = accepted;
    let nothing = |life, published| Committed { life, agent, untouched: Vec::new(), published };
    if staged.steps.is_empty() || life.spec.publish == PublishPolicy::Drop {
        return Ok(nothing(life, Vec::new()));
    }
    if origin.policy.hold == Hold::Yes {
        return Err(hold(life, agent));
    }
    progress.stage(Shown::Publishing);
    let name = origin.policy.name.clone();
    match commit::commit(life, &origin, &sealed, &staged, agent) {
        Ok(life) => Ok(nothing(life, vec![name])),
        Err(ended) if origin.policy.on_conflict == OnConflict::Hold && is_conflict(&ended) => {
            let Ended { life, failure, .. } = *ended;
            if let Some(failure) = failure {
                progress.warn(Warning(format!("{}; the result is held", failure.message)));
            }
            Err(hold(life, agent))
        }
        Err(ended) => Err(ended),
    }
}

/// The result waits for a decision.
fn hold(life: Life, agent: AgentExit) -> Box<Ended> {
    life.end(Status::Held, None, agent)
}

/// A conflict that was found before the intention was written: everything is as it was.
fn is_conflict(ended: &Ended) -> bool {
    ended.life.journal.phase() == Phase::Accepted
        && ended.failure.as_ref().is_some_and(|failure| failure.kind == ErrorKind::Conflict)
}

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
    /// Whether the first of them is the state directory.
    pub hides_state: bool,
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
            state: self.skip.first().map(Vec::as_slice).filter(|_| self.hides_state),
        }
    }
}

/// Paths in a workspace that are not staged: the state directory, and what is passed through.
pub fn skipped_paths(policy: &WorkspacePolicy, state: &std::path::Path) -> Vec<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt as _;
    let own = state.strip_prefix(policy.path.as_path()).ok().map(|inside| inside.as_os_str().as_bytes().to_vec());
    own.into_iter().chain(policy.passthrough.iter().map(|inside| inside.0.clone())).collect()
}
