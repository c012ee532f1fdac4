//! What is decided about a run after its end: a held result is applied or dropped, a published one is taken back.
//!
//! The log keeps the line that the run ended with; decisions are events in the run's journal, and a supervisor that dies
//! within one is recovered like a run.

use std::sync::Arc;

use crate::model::error_kind::{ErrorKind, Failure, Status};
use crate::model::event::{Closed, Event, PlanFile, Purpose, Reopened};
use crate::model::record::Changes;
use crate::model::{Digest, RunId};
use crate::rules::exit_code::AgentExit;
use crate::rules::standing::{Standing, standing};
use crate::run::ended::{Ended, Life, Stage};
use crate::run::seal::sealing_policy;
use crate::store::change_set::output_hash;
use crate::store::journal::{Journal, JournalError};
use crate::store::kept;
use crate::store::run_dir::{Alive, RunDir, RunDirError};
use crate::store::snapshot::{LoadError, SnapshotStore, hash_roots};
use crate::store::staged::{Began, compare};
use crate::store::state_dir::StateDir;
use crate::store::{transaction, trash};
use crate::sys::clock;

use super::commit::{commit, intend, lock_workspace, read_plan, refused, roll_forward, upper_roots};
use super::{Origin, ROOT_NAME, UPPER, near, skipped_paths};

/// What came of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It was carried out.
    Done,
    /// It was not; everything is as it was before.
    Refused(Failure),
}

/// Why a decision could not even be tried.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// The run does not stand where this can be decided.
    #[error("run {run_id} {why}")]
    Standing {
        /// The run.
        run_id: RunId,
        /// Where it stands, and what could be done instead.
        why: String,
    },
    /// Its directory cannot be read or marked.
    #[error("run {run_id} cannot be taken up")]
    Directory {
        /// The run.
        run_id: RunId,
        /// Why.
        source: RunDirError,
    },
    /// Its journal cannot be read or written.
    #[error("run {run_id} cannot be taken up")]
    Journal {
        /// The run.
        run_id: RunId,
        /// Why.
        source: JournalError,
    },
    /// Its snapshot cannot be read.
    #[error("the snapshot of run {run_id} cannot be read")]
    Snapshot {
        /// The run.
        run_id: RunId,
        /// Why.
        source: LoadError,
    },
    /// The commit stands and cannot be completed now.
    #[error("the commit of run {run_id} could not be completed ({why}); `agentguard recover` goes on with it")]
    Unfinished {
        /// The run.
        run_id: RunId,
        /// Why.
        why: String,
    },
}

/// Applies a held result.
pub fn apply(state: &StateDir, run_id: RunId) -> Result<Decision, DecideError> {
    let life = take_up(state, run_id, |standing| match standing {
        Standing::Held => Ok(()),
        other => Err(format!("{}: only a held run can be applied", describe(&other))),
    })?;
    let life = reopen(life, Purpose::Apply)?;
    let (origin, wanted) = origin_of(&life)?;
    let applied = apply_held(life, &origin, wanted);
    close(run_id, applied, Purpose::Apply)
}

/// What is still staged must be what was held.
fn apply_held(life: Life, origin: &Origin, wanted: Option<Digest>) -> Stage<Life> {
    let sealed = match hash_roots(&upper_roots(&life), &sealing_policy()) {
        Ok(sealed) => sealed,
        Err(error) => return Err(life.fail(ErrorKind::PublishIo, &error)),
    };
    let staged = match compare(&origin.workspace(), &sealed) {
        Ok(staged) => staged,
        Err(error) => return Err(life.fail(ErrorKind::PublishIo, &error)),
    };
    if output_hash(&staged.changes) != wanted {
        let failure = differing(origin, &life);
        return Err(life.end(Status::Failed, Some(failure), AgentExit::default()));
    }
    commit(life, origin, &sealed, &staged, AgentExit::default())
}

/// The comparison comes out otherwise: the workspace was changed where no snapshot holds it, or staging was.
fn differing(origin: &Origin, life: &Life) -> Failure {
    let message = format!(
        "what is staged is not what was held: {} was changed meanwhile, or {:?} was",
        origin.policy.name.to_string_lossy(),
        life.dir.join(UPPER)
    );
    Failure::new(ErrorKind::Conflict, message).with_hint("look at `agentguard diff`, then run again")
}

