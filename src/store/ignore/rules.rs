//! What holds in one directory of a walk.

use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::git_dir::{GitPlace, Worktrees, is_git_dir};
use super::git_index::Tracked;
use super::repository::{Repository, git_dirs_of};
use super::sources::Sources;
use super::watched::WatchedState;
use crate::rules::ignore_pattern::{IgnorePatterns, Match};
use crate::sys::walk::{Name, ObjectKind, Stat};

/// Ignore files, weakest first.
const IGNORE_FILES: [(&[u8], Says); 3] =
    [(b".gitignore", Says::Git), (b".ignore", Says::Agentguard), (b".agentguardignore", Says::Agentguard)];

/// On whose behalf a file of patterns speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// Git's: only within its work tree, and not about what is tracked.
    Git,
    /// That of whoever walks.
    Agentguard,
}

/// The rules of one directory, before it has been entered or after.
#[derive(Clone, Debug)]
pub(in crate::store) enum Rules {
    /// Nothing is left out.
    Everything,
    /// What ignore files say.
    Tree(TreeRules),
    /// What is no small state of a git directory is left out.
    Git(GitPlace),
}

/// Rules of a directory whose ignore files have been read.
#[derive(Clone, Debug)]
pub(in crate::store) struct Entered(Rules);

/// What becomes of a name.
#[derive(Debug)]
pub(in crate::store) enum Verdict {
    /// It is taken; if it is a directory, under these rules.
    Taken(Rules),
    /// It is not, nor is anything below it.
    LeftOut,
}

#[derive(Clone, Debug)]
pub(in crate::store) struct TreeRules {
    level: Option<Arc<Level>>,
    repository: Option<Arc<Repository>>,
    /// Path of the root, with a slash at the end, below the top of the work tree it stands in.
    prefix: Arc<[u8]>,
    below_ignored: Ignored,
}

/// Whether a directory above is ignored and was entered for something in it that is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ignored {
    No,
    Untracked,
}

/// The ignore files of one directory, and the directories above.
#[derive(Debug)]
struct Level {
    /// Length of the directory's path with a slash at the end.
    base: usize,
    /// Strongest first.
    files: Vec<(Says, IgnorePatterns)>,
    above: Option<Arc<Level>>,
}

/// A directory of a walk: the path of its root, and its own below.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Whereabouts<'a> {
    pub(in crate::store) root: &'a Path,
    pub(in crate::store) below: &'a [u8],
}

impl Whereabouts<'_> {
    fn path(&self) -> PathBuf {
        self.root.join(std::ffi::OsStr::from_bytes(self.below))
    }
}

impl Rules {
    /// The rules that hold at a root: those of the directories above it, up to the top of its git work tree. A root
    /// that is itself ignored was named all the same: what ignores it does not count.
    pub(in crate::store) fn of_root(sources: &Sources, root: &Path) -> Self {
        if !sources.is_used() {
            return Self::Everything;
        }
        let mut rules = TreeRules { level: None, repository: None, prefix: Arc::default(), below_ignored: Ignored::No };
        if let Some((top, repository)) = repository_above(sources, root) {
            let below = root.strip_prefix(&top).unwrap_or(Path::new(""));
            rules.prefix = [below.as_os_str().as_bytes(), b"/"].concat().into();
            rules.repository = Some(Arc::new(repository));
            for dir in below.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
                let base = if dir.as_os_str().is_empty() { 0 } else { dir.as_os_str().len() + 1 };
                let files = IGNORE_FILES.iter().rev().filter_map(|(name, says)| {
                    let content = sources.read(&top.join(dir).join(std::ffi::OsStr::from_bytes(name)))?;
                    Some((*says, IgnorePatterns::parse(&content)))
                });
                rules.push_level(base, files.collect());
            }
        }
        Self::Tree(rules)
    }

    /// The rules of a git directory that is a root itself.
    pub(in crate::store) fn of_git_dir(worktrees: Option<Worktrees>) -> Self {
        Self::Git(GitPlace::Top(worktrees))
    }

    /// Reads the ignore files of an open directory with these names, sorted.
    pub(in crate::store) fn enter(
        &self,
        sources: &Sources,
        dir: BorrowedFd<'_>,
        at: Whereabouts<'_>,
        names: &[Name],
    ) -> Entered {
        let holds = |name: &[u8]| names.binary_search_by(|known| (*known.bytes).cmp(name)).is_ok();
        Entered(match self {
            Self::Everything => Self::Everything,
            Self::Git(GitPlace::Modules) if holds(b"HEAD") && holds(b"objects") => Self::Git(GitPlace::Top(None)),
            Self::Git(place) => Self::Git(place.clone()),
            Self::Tree(rules) if rules.below_ignored == Ignored::Untracked => Self::Tree(rules.clone()),
            Self::Tree(rules) => Self::Tree(rules.entered(sources, dir, at, &holds)),
        })
    }
}

/// The nearest work tree that a root stands in without being its top.
fn repository_above(sources: &Sources, root: &Path) -> Option<(PathBuf, Repository)> {
    use std::os::unix::fs::MetadataExt as _;
    let dev = root.metadata().ok()?.dev();
    if git_dirs_of(root).is_some() {
        return None;
    }
    for dir in root.ancestors().skip(1) {
        // Git does not look beyond a filesystem's border (git(1), GIT_DISCOVERY_ACROSS_FILESYSTEM).
        if dir.metadata().ok()?.dev() != dev {
            return None;
        }
        match Repository::open(sources, dir, 0) {
            Some(repository) => return Some((dir.to_path_buf(), repository)),
            None => sources.watch_unread(&dir.join(".git")),
        }
    }
    None
}

