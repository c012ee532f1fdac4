//! The commit: check, flush, write the intention, rename. From the durable intention on it rolls forward.
//!
//! The order is the promise. (1) the targets' directories are locked; (2) every target is what it was when the run
//! began, and staging is what was sealed; (3) contents are durable; (4) `commit_intended` is durable; (5) one rename
//! per target, the displaced object checked and taken back if it is not the one seen in (2); (6) directories are
//! durable. A crash before (4) leaves the old targets, after it recovery completes (5) and (6).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::model::error_kind::{ErrorKind, Failure, Status};
use crate::model::event::{CommitAborted, CommitDone, CommitPlan, Event, TargetOperation};
use crate::model::spec::PublishPolicy;
use crate::model::{RunId, Text};
use crate::rules::exit_code::AgentExit;
use crate::store::publish::{self, Applied, ApplyError};
use crate::store::snapshot::{Sealed, still_equal};
use crate::store::trash;
use crate::sys::copy_across::copy_across;
use crate::sys::{clock, crash, durable, identity, lock, mount};
use crate::view::staging;

use super::begin::observe;
use super::ended::{Life, Stage, chain};
use super::judge::Accepted;
use super::progress::{Progress, Stage as Shown};
use super::seal::{StagedTarget, roots_of, sealing_policy};

/// How long a commit waits for another one on the same directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Up to this many staged files are synced one by one; beyond, one `syncfs` is cheaper (measured).
pub const SYNC_EACH: u64 = 4;

/// A run whose result is where it belongs.
#[derive(Debug)]
#[must_use]
pub struct Committed {
    /// The run.
    pub life: Life,
    /// How the agent ended.
    pub agent: AgentExit,
    /// Targets that the agent left alone.
    pub untouched: Vec<Text>,
    /// What was published where; empty if there was nothing to publish, or it was not asked for.
    pub published: Vec<Text>,
}

/// Publishes an accepted result, or drops it if that was asked for.
pub fn commit(accepted: Accepted, progress: &Arc<dyn Progress>) -> Stage<Committed> {
    let Accepted { sealed, changes } = accepted;
    let super::seal::SealedRun { life, staged, untouched, agent, tree, .. } = sealed;
    if staged.is_empty() || life.spec.publish == PublishPolicy::Drop {
        return Ok(Committed { life, agent, untouched, published: Vec::new() });
    }
    progress.stage(Shown::Publishing);
    let _locks = match lock_targets(&staged) {
        Ok(locks) => locks,
        Err(failure) => return Err(life.end(Status::Failed, Some(failure), agent)),
    };
    let prepared = check(&staged, &tree).and_then(|()| prepare(&life, &staged, &tree));
    let operations = match prepared {
        Ok(operations) => operations,
        Err(failure) => {
            let status = if failure.kind == ErrorKind::ModifiedAfterVerify { Status::Rejected } else { Status::Failed };
            return Err(life.end(status, Some(failure), agent));
        }
    };
    let published = staged.iter().map(|one| one.target.output.name.clone()).collect();
    let plan = CommitPlan { time: clock::now(), operations, plan: None, changes };
    let life = life.note(Event::CommitIntended(plan.clone()), "commit.written")?;
    roll_forward(life, &plan, agent).map(|life| Committed { life, agent, untouched, published })
}

/// Everything after the intention was written.
fn roll_forward(mut life: Life, plan: &CommitPlan, agent: AgentExit) -> Stage<Life> {
    if let Err(error) = make_intention_durable(&life) {
        let failure = Failure::new(ErrorKind::PublishIo, format!("the commit's intention is not durable: {error}"));
        return Err(abort(life, failure, agent));
    }
    match publish::apply(&plan.operations) {
        Ok(Applied) => {}
        Err(ApplyError::Conflict { path }) => return Err(abort(life, conflict(&[path]), agent)),
        Err(error @ ApplyError::Mixed { .. }) => return Err(unfinished(life, &error, agent)),
        Err(error) => {
            let failure = Failure::new(ErrorKind::PublishIo, chain(&error));
            return Err(abort(life, failure, agent));
        }
    }
    // Every target is new and durable. If that cannot be written down, recovery will do it.
    match life.journal.append(Event::CommitDone(CommitDone { time: clock::now() })) {
        Ok(()) => {}
        Err(error) => return Err(unfinished(life, &error, agent)),
    }
    match crash::point("commit.done") {
        Ok(()) => Ok(life),
        Err(error) => Err(unfinished(life, &error, agent)),
    }
}

