//! Where contents come from. Whatever the place, nothing is shown that does not have the hash the run recorded.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::rows::{Row, has_content};
use super::subject::Subject;
use crate::model::change::Side;
use crate::model::{Digest, EntryKind, RelPath};
use crate::store::run_dir::RunDir;
use crate::store::snapshot::{Contents, Manifest, SnapshotStore};
use crate::sys::walk::{self, ObjectKind};

/// The root of a workspace's snapshot, and of what is kept of its result.
const WORKSPACE: &[u8] = b"workspace";
/// What an agent staged, in the run's directory.
const UPPER: &str = "upper";
/// Larger contents are not compared.
const LARGEST_BYTES: u64 = 16 << 20;

/// Where the content that a commit found at a path, and that no snapshot holds, was put aside; none where it was not.
pub type PreimageOf<'a> = dyn Fn(&RunDir, &RelPath) -> Option<PathBuf> + 'a;

/// One side's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// All of it; nothing, where the side has none.
    Bytes(Vec<u8>),
    /// More than is compared.
    TooLarge,
    /// No place has it any more.
    NotKept,
}

/// The places of one run's contents.
pub(super) struct Sources<'a> {
    subject: &'a Subject,
    before: Option<Tree<'a>>,
    after: Option<Tree<'a>>,
    preimage: &'a PreimageOf<'a>,
}

impl<'a> Sources<'a> {
    /// The places where the contents of these rows may be.
    pub(super) fn of(
        subject: &'a Subject,
        store: &'a SnapshotStore,
        rows: &[Row<'a>],
        preimage: &'a PreimageOf<'a>,
    ) -> Self {
        let tree = |manifest: &'a Option<Manifest>| manifest.as_ref().map(|manifest| Tree::of(store, manifest, rows));
        Self { subject, before: tree(&subject.before), after: tree(&subject.after), preimage }
    }

    /// What stood at the row's path.
    pub(super) fn old(&self, row: &Row<'_>) -> Content {
        content(row.before, |side| {
            let kept = self.before.as_ref().and_then(|tree| tree.read(row.path, side));
            kept.or_else(|| self.put_aside(row.path, side)).or_else(|| self.live(row.path, side))
        })
    }

    /// What the run made of it.
    pub(super) fn new_side(&self, row: &Row<'_>) -> Content {
        content(row.after, |side| {
            let kept = self.after.as_ref().and_then(|tree| tree.read(row.path, side));
            kept.or_else(|| read_below(&self.subject.dir.join(UPPER), row.path, side))
                .or_else(|| self.live(row.path, side))
        })
    }

    fn put_aside(&self, path: &[u8], side: &Side) -> Option<Vec<u8>> {
        let path = (self.preimage)(&self.subject.dir, &RelPath::new(path.to_vec()).ok()?)?;
        let content = read_itself(&path, side)?;
        // Nobody but the commit writes there: where nothing was hashed, its word is all there is.
        (side.digest.is_none() || is_what_it_was(&content, side)).then_some(content)
    }

    fn live(&self, path: &[u8], side: &Side) -> Option<Vec<u8>> {
        self.subject.places.iter().find_map(|(name, place)| {
            let rest = match &name.0[..] {
                b"" => path,
                name => match path.strip_prefix(name)? {
                    b"" => return read_itself(place, side).filter(|content| is_what_it_was(content, side)),
                    rest => rest.strip_prefix(b"/")?,
                },
            };
            read_below(place, rest, side)
        })
    }
}

fn content(side: Option<Side>, find: impl FnOnce(&Side) -> Option<Vec<u8>>) -> Content {
    match side.filter(|side| has_content(*side)) {
        None => Content::Bytes(Vec::new()),
        Some(side) if side.size > LARGEST_BYTES => Content::TooLarge,
        Some(side) => find(&side).map_or(Content::NotKept, Content::Bytes),
    }
}

/// A tree of the store.
struct Tree<'a> {
    manifest: &'a Manifest,
    contents: Contents<'a>,
    entries: HashMap<&'a [u8], usize>,
}

