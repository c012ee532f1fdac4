//! The files that ignore rules are read from, each noted as it is read.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::CWD;

use super::git_config::settings;
use super::policy::{IgnorePolicy, UserGit};
use super::watched::{Watched, WatchedState};
use crate::rules::ignore_pattern::IgnorePatterns;
use crate::sys::walk::{self, ObjectKind, Stat, stat_of};

/// Larger files of patterns and settings are passed over.
const LONGEST_BYTES: u64 = 16 << 20;
/// An index of ten million entries has about this size.
pub(super) const LONGEST_INDEX_BYTES: u64 = 1 << 30;
/// Files that include each other end somewhere (git's own limit).
const INCLUDE_DEPTH: usize = 10;

/// What one walk reads rules from.
#[derive(Debug)]
pub(in crate::store) struct Sources {
    user: Option<UserGit>,
    /// `core.excludesFile` of the user's own configuration.
    user_excludes: OnceLock<Option<PathBuf>>,
    watched: Mutex<Vec<Watched>>,
    outer_git_dirs: Mutex<BTreeSet<GitDirs>>,
}

/// The git directory of a work tree that is not within it, and the directory that holds what it shares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct GitDirs {
    pub(in crate::store) own: PathBuf,
    pub(in crate::store) common: PathBuf,
}

impl Sources {
    pub(in crate::store) fn new(policy: &IgnorePolicy) -> Self {
        let user = match policy {
            IgnorePolicy::Nothing => None,
            IgnorePolicy::Git(user) => Some(user.clone()),
        };
        Self { user, user_excludes: OnceLock::new(), watched: Mutex::default(), outer_git_dirs: Mutex::default() }
    }

    /// Whether anything is ignored at all.
    pub(in crate::store) fn is_used(&self) -> bool {
        self.user.is_some()
    }

    /// What was read so far, and is not known to be in a captured tree; sorted, each path once.
    pub(in crate::store) fn watched(&self) -> Vec<Watched> {
        let mut watched = lock(&self.watched).clone();
        watched.sort_by(|one, other| one.path.cmp(&other.path));
        watched.dedup_by(|one, other| one.path == other.path);
        watched
    }

    /// Git directories outside the work trees that were entered.
    pub(in crate::store) fn outer_git_dirs(&self) -> Vec<GitDirs> {
        lock(&self.outer_git_dirs).iter().cloned().collect()
    }

    pub(super) fn note_git_dirs(&self, dirs: GitDirs) {
        lock(&self.outer_git_dirs).insert(dirs);
    }

    pub(in crate::store) fn watch(&self, path: PathBuf, state: WatchedState) {
        lock(&self.watched).push(Watched { path, state });
    }

    /// Notes a file that decided nothing, because it is not there or not to be read.
    pub(super) fn watch_unread(&self, path: &Path) {
        let stat = walk::stat_at(CWD, path.as_os_str().as_bytes());
        self.watch(path.to_path_buf(), stat.map_or(WatchedState::Absent, WatchedState::Is));
    }

    /// A file somewhere; none if it is not there, not a file or too long. Links are followed, as git does.
    pub(super) fn read(&self, path: &Path) -> Option<Vec<u8>> {
        self.read_up_to(path, LONGEST_BYTES)
    }

    pub(super) fn read_up_to(&self, path: &Path, longest: u64) -> Option<Vec<u8>> {
        let read = walk::open_file(path.as_os_str().as_bytes()).ok().and_then(|fd| read_open(fd.into(), longest));
        match &read {
            Some((_, stat)) => self.watch(path.to_path_buf(), WatchedState::Is(*stat)),
            None => self.watch_unread(path),
        }
        read.map(|(bytes, _)| bytes)
    }

    /// The patterns of a file in an open directory. It is not noted: it is captured, or its being left out is noted.
    pub(super) fn patterns_in(&self, dir: BorrowedFd<'_>, name: &[u8]) -> IgnorePatterns {
        let read = walk::open_file_at(dir, name).ok().and_then(|fd| read_open(fd.into(), LONGEST_BYTES));
        read.map_or_else(IgnorePatterns::default, |(bytes, _)| IgnorePatterns::parse(&bytes))
    }

    /// The patterns that hold in every work tree, or in one whose own configuration names them.
    pub(super) fn global_patterns(&self, top: &Path, own_config: &[PathBuf]) -> Arc<IgnorePatterns> {
        let Some(user) = &self.user else { return Arc::default() };
        let own = own_config.iter().rev().find_map(|file| self.excludes_in(file, user, 0));
        let users = || {
            let find = || user.config_files.iter().rev().find_map(|file| self.excludes_in(file, user, 0));
            self.user_excludes.get_or_init(find).clone().or_else(|| user.default_excludes.clone())
        };
        let Some(file) = own.or_else(users) else { return Arc::default() };
        let patterns = self.read(&top.join(file));
        Arc::new(patterns.map_or_else(IgnorePatterns::default, |bytes| IgnorePatterns::parse(&bytes)))
    }

    /// The last `core.excludesFile` in a file and those it includes.
    fn excludes_in(&self, file: &Path, user: &UserGit, depth: usize) -> Option<PathBuf> {
        let content = self.read(file)?;
        let mut found = None;
        for setting in settings(&content) {
            match setting.name.as_str() {
                "core.excludesfile" => found = Some(expanded(setting.value, user)),
                "include.path" if depth < INCLUDE_DEPTH => {
                    let included = file.parent().unwrap_or(file).join(expanded(setting.value, user));
                    found = self.excludes_in(&included, user, depth + 1).or(found);
                }
                _ => {}
            }
        }
        found
    }
}

/// `~/` at the start is the user's home.
fn expanded(value: Vec<u8>, user: &UserGit) -> PathBuf {
    match (value.strip_prefix(b"~/"), &user.home) {
        (Some(rest), Some(home)) => home.join(std::ffi::OsStr::from_bytes(rest)),
        _ => std::ffi::OsString::from_vec(value).into(),
    }
}

fn read_open(mut file: File, longest: u64) -> Option<(Vec<u8>, Stat)> {
    let stat = stat_of(&file).ok()?;
    if stat.kind() != ObjectKind::File || stat.size > longest {
        return None;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stat.size).ok()? + 1);
    file.by_ref().take(longest).read_to_end(&mut bytes).ok()?;
    Some((bytes, stat))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
