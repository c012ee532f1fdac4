//! What one run changed, and where its contents may still be found.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::cmd::render::escape;
use crate::model::change::{ChangeKind, ChangeSet, ChangedPath, Side};
use crate::model::event::{Event, SnapshotRef};
use crate::model::record::Mode;
use crate::model::spec::RunSpec;
use crate::model::{EntryKind, RunRecord, Text};
use crate::store::run_dir::RunDir;
use crate::store::snapshot::{Manifest, SnapshotStore};
use crate::store::state_dir::StateDir;
use crate::store::{change_set, journal, outputs};

/// A run's changes and what is known about their contents.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) dir: RunDir,
    pub(super) changes: ChangeSet,
    /// The snapshot of the inputs; none where it cannot be read.
    pub(super) before: Option<Manifest>,
    /// The kept contents of what was staged; none where there are none.
    pub(super) after: Option<Manifest>,
    /// Where changed paths stand in the live tree: a path's prefix (empty in workspace mode), and its place.
    pub(super) places: Vec<(Text, PathBuf)>,
    /// What paths are relative to.
    pub(super) root: Option<PathBuf>,
    /// What a person should know about the answer.
    pub(super) notes: Vec<String>,
}

impl Subject {
    /// Reads what is kept of a run.
    pub(super) fn of(state: &StateDir, record: &RunRecord) -> anyhow::Result<Self> {
        let dir = RunDir::of(state, record.run_id);
        if !dir.exists() {
            bail!(
                "run {} is in the log and its directory {:?} is gone: what it changed is not known any more",
                record.run_id,
                dir.path()
            );
        }
        let events = journal::read(&dir.journal())?;
        let spec = dir.read_spec()?;
        match record.mode {
            Mode::Workspace => Self::of_workspace(state, dir, &spec, &events),
            Mode::Publish => Self::of_publish(dir, &spec),
        }
    }

    fn of_workspace(state: &StateDir, dir: RunDir, spec: &RunSpec, events: &[Event]) -> anyhow::Result<Self> {
        let root = spec.workspace.as_ref().map(|workspace| workspace.path.to_path_buf());
        let sealed = events.iter().rev().find_map(|event| match event {
            Event::Sealed(sealed) => Some(sealed),
            _ => None,
        });
        let mut notes = Vec::new();
        let changes = match (change_set::read(&dir)?, sealed) {
            (_, None) => {
                notes.push(format!("run {} ended before its changes were read: none are known", dir.run_id()));
                ChangeSet::default()
            }
            (None, Some(sealed)) if sealed.output_hash.is_none() => ChangeSet::default(),
            (None, Some(_)) => bail!("the list of what run {} changed is gone from {:?}", dir.run_id(), dir.path()),
            (Some(changes), Some(sealed)) if change_set::output_hash(&changes) == sealed.output_hash => changes,
            (Some(_), Some(_)) => {
                bail!("{:?} is not the list that run {} sealed", dir.join(change_set::NAME), dir.run_id())
            }
        };
        let taken = events.iter().find_map(|event| match event {
            Event::Snapshotted(taken) => Some(&taken.snapshot),
            _ => None,
        });
        let store = SnapshotStore::at(state.path());
        let mut load = |what, snapshot: Option<&SnapshotRef>| {
            let loaded = store.load(snapshot?).with_context(|| format!("{what} cannot be read"));
            loaded.inspect_err(|error| notes.push(escape(format!("{error:#}").as_bytes()))).ok()
        };
        let before = load("the snapshot of the workspace", taken);
        let after = load("what is kept of the result", sealed.and_then(|sealed| sealed.contents.as_ref()));
        let places = root.iter().map(|root| (Text::default(), root.clone())).collect();
        Ok(Self { dir, changes, before, after, places, root, notes })
    }

    /// A published tree takes the place of another as a whole: what it replaced is not kept.
    fn of_publish(dir: RunDir, spec: &RunSpec) -> anyhow::Result<Self> {
        let mut changes = ChangeSet::default();
        let mut notes = Vec::new();
        match outputs::read(&dir)? {
            None => notes.push(format!("run {} staged nothing", dir.run_id())),
            Some(manifest) => {
                changes.paths = created(&manifest);
                notes.push(format!(
                    "what the outputs of run {} replaced is not kept: all of them are shown as new",
                    dir.run_id()
                ));
            }
        }
        let places = spec.outputs.iter().map(|output| (output.name.clone(), output.path.to_path_buf())).collect();
        let root = Some(spec.project.to_path_buf());
        Ok(Self { dir, changes, before: None, after: None, places, root, notes })
    }
}

fn created(manifest: &Manifest) -> Vec<ChangedPath> {
    let entries = manifest.entries().iter().enumerate();
    let mut paths: Vec<ChangedPath> = entries
        .map(|(index, entry)| {
            // A directory's hash says what its entries say already.
            let is_directory = entry.kind == EntryKind::Directory;
            let (digest, size) = if is_directory { (None, 0) } else { (Some(entry.digest), entry.size) };
            let after = Some(Side { kind: entry.kind, mode: entry.mode, digest, size });
            ChangedPath { change: ChangeKind::Created, path: Text(manifest.path_of(index)), before: None, after }
        })
        .collect();
    paths.sort_by(|one, other| one.path.cmp(&other.path));
    paths
}
