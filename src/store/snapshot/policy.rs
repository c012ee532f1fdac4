//! What a capture takes, what it leaves out, and how far it goes.

use std::path::PathBuf;

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::model::Text;
use crate::store::ignore::IgnorePolicy;
use crate::sys::walk::Access;

/// One tree, file or link to capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureRoot {
    /// Its name in the root listing: the path relative to the project, absolute if outside.
    pub name: Text,
    /// Where it is. A symbolic link here, but not below, is followed.
    pub path: PathBuf,
}

/// Patterns of what is left out, matched against the listing path and against the file name alone. What is below
/// an excluded directory is excluded.
#[derive(Clone, Debug, Default)]
pub struct Exclude {
    set: GlobSet,
    patterns: Vec<String>,
}

impl Exclude {
    /// Compiles the patterns.
    pub fn new(patterns: &[String]) -> Result<Self, globset::Error> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            set.add(Glob::new(pattern)?);
        }
        Ok(Self { set: set.build()?, patterns: patterns.to_vec() })
    }

    /// The patterns as they were given.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    pub(super) fn matches(&self, path: &[u8], name: &[u8]) -> bool {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;
        self.set.is_match(OsStr::from_bytes(path)) || self.set.is_match(OsStr::from_bytes(name))
    }
}

/// How to capture.
#[derive(Clone, Debug)]
pub struct CapturePolicy {
    /// What is left out.
    pub exclude: Exclude,
    /// What is left out because ignore files say so.
    pub ignore: IgnorePolicy,
    /// Single paths that are left out, with all that is below them: the root's name and the path below it.
    pub without: Vec<Text>,
    /// Directories that are never entered, whatever they are called: the state directory.
    pub skip: Vec<PathBuf>,
    /// Most bytes of new content to read.
    pub limit_bytes: u64,
    /// Whether what is closed to its owner is opened all the same: only for trees of one's own making.
    pub access: Access,
}

impl Default for CapturePolicy {
    fn default() -> Self {
        Self {
            exclude: Exclude::default(),
            ignore: IgnorePolicy::Nothing,
            without: Vec::new(),
            skip: Vec::new(),
            limit_bytes: 4 << 30,
            access: Access::AsIs,
        }
    }
}

impl CapturePolicy {
    /// Whether a path is left out whatever it is.
    pub(super) fn leaves_out(&self, path: impl FnOnce() -> Text, name: &[u8]) -> bool {
        if self.exclude.is_empty() && self.without.is_empty() {
            return false;
        }
        let path = path();
        self.without.contains(&path) || self.exclude.matches(&path.0, name)
    }
}

/// Which contents a seal keeps, so that they can be shown later: of files up to a size, and in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepLimit {
    /// Most bytes of one file; files of 4 MiB and more are never kept.
    pub per_file: u64,
    /// Most bytes of all of them; which ones are kept where there are more is not determined.
    pub total: u64,
}

/// When what was written survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On return.
    Synced,
    /// Once the caller has synced the filesystem. A power cut before that may leave contents that are not what their
    /// names say, which their hashes show.
    Deferred,
}

/// How far a capture is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureProgress {
    /// Files, links and fifos seen.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
}