impl TreeRules {
    fn push_level(&mut self, base: usize, mut files: Vec<(Says, IgnorePatterns)>) {
        files.retain(|(_, patterns)| !patterns.is_empty());
        if !files.is_empty() {
            self.level = Some(Arc::new(Level { base, files, above: self.level.take() }));
        }
    }

    /// A path below the root in the coordinates of the patterns.
    fn path(&self, below: &[u8], name: &[u8]) -> Vec<u8> {
        let slash: &[u8] = if below.is_empty() { b"" } else { b"/" };
        [&*self.prefix, below, slash, name].concat()
    }

    fn entered(
        &self,
        sources: &Sources,
        dir: BorrowedFd<'_>,
        at: Whereabouts<'_>,
        holds: &dyn Fn(&[u8]) -> bool,
    ) -> Self {
        let mut rules = self.clone();
        let base = self.path(at.below, b"").len();
        if holds(b".git")
            && let Some(repository) = Repository::open(sources, &at.path(), base)
        {
            rules.repository = Some(Arc::new(repository));
            if let Some(dirs) = git_dirs_of(&at.path()).filter(|dirs| dirs.own != at.path().join(".git")) {
                sources.note_git_dirs(dirs);
            }
        }
        let counts = |says: Says| says == Says::Agentguard || rules.repository.is_some();
        let files = IGNORE_FILES
            .iter()
            .rev()
            .filter(|(name, says)| counts(*says) && holds(name))
            .map(|(name, says)| (*says, sources.patterns_in(dir, name)))
            .collect();
        rules.push_level(base, files);
        rules
    }

    /// The strongest match: of the innermost directory that has one.
    fn strongest_match(&self, path: &[u8], is_directory: bool) -> Option<(Match, Says)> {
        let top = self.repository.as_ref().map_or(usize::MAX, |repository| repository.base);
        let mut asked_repository = false;
        let mut level = self.level.as_deref();
        loop {
            let inner = level.filter(|level| asked_repository || self.repository.is_none() || level.base >= top);
            let Some(at) = inner else {
                let repository = self.repository.as_ref().filter(|_| !asked_repository)?;
                if let Some(found) = repository.outer_match(path, is_directory) {
                    return Some((found, Says::Git));
                }
                asked_repository = true;
                continue;
            };
            // Beyond the top of its work tree git's files say nothing.
            let counts = |says: Says| says == Says::Agentguard || !asked_repository;
            let found = at.files.iter().filter(|(says, _)| counts(*says)).find_map(|(says, patterns)| {
                patterns.of(path.get(at.base..)?, is_directory).map(|found| (found, *says))
            });
            if found.is_some() {
                return found;
            }
            level = at.above.as_deref();
        }
    }

    fn verdict(&self, sources: &Sources, below: &[u8], name: &[u8], kind: ObjectKind) -> Verdict {
        let is_directory = kind == ObjectKind::Directory;
        let path = self.path(below, name);
        let repository = self.repository.as_deref();
        // Git never lists it; what of it is small and changes is taken.
        if name == b".git" && repository.is_some() {
            let place = if is_directory { GitPlace::Top(None) } else { GitPlace::Whole };
            return Verdict::Taken(Rules::Git(place));
        }
        let says = match self.below_ignored {
            Ignored::Untracked => Some(Says::Git),
            Ignored::No => match self.strongest_match(&path, is_directory) {
                Some((Match::Ignored, says)) => Some(says),
                Some((Match::Kept, _)) | None => None,
            },
        };
        let tracked = match (says, repository) {
            (None, _) => return Verdict::Taken(Rules::Tree(self.clone())),
            (Some(Says::Git), Some(repository)) => repository.index(sources).tracks(&path[repository.base..]),
            (Some(_), _) => Tracked::No,
        };
        match tracked {
            Tracked::Itself if !is_directory => Verdict::Taken(Rules::Everything),
            Tracked::Submodule if is_directory => {
                Verdict::Taken(Rules::Tree(Self { below_ignored: Ignored::No, ..self.clone() }))
            }
            Tracked::Below if is_directory => {
                Verdict::Taken(Rules::Tree(Self { below_ignored: Ignored::Untracked, ..self.clone() }))
            }
            _ => Verdict::LeftOut,
        }
    }
}

impl Entered {
    /// What becomes of a name in the directory at `at`.
    pub(in crate::store) fn verdict(
        &self,
        sources: &Sources,
        at: Whereabouts<'_>,
        name: &[u8],
        stat: &Stat,
    ) -> Verdict {
        match &self.0 {
            Rules::Everything => Verdict::Taken(Rules::Everything),
            Rules::Git(place) => {
                place.below(name, stat.kind()).map_or(Verdict::LeftOut, |place| Verdict::Taken(Rules::Git(place)))
            }
            Rules::Tree(rules) => rules.verdict(sources, at.below, name, stat.kind()),
        }
    }

    /// Whether an open directory with these names, sorted, is the whole of a git directory: which of its names are taken
    /// is then known from the names alone.
    pub(in crate::store) fn is_git_dir(&self, dir: BorrowedFd<'_>, names: &[Name]) -> bool {
        matches!(self.0, Rules::Git(GitPlace::Top(None))) && is_git_dir(dir, names)
    }

    /// Notes that a name is left out: an ignore file whose change no captured entry would show.
    pub(in crate::store) fn note_left_out(&self, sources: &Sources, at: Whereabouts<'_>, name: &[u8], stat: &Stat) {
        if matches!(self.0, Rules::Tree(_)) && IGNORE_FILES.iter().any(|(known, _)| *known == name) {
            sources.watch(at.path().join(std::ffi::OsStr::from_bytes(name)), WatchedState::Is(*stat));
        }
    }
}
