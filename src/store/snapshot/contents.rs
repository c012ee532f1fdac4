//! Getting contents back: every byte that leaves the store has been hashed again on the way.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::large;
use super::layout::{Layout, Shelf, StoreError, pack_in};
use super::manifest::{Location, Manifest, ManifestEntry, ParseManifestError};
use super::pack::{Damage, Pack};
use super::pack_writer::lock;
use crate::model::event::SnapshotRef;
use crate::model::{Digest, EntryKind};

/// Blocks of zeros of this size are left out where a file had holes.
const HOLE_BYTES: usize = 4096;

/// A snapshot, or a content of one, cannot be given back.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file of the store could not be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the store is not what its name says.
    #[error("{} {damage}", path.display())]
    Damaged {
        /// The pack, or the large content.
        path: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },
    /// The manifest has the right hash and makes no sense.
    #[error("cannot understand the manifest in {}", path.display())]
    Manifest {
        /// The pack it is in.
        path: PathBuf,
        /// Where it stops making sense.
        #[source]
        source: ParseManifestError,
    },
    /// The manifest does not say where a content is: it was only hashed; or it was kept for showing it, and is lost.
    #[error("no content is kept for {0}")]
    NotKept(Digest),
}

/// Reads a manifest from its pack.
pub(super) fn load(layout: &Layout, snapshot: &SnapshotRef) -> Result<Manifest, LoadError> {
    // A capture and a seal of the same trees have packs of the same name: the one that is relied on comes first.
    let is_only_kept = !layout.pack(snapshot.pack).exists() && pack_in(&layout.kept, snapshot.pack).exists();
    let shelf = if is_only_kept { Shelf::Kept } else { Shelf::Packs };
    let path = pack_in(layout.shelf(shelf), snapshot.pack);
    let damaged = |damage| LoadError::Damaged { path: path.clone(), damage };
    let pack = Pack::open(&path, snapshot.pack)?.map_err(damaged)?;
    let bytes = pack.read(snapshot.manifest).map_err(damaged)?;
    let mut manifest =
        Manifest::from_bytes(bytes).map_err(|source| LoadError::Manifest { path: path.clone(), source })?;
    manifest.own_pack = Some((shelf, snapshot.pack));
    Ok(manifest)
}

/// The packs of one manifest, opened as they are needed.
#[derive(Debug)]
pub struct Contents<'a> {
    layout: &'a Layout,
    manifest: &'a Manifest,
    packs: Mutex<HashMap<Digest, Arc<Pack>>>,
}

impl<'a> Contents<'a> {
    pub(super) fn new(layout: &'a Layout, manifest: &'a Manifest) -> Self {
        Self { layout, manifest, packs: Mutex::default() }
    }

    fn pack(&self, name: Digest, path: &Path) -> Result<Arc<Pack>, LoadError> {
        let mut packs = lock(&self.packs);
        if let Some(pack) = packs.get(&name) {
            return Ok(Arc::clone(pack));
        }
        let damaged = |damage| LoadError::Damaged { path: path.to_path_buf(), damage };
        let opened = Pack::open(path, name)?.map_err(damaged)?;
        let pack = Arc::new(opened);
        packs.insert(name, Arc::clone(&pack));
        Ok(pack)
    }

    /// The whole content of an entry (of a link its target, of anything else but a file nothing), hashed again.
    pub fn read(&self, entry: &ManifestEntry) -> Result<Vec<u8>, LoadError> {
        match entry.location {
            _ if entry.kind == EntryKind::Symlink => Ok(entry.target().to_vec()),
            _ if entry.kind != EntryKind::File || entry.size == 0 => Ok(Vec::new()),
            Location::Nothing => Err(LoadError::NotKept(entry.digest)),
            Location::Large => self.read_large(entry),
            Location::Own | Location::Pack(_) => self.with_small(entry, |bytes| bytes.to_vec()),
        }
    }

    fn with_small<T>(&self, entry: &ManifestEntry, take: impl FnOnce(&[u8]) -> T) -> Result<T, LoadError> {
        let name = self.manifest.pack_of(entry).ok_or(LoadError::NotKept(entry.digest))?;
        let shelf = match (entry.location, self.manifest.own_pack) {
            (Location::Own, Some((shelf, _))) => shelf,
            _ => Shelf::Packs,
        };
        let path = pack_in(self.layout.shelf(shelf), name);
        let read = self.pack(name, &path).and_then(|pack| match pack.read(entry.digest) {
            Ok(bytes) => Ok(take(bytes)),
            Err(damage) => Err(LoadError::Damaged { path, damage }),
        });
        // A pack that nothing relies on may be lost in a power cut.
        read.map_err(|error| if shelf == Shelf::Kept { LoadError::NotKept(entry.digest) } else { error })
    }

