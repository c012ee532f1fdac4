//! What is there: every run's directory, how it stands, and what it relies on.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use super::RetentionError;
use crate::model::event::{Event, SnapshotRef};
use crate::model::spec::InputSource;
use crate::model::{Digest, RunId, Timestamp};
use crate::rules::retention::{Protection, RetentionPolicy, StoredRun, StoredStanding, expired};
use crate::rules::run_ref::is_failure;
use crate::rules::standing::{Standing, standing};
use crate::store::journal::{self, JournalError};
use crate::store::letters::acknowledged;
use crate::store::run_dir::RunDir;
use crate::store::snapshot::{SnapshotStore, StoredFile};
use crate::store::state_dir::StateDir;
use crate::sys::disk;

use super::Removal;

/// What is there.
#[derive(Debug)]
pub struct Survey {
    pub(super) runs: Vec<StoredRun>,
    /// Snapshots that runs refer to, of runs whose journal could be read.
    pub(super) snapshots: BTreeMap<RunId, BTreeSet<(Digest, Digest)>>,
    /// Files of the store, by path: their numbers.
    numbers: HashMap<PathBuf, usize>,
    pub(super) files: Vec<StoredFile>,
    /// What snapshots rely on, so that each is read once.
    known: HashMap<(Digest, Digest), BTreeSet<PathBuf>>,
    /// What could not be told, in words.
    pub warnings: Vec<String>,
    /// Whether what some run relies on cannot be told.
    pub(super) is_unclear: bool,
}

/// Looks at everything. No lock is held: whatever is decided from it is looked at again before it is done.
pub fn survey(state: &StateDir) -> Result<Survey, RetentionError> {
    let store = SnapshotStore::at(state.path());
    let files = store.files().map_err(RetentionError::at("read", state.path()))?;
    let numbers = files.iter().enumerate().map(|(number, file)| (file.path.clone(), number)).collect();
    let mut survey = Survey {
        runs: Vec::new(),
        snapshots: BTreeMap::new(),
        numbers,
        files,
        known: HashMap::new(),
        warnings: Vec::new(),
        is_unclear: false,
    };
    let acknowledged = acknowledged(state).map_err(RetentionError::at("read", state.path()))?;
    for run_id in run_ids(state)? {
        survey.run(state, &store, run_id, &acknowledged);
    }
    Ok(survey)
}

