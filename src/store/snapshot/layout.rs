//! Where things are in the store, and files that are not published yet.
//!
//! ```text
//! snapshots/packs/<digest>.pack   immutable
//! snapshots/kept/<digest>.pack    immutable; contents of results, which nothing but showing them relies on
//! snapshots/large/<digest>        immutable, one content each
//! snapshots/tmp-<pid>-<n>         being written; flock held by its writer
//! cache/<key>.stat                derived
//! ```

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};

use crate::model::Digest;

/// How temporary names begin.
pub(super) const TEMPORARY_PREFIX: &str = "tmp-";

/// A step on a path of the store failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub struct StoreError {
    /// What was attempted.
    pub step: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

impl StoreError {
    /// Attaches step and path to an error.
    pub(super) fn at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self { step, path, source }
    }
}

/// Where a pack stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shelf {
    /// Among those that captures rely on.
    Packs,
    /// Among those that may be lost: no capture ever takes a content from them.
    Kept,
}

/// The directories of one store.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) snapshots: PathBuf,
    pub(super) packs: PathBuf,
    pub(super) kept: PathBuf,
    pub(super) large: PathBuf,
    pub(super) cache: PathBuf,
}

impl Layout {
    pub(super) fn at(state: &Path) -> Self {
        let snapshots = state.join("snapshots");
        Self {
            packs: snapshots.join("packs"),
            kept: snapshots.join("kept"),
            large: snapshots.join("large"),
            snapshots,
            cache: state.join("cache"),
        }
    }

    pub(super) fn pack(&self, digest: Digest) -> PathBuf {
        pack_in(&self.packs, digest)
    }

    pub(super) fn shelf(&self, shelf: Shelf) -> &Path {
        match shelf {
            Shelf::Packs => &self.packs,
            Shelf::Kept => &self.kept,
        }
    }

    pub(super) fn large(&self, digest: Digest) -> PathBuf {
        self.large.join(digest.to_string())
    }

    pub(super) fn table(&self, key: Digest) -> PathBuf {
        self.cache.join(format!("{key}.stat"))
    }

    /// A new temporary file, locked until it is closed. It must be published by rename or removed; what a crash
    /// leaves is swept by the next [`super::SnapshotStore::sweep_temporaries`].
    pub(super) fn temporary(&self) -> Result<Temporary, StoreError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        make_dir(&self.snapshots)?;
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = self.snapshots.join(format!("{TEMPORARY_PREFIX}{}-{number}", std::process::id()));
            let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
            let file = match opened {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(StoreError::at("create", &path))?,
            };
            flock(&file, FlockOperation::LockExclusive).map_err(|errno| StoreError {
                step: "lock",
                path: path.clone(),
                source: errno.into(),
            })?;
            // A sweep that came between creation and lock has removed the name: begin again.
            if file.metadata().map_err(StoreError::at("stat", &path))?.nlink() > 0 {
                return Ok(Temporary { file, path, published: false });
            }
        }
    }
}

/// The name of a pack in a directory of packs.
pub(super) fn pack_in(dir: &Path, digest: Digest) -> PathBuf {
    dir.join(format!("{digest}.pack"))
}

/// Makes a private directory where there is none, and its missing parents; a new one is durable on return.
pub(super) fn make_dir(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_dir),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.parent() {
            Some(parent) if parent != path => {
                make_dir(parent)?;
                make_dir(path)
            }
            _ => Err(StoreError::at("create", path)(error)),
        },
        Err(error) => Err(StoreError::at("create", path)(error)),
    }
}

/// Makes names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(StoreError::at("sync", path))
}

/// A file under a temporary name; removed when dropped unpublished.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) file: File,
    pub(super) path: PathBuf,
    published: bool,
}

impl Temporary {
    /// Gives the file its final name, replacing what has it. Durable once the directory is synced.
    pub(super) fn publish(mut self, to: &Path) -> Result<(), StoreError> {
        std::fs::rename(&self.path, to).map_err(StoreError::at("publish", to))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.published {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes temporary files whose writer is gone: those whose lock is free. Returns how many.
pub(super) fn sweep(layout: &Layout) -> Result<u64, StoreError> {
    let mut swept = 0;
    for dir in [&layout.snapshots, &layout.cache] {
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(StoreError::at("read", dir))?,
        };
        for entry in entries {
            let path = entry.map_err(StoreError::at("read", dir))?.path();
            swept += u64::from(sweep_one(&path)?);
        }
    }
    Ok(swept)
}

fn sweep_one(path: &Path) -> Result<bool, StoreError> {
    let is_temporary =
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()));
    if !is_temporary {
        return Ok(false);
    }
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(StoreError::at("open", path))?,
    };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true).map_err(StoreError::at("remove", path)),
    }
}
