//! What the store holds, and what of it a snapshot relies on: so that the rest can be removed.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::SnapshotStore;
use super::contents::LoadError;
use super::layout::{Shelf, pack_in};
use super::manifest::Location;
use super::table::StatTable;
use crate::model::Digest;
use crate::model::event::SnapshotRef;
use crate::sys::mmap::Mapped;

/// How a file is called that was put aside because it is damaged.
const DAMAGED: &str = ".damaged";

/// A block as stat counts them.
const BLOCK: u64 = 512;

/// One immutable file of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it takes on the disk.
    pub bytes: u64,
    /// When it came.
    pub since: SystemTime,
    /// Whether something may be about to name it that was not here when it came: contents of results are named some time
    /// after they were written.
    pub may_be_unnamed: bool,
}

impl SnapshotStore {
    /// The files that a snapshot relies on. Of one that cannot be read only its pack is known: the error says so.
    pub fn relied_on(&self, snapshot: &SnapshotRef) -> (BTreeSet<PathBuf>, Option<LoadError>) {
        let own = [Shelf::Packs, Shelf::Kept].map(|shelf| pack_in(self.layout.shelf(shelf), snapshot.pack));
        let mut files = BTreeSet::from(own);
        let manifest = match self.load(snapshot) {
            Ok(manifest) => manifest,
            Err(error) => return (files, Some(error)),
        };
        files.extend(manifest.packs().iter().map(|pack| self.layout.pack(*pack)));
        let large = manifest.entries().iter().filter(|entry| entry.location == Location::Large);
        files.extend(large.map(|entry| self.layout.large(entry.digest)));
        (files, None)
    }

    /// Packs and large contents, sorted. Files that were put aside are not among them.
    pub fn files(&self) -> io::Result<Vec<StoredFile>> {
        let mut found = Vec::new();
        for (dir, may_be_unnamed) in
            [(&self.layout.packs, false), (&self.layout.kept, true), (&self.layout.large, false)]
        {
            for path in names_in(dir)? {
                let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
                let Ok(metadata) = path.symlink_metadata() else { continue };
                // What is not ours is for `fsck` to report.
                if stem.parse::<Digest>().is_err() || !metadata.is_file() || is_damaged(&path) {
                    continue;
                }
                let since = metadata.modified()?;
                found.push(StoredFile { bytes: metadata.blocks() * BLOCK, since, may_be_unnamed, path });
            }
        }
        Ok(found)
    }

    /// Files that were put aside because they are damaged.
    pub fn put_aside(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for dir in [&self.layout.packs, &self.layout.kept, &self.layout.large] {
            found.extend(names_in(dir)?.into_iter().filter(|path| is_damaged(path)));
        }
        Ok(found)
    }

    /// Stat caches that answer for nothing any more: damaged ones, and those that name a pack that is in `gone` or not there.
    pub fn stale_caches(&self, gone: &BTreeSet<PathBuf>) -> io::Result<Vec<PathBuf>> {
        let is_there = |pack: Digest| {
            let path = self.layout.pack(pack);
            !gone.contains(&path) && path.exists()
        };
        let is_fresh = |path: &Path| {
            let key: Option<Digest> = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            let table = key.zip(Mapped::open(path).ok()).and_then(|(key, mapped)| StatTable::from_file(mapped, key));
            table.is_some_and(|table| table.packs().iter().all(|(pack, _)| is_there(*pack)))
        };
        let mut names = names_in(&self.layout.cache)?;
        names.retain(|path| path.extension().is_some_and(|extension| extension == "stat") && !is_fresh(path));
        Ok(names)
    }
}

fn is_damaged(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(DAMAGED.as_bytes())
}

fn names_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort_unstable();
    Ok(paths)
}
