//! The last stage of every run: its end becomes an event, its events a record, its record a line of the log.

use crate::model::error_kind::{ErrorKind, Failure, Status};
use crate::model::event::{CommitAborted, Event, Settled};
use crate::model::spec::OutputTarget;
use crate::model::{RunId, RunRecord, Text};
use crate::rules::exit_code::exit_code;
use crate::rules::fold::{FoldError, fold};
use crate::rules::lifecycle::Phase;
use crate::rules::standing::{Standing, standing};
use crate::store::journal::JournalError;
use crate::store::letters::Letters;
use crate::store::log::{AppendError, RunLog};
use crate::store::run_dir::{RunDir, RunDirError};
use crate::store::state_dir::StateDir;
use crate::store::trash;
use crate::sys::{clock, crash, mount, remove};
use crate::view::staging;

use super::breaker::{self, Told};
use super::commit::Committed;
use super::ended::{Ended, Life, chain};
use super::environment::NESTED_STATE;
use super::scene::PRIVATE;
use super::workspace::near;

/// A run that is in the log.
#[derive(Debug)]
#[must_use]
pub struct Finished {
    /// Its line.
    pub record: RunRecord,
    /// Targets that the agent left alone although it succeeded.
    pub untouched: Vec<Text>,
    /// What was moved aside when the log's torn end was repaired.
    pub repaired: Option<std::path::PathBuf>,
    /// What could not be removed; the next command tries again.
    pub unswept: Option<String>,
    /// What its end did to the breaker of its agent, or of one that it needs.
    pub breakers: Told,
}

