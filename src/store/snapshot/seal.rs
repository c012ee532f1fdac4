//! Sealing a tree: hashing it, with or without keeping what is small in it, and asking later whether it is still the
//! same.

use super::capture::sorted_roots;
use super::error::CaptureError;
use super::gather::{Gathered, RootLinks};
use super::layout::Layout;
use super::manifest::{Manifest, ManifestEntry};
use super::policy::{CapturePolicy, CaptureRoot, Durability, KeepLimit};
use super::read::{Budget, Sink};
use super::special::{OverlayMark, Special};
use super::storing::Storing;
use super::survey::Survey;
use super::table::StatTable;
use super::tree::Encoded;
use crate::model::event::SnapshotRef;
use crate::model::{Digest, Text};

/// Trees as they were when they were hashed.
#[derive(Debug)]
pub struct Sealed {
    /// SHA-256 of the listing of the roots: a run's `output_hash`.
    pub root_digest: Digest,
    /// All entries; their contents are nowhere but in the trees, unless they were kept.
    pub manifest: Manifest,
    /// Entries that are no directories.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Sockets and devices, which no listing holds, by listing path.
    pub specials: Vec<Special>,
    /// What objects mean in the upper layer of an overlay, by listing path; of one object there may be several.
    pub overlay: Vec<(Text, OverlayMark)>,
    /// Paths that would not hold still while they were read.
    pub unstable: Vec<Text>,
    table: StatTable,
}

/// Hashes the trees. A root that is a symbolic link is an entry like any other, not followed: what it points to
/// was not made by whoever made the link.
pub fn hash_roots(roots: &[CaptureRoot], policy: &CapturePolicy) -> Result<Sealed, CaptureError> {
    let roots = sorted_roots(roots)?;
    let gathered = walk(&roots, policy, None, Sink::Hash)?;
    let encoded = gathered.tree.encode_manifest(&[], None);
    sealed(gathered, encoded, None)
}

/// Hashes the trees and keeps small contents, with the manifest, in one pack. Nothing but showing them relies on it:
/// a pack that is lost or damaged later means that contents were not kept.
pub(super) fn seal_roots(
    layout: &Layout,
    roots: &[CaptureRoot],
    policy: &CapturePolicy,
    (keep, durability): (KeepLimit, Durability),
) -> Result<(Sealed, SnapshotRef), CaptureError> {
    let roots = sorted_roots(roots)?;
    let (storing, budget) = (Storing::keeping(layout, durability), Budget::new(keep));
    let gathered = walk(&roots, policy, None, Sink::Keep(&storing, &budget))?;
    let encoded = gathered.tree.encode_manifest(&[], None);
    let pack = storing.writer.publish(&encoded.bytes)?.name;
    let snapshot = SnapshotRef { manifest: encoded.digest, pack };
    Ok((sealed(gathered, encoded, Some(pack))?, snapshot))
}

fn sealed(gathered: Gathered, encoded: Encoded, pack: Option<Digest>) -> Result<Sealed, CaptureError> {
    let mut manifest = Manifest::from_bytes(&encoded.bytes).map_err(|_| too_many())?;
    if let Some(pack) = pack {
        manifest = manifest.kept_in(pack);
    }
    let header = gathered.header(&encoded);
    let (files, bytes) = (header.files, header.bytes);
    let table = gathered.tree.encode_table(Vec::new(), (header, &encoded.dirs), (&[], &[]), |location| location);
    let table = table.ok().and_then(StatTable::from_memory).ok_or_else(too_many)?;
    Ok(Sealed {
        root_digest: encoded.input_hash,
        manifest,
        files,
        bytes,
        specials: gathered.specials,
        overlay: gathered.overlay,
        unstable: gathered.unstable,
        table,
    })
}

/// The listing path of the first entry that is not what it was when it was sealed, came or went; none if all are
/// the same. Files whose stat is unchanged are not read, unless they were sealed in the tick of their last change.
pub fn still_equal(
    sealed: &Sealed,
    roots: &[CaptureRoot],
    policy: &CapturePolicy,
) -> Result<Option<Text>, CaptureError> {
    let roots = sorted_roots(roots)?;
    let gathered = match walk(&roots, policy, Some(&sealed.table), Sink::Hash) {
        Err(CaptureError::Unreadable { path, source }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Some(path));
        }
        other => other?,
    };
    if gathered.specials != sealed.specials {
        let differs = |found: &&Special| !sealed.specials.contains(found);
        let special = gathered.specials.iter().find(differs).or(sealed.specials.first());
        return Ok(special.map(|special| special.path.clone()));
    }
    let now = Manifest::from_bytes(&gathered.tree.encode_manifest(&[], None).bytes).map_err(|_| too_many())?;
    Ok(first_difference(&sealed.manifest, &now))
}

fn walk(
    roots: &[CaptureRoot],
    policy: &CapturePolicy,
    known: Option<&StatTable>,
    sink: Sink<'_>,
) -> Result<Gathered, CaptureError> {
    Survey { roots, root_links: RootLinks::Keep, policy, known, sink, progress: &|_| () }.take()
}

/// The formats number entries with 32 bits; nothing else about a gathered tree can fail to encode.
fn too_many() -> CaptureError {
    CaptureError::TooMany
}

/// The path of the first entry, in preorder, that one manifest has and the other has not or differently.
fn first_difference(one: &Manifest, other: &Manifest) -> Option<Text> {
    let (mut left, mut right) = (one.entries().iter(), other.entries().iter());
    let mut index = 0;
    loop {
        let path = match (left.next(), right.next()) {
            (None, None) => return None,
            (Some(a), Some(b)) if same(a, b) => {
                index += 1;
                continue;
            }
            (Some(a), Some(b)) => {
                let (a_path, b_path) = (one.path_of(index), other.path_of(index));
                // What is missing on one side is passed first by the other, except at the end of a directory.
                if a.parent == b.parent && b.name < a.name { b_path } else { a_path }
            }
            (Some(_), None) => one.path_of(index),
            (None, Some(_)) => other.path_of(index),
        };
        return Some(Text(path));
    }
}

/// Directories are compared by their entries, so that the path named is the innermost.
fn same(one: &ManifestEntry, other: &ManifestEntry) -> bool {
    let is_dir = one.kind == crate::model::EntryKind::Directory;
    let key = |entry: &ManifestEntry| (entry.parent, entry.kind, entry.mode, entry.uid, entry.gid);
    key(one) == key(other)
        && one.name == other.name
        && one.xattrs() == other.xattrs()
        && (is_dir || one.digest == other.digest && one.size == other.size)
}