/// The plan stands and this process cannot complete it: the run stays unsettled for recovery.
fn unfinished(life: Life, error: &dyn std::error::Error, agent: AgentExit) -> Box<super::ended::Ended> {
    life.end(Status::Interrupted, Some(Failure::new(ErrorKind::PublishIo, chain(error))), agent)
}

fn abort(life: Life, failure: Failure, agent: AgentExit) -> Box<super::ended::Ended> {
    let aborted = CommitAborted { time: clock::now(), failure };
    match life.note(Event::CommitAborted(aborted), "commit.aborted") {
        Ok(life) => life.end(Status::Failed, None, agent),
        Err(ended) => ended,
    }
}

/// The journal, and the directory entries that lead to it.
pub fn make_intention_durable(life: &Life) -> io::Result<()> {
    life.journal.sync().map_err(io::Error::other)?;
    durable::sync_file(&life.dir.join("run.json"))?;
    durable::sync_directory(life.dir.path())?;
    durable::sync_directory(&life.state.runs())?;
    durable::sync_directory(&life.state.live())?;
    crash::point("commit.intended")
}

/// One commit at a time per directory, also across projects: the directories themselves are locked.
fn lock_targets(staged: &[StagedTarget]) -> Result<Vec<File>, Failure> {
    let mut parents: Vec<PathBuf> =
        staged.iter().map(|one| mount::nearest_existing(parent(one)).to_path_buf()).collect();
    // One order for everybody: no two commits wait for each other.
    parents.sort();
    parents.dedup();
    let mut locks = Vec::with_capacity(parents.len());
    for directory in parents {
        let failed = |why: String| Failure::new(ErrorKind::PublishIo, format!("cannot lock {directory:?}: {why}"));
        let file = File::open(&directory).map_err(|error| failed(error.to_string()))?;
        match lock::lock_within(&file, LOCK_PATIENCE) {
            Ok(true) => locks.push(file),
            Ok(false) => return Err(failed("another commit has held it for 10 s".to_owned())),
            Err(error) => return Err(failed(error.to_string())),
        }
    }
    Ok(locks)
}

fn parent(staged: &StagedTarget) -> &Path {
    staged.target.output.path.as_path().parent().unwrap_or(Path::new("/"))
}

/// Nobody else changed a target since the run began, and nobody changed staging since it was sealed.
fn check(staged: &[StagedTarget], tree: &Sealed) -> Result<(), Failure> {
    let mut touched = Vec::new();
    for one in staged {
        let path = one.target.output.path.as_path();
        let now = observe(path).map_err(|error| Failure::new(ErrorKind::PublishIo, chain(&error)))?;
        if now.fingerprint != one.target.before.fingerprint {
            touched.push(path.to_path_buf());
        }
    }
    if !touched.is_empty() {
        return Err(conflict(&touched));
    }
    match still_equal(tree, &roots_of(staged), &sealing_policy()) {
        Ok(None) => Ok(()),
        Ok(Some(path)) => {
            let shown = path.to_string_lossy().escape_debug().to_string();
            let message = format!("a staged file changed after it was judged: {shown}");
            Err(Failure::new(ErrorKind::ModifiedAfterVerify, message))
        }
        Err(error) => Err(Failure::new(ErrorKind::PublishIo, chain(&error))),
    }
}

fn conflict(paths: &[PathBuf]) -> Failure {
    let named: Vec<String> = paths.iter().map(|path| path.to_string_lossy().escape_debug().to_string()).collect();
    let message = format!("changed by somebody else since the run began, nothing was written: {}", named.join(", "));
    Failure::new(ErrorKind::Conflict, message).with_hint("look at the change, then run again")
}