/// The runs that have a directory, oldest first.
pub(super) fn run_ids(state: &StateDir) -> Result<Vec<RunId>, RetentionError> {
    let runs = state.runs();
    let entries = std::fs::read_dir(&runs).map_err(RetentionError::at("read", &runs))?;
    let mut ids: Vec<RunId> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Whether somebody has the run, or recovery is not done with it.
pub(super) fn is_marked(state: &StateDir, run_id: RunId) -> bool {
    state.live().join(run_id.to_string()).symlink_metadata().is_ok()
}

/// A run's journal. That of a run that is just beginning may be there a moment later, and whole another.
fn journal_of(state: &StateDir, run_id: RunId, dir: &RunDir) -> Result<Vec<Event>, JournalError> {
    const LOOKS: u32 = 20;
    let mut looks = 0;
    loop {
        match journal::read(&dir.journal()) {
            Err(error) if !error.is_missing() && looks < LOOKS && is_marked(state, run_id) => {
                looks += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            read => return read,
        }
    }
}

impl Survey {
    fn run(&mut self, state: &StateDir, store: &SnapshotStore, run_id: RunId, acknowledged: &HashSet<RunId>) {
        let dir = RunDir::of(state, run_id);
        let began = Timestamp::from_unix_micros(i64::try_from(run_id.unix_millis() * 1000).unwrap_or(i64::MAX));
        let events = journal::read(&dir.journal());
        let (standing, ended) = match &events {
            _ if is_marked(state, run_id) => (StoredStanding::Protected(Protection::Live), began),
            Err(_) => (StoredStanding::Protected(Protection::Unclear), began),
            Ok(events) => stands(run_id, events, began, acknowledged),
        };
        let snapshots = match events {
            Ok(events) => referred(&dir, &events),
            // It is about to begin; looked at again before anything of the store is removed.
            Err(_) if is_marked(state, run_id) => BTreeSet::new(),
            Err(error) => {
                self.is_unclear = true;
                self.warnings.push(format!("what run {run_id} relies on cannot be told: {error}"));
                BTreeSet::new()
            }
        };
        let files = self.relied_on(store, &snapshots);
        let objects = files.iter().filter_map(|path| self.numbers.get(path).copied()).collect();
        self.snapshots.insert(run_id, snapshots);
        self.runs.push(StoredRun { run_id, ended, standing, bytes: disk::taken(dir.path()), objects });
    }

    /// The files of the store that these snapshots rely on.
    fn relied_on(&mut self, store: &SnapshotStore, snapshots: &BTreeSet<(Digest, Digest)>) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        for snapshot in snapshots {
            let known = self.known.entry(*snapshot).or_insert_with(|| {
                let (manifest, pack) = *snapshot;
                // One that cannot be read cannot be given back either: nothing but its pack is kept for it.
                store.relied_on(&SnapshotRef { manifest, pack }).0
            });
            files.extend(known.iter().cloned());
        }
        files
    }

    /// What nobody but the given runs relies on. Runs that came since the survey are looked at now.
    pub(super) fn unneeded(
        &mut self,
        state: &StateDir,
        going: &HashSet<RunId>,
    ) -> Result<Vec<StoredFile>, RetentionError> {
        let store = SnapshotStore::at(state.path());
        let mut needed = BTreeSet::new();
        for run_id in run_ids(state)? {
            if going.contains(&run_id) {
                continue;
            }
            // A live run's journal goes on.
            if !self.snapshots.contains_key(&run_id) || is_marked(state, run_id) {
                let dir = RunDir::of(state, run_id);
                match journal_of(state, run_id, &dir) {
                    Ok(events) => drop(self.snapshots.insert(run_id, referred(&dir, &events))),
                    // It has not begun: what it will need it will look for under the lock.
                    Err(error) if error.is_missing() && is_marked(state, run_id) => {}
                    Err(error) => {
                        self.is_unclear = true;
                        self.warnings.push(format!("what run {run_id} relies on cannot be told: {error}"));
                    }
                }
            }
            let snapshots = self.snapshots.get(&run_id).cloned().unwrap_or_default();
            needed.extend(self.relied_on(&store, &snapshots));
        }
        if self.is_unclear {
            return Ok(Vec::new());
        }
        let now = std::time::SystemTime::now();
        let is_new = |file: &StoredFile| now.duration_since(file.since).map_or(true, |age| age < super::remove::GRACE);
        let mut files = store.files().map_err(RetentionError::at("read", state.path()))?;
        let stays = |file: &StoredFile| needed.contains(&file.path) || file.may_be_unnamed && is_new(file);
        files.retain(|file| !stays(file));
        Ok(files)
    }

    /// What a policy takes away: the plan that [`super::carry_out`] carries out.
    pub fn plan(
        &mut self,
        state: &StateDir,
        policy: &RetentionPolicy,
        now: Timestamp,
    ) -> Result<Removal, RetentionError> {
        let objects: Vec<u64> = self.files.iter().map(|file| file.bytes).collect();
        // What no run relies on is removed in any case, and does not count.
        let others = disk::taken(&state.path().join("cache")) + log_bytes(state);
        let gone = expired(&self.runs, &objects, others, policy, now);
        let going: HashSet<RunId> = gone.iter().map(|(at, _)| self.runs[*at].run_id).collect();
        let unneeded = self.unneeded(state, &going)?;
        let without_protection: Vec<StoredRun> =
            self.runs.iter().map(|run| StoredRun { standing: StoredStanding::Over, ..run.clone() }).collect();
        let wanted = expired(&without_protection, &objects, others, policy, now);
        let protected = wanted.iter().filter_map(|(at, _)| {
            let run = &self.runs[*at];
            run.protection(policy, now).map(|protection| (run.run_id, protection))
        });
        Ok(Removal {
            runs: gone.iter().map(|(at, reason)| (self.runs[*at].run_id, *reason, self.runs[*at].bytes)).collect(),
            store: (unneeded.len() as u64, unneeded.iter().map(|file| file.bytes).sum()),
            remains: super::remove::remains(state, &unneeded)?,
            protected: protected.collect(),
            warnings: Vec::new(),
        })
    }
}

fn log_bytes(state: &StateDir) -> u64 {
    let files = crate::store::log::RunLog::at(state.path()).files().unwrap_or_default();
    files.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn stands(
    run_id: RunId,
    events: &[Event],
    began: Timestamp,
    acknowledged: &HashSet<RunId>,
) -> (StoredStanding, Timestamp) {
    let settled = events.iter().rev().find_map(|event| match event {
        Event::Settled(settled) => Some((settled.status, settled.time)),
        _ => None,
    });
    let Some((status, ended)) = settled else { return (StoredStanding::Protected(Protection::Unclear), began) };
    match standing(events) {
        Standing::Held => (StoredStanding::Protected(Protection::Held), ended),
        _ if is_failure(status) && !acknowledged.contains(&run_id) => (StoredStanding::Failed, ended),
        _ => (StoredStanding::Over, ended),
    }
}

/// The snapshots that a run refers to. One that was just begun as a replay names that of its original.
fn referred(dir: &RunDir, events: &[Event]) -> BTreeSet<(Digest, Digest)> {
    let key = |snapshot: &SnapshotRef| (snapshot.manifest, snapshot.pack);
    let mut found = BTreeSet::new();
    for event in events {
        match event {
            Event::Snapshotted(taken) => drop(found.insert(key(&taken.snapshot))),
            Event::Sealed(sealed) => found.extend(sealed.contents.as_ref().map(key)),
            _ => {}
        }
    }
    let is_over = events.iter().any(|event| matches!(event, Event::Settled(_)));
    if !is_over
        && let Ok(spec) = dir.read_spec()
        && let InputSource::Recorded(snapshot) = &spec.inputs.source
    {
        found.insert(key(snapshot));
    }
    found
}
