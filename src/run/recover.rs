//! Recovery: runs whose supervisor is gone get their end. A run is gone when its mark can be locked; nobody guesses by
//! pid. Idempotent, and safe to be killed at any point itself.

use std::path::{Path, PathBuf};

use crate::model::RunId;
use crate::model::error_kind::{ErrorKind, Failure, Status};
use crate::model::event::{Closed, CommitAborted, CommitDone, CommitPlan, Event, Interrupted, PlanFile, Settled};
use crate::model::spec::OutputTarget;
use crate::rules::fold::fold;
use crate::rules::lifecycle::Phase;
use crate::rules::recovery::{Recovery, decide, purpose_of, supervisor_died};
use crate::store::bundle;
use crate::store::change_set;
use crate::store::journal::Journal;
use crate::store::letters::Letters;
use crate::store::log::RunLog;
use crate::store::outputs;
use crate::store::publish::{ApplyError, apply};
use crate::store::run_dir::{Alive, RunDir};
use crate::store::snapshot::SnapshotStore;
use crate::store::state_dir::StateDir;
use crate::store::transaction::{self, ApplyError as ApplyWorkspaceError};
use crate::sys::{clock, remove};

use super::breaker::count_recorded;
use super::ended::chain;
use super::settle::{adopt_nested, sweep_outputs, sweep_staged};
use super::workspace::commit::{read_plan, refused};
use super::workspace::near;

/// What recovery did with one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The run.
    pub run: String,
    /// In words.
    pub what: Outcome,
}

/// What became of a run whose supervisor was gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It had not begun; what it had made was removed.
    Forgotten,
    /// Entered in the log as interrupted; nothing had been published.
    Interrupted,
    /// Its commit was completed.
    Completed,
    /// Its commit was taken back.
    TakenBack(String),
    /// It was over; only its line or its sweeping was missing.
    Entered,
    /// It cannot be recovered: why, and what to do.
    Stuck(String),
}

/// Looks at every mark among the living. O(live runs): a project with a million ended runs costs the same.
pub fn recover(state: &StateDir) -> Vec<Recovered> {
    let Ok(marks) = std::fs::read_dir(state.live()) else { return Vec::new() };
    let mut recovered = Vec::new();
    if let Err(error) = bundle::settle(state) {
        recovered.push(Recovered { run: "import".to_owned(), what: Outcome::Stuck(chain(&error)) });
    }
    let mut marks: Vec<PathBuf> = marks.flatten().map(|mark| mark.path()).collect();
    marks.sort();
    for mark in marks {
        let name = mark.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match recover_mark(state, &mark, &name) {
            Ok(None) => {}
            Ok(Some(what)) => recovered.push(Recovered { run: name, what }),
            Err(why) => recovered.push(Recovered { run: name, what: Outcome::Stuck(why) }),
        }
    }
    if !recovered.is_empty() {
        sweep_temporaries(state);
    }
    recovered
}

/// Removes what captures that were cut short have left in the store. What cannot be removed now is removed later.
pub fn sweep_temporaries(state: &StateDir) {
    let _ = SnapshotStore::at(state.path()).sweep_temporaries();
}

fn recover_mark(state: &StateDir, mark: &Path, name: &str) -> Result<Option<Outcome>, String> {
    let taken = Alive::take_over(mark).map_err(|error| chain(&error))?;
    let Some(alive) = taken else { return Ok(None) };
    let Ok(run_id) = name.parse::<RunId>() else {
        // `tmp-<id>`: its supervisor died before the mark had its name.
        alive.finish().map_err(|error| chain(&error))?;
        return Ok(None);
    };
    let dir = RunDir::of(state, run_id);
    let outcome = recover_run(state, &dir)?;
    alive.finish().map_err(|error| chain(&error))?;
    Ok(Some(outcome))
}