    fn read_large(&self, entry: &ManifestEntry) -> Result<Vec<u8>, LoadError> {
        use sha2::{Digest as _, Sha256};
        let path = self.layout.large(entry.digest);
        let bytes = std::fs::read(&path).map_err(StoreError::at("read", &path))?;
        if Sha256::digest(&bytes)[..] == entry.digest.0[..] { Ok(bytes) } else { Err(damaged(path, entry.digest)) }
    }

    /// Writes a file entry's content into an empty file.
    pub(super) fn write_to(&self, entry: &ManifestEntry, to: &mut File) -> Result<io::Result<()>, LoadError> {
        match entry.location {
            _ if entry.size == 0 => Ok(Ok(())),
            Location::Nothing => Err(LoadError::NotKept(entry.digest)),
            Location::Large => self.write_large(entry, to),
            Location::Own | Location::Pack(_) if entry.sparse => {
                self.with_small(entry, |bytes| write_with_holes(to, bytes))
            }
            Location::Own | Location::Pack(_) => self.with_small(entry, |bytes| to.write_all(bytes)),
        }
    }

    /// Writes a file entry's content to a stream, hashed on the way; the inner error is the stream's. Of a large content
    /// that is damaged the stream has had all of it before that is known.
    pub fn copy_to(&self, entry: &ManifestEntry, out: &mut dyn io::Write) -> Result<io::Result<()>, LoadError> {
        match entry.location {
            _ if entry.size == 0 => Ok(Ok(())),
            Location::Nothing => Err(LoadError::NotKept(entry.digest)),
            Location::Own | Location::Pack(_) => self.with_small(entry, |bytes| out.write_all(bytes)),
            Location::Large => {
                let path = self.layout.large(entry.digest);
                let failed = |source| LoadError::Store(StoreError::at("read", &path)(source));
                let mut file = File::open(&path).map_err(failed)?;
                let copied = large::copy_out(&mut file, entry.size, out).map_err(failed)?;
                match copied {
                    Ok(digest) if digest != entry.digest => Err(damaged(path, entry.digest)),
                    other => Ok(other.map(|_| ())),
                }
            }
        }
    }

    fn write_large(&self, entry: &ManifestEntry, to: &File) -> Result<io::Result<()>, LoadError> {
        let path = self.layout.large(entry.digest);
        let from = File::open(&path).map_err(StoreError::at("open", &path))?;
        match large::copy_in(&from, to, entry.size, entry.sparse) {
            Ok(digest) if digest == entry.digest => Ok(Ok(())),
            Ok(_) => Err(damaged(path, entry.digest)),
            Err(large::CopyFailed::Read(source)) => Err(StoreError::at("read", &path)(source).into()),
            Err(large::CopyFailed::Write(source)) => Ok(Err(source)),
        }
    }
}

fn damaged(path: PathBuf, digest: Digest) -> LoadError {
    LoadError::Damaged { path, damage: Damage::Content(digest) }
}

fn write_with_holes(to: &File, bytes: &[u8]) -> io::Result<()> {
    to.set_len(bytes.len() as u64)?;
    for (number, block) in bytes.chunks(HOLE_BYTES).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            to.write_all_at(block, (number * HOLE_BYTES) as u64)?;
        }
    }
    Ok(())
}

impl LoadError {
    /// The file of the store that is not what its name says.
    pub fn damaged(&self) -> Option<&Path> {
        match self {
            Self::Damaged { path, .. } | Self::Manifest { path, .. } => Some(path),
            Self::Store(_) | Self::NotKept(_) => None,
        }
    }
}

/// Something in the store that is not what its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, as a fragment that follows the path.
    pub what: String,
}

/// Re-hashes everything.
pub(super) fn check(layout: &Layout) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut packs = files_in(&layout.packs, &mut problems);
    packs.extend(files_in(&layout.kept, &mut problems));
    for path in packs {
        let name = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        let wrong = match name.map(|name| Pack::open(&path, name)) {
            None => vec!["is not named like a pack".to_owned()],
            Some(Err(error)) => vec![format!("cannot be read: {}", error.source)],
            Some(Ok(Err(damage))) => vec![damage.to_string()],
            Some(Ok(Ok(pack))) => pack.check().iter().map(ToString::to_string).collect(),
        };
        problems.extend(wrong.into_iter().map(|what| Problem { path: path.clone(), what }));
    }
    for path in files_in(&layout.large, &mut problems) {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<Digest>().ok());
        let hashed = File::open(&path).and_then(|file| large::hash_file(&file, file.metadata()?.len()));
        let what = match (name, hashed) {
            (None, _) => "is not named like a content".to_owned(),
            (_, Err(error)) => format!("cannot be read: {error}"),
            (Some(name), Ok(hashed)) if name != hashed => Damage::Content(name).to_string(),
            _ => continue,
        };
        problems.push(Problem { path, what });
    }
    problems
}

fn files_in(dir: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let read = std::fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>());
    match read {
        Ok(mut paths) => {
            paths.sort_unstable();
            paths
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            problems.push(Problem { path: dir.to_path_buf(), what: format!("cannot be read: {error}") });
            Vec::new()
        }
    }
}
