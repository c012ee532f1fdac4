//! Protected paths: whether what was staged changes something that the next command of a person would trust.

use std::io;

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::model::change::{ChangedPath, Side};
use crate::model::error_kind::{ErrorKind, Failure};
use crate::model::{EntryKind, Text};
use crate::rules::git_config::changed_key;
use crate::rules::protected::{Protection, protection};
use crate::run::ended::Life;
use crate::store::snapshot::{BaseEntry, SnapshotStore};
use crate::sys::walk;

use super::{Origin, ROOT_NAME, UPPER};

/// The largest git configuration file that is read; a larger one is refused.
const CONFIG_BYTES: u64 = 1024 * 1024;

/// The first staged change that is not allowed, as the reason to reject the result.
pub fn objection(life: &Life, origin: &Origin, paths: &[ChangedPath]) -> Option<Failure> {
    let own = globs(&life.spec.gate.protect);
    let allowed = globs(&life.spec.gate.allow);
    paths.iter().find_map(|changed| {
        let path = changed.path.as_path();
        if allowed.is_match(path) || allowed.is_match(path.file_name().unwrap_or_default()) {
            return None;
        }
        if own.is_match(path) {
            return Some(refuse(&changed.path, "matches --protect"));
        }
        match protection(&changed.path.0)? {
            Protection::Whole if is_new_directory(changed) || is_copy_of_top(origin, changed) => None,
            Protection::Whole => Some(refuse(&changed.path, "is protected")),
            Protection::GitConfig => config_objection(life, origin, changed),
        }
    })
}

/// An empty directory makes nobody run anything; what is put into it counts by itself.
fn is_new_directory(changed: &ChangedPath) -> bool {
    let is_directory = |side: &Option<Side>| side.is_none_or(|side| side.kind == EntryKind::Directory);
    is_directory(&changed.before) && is_directory(&changed.after)
}

/// A further work tree of the project comes and goes (`git worktree add`, `remove`) with what the project has: who trusts
/// the one trusts the other.
fn is_copy_of_top(origin: &Origin, changed: &ChangedPath) -> bool {
    let (side, name) = match (changed.before, changed.after, changed.path.as_path().file_name()) {
        (None, Some(side), Some(name)) | (Some(side), None, Some(name)) => (side, name),
        _ => return false,
    };
    let is_top = changed.path.as_path() == std::path::Path::new(name);
    let top = [ROOT_NAME.as_bytes(), b"/", name.as_encoded_bytes()].concat();
    let same = |entry: BaseEntry<'_>| entry.kind() == side.kind && Some(entry.digest()) == side.digest;
    !is_top && side.kind == EntryKind::File && origin.baseline.find(&top).is_some_and(same)
}

fn refuse(path: &Text, why: &str) -> Failure {
    let shown = path.to_string_lossy().escape_debug().to_string();
    Failure::new(ErrorKind::ProtectedPath, format!("the result changes {shown}, which {why}"))
        .with_hint(format!("if that is wanted: --allow {shown:?}"))
}

fn config_objection(life: &Life, origin: &Origin, changed: &ChangedPath) -> Option<Failure> {
    let before = old_content(life, origin, changed);
    let after = new_content(life, changed);
    match (before, after) {
        (Ok(before), Ok(after)) => {
            let key = changed_key(&before, &after)?;
            Some(refuse(&changed.path, &format!("makes git run or read something: {key}")))
        }
        (Err(_), _) | (_, Err(_)) => Some(refuse(&changed.path, "is protected and cannot be compared")),
    }
}

fn old_content(life: &Life, origin: &Origin, changed: &ChangedPath) -> io::Result<Vec<u8>> {
    let Some(before) = changed.before.filter(|side| side.kind == EntryKind::File) else { return Ok(Vec::new()) };
    match origin.baseline.find(&[ROOT_NAME.as_bytes(), b"/", &changed.path.0].concat()) {
        Some(entry) => {
            let store = SnapshotStore::at(life.state.path());
            let manifest = store.load(&origin.baseline.snapshot()).map_err(io::Error::other)?;
            let entry = manifest.entries().get(entry.index() as usize).ok_or(io::ErrorKind::NotFound)?;
            store.read_content(&manifest, entry).map_err(io::Error::other)
        }
        None => read_small(&origin.policy.path.as_path().join(changed.path.as_path()), before.size),
    }
}

fn new_content(life: &Life, changed: &ChangedPath) -> io::Result<Vec<u8>> {
    match changed.after {
        None => Ok(Vec::new()),
        Some(side) if side.kind == EntryKind::File => {
            read_small(&life.dir.join(UPPER).join(changed.path.as_path()), side.size)
        }
        Some(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Reads a regular file whose directories may be anybody's: never through a link.
fn read_small(path: &std::path::Path, size: u64) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::ffi::OsStrExt as _;
    if size > CONFIG_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let root = walk::open_dir_itself(b"/")?;
    let parent = parent.as_os_str().as_bytes();
    let dir = walk::open_dir_below(root.as_fd(), parent.strip_prefix(b"/").unwrap_or(parent))?;
    let file = walk::open_file_as(walk::Access::Own, dir.as_fd(), name.as_bytes())?;
    if walk::stat_of(&file)?.kind() != walk::ObjectKind::File {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut content = Vec::new();
    std::fs::File::from(file).take(CONFIG_BYTES + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// Globs were checked when the arguments were resolved; one that does not compile matches nothing.
fn globs(patterns: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        if let Ok(glob) = Glob::new(pattern) {
            set.add(glob);
        }
    }
    set.build().unwrap_or_else(|_| GlobSet::empty())
}