fn recover_run(state: &StateDir, dir: &RunDir) -> Result<Outcome, String> {
    if !dir.journal().exists() {
        remove::remove_tree(dir.path()).map_err(|error| format!("cannot remove {:?}: {error}", dir.path()))?;
        return Ok(Outcome::Forgotten);
    }
    let mut journal = Journal::reopen(&dir.journal()).map_err(|error| stuck(&chain(&error), dir))?;
    let decision = decide(journal.events()).map_err(|error| stuck(&chain(&error), dir))?;
    let (outputs, workspace) = dir.read_spec().map(|spec| (spec.outputs, spec.workspace)).unwrap_or_default();
    let outcome = match decision {
        Recovery::Forget => {
            remove::remove_tree(dir.path()).map_err(|error| format!("cannot remove {:?}: {error}", dir.path()))?;
            return Ok(Outcome::Forgotten);
        }
        Recovery::Drop => {
            note_interrupted(&mut journal, dir)?;
            end(&mut journal, Status::Interrupted, Some(supervisor_died()))?;
            Outcome::Interrupted
        }
        Recovery::RollForward(plan) => complete(&mut journal, dir, &plan)?,
        Recovery::Settle { status, failure } => {
            end(&mut journal, status, failure)?;
            Outcome::Entered
        }
        Recovery::Close { purpose, failure } => {
            append(&mut journal, Event::Closed(Closed { time: clock::now(), purpose, failure }))?;
            Outcome::Entered
        }
        Recovery::Append => Outcome::Entered,
    };
    enter(state, dir, &journal, &outputs)?;
    near::sweep(workspace.as_ref(), dir.run_id());
    Ok(outcome)
}

/// Why a run stays as it is, and the way out.
fn stuck(why: &str, dir: &RunDir) -> String {
    let (path, id) = (dir.path(), dir.run_id());
    format!("{why} (look into {path:?}; to give the run up, remove the file live/{id} beside runs/)")
}

fn note_interrupted(journal: &mut Journal, dir: &RunDir) -> Result<(), String> {
    let staging = journal.events().iter().rev().find_map(|event| match event {
        Event::AttemptStarted(start) => Some(start.staging.to_path_buf()),
        _ => None,
    });
    if !journal.events().iter().any(|event| matches!(event, Event::Sealed(_))) {
        outputs::forget(dir);
        change_set::forget(dir);
    }
    let (staged_files, staged_bytes) = count(&staging.unwrap_or_else(|| dir.join("staging")));
    append(journal, Event::Interrupted(Interrupted { time: clock::now(), staged_files, staged_bytes }))
}

/// Files and bytes below a directory; what cannot be looked at is not counted.
fn count(top: &Path) -> (u64, u64) {
    let entries = walkdir::WalkDir::new(top).follow_root_links(false).min_depth(1).into_iter().flatten();
    let files = entries.filter(|entry| !entry.file_type().is_dir());
    files.fold((0, 0), |(files, bytes), entry| {
        let size = if entry.file_type().is_file() { entry.metadata().map_or(0, |metadata| metadata.len()) } else { 0 };
        (files + 1, bytes + size)
    })
}

fn complete(journal: &mut Journal, dir: &RunDir, plan: &CommitPlan) -> Result<Outcome, String> {
    if let Some(file) = &plan.plan {
        return complete_workspace(journal, dir, file);
    }
    match apply(&plan.operations) {
        Ok(_) => {
            append(journal, Event::CommitDone(CommitDone { time: clock::now() }))?;
            end(journal, Status::Succeeded, None)?;
            Ok(Outcome::Completed)
        }
        Err(ApplyError::Conflict { path }) => {
            let message = format!("changed by somebody else before the commit was completed: {path:?}");
            let failure = Failure::new(ErrorKind::Conflict, message.clone());
            append(journal, Event::CommitAborted(CommitAborted { time: clock::now(), failure }))?;
            end(journal, Status::Failed, None)?;
            Ok(Outcome::TakenBack(message))
        }
        Err(error @ ApplyError::Gone { .. }) => {
            let failure = Failure::new(ErrorKind::Tampered, chain(&error));
            append(journal, Event::CommitAborted(CommitAborted { time: clock::now(), failure }))?;
            end(journal, Status::Failed, None)?;
            Ok(Outcome::TakenBack(chain(&error)))
        }
        // The plan stands: the next command tries again.
        Err(error) => Err(chain(&error)),
    }
}