/// Drops a held result.
pub fn discard(state: &StateDir, run_id: RunId) -> Result<Decision, DecideError> {
    let life = take_up(state, run_id, |standing| match standing {
        Standing::Held => Ok(()),
        other => Err(format!("{}: only a held run can be discarded", describe(&other))),
    })?;
    let life = reopen(life, Purpose::Discard)?;
    drop_staged(&life.state, &life.dir);
    close(run_id, Ok(life), Purpose::Discard)
}

/// Takes a published result back.
pub fn undo(state: &StateDir, run_id: RunId) -> Result<Decision, DecideError> {
    let mut published = None;
    let life = take_up(state, run_id, |standing| match standing {
        Standing::Published(plan) | Standing::Applied(plan) => {
            published = Some(plan);
            Ok(())
        }
        Standing::Replaced => {
            Err("published whole outputs (--out), not changes of a workspace: what they were before is not kept"
                .to_owned())
        }
        other => Err(format!("{}: only a published run can be taken back", describe(&other))),
    })?;
    let life = reopen(life, Purpose::Undo)?;
    let undone = match published {
        Some(plan) => take_back(life, &plan),
        None => Ok(life),
    };
    let decision = close(run_id, undone, Purpose::Undo)?;
    if decision == Decision::Done {
        drop_staged(state, &RunDir::of(state, run_id));
    }
    Ok(decision)
}

/// The file with the operations of an undo.
const UNDO_PLAN: &str = "undo-plan";

fn take_back(life: Life, published: &PlanFile) -> Stage<Life> {
    let plan = match read_plan(&life.dir, published) {
        Ok(plan) => plan,
        Err(error) => return Err(life.fail(ErrorKind::PublishIo, &error)),
    };
    let refuse = |life: Life, failure| life.end(Status::Failed, Some(failure), AgentExit::default());
    if near::was_brought(&plan, life.dir.run_id()) {
        let why = "what it displaced was not kept: its state directory lies on another filesystem than the workspace";
        return Err(refuse(life, Failure::new(ErrorKind::PublishIo, why)));
    }
    let _lock = match lock_workspace(plan.root.as_path()) {
        Ok(lock) => lock,
        Err(failure) => return Err(refuse(life, failure)),
    };
    let reversed = transaction::reverse(&plan).and_then(|plan| transaction::check(&plan).map(|()| plan));
    let plan = match reversed {
        Ok(plan) => plan,
        Err(error) => {
            let mut failure = refused(&error);
            failure.message = failure.message.replace("since the run began", "since it was published");
            return Err(refuse(life, failure));
        }
    };
    let life = intend(life, &plan, UNDO_PLAN, Changes::default())?;
    roll_forward(life, &plan, AgentExit::default())
}

/// Moves what a run staged (or displaced) out of the way; its removal is not waited for.
pub fn drop_staged(state: &StateDir, dir: &RunDir) {
    trash::drop_run(state, dir);
}

/// The run, marked as live, if it stands where the decision can be taken.
fn take_up(
    state: &StateDir,
    run_id: RunId,
    may: impl FnOnce(Standing) -> Result<(), String>,
) -> Result<Life, DecideError> {
    let dir = RunDir::of(state, run_id);
    // From here until the mark is there, nothing but this lock keeps the directory.
    let directory = |source| {
        let source = RunDirError::Io { step: "cannot lock", path: state.path().to_path_buf(), source };
        DecideError::Directory { run_id, source }
    };
    let _relying = kept::rely(state).map_err(directory)?;
    if !dir.exists() {
        let why = "is in the log and its directory is gone (`gc` removes old ones)".to_owned();
        return Err(DecideError::Standing { run_id, why });
    }
    let alive = Alive::mark(state, run_id).map_err(|source| DecideError::Directory { run_id, source })?;
    let Some(alive) = alive else {
        let why = "is being decided on by another command".to_owned();
        return Err(DecideError::Standing { run_id, why });
    };
    // From here on the mark is given up on every way out that leaves the journal as it was.
    let prepared = prepare(&dir, run_id, may);
    match prepared {
        Ok((journal, spec)) => Ok(Life { state: state.clone(), dir, alive, journal, spec }),
        Err(error) => {
            // Left behind, it would be recovered as what it is: a run that is over.
            let _ = alive.finish();
            Err(error)
        }
    }
}

