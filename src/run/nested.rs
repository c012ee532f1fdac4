//! Runs of agentguards that an agent started inside its view: they committed into that view only, and kept their state in
//! the run's private directory. At the end of the outer run their records join its log and their directories its state.
//!
//! What an agent left there is not trusted further than it can be checked: names must be run ids and hashes, records must
//! parse, and contents are hashed again by whoever reads them.

use std::fs;
use std::io;
use std::path::Path;

use crate::model::error_kind::{ErrorKind, Failure, Status};
use crate::model::event::{CommitAborted, Event, Interrupted, Settled};
use crate::model::{Digest, RunId, RunRecord};
use crate::rules::fold::fold;
use crate::rules::lifecycle::Phase;
use crate::rules::recovery::supervisor_died;
use crate::store::journal::Journal;
use crate::store::kept;
use crate::store::letters::Letters;
use crate::store::log::RunLog;
use crate::store::run_dir::RunDir;
use crate::store::state_dir::StateDir;
use crate::sys::clock;

use super::breaker::count_recorded;

/// Takes over what lies in the state directory `nested`. Idempotent: a run that is in the log already is not entered
/// again.
pub(super) fn adopt(state: &StateDir, nested: &Path, parent: RunId) -> io::Result<()> {
    let runs = match fs::read_dir(nested.join("runs")) {
        Ok(runs) => runs,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(error),
    };
    // Until their directories are here too, nothing says that these contents are needed.
    let _relying = kept::rely(state)?;
    adopt_contents(state, nested)?;
    let mut found: Vec<RunId> = runs
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    found.sort();
    let log = RunLog::at(state.path());
    for run_id in found {
        let own = RunDir::of(state, run_id);
        if !own.exists() {
            fs::rename(nested.join("runs").join(run_id.to_string()), own.path())?;
        }
        let Some(mut record) = record_of(&own) else { continue };
        record.parent_run_id = record.parent_run_id.or(Some(parent));
        if record.run_id == run_id && !log.contains(&run_id).map_err(io::Error::other)? {
            let _repaired = log.append(&mut record).map_err(io::Error::other)?;
            // Read from the log by whoever asks next, if it cannot be noted now.
            let _ = Letters::at(state).note(&record);
            let _told = count_recorded(state, &own, &record, parent).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

/// The record of a run as its journal tells it; one that was never settled ends here.
fn record_of(dir: &RunDir) -> Option<RunRecord> {
    let mut journal = Journal::reopen(&dir.journal()).ok()?;
    if !journal.events().iter().any(|event| matches!(event, Event::Settled(_))) {
        end(&mut journal).ok()?;
    }
    fold(journal.events()).ok()
}

/// The view that a nested run lived in is gone: whatever it was about to do will not be done.
fn end(journal: &mut Journal) -> Result<(), crate::store::journal::JournalError> {
    let time = clock::now();
    if journal.phase() == Phase::Committing {
        let failure = Failure::new(ErrorKind::SupervisorDied, "the run around it ended before its commit was complete");
        journal.append(Event::CommitAborted(CommitAborted { time, failure }))?;
    }
    if journal.phase().may_be_dropped() {
        journal.append(Event::Interrupted(Interrupted { time, staged_files: 0, staged_bytes: 0 }))?;
    }
    let settled =
        Settled { time, status: Status::Interrupted, failure: Some(supervisor_died()), guard_exit_code: None };
    journal.append(Event::Settled(settled))
}

/// Contents are named by their hash: what is there already is the same.
fn adopt_contents(state: &StateDir, nested: &Path) -> io::Result<()> {
    for kind in ["packs", "large"] {
        let (from, to) = (nested.join("snapshots").join(kind), state.path().join("snapshots").join(kind));
        let Ok(entries) = fs::read_dir(&from) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let stem = Path::new(&name).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let is_content = stem.parse::<Digest>().is_ok() && entry.file_type().is_ok_and(|kind| kind.is_file());
            if !is_content || to.join(&name).exists() {
                continue;
            }
            fs::create_dir_all(&to)?;
            fs::rename(entry.path(), to.join(&name))?;
        }
    }
    Ok(())
}
