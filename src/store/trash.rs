//! Displaced trees: what a publish has replaced. They outlive their readers by a grace period, and their removal is
//! never waited for.
//!
//! An entry of `trash/` is either the displaced object itself, or a file `<name>.elsewhere` that holds the path of
//! one that had to stay on another filesystem.

use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::sys::{identity, remove};

use super::run_dir::{KEPT, RunDir, write_private};
use super::state_dir::StateDir;

/// How long a displaced tree stays: a reader that has opened the directory may read on for that long.
pub const GRACE: Duration = Duration::from_secs(10);

const ELSEWHERE: &str = "elsewhere";
const DROPPED: &str = "dropped";

/// Which displaced trees to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// Those whose grace is over.
    Aged,
    /// All of them.
    All,
}

/// A name for what one operation of a run displaces.
pub fn slot(state: &StateDir, run: crate::model::RunId, operation: usize) -> PathBuf {
    state.trash().join(format!("{run}-{operation}"))
}

/// A name for the whole directory of a run: nobody reads it, so it has no grace.
pub fn run_slot(state: &StateDir, run: crate::model::RunId) -> PathBuf {
    state.trash().join(format!("{run}-run.{DROPPED}"))
}

/// Remembers a displaced tree that stays on another filesystem; written before the tree is displaced.
pub fn remember_elsewhere(slot: &Path, displaced: &Path) -> io::Result<()> {
    let note = slot.with_extension(ELSEWHERE);
    write_private(&note, displaced.as_os_str().as_bytes())
}

/// Moves what a run staged, displaced or copied into the trash: nobody reads it, so it has no grace, and its removal is
/// not waited for. What cannot be moved is removed at once.
pub fn drop_run(state: &StateDir, dir: &RunDir) {
    for name in KEPT {
        let path = dir.join(name);
        if path.symlink_metadata().is_err() {
            continue;
        }
        // A small one is gone at once.
        if is_small(&path) && remove::remove_tree(&path).is_ok() {
            continue;
        }
        let slot = state.trash().join(format!("{}-{name}.{DROPPED}", dir.run_id()));
        if move_aside(&path, &slot).is_err() {
            // What is left is swept with the run's directory by `gc`.
            let _ = remove::remove_tree(&path);
        }
    }
}

/// Trees with more entries are not removed while somebody waits.
const SMALL_ENTRIES: usize = 64;

fn is_small(path: &Path) -> bool {
    let entries = walkdir::WalkDir::new(path).follow_root_links(false).into_iter();
    entries.take(SMALL_ENTRIES + 1).count() <= SMALL_ENTRIES
}

/// A directory that its owner may not write to cannot be moved to another one (its `..` changes).
fn move_aside(path: &Path, slot: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    match std::fs::rename(path, slot) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
            std::fs::rename(path, slot)
        }
        moved => moved,
    }
}

/// Whether anything is in the trash.
pub fn is_waiting(state: &StateDir) -> bool {
    std::fs::read_dir(state.trash()).is_ok_and(|mut entries| entries.next().is_some())
}

/// Removes displaced trees, oldest first, until `budget` is spent. An error leaves the tree for the next sweep.
///
/// Age is the change time of the entry, which the rename that displaced it has set.
pub fn sweep(state: &StateDir, which: Sweep, budget: Duration) {
    let begun = Instant::now();
    let Ok(entries) = std::fs::read_dir(state.trash()) else { return };
    let mut waiting: Vec<(i64, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| Some((identity::lstat(&entry.path()).ok()??.st_ctime, entry.path())))
        .collect();
    waiting.sort();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let youngest = i64::try_from(now.saturating_sub(GRACE.as_secs())).unwrap_or(i64::MAX);
    for (changed, path) in waiting {
        if begun.elapsed() >= budget {
            return;
        }
        let is_dropped = path.extension().is_some_and(|extension| extension == DROPPED);
        if which == Sweep::Aged && changed >= youngest && !is_dropped {
            continue;
        }
        // An error is not reported: nothing but disk space depends on it, and the next sweep tries again.
        let _ = remove_entry(&path);
    }
}

fn remove_entry(path: &Path) -> io::Result<()> {
    if path.extension().is_some_and(|extension| extension == ELSEWHERE) && path.is_file() {
        let elsewhere = PathBuf::from(std::ffi::OsString::from_vec(std::fs::read(path)?));
        remove::remove_tree(&elsewhere)?;
        // The hidden directory that it lay in, once nothing else does: a live commit may still use it.
        if let Some(hidden) = elsewhere.parent() {
            let _ = std::fs::remove_dir(hidden);
        }
    }
    remove::remove_tree(path)
}