fn prepare(
    dir: &RunDir,
    run_id: RunId,
    may: impl FnOnce(Standing) -> Result<(), String>,
) -> Result<(Journal, crate::model::RunSpec), DecideError> {
    let journal = Journal::reopen(&dir.journal()).map_err(|source| DecideError::Journal { run_id, source })?;
    may(standing(journal.events())).map_err(|why| DecideError::Standing { run_id, why })?;
    let spec = dir.read_spec().map_err(|source| DecideError::Directory { run_id, source })?;
    Ok((journal, spec))
}

fn reopen(mut life: Life, purpose: Purpose) -> Result<Life, DecideError> {
    let run_id = life.dir.run_id();
    let reopened = Event::Reopened(Reopened { time: clock::now(), purpose });
    life.journal.append(reopened).map_err(|source| DecideError::Journal { run_id, source })?;
    Ok(life)
}

/// What stood in the workspace when the run began, as its snapshot tells; and the hash of what is held.
fn origin_of(life: &Life) -> Result<(Origin, Option<Digest>), DecideError> {
    let run_id = life.dir.run_id();
    let mut taken = None;
    let mut wanted = None;
    for event in life.journal.events() {
        match event {
            Event::Snapshotted(snapshot) => taken = Some(snapshot),
            Event::Sealed(sealed) => wanted = sealed.output_hash,
            _ => {}
        }
    }
    let incomplete = || DecideError::Standing { run_id, why: "has no snapshot of its workspace".to_owned() };
    let (taken, policy) = taken.zip(life.spec.workspace.clone()).ok_or_else(incomplete)?;
    let store = SnapshotStore::at(life.state.path());
    let baseline = store.baseline(&taken.snapshot, &ROOT_NAME.into(), policy.path.as_path());
    let baseline = Arc::new(baseline.map_err(|source| DecideError::Snapshot { run_id, source })?);
    let skip = skipped_paths(&policy, life.state.path());
    let hides_state = life.state.path().starts_with(policy.path.as_path());
    let began = Began(taken.began.unwrap_or((0, 0)));
    Ok((Origin { policy, baseline, began, skip, hides_state }, wanted))
}

/// Writes down what came of it and gives the run up again.
fn close(run_id: RunId, decided: Stage<Life>, purpose: Purpose) -> Result<Decision, DecideError> {
    let (mut life, failure) = match decided {
        Ok(life) => (life, None),
        Err(ended) => {
            let Ended { life, status, failure, .. } = *ended;
            if status == Status::Interrupted {
                let why = failure.map_or_else(String::new, |failure| failure.message);
                return Err(DecideError::Unfinished { run_id, why });
            }
            let told = failure.or_else(|| last_abort(life.journal.events()));
            (life, Some(told.unwrap_or_else(|| Failure::new(ErrorKind::PublishIo, "it was taken back"))))
        }
    };
    near::sweep(life.spec.workspace.as_ref(), run_id);
    let closed = Event::Closed(Closed { time: clock::now(), purpose, failure: failure.clone() });
    let journal = |source| DecideError::Journal { run_id, source };
    life.journal.append(closed).map_err(journal)?;
    life.journal.sync().map_err(journal)?;
    life.alive.finish().map_err(|source| DecideError::Directory { run_id, source })?;
    Ok(failure.map_or(Decision::Done, Decision::Refused))
}

fn last_abort(events: &[Event]) -> Option<Failure> {
    events.iter().rev().find_map(|event| match event {
        Event::CommitAborted(aborted) => Some(aborted.failure.clone()),
        _ => None,
    })
}

/// Where a run stands, in words that follow its name.
pub fn describe(standing: &Standing) -> String {
    match standing {
        Standing::Unsettled => "has not ended".to_owned(),
        Standing::Held => "is held".to_owned(),
        Standing::Published(_) => "is published".to_owned(),
        Standing::Applied(_) => "is held no more, it was applied".to_owned(),
        Standing::Replaced => "published whole outputs (--out), not changes of a workspace".to_owned(),
        Standing::Discarded(_) => "was discarded".to_owned(),
        Standing::Undone(_) => "was taken back".to_owned(),
        Standing::Over(status) => format!("ended as {status} and published nothing"),
    }
}
