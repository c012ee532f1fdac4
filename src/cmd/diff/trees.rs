//! What two runs read, and what they wrote, path by path.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Serialize;

use crate::model::event::{Event, SnapshotRef};
use crate::model::record::Mode;
use crate::model::{Digest, EntryKind, RunRecord, Text};
use crate::store::run_dir::RunDir;
use crate::store::snapshot::{Manifest, SnapshotStore};
use crate::store::state_dir::StateDir;
use crate::store::{change_set, journal, outputs as staged};

/// A path that is not the same in both runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct PathChange {
    /// `added`, `removed` or `changed`.
    pub(super) what: &'static str,
    pub(super) path: Text,
}

/// What stands at a path. A directory's hash says what its entries say already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    kind: Option<EntryKind>,
    mode: u32,
    digest: Option<Digest>,
}

/// Paths of a run.
pub(super) type Listing = BTreeMap<Vec<u8>, Mark>;

/// From the first listing to the second.
pub(super) fn path_changes(first: &Listing, second: &Listing) -> Vec<PathChange> {
    let mut changes = Vec::new();
    let mut add = |what, path: &Vec<u8>| changes.push(PathChange { what, path: Text(path.clone()) });
    for (path, mark) in first {
        match second.get(path) {
            None => add("removed", path),
            Some(other) if other != mark => add("changed", path),
            Some(_) => {}
        }
    }
    second.keys().filter(|path| !first.contains_key(*path)).for_each(|path| add("added", path));
    changes.sort_by(|one, other| one.path.cmp(&other.path));
    changes
}

/// What a run read: its snapshot, and standard input where that was captured.
pub(super) fn inputs(state: &StateDir, run: &RunRecord) -> anyhow::Result<Listing> {
    let dir = directory(state, run)?;
    let (mut snapshot, mut stdin): (Option<SnapshotRef>, _) = (None, None);
    for event in journal::read(&dir.journal())? {
        match event {
            Event::Snapshotted(taken) => snapshot = Some(taken.snapshot),
            Event::AttemptEnded(end) => stdin = end.stdin.and_then(|stdin| stdin.digest),
            _ => {}
        }
    }
    let mut listing = match snapshot {
        Some(snapshot) => {
            listing_of(&SnapshotStore::at(state.path()).load(&snapshot).context("its snapshot cannot be read")?)
        }
        None => Listing::new(),
    };
    if let Some(digest) = stdin {
        listing.insert(b"stdin".to_vec(), Mark { kind: Some(EntryKind::File), mode: 0o600, digest: Some(digest) });
    }
    Ok(listing)
}

/// What a run staged: its outputs, or its changes.
pub(super) fn outputs(state: &StateDir, run: &RunRecord) -> anyhow::Result<Listing> {
    let dir = directory(state, run)?;
    match run.mode {
        Mode::Publish => Ok(staged::read(&dir)?.map(|manifest| listing_of(&manifest)).unwrap_or_default()),
        Mode::Workspace => {
            let changes = change_set::read(&dir)?.unwrap_or_default();
            let marked = changes.paths.into_iter().map(|changed| {
                let mark = match changed.after {
                    Some(side) => {
                        Mark { kind: Some(side.kind), mode: side.mode, digest: content_digest(side.kind, side.digest) }
                    }
                    None => Mark { kind: None, mode: 0, digest: None },
                };
                (changed.path.0, mark)
            });
            Ok(marked.collect())
        }
    }
}

fn directory(state: &StateDir, run: &RunRecord) -> anyhow::Result<RunDir> {
    let dir = RunDir::of(state, run.run_id);
    anyhow::ensure!(dir.exists(), "the directory of run {} is gone", run.run_id);
    Ok(dir)
}

fn listing_of(manifest: &Manifest) -> Listing {
    let entries = manifest.entries().iter().enumerate();
    let marked = entries.map(|(index, entry)| {
        let digest = content_digest(entry.kind, Some(entry.digest));
        (manifest.path_of(index), Mark { kind: Some(entry.kind), mode: entry.mode, digest })
    });
    marked.collect()
}

fn content_digest(kind: EntryKind, digest: Option<Digest>) -> Option<Digest> {
    digest.filter(|_| kind != EntryKind::Directory)
}