impl<'a> Tree<'a> {
    fn of(store: &'a SnapshotStore, manifest: &'a Manifest, rows: &[Row<'a>]) -> Self {
        Self { manifest, contents: store.contents(manifest), entries: entries_of(manifest, rows) }
    }

    fn read(&self, path: &[u8], side: &Side) -> Option<Vec<u8>> {
        let entry = &self.manifest.entries()[*self.entries.get(path)?];
        if entry.kind != side.kind {
            return None;
        }
        // What is damaged is not kept; `fsck` says what is damaged.
        self.contents.read(entry).ok().filter(|content| is_what_it_was(content, side))
    }
}

/// Where the rows' paths are in the manifest: one pass over it, however many rows there are.
fn entries_of<'a>(manifest: &Manifest, rows: &[Row<'a>]) -> HashMap<&'a [u8], usize> {
    let mut found = HashMap::new();
    let Some((root, top)) = manifest.roots().find(|(_, entry)| *entry.name == *WORKSPACE) else { return found };
    let wanted: HashMap<&[u8], &'a [u8]> = rows.iter().map(|row| (row.path, row.path)).collect();
    let mut path = Vec::new();
    // Directories that the next entry may be in: where they end, and the length of their path.
    let mut open: Vec<(usize, usize)> = Vec::new();
    for (index, entry) in manifest.entries().iter().enumerate().take(top.end as usize).skip(root + 1) {
        while open.pop_if(|(end, _)| *end <= index).is_some() {}
        path.truncate(open.last().map_or(0, |(_, length)| *length));
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&entry.name);
        if entry.kind == EntryKind::Directory {
            open.push((entry.end as usize, path.len()));
        }
        if let Some(row) = wanted.get(&path[..]) {
            found.insert(*row, index);
        }
    }
    found
}

/// The content at a path below a directory, if it is what it was; no link is followed on the way.
fn read_below(base: &Path, path: &[u8], side: &Side) -> Option<Vec<u8>> {
    let base = walk::open_dir(base.as_os_str().as_bytes()).ok()?;
    let (above, name) = split(path);
    let dir = walk::open_dir_below(base.as_fd(), above).ok()?;
    read_at(&dir, name, side).filter(|content| is_what_it_was(content, side))
}

/// The content at a path whose directory is trusted.
fn read_itself(path: &Path, side: &Side) -> Option<Vec<u8>> {
    let (above, name) = split(path.as_os_str().as_bytes());
    let dir = walk::open_dir(if above.is_empty() { b"/" } else { above }).ok()?;
    read_at(&dir, name, side)
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    memchr::memrchr(b'/', path).map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]))
}

/// Of the right kind and size; whatever else is there is not opened, or not read.
fn read_at(dir: &impl std::os::fd::AsFd, name: &[u8], side: &Side) -> Option<Vec<u8>> {
    match side.kind {
        EntryKind::Symlink => walk::link_target(dir.as_fd(), name).ok(),
        EntryKind::File => {
            let seen = walk::lstat_at(dir.as_fd(), name).ok()?;
            if seen.kind() != ObjectKind::File || seen.size != side.size {
                return None;
            }
            let file = File::from(walk::open_file_at(dir.as_fd(), name).ok()?);
            let opened = walk::stat_of(&file).ok()?;
            if opened.kind() != ObjectKind::File {
                return None;
            }
            let mut content = Vec::new();
            file.take(side.size + 1).read_to_end(&mut content).ok()?;
            (content.len() as u64 == side.size).then_some(content)
        }
        EntryKind::Directory | EntryKind::Fifo => None,
    }
}

fn is_what_it_was(content: &[u8], side: &Side) -> bool {
    side.digest == Some(Digest(Sha256::digest(content).into()))
}
