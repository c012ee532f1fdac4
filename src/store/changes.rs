//! What publishing a sealed tree changes at its targets: one line per created, modified or deleted path.
//!
//! Compared by kind, mode and size first; contents are read only where those are equal.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

use crate::model::change::ChangeKind;
use crate::model::record::Changes;
use crate::model::{Digest, EntryKind, Text};
use crate::sys::identity;

use super::snapshot::{Manifest, ManifestEntry};

/// One path that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What happens to it.
    pub change: ChangeKind,
    /// By its name in the output listing.
    pub path: Text,
}

/// Compares a sealed tree with what stands at its targets (listing name, path). Directories count by their content
/// only: what is created, modified or deleted is files, links and fifos.
pub fn changes(new: &Manifest, targets: &[(Vec<u8>, PathBuf)]) -> io::Result<(Vec<Change>, Changes)> {
    let mut old = BTreeMap::new();
    for (name, path) in targets {
        list(name, path, &mut old)?;
    }
    let mut found = Vec::new();
    let mut totals = Changes::default();
    for (index, entry) in new.entries().iter().enumerate() {
        if entry.kind == EntryKind::Directory {
            continue;
        }
        if entry.kind == EntryKind::File {
            totals.bytes += entry.size;
        }
        let path = new.path_of(index);
        let kind = match old.remove(&path) {
            None => ChangeKind::Created,
            Some(there) if is_same(entry, &there)? => continue,
            Some(_) => ChangeKind::Modified,
        };
        found.push(Change { change: kind, path: Text(path) });
    }
    found.extend(old.into_keys().map(|path| Change { change: ChangeKind::Deleted, path: Text(path) }));
    found.sort_by(|left, right| left.path.cmp(&right.path));
    for change in &found {
        match change.change {
            ChangeKind::Created => totals.created += 1,
            ChangeKind::Modified => totals.modified += 1,
            ChangeKind::Deleted => totals.deleted += 1,
        }
    }
    Ok((found, totals))
}

/// Every path below a target that is no directory, by its listing name.
fn list(name: &[u8], target: &Path, found: &mut BTreeMap<Vec<u8>, PathBuf>) -> io::Result<()> {
    let Some(top) = identity::lstat(target)? else { return Ok(()) };
    if !identity::file_type(&top).is_dir() {
        found.insert(name.to_vec(), target.to_path_buf());
        return Ok(());
    }
    for entry in WalkDir::new(target).follow_root_links(false).min_depth(1) {
        let entry = entry?;
        if !entry.file_type().is_dir() {
            let below = entry.path().strip_prefix(target).unwrap_or(entry.path());
            let listed = [name, b"/", below.as_os_str().as_bytes()].concat();
            found.insert(listed, entry.into_path());
        }
    }
    Ok(())
}

fn is_same(entry: &ManifestEntry, path: &Path) -> io::Result<bool> {
    let Some(stat) = identity::lstat(path)? else { return Ok(false) };
    let kind = identity::file_type(&stat);
    let same_kind = match entry.kind {
        EntryKind::File => kind.is_file(),
        EntryKind::Symlink => kind.is_symlink(),
        EntryKind::Fifo => kind == rustix::fs::FileType::Fifo,
        EntryKind::Directory => kind.is_dir(),
    };
    if !same_kind || (entry.kind == EntryKind::File && stat.st_mode & 0o7777 != entry.mode) {
        return Ok(false);
    }
    match entry.kind {
        EntryKind::File if u64::try_from(stat.st_size) != Ok(entry.size) => Ok(false),
        // A target that cannot be read will be replaced whatever it holds.
        EntryKind::File => Ok(hash_file(path).is_ok_and(|digest| digest == entry.digest)),
        EntryKind::Symlink => {
            let link = std::fs::read_link(path)?;
            Ok(Digest(Sha256::digest(link.as_os_str().as_bytes()).into()) == entry.digest)
        }
        EntryKind::Fifo | EntryKind::Directory => Ok(true),
    }
}

fn hash_file(path: &Path) -> io::Result<Digest> {
    use std::io::Read as _;
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0_u8; 128 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(Digest(hash.finalize().into()));
        }
        hash.update(&buffer[..count]);
    }
}
