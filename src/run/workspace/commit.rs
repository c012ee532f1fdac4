//! The commit of a workspace: check, plan, flush, write the plan and the intention, apply. From the durable intention on
//! it rolls forward.
//!
//! A crash before the durable `commit_intended` leaves the workspace as it was; after it recovery completes the plan.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::model::error_kind::{ErrorKind, Failure, Status};
use crate::model::event::{CommitAborted, CommitDone, CommitPlan, Event, PlanFile};
use crate::model::record::Changes;
use crate::rules::exit_code::AgentExit;
use crate::run::commit::make_intention_durable;
use crate::run::ended::{Life, Stage, chain};
use crate::store::snapshot::{CaptureRoot, Sealed, still_equal};
use crate::store::staged::{self, PlanError, Staged};
use crate::store::transaction::{self, ApplyError, Plan};
use crate::sys::{clock, crash, lock};

use super::{Origin, PLAN, ROOT_NAME, UPPER, near};
use crate::run::seal::sealing_policy;

/// How long a commit waits for another one on the same workspace.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// At most this many paths are named in a conflict.
const NAMED: usize = 20;

/// Applies what was staged. The run's upper layer must still be what was sealed.
pub fn commit(life: Life, origin: &Origin, sealed: &Sealed, staged: &Staged, agent: AgentExit) -> Stage<Life> {
    let _lock = match lock_workspace(origin.policy.path.as_path()) {
        Ok(lock) => lock,
        Err(failure) => return Err(life.end(Status::Failed, Some(failure), agent)),
    };
    let plan = match still_sealed(&life, sealed).and_then(|()| prepare(&life, origin, staged)) {
        Ok(plan) => plan,
        Err(failure) => return Err(life.end(status_of(&failure), Some(failure), agent)),
    };
    let life = intend(life, &plan, PLAN, staged.changes.totals())?;
    roll_forward(life, &plan, agent)
}

/// The status of a run whose commit was refused before its intention.
fn status_of(failure: &Failure) -> Status {
    if failure.kind == ErrorKind::ModifiedAfterVerify { Status::Rejected } else { Status::Failed }
}