/// Brings every staged object onto its target's filesystem, makes it durable, and plans the renames.
fn prepare(life: &Life, staged: &[StagedTarget], tree: &Sealed) -> Result<Vec<TargetOperation>, Failure> {
    let failed = |error: io::Error| Failure::new(ErrorKind::PublishIo, error.to_string());
    let mut operations = Vec::with_capacity(staged.len());
    for (number, one) in staged.iter().enumerate() {
        let near = bring_near(life, one, number).map_err(|error| {
            Failure::new(
                ErrorKind::PublishIo,
                format!("cannot copy to the filesystem of {:?}: {error}", one.target.output.path),
            )
        })?;
        operations.push(plan(life, one, near, number).map_err(failed)?);
    }
    flush(&operations, tree)
        .map_err(|error| Failure::new(ErrorKind::PublishIo, format!("the result cannot be made durable: {error}")))?;
    crash::point("commit.flushed").map_err(failed)?;
    Ok(operations)
}

/// The staged object, on the filesystem of its target: itself, or a copy beside the target.
fn bring_near(life: &Life, one: &StagedTarget, number: usize) -> io::Result<PathBuf> {
    let there = mount::nearest_existing(parent(one));
    if mount::place(&one.staged)? == mount::place(there)? {
        return Ok(one.staged.clone());
    }
    let sibling = staging::sibling(there, life.dir.run_id());
    crate::store::state_dir::make_private_directory(&sibling)?;
    let copy = sibling.join(format!("staged-{number}"));
    copy_across(&one.staged, &copy)?;
    Ok(copy)
}

fn plan(life: &Life, one: &StagedTarget, near: PathBuf, number: usize) -> io::Result<TargetOperation> {
    let target = one.target.output.path.as_path();
    let staged_identity = identity::identity(&near)?.ok_or(io::ErrorKind::NotFound)?;
    let parents = parent(one)
        .ancestors()
        .take_while(|directory| directory.symlink_metadata().is_err())
        .map(Text::from)
        .collect::<Vec<Text>>();
    Ok(TargetOperation {
        displaced: displaced(life, &near, number)?.into(),
        staged: near.into(),
        staged_identity,
        target: target.into(),
        previous: one.target.before.identity,
        fingerprint: one.target.before.fingerprint,
        parents: parents.into_iter().rev().collect(),
    })
}

/// Where the displaced object goes: the trash, or, on another filesystem, a place beside the target that the trash
/// remembers.
fn displaced(life: &Life, near: &Path, number: usize) -> io::Result<PathBuf> {
    let slot = trash::slot(&life.state, life.dir.run_id(), number);
    if mount::place(near)? == mount::place(&life.state.trash())? {
        return Ok(slot);
    }
    let sibling = near.ancestors().find(|above| is_sibling(above, life.dir.run_id()));
    let beside = sibling.unwrap_or(near.parent().unwrap_or(Path::new("/")));
    let displaced = beside.join(format!("displaced-{number}"));
    trash::remember_elsewhere(&slot, &displaced)?;
    Ok(displaced)
}

fn is_sibling(path: &Path, run_id: RunId) -> bool {
    path.parent().is_some_and(|parent| staging::sibling(parent, run_id) == path)
}

/// Contents first: a rename must never become durable before what it names.
fn flush(operations: &[TargetOperation], tree: &Sealed) -> io::Result<()> {
    for operation in operations {
        let staged = operation.staged.as_path();
        let each =
            if tree.files <= SYNC_EACH { durable::sync_tree(staged) } else { Err(io::ErrorKind::Unsupported.into()) };
        match each {
            Ok(()) => {}
            // Many files, or one that its owner may not read: all at once.
            Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
                durable::sync_filesystem(File::open(parent_directory(staged))?)?;
            }
            Err(error) => return Err(error),
        }
        durable::sync_directory(parent_directory(staged))?;
        // The name of a hidden directory beside the target, without which a recovery would not find what was staged.
        durable::sync_directory(parent_directory(parent_directory(staged)))?;
    }
    Ok(())
}

fn parent_directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
