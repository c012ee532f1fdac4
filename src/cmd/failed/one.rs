//! One letter, redriven in this process: claimed, looked at again, run.

use std::ffi::OsString;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::letter_of;
use crate::cmd::replay::{
    Again, Purpose, check_stdin, connections, refuse_redacted, respecify, warn_about_environment,
};
use crate::cmd::run::report_recovered;
use crate::model::letter::{Fate, Letter};
use crate::model::{RunId, RunRecord, Status};
use crate::run::begin::{NewRun, Touched};
use crate::run::day_budget;
use crate::run::driver::drive;
use crate::run::progress::Progress;
use crate::run::recover::recover;
use crate::run::settle::Finished;
use crate::store::bundle::IMPORTED_NAME;
use crate::store::journal;
use crate::store::kept;
use crate::store::letters::Letters;
use crate::store::run_dir::RunDir;
use crate::store::state_dir::StateDir;

/// What was asked.
#[derive(Clone, Debug)]
pub struct OneRequest {
    /// Which run.
    pub run: String,
    /// Another command instead of the recorded one; empty for the recorded one.
    pub command: Vec<OsString>,
}

/// What the redrive of one letter came to.
#[derive(Debug)]
pub struct Redriven {
    /// The letter's run.
    pub letter: RunId,
    /// The new run; none where the letter was done with.
    pub finished: Option<Finished>,
    /// In a word.
    pub outcome: Outcome,
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done with: the redrive succeeded.
    Succeeded,
    /// It failed again.
    Failed,
    /// It was not started: what it needs is broken.
    Stopped,
    /// Somebody told it to stop.
    Cancelled,
    /// It was done with before: redriven by somebody else, or acknowledged.
    DoneBefore,
    /// It could not be run at all.
    Unrunnable,
}

impl Outcome {
    /// What a redrive that ended so means for its letter.
    pub(super) fn of(status: Status) -> Self {
        match status {
            Status::Succeeded | Status::Held => Self::Succeeded,
            Status::Failed | Status::Rejected | Status::Interrupted => Self::Failed,
            Status::Blocked => Self::Stopped,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

/// Redrives a letter; waits while somebody else does. Naming it takes it even where it was set aside.
pub fn one(state: &StateDir, request: &OneRequest, progress: &Arc<dyn Progress>) -> anyhow::Result<Redriven> {
    report_recovered(&recover(state), progress);
    let letters = Letters::at(state);
    let letter = letter_of(state, &request.run)?;
    let _claim = letters.claim(letter.run_id)?;
    // Whoever had the claim may have been killed: the run that it began ends first, and may have been a success.
    report_recovered(&recover(state), progress);
    let letter = letters.find(letter.run_id)?.context("the letter is gone")?;
    match letter.fate {
        Fate::Waiting => {}
        Fate::Redriven | Fate::Acknowledged => {
            return Ok(Redriven { letter: letter.run_id, finished: None, outcome: Outcome::DoneBefore });
        }
    }
    let finished = run_again(state, &letter, request, progress)?;
    let outcome = Outcome::of(finished.record.status);
    Ok(Redriven { letter: letter.run_id, finished: Some(finished), outcome })
}

fn run_again(
    state: &StateDir,
    letter: &Letter,
    request: &OneRequest,
    progress: &Arc<dyn Progress>,
) -> anyhow::Result<Finished> {
    // Until this run's own directory names the snapshot, nothing but this lock keeps it.
    let relying = kept::rely(state).with_context(|| format!("cannot lock {:?}", state.path()))?;
    let dir = RunDir::of(state, letter.run_id);
    if !dir.exists() {
        bail!(
            "run {} is in the log and its directory {:?} is gone: it cannot be redriven\n\
             hint: `agentguard failed ack {} --reason TEXT` takes it off the list",
            letter.run_id,
            dir.path(),
            letter.run_id.short()
        );
    }
    if dir.join(IMPORTED_NAME).exists() {
        bail!(
            "run {0} was imported, and was recorded in another project: nothing of it is published here by itself\n\
             hint: `agentguard replay {0} --commit` does that",
            letter.run_id.short()
        );
    }
    let recorded = dir.read_spec()?;
    refuse_redacted(&recorded, &request.command, progress)?;
    let journal = journal::read(&dir.journal())?;
    let again = Again { run_id: letter.run_id, command: &request.command, purpose: Purpose::Redrive };
    let mut spec = respecify(&recorded, &journal, &again)?;
    warn_about_environment(&recorded, progress);
    check_stdin(&dir, &journal)?;
    day_budget::apply(&mut spec, state)?;
    let connect = |own: &RunDir| connections(&dir, own, relying);
    Ok(drive(state, NewRun::mint(Touched::Something), spec, connect, progress)?)
}

/// The record of a letter's newest redrive; none where there was none.
pub(super) fn newest_redrive(letters: &Letters, letter: &Letter) -> anyhow::Result<Option<RunRecord>> {
    let Some(offset) = letter.newest_redrive else { return Ok(None) };
    Ok(letters.line(offset)?.and_then(|line| line.record().ok()))
}