/// One commit at a time per workspace, also across projects: the directory itself is locked.
pub fn lock_workspace(path: &Path) -> Result<File, Failure> {
    let failed = |why: String| Failure::new(ErrorKind::PublishIo, format!("cannot lock {path:?}: {why}"));
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    match lock::lock_within(&file, LOCK_PATIENCE) {
        Ok(true) => Ok(file),
        Ok(false) => Err(failed(format!("another commit has held it for {} s", LOCK_PATIENCE.as_secs()))),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// The roots of a run's upper layer.
pub fn upper_roots(life: &Life) -> [CaptureRoot; 1] {
    [CaptureRoot { name: ROOT_NAME.into(), path: life.dir.join(UPPER) }]
}

/// Nobody changed what was staged since it was sealed.
fn still_sealed(life: &Life, sealed: &Sealed) -> Result<(), Failure> {
    match still_equal(sealed, &upper_roots(life), &sealing_policy()) {
        Ok(None) => Ok(()),
        Ok(Some(path)) => {
            let shown = path.to_string_lossy().escape_debug().to_string();
            let message = format!("a staged file changed after it was judged: {shown}");
            Err(Failure::new(ErrorKind::ModifiedAfterVerify, message))
        }
        Err(error) => Err(publish_io(&error)),
    }
}

/// Everything that can be refused, and everything that must be durable before the intention.
fn prepare(life: &Life, origin: &Origin, staged: &Staged) -> Result<Plan, Failure> {
    let near = near::bring(life, &origin.policy).map_err(|error| {
        Failure::new(ErrorKind::PublishIo, format!("what is staged cannot be brought near the workspace: {error}"))
    })?;
    let plan = staged::plan(&origin.workspace(), &near.upper, &near.aside, staged).map_err(|error| match &error {
        PlanError::Conflict { paths } => conflict(paths.iter().map(|path| path.to_string_lossy().into_owned())),
        _ => publish_io(&error),
    })?;
    transaction::check(&plan).map_err(|error| refused(&error))?;
    transaction::flush(&plan)
        .map_err(|error| Failure::new(ErrorKind::PublishIo, format!("the result cannot be made durable: {error}")))?;
    crash::point("commit.flushed").map_err(|error| publish_io(&error))?;
    Ok(plan)
}

/// Somebody else changed what would be changed: nothing is written.
fn conflict(paths: impl ExactSizeIterator<Item = String>) -> Failure {
    let count = paths.len();
    let mut named: Vec<String> = paths.take(NAMED).map(|path| path.escape_debug().to_string()).collect();
    if count > NAMED {
        named.push(format!("and {} more", count - NAMED));
    }
    let message = format!("changed by somebody else since the run began, nothing was written: {}", named.join(", "));
    Failure::new(ErrorKind::Conflict, message).with_hint("look at the change, then run again")
}

/// An apply that was refused, or taken back.
pub fn refused(error: &ApplyError) -> Failure {
    match error {
        ApplyError::Conflict { paths, .. } => conflict(paths.iter().map(|path| path.to_string_lossy().into_owned())),
        error => publish_io(error),
    }
}

fn publish_io(error: &dyn std::error::Error) -> Failure {
    Failure::new(ErrorKind::PublishIo, chain(error))
}

/// Writes the plan and the intention. The intention is not durable yet.
pub fn intend(life: Life, plan: &Plan, name: &str, changes: Changes) -> Stage<Life> {
    let digest = match plan.write(&life.dir.join(name)) {
        Ok(digest) => digest,
        Err(error) => return Err(life.fail(ErrorKind::PublishIo, &error)),
    };
    let plan = Some(PlanFile { name: name.to_owned(), digest });
    let intended = CommitPlan { time: clock::now(), operations: Vec::new(), plan, changes };
    life.note(Event::CommitIntended(intended), "commit.written")
}

/// Everything after the intention was written.
pub fn roll_forward(mut life: Life, plan: &Plan, agent: AgentExit) -> Stage<Life> {
    if let Err(error) = make_intention_durable(&life) {
        let failure = Failure::new(ErrorKind::PublishIo, format!("the commit's intention is not durable: {error}"));
        return Err(abort(life, failure, agent));
    }
    match transaction::apply(plan) {
        Ok(_) => {}
        Err(error @ ApplyError::Mixed { .. }) => return Err(unfinished(life, &error, agent)),
        Err(error) => {
            let failure = refused(&error);
            return Err(abort(life, failure, agent));
        }
    }
    // It stands, and is not durable: recovery goes on with it.
    if let Err(error) = transaction::make_durable(plan) {
        return Err(unfinished(life, &error, agent));
    }
    if let Err(error) = finish(&mut life) {
        return Err(unfinished(life, &*error, agent));
    }
    Ok(life)
}

/// Every path is new and durable. If that cannot be written down, recovery will do it.
fn finish(life: &mut Life) -> Result<(), Box<dyn std::error::Error>> {
    life.journal.append(Event::CommitDone(CommitDone { time: clock::now() }))?;
    crash::point("commit.done")?;
    Ok(())
}

/// The plan stands and this process cannot complete it: the run stays unsettled for recovery.
fn unfinished(life: Life, error: &dyn std::error::Error, agent: AgentExit) -> Box<crate::run::ended::Ended> {
    life.end(Status::Interrupted, Some(publish_io(error)), agent)
}

fn abort(life: Life, failure: Failure, agent: AgentExit) -> Box<crate::run::ended::Ended> {
    let aborted = CommitAborted { time: clock::now(), failure };
    match life.note(Event::CommitAborted(aborted), "commit.aborted") {
        Ok(life) => life.end(Status::Failed, None, agent),
        Err(ended) => ended,
    }
}

/// Reads the plan that an intention names.
pub fn read_plan(dir: &crate::store::run_dir::RunDir, file: &PlanFile) -> io::Result<Plan> {
    Plan::read(&dir.join(&file.name), file.digest).map_err(io::Error::other)
}