/// A run that could not be settled. Its mark stays among the living, so the next command settles it.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// A commit is under way that only recovery can complete.
    #[error("the commit could not be completed: {0}")]
    Unfinished(String),
    /// The journal could not be written.
    #[error("the run's end could not be written")]
    Journal(#[source] JournalError),
    /// The journal makes no record.
    #[error("the run's journal makes no record")]
    Fold(#[source] FoldError),
    /// The log could not be written.
    #[error("the run's record could not be written")]
    Log(#[source] AppendError),
    /// A crash point of a test struck.
    #[error("the run's record could not be written")]
    Struck(#[source] std::io::Error),
}

/// Settles a run that came to its end.
pub fn settle_committed(committed: Committed) -> Result<Finished, SettleError> {
    let Committed { life, agent, untouched, .. } = committed;
    let ended = Ended { life, status: Status::Succeeded, failure: None, agent };
    settle(ended).map(|finished| Finished { untouched, ..finished })
}

/// Settles a run, however it ended.
pub fn settle(ended: Ended) -> Result<Finished, SettleError> {
    let Ended { mut life, status, failure, agent } = ended;
    if status == Status::Interrupted {
        let why = failure.map_or_else(String::new, |failure| failure.message);
        return Err(SettleError::Unfinished(why));
    }
    if life.journal.phase() == Phase::Committing {
        // The intention was written and nothing was applied (or all of it was taken back).
        let failure =
            failure.clone().unwrap_or_else(|| Failure::new(ErrorKind::PublishIo, "the commit was taken back"));
        let aborted = Event::CommitAborted(CommitAborted { time: clock::now(), failure });
        life.journal.append(aborted).map_err(SettleError::Journal)?;
    }
    let known = failure.clone().or_else(|| told_by_events(life.journal.events()));
    let settled = Settled {
        time: clock::now(),
        status,
        failure,
        guard_exit_code: Some(exit_code(status, known.as_ref(), agent)),
    };
    life.journal.append(Event::Settled(settled)).map_err(SettleError::Journal)?;
    crash::point("settle.event").map_err(SettleError::Struck)?;
    enter_in_log(life)
}

/// The failure that the last telling event of the last attempt holds.
pub(super) fn told_by_events(events: &[Event]) -> Option<Failure> {
    let of_last_attempt = events.iter().rev().take_while(|event| !matches!(event, Event::AttemptStarted(_)));
    of_last_attempt.into_iter().find_map(|event| match event {
        Event::CommitAborted(aborted) => Some(aborted.failure.clone()),
        Event::Judged(judged) => judged.rejection.clone(),
        Event::AttemptEnded(end) => end.failure.clone(),
        _ => None,
    })
}

/// A settled journal becomes a line of the log; then, and only then, what the run left behind is removed.
pub fn enter_in_log(life: Life) -> Result<Finished, SettleError> {
    let mut record = fold(life.journal.events()).map_err(SettleError::Fold)?;
    adopt_nested(&life.state, &life.dir);
    let log = RunLog::at(life.state.path());
    let appended = log.append(&mut record).map_err(SettleError::Log)?;
    crash::point("settle.recorded").map_err(SettleError::Struck)?;
    // For people who look into the directory: the log is the truth, so a failure here is none of the run's.
    let _ = life.dir.write_record(&record);
    // Read from the log by whoever asks next, if it cannot be noted now.
    let _ = Letters::at(&life.state).note(&record);
    // The run is in the log: nothing that happens now changes what came of it. Its mark stays for the next command.
    let mut breakers = Told::default();
    let swept = breaker::count(&life.state, &record, &life.spec.breaker, record.run_id)
        .map(|told| breakers = told)
        .map_err(|error| chain(&error))
        .and_then(|()| sweep(&life).map_err(|error| chain(&error)))
        .and_then(|()| crash::point("settle.swept").map_err(|error| error.to_string()))
        .and_then(|()| life.alive.finish().map_err(|error| chain(&error)));
    Ok(Finished { record, untouched: Vec::new(), repaired: appended.repaired, unswept: swept.err(), breakers })
}

/// Runs inside this one come before it in the log. What cannot be taken over is lost with the view it belongs to.
pub fn adopt_nested(state: &StateDir, dir: &RunDir) {
    let nested = dir.join(PRIVATE).join(NESTED_STATE);
    let _ = super::nested::adopt(state, &nested, dir.run_id());
}

/// Removes staging, scratch, inputs, and what lies hidden beside targets on other filesystems.
fn sweep(life: &Life) -> Result<(), RunDirError> {
    sweep_outputs(&life.state, &life.spec.outputs, life.dir.run_id());
    sweep_staged(&life.state, &life.dir, life.journal.events());
    near::sweep(life.spec.workspace.as_ref(), life.dir.run_id());
    life.dir.sweep()
}

/// Drops what was staged, unless something can still be decided about it; and the mount points of views.
pub fn sweep_staged(state: &StateDir, dir: &RunDir, events: &[Event]) {
    match standing(events) {
        Standing::Held | Standing::Published(_) | Standing::Applied(_) => {
            // Only the copy is of no more use.
            let _ = remove::remove_tree(&dir.join("clone"));
        }
        _ => trash::drop_run(state, dir),
    }
    for event in events {
        if let Event::AttemptStarted(start) = event
            && let Some(private) = &start.private
        {
            // Only ever an empty directory: whatever else stands there is not ours.
            let _ = std::fs::remove_dir(private.as_path());
        }
    }
}

/// Removes the hidden directories that a run may have beside its targets, unless a displaced object outlives its
/// readers there: the trash remembers that.
pub fn sweep_outputs(state: &StateDir, outputs: &[OutputTarget], run_id: RunId) {
    let home = mount::place(state.path()).ok();
    for output in outputs {
        // Only a target on another filesystem than the state ever had one.
        if home.is_some() && mount::place(mount::nearest_existing(output.path.as_path())).ok() == home {
            continue;
        }
        for beside in staging::siblings(output.path.as_path(), run_id) {
            let displaced = std::fs::read_dir(&beside)
                .is_ok_and(|entries| entries.flatten().any(|entry| is_displaced(&entry.file_name())));
            if !displaced {
                // Whatever is left is swept again by the next command.
                let _ = remove::remove_tree(&beside);
            }
        }
    }
}

fn is_displaced(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"displaced-")
}
