//! What of a git directory is taken: its small mutable state, never its objects.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::sys::walk::{Name, ObjectKind, lstat_at, stat_at};

/// Names of worktrees, below `worktrees/` of a git directory.
pub(in crate::store) type Worktrees = Arc<[Box<[u8]>]>;

/// Where in a git directory something is.
#[derive(Clone, Debug)]
pub(in crate::store) enum GitPlace {
    /// At its top, with the worktrees that are taken; none: all of them.
    Top(Option<Worktrees>),
    /// In `info`.
    Info,
    /// In `modules`, where names with slashes make directories that are no git directories yet.
    Modules,
    /// In `worktrees`.
    Worktrees(Option<Worktrees>),
    /// In a directory that is taken whole.
    Whole,
}

impl GitPlace {
    /// The place that a name of this place is, if it is taken.
    pub(super) fn below(&self, name: &[u8], kind: ObjectKind) -> Option<Self> {
        let is_dir = kind == ObjectKind::Directory;
        match self {
            Self::Whole => Some(Self::Whole),
            Self::Top(worktrees) if is_dir => match name {
                b"refs" | b"reftable" | b"rebase-merge" | b"rebase-apply" | b"sequencer" => Some(Self::Whole),
                b"info" => Some(Self::Info),
                // Those of a shared directory belong to another work tree.
                b"modules" if worktrees.is_none() => Some(Self::Modules),
                b"worktrees" => Some(Self::Worktrees(worktrees.clone())),
                _ => None,
            },
            Self::Top(_) => is_state(name).then_some(Self::Whole),
            Self::Info => matches!(name, b"exclude" | b"sparse-checkout" | b"attributes").then_some(Self::Whole),
            Self::Modules => is_dir.then_some(Self::Modules),
            Self::Worktrees(None) => is_dir.then_some(Self::Top(None)),
            Self::Worktrees(Some(taken)) => {
                (is_dir && taken.iter().any(|taken| **taken == *name)).then_some(Self::Top(None))
            }
        }
    }
}

/// Whether an open directory with these names, sorted, is a git directory (gitrepository-layout(5)): has a `HEAD`, and
/// either objects of its own or the path of the directory that has them.
pub(in crate::store) fn is_git_dir(dir: BorrowedFd<'_>, names: &[Name]) -> bool {
    let holds = |name: &[u8]| names.binary_search_by(|known| (*known.bytes).cmp(name)).is_ok();
    let has_objects = stat_at(dir, b"objects").is_ok_and(|stat| stat.kind() == ObjectKind::Directory);
    let names_them = lstat_at(dir, b"commondir").is_ok_and(|stat| stat.kind() == ObjectKind::File);
    holds(b"HEAD") && (has_objects != names_them)
}

/// Whether a name at the top of a git directory is taken.
pub(in crate::store) fn is_taken_at_top(name: &[u8], kind: ObjectKind) -> bool {
    GitPlace::Top(None).below(name, kind).is_some()
}

/// Files at the top: `HEAD` and everything else in capitals (`MERGE_HEAD`, `BISECT_LOG`, …: what is in progress), and
/// a few more.
fn is_state(name: &[u8]) -> bool {
    let is_capital = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'_';
    matches!(
        name,
        b"index" | b"config" | b"config.worktree" | b"packed-refs" | b"shallow" | b"commondir" | b"gitdir" | b"locked"
    ) || name.iter().all(is_capital)
        || name.starts_with(b"sharedindex.")
}
