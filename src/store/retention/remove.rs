//! Removing what a plan says, in an order that leaves everything whole at any moment.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::survey::{Survey, is_marked};
use super::{PATIENCE, Removal, RetentionError};
use crate::model::RunId;
use crate::rules::retention::{RetentionPolicy, StoredStanding};
use crate::rules::standing::{Standing, standing};
use crate::store::journal;
use crate::store::kept;
use crate::store::run_dir::RunDir;
use crate::store::snapshot::{SnapshotStore, StoredFile};
use crate::store::state_dir::StateDir;
use crate::store::trash;
use crate::sys::{clock, crash, disk, durable, remove};

/// Contents of results are named by their run's journal some moments after they were written.
pub(super) const GRACE: Duration = Duration::from_secs(60 * 60);

/// Carries out what the policy says of a survey; tells what was done.
pub fn carry_out(state: &StateDir, survey: &mut Survey, policy: &RetentionPolicy) -> Result<Removal, RetentionError> {
    let lock = kept::remove(state, PATIENCE).map_err(RetentionError::at("lock", state.path()))?;
    let removing = lock.ok_or(RetentionError::Busy(PATIENCE))?;
    let mut done = survey.plan(state, policy, clock::now())?;
    done.runs.retain(|(run_id, _, _)| may_go(state, survey, *run_id));
    for (run_id, _, _) in &done.runs {
        move_away(state, *run_id)?;
        crash::point("gc.run_moved").map_err(RetentionError::at("remove", state.path()))?;
    }
    // What they relied on goes only when they are gone for good.
    for dir in [state.trash(), state.runs()] {
        durable::sync_directory(&dir).map_err(RetentionError::at("sync", &dir))?;
    }
    crash::point("gc.runs_moved").map_err(RetentionError::at("remove", state.path()))?;
    let unneeded = survey.unneeded(state, &HashSet::new())?;
    crash::point("gc.marked").map_err(RetentionError::at("remove", state.path()))?;
    done.store = (0, 0);
    let others = others(state, &unneeded)?;
    for file in &unneeded {
        remove_file(&file.path)?;
        done.store = (done.store.0 + 1, done.store.1 + file.bytes);
        crash::point("gc.swept").map_err(RetentionError::at("remove", state.path()))?;
    }
    for path in others {
        remove_file(&path)?;
    }
    // Nobody looks for anything in the trash.
    drop(removing);
    trash::sweep(state, trash::Sweep::Aged, Duration::MAX);
    let swept = SnapshotStore::at(state.path()).sweep_temporaries();
    survey.warnings.sort();
    survey.warnings.dedup();
    done.warnings = survey.warnings.clone();
    done.warnings.extend(swept.err().map(|error| error.to_string()));
    Ok(done)
}

/// Whether a run is still what it was when it was looked at.
fn may_go(state: &StateDir, survey: &Survey, run_id: RunId) -> bool {
    let was_free = survey
        .runs
        .iter()
        .any(|run| run.run_id == run_id && matches!(run.standing, StoredStanding::Over | StoredStanding::Failed));
    let events = journal::read(&RunDir::of(state, run_id).journal());
    let is_over = events.is_ok_and(|events| !matches!(standing(&events), Standing::Held | Standing::Unsettled));
    was_free && is_over && !is_marked(state, run_id)
}

fn move_away(state: &StateDir, run_id: RunId) -> Result<(), RetentionError> {
    let (from, to) = (RunDir::of(state, run_id), trash::run_slot(state, run_id));
    // Left by a `gc` that was killed, before the run was imported again.
    remove::remove_tree(&to).map_err(RetentionError::at("remove", &to))?;
    std::fs::rename(from.path(), &to).map_err(RetentionError::at("remove", from.path()))
}

fn remove_file(path: &Path) -> Result<(), RetentionError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(RetentionError::at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Files that are of no use to anybody: put aside as damaged, or caches of what is gone.
fn others(state: &StateDir, unneeded: &[StoredFile]) -> Result<Vec<PathBuf>, RetentionError> {
    let store = SnapshotStore::at(state.path());
    let gone: BTreeSet<PathBuf> = unneeded.iter().map(|file| file.path.clone()).collect();
    let mut found = store.put_aside().map_err(RetentionError::at("read", state.path()))?;
    found.extend(store.stale_caches(&gone).map_err(RetentionError::at("read", state.path()))?);
    Ok(found)
}

/// How many of them there are, with what lies in the trash, and what they take.
pub(super) fn remains(state: &StateDir, unneeded: &[StoredFile]) -> Result<(u64, u64), RetentionError> {
    let mut paths = others(state, unneeded)?;
    let trash = state.trash();
    let entries = std::fs::read_dir(&trash).map_err(RetentionError::at("read", &trash))?;
    paths.extend(entries.flatten().map(|entry| entry.path()));
    Ok((paths.len() as u64, paths.iter().map(|path| disk::taken(path)).sum()))
}