fn complete_workspace(journal: &mut Journal, dir: &RunDir, file: &PlanFile) -> Result<Outcome, String> {
    let plan = match read_plan(dir, file) {
        Ok(plan) => plan,
        // The intention is durable only after the plan: nothing was applied.
        Err(error) => {
            let message = format!("the plan of the commit is not there: {}", chain(&error));
            let failure = Failure::new(ErrorKind::PublishIo, message.clone());
            append(journal, Event::CommitAborted(CommitAborted { time: clock::now(), failure: failure.clone() }))?;
            settle_or_close(journal, Status::Failed, Some(failure))?;
            return Ok(Outcome::TakenBack(message));
        }
    };
    let completed = transaction::complete(&plan);
    if completed.is_ok() {
        transaction::make_durable(&plan).map_err(|error| format!("the commit is not durable: {error}"))?;
    }
    match completed {
        Ok(_) => {
            append(journal, Event::CommitDone(CommitDone { time: clock::now() }))?;
            settle_or_close(journal, Status::Succeeded, None)?;
            Ok(Outcome::Completed)
        }
        // The plan stands: the next command tries again.
        Err(error @ ApplyWorkspaceError::Mixed { .. }) => Err(chain(&error)),
        Err(error) => {
            let failure = refused(&error);
            let message = failure.message.clone();
            append(journal, Event::CommitAborted(CommitAborted { time: clock::now(), failure: failure.clone() }))?;
            settle_or_close(journal, Status::Failed, Some(failure))?;
            Ok(Outcome::TakenBack(message))
        }
    }
}

/// The end of a run, or of what was decided about it after its end.
fn settle_or_close(journal: &mut Journal, status: Status, failure: Option<Failure>) -> Result<(), String> {
    if matches!(journal.phase(), Phase::Recommitted | Phase::Reaborted) {
        let purpose = purpose_of(journal.events());
        return append(journal, Event::Closed(Closed { time: clock::now(), purpose, failure }));
    }
    end(journal, status, None)
}

/// Nobody saw an exit code: the supervisor died.
fn end(journal: &mut Journal, status: Status, failure: Option<Failure>) -> Result<(), String> {
    append(journal, Event::Settled(Settled { time: clock::now(), status, failure, guard_exit_code: None }))
}

fn append(journal: &mut Journal, event: Event) -> Result<(), String> {
    journal.append(event).map_err(|error| chain(&error))
}

/// The run's line, unless the log has it, and its sweeping.
fn enter(state: &StateDir, dir: &RunDir, journal: &Journal, outputs: &[OutputTarget]) -> Result<(), String> {
    let mut record = fold(journal.events()).map_err(|error| stuck(&chain(&error), dir))?;
    adopt_nested(state, dir);
    let log = RunLog::at(state.path());
    if !log.contains(&record.run_id).map_err(|error| chain(&error))? {
        // Whatever code its supervisor was about to exit with, nobody was told success: the line was not durable.
        record.guard_exit_code = None;
        let _repaired = log.append(&mut record).map_err(|error| chain(&error))?;
        // Read from the log by whoever asks next, if it cannot be noted now.
        let _ = Letters::at(state).note(&record);
        // For people who look into the directory.
        let _ = dir.write_record(&record);
    }
    // A run that was taken up again after its end was counted when it ended.
    if !journal.events().iter().any(|event| matches!(event, Event::Reopened(_))) {
        // What it did to breakers is seen by whoever asks them next.
        let _told = count_recorded(state, dir, &record, record.run_id).map_err(|error| chain(&error))?;
    }
    sweep_outputs(state, outputs, dir.run_id());
    sweep_staged(state, dir, journal.events());
    dir.sweep().map_err(|error| chain(&error))
}
