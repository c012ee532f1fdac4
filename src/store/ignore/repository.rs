//! One git work tree: where its git directory is, what is excluded in all of it, and what is tracked.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::git_config::settings;
use super::git_index::Index;
use super::sources::{GitDirs, LONGEST_INDEX_BYTES, Sources};
use crate::rules::ignore_pattern::{IgnorePatterns, Match};

/// Bytes of an object's name under SHA-1, and under SHA-256.
const HASH_BYTES: [usize; 2] = [20, 32];

#[derive(Debug)]
pub(super) struct Repository {
    /// Length of the top's path, with a slash at the end, in the coordinates of the walk.
    pub(super) base: usize,
    git_dir: PathBuf,
    hash_bytes: usize,
    /// `info/exclude`.
    exclude: IgnorePatterns,
    global: Arc<IgnorePatterns>,
    index: OnceLock<Index>,
}

impl Repository {
    /// The work tree whose top is `dir`, if it is one: has a `.git` that git would take for a git directory, or a file
    /// or link that leads to one.
    pub(super) fn open(sources: &Sources, dir: &Path, base: usize) -> Option<Self> {
        let GitDirs { own, common } = git_dirs_of(dir)?;
        let config_files = [common.join("config"), own.join("config.worktree")];
        let config = sources.read(&config_files[0]).unwrap_or_default();
        let is_sha256 = settings(&config)
            .iter()
            .any(|set| set.name == "extensions.objectformat" && set.value.eq_ignore_ascii_case(b"sha256"));
        let exclude = sources.read(&common.join("info/exclude")).unwrap_or_default();
        Some(Self {
            base,
            hash_bytes: HASH_BYTES[usize::from(is_sha256)],
            exclude: IgnorePatterns::parse(&exclude),
            global: sources.global_patterns(dir, &config_files),
            git_dir: own,
            index: OnceLock::new(),
        })
    }

    /// What holds where no ignore file in the work tree says anything.
    pub(super) fn outer_match(&self, path: &[u8], is_directory: bool) -> Option<Match> {
        let path = path.get(self.base..)?;
        self.exclude.of(path, is_directory).or_else(|| self.global.of(path, is_directory))
    }

    /// What is tracked; read when it is first asked for, that is, when a rule would ignore something.
    pub(super) fn index(&self, sources: &Sources) -> &Index {
        self.index.get_or_init(|| {
            let read = |path: &Path| sources.read_up_to(path, LONGEST_INDEX_BYTES);
            Index::read(&self.git_dir.join("index"), self.hash_bytes, &read)
        })
    }
}

/// The git directory of the work tree at `dir`, and the one it shares with other work trees.
pub(super) fn git_dirs_of(dir: &Path) -> Option<GitDirs> {
    let dot_git = dir.join(".git");
    let kind = dot_git.symlink_metadata().ok()?.file_type();
    let own = if kind.is_dir() {
        dot_git
    } else if kind.is_symlink() {
        dot_git.canonicalize().ok()?
    } else {
        dir.join(line_of(&dot_git)?.strip_prefix("gitdir: ")?).canonicalize().ok()?
    };
    let common = match line_of(&own.join("commondir")) {
        Some(common) => own.join(common).canonicalize().ok()?,
        None => own.clone(),
    };
    // What git asks of a git directory (gitrepository-layout(5)).
    let is_one = own.join("HEAD").symlink_metadata().is_ok() && common.join("objects").is_dir();
    is_one.then_some(GitDirs { own, common })
}

/// The first line of a short file.
fn line_of(path: &Path) -> Option<String> {
    let metadata = path.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > 64 * 1024 {
        return None;
    }
    Some(std::fs::read_to_string(path).ok()?.trim_end_matches('\n').to_owned())
}
