//! Why a plan was not applied.

use std::io;

use rustix::io::Errno;

use crate::model::Text;

/// A plan was not applied. The tree is its old self again, unless the error says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Somebody else changed what the plan was about to change; their version stands.
    #[error("somebody else changed {}", listed(paths))]
    Conflict {
        /// Every such path, relative to the root.
        paths: Vec<Text>,
        /// Those among them where somebody changed the new version before it could be taken back: it stays, with
        /// their change, and what it had replaced stays where the plan put it aside.
        kept: Vec<Text>,
    },
    /// The plan itself cannot be carried out by anybody.
    #[error("the plan is not sound: {why}: {path:?}")]
    Unsound {
        /// What is wrong.
        why: &'static str,
        /// With which path.
        path: Text,
    },
    /// The kernel said no, or would say so.
    #[error("{step} {path:?}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: Text,
        /// The kernel's words.
        source: io::Error,
    },
    /// The staged object is gone, and what stands at its path is not it.
    #[error("what was staged for {path:?} is gone")]
    Gone {
        /// The path.
        path: Text,
    },
    /// The kernel said no, and no again when the tree was to be taken back: it is mixed, and completing the plan is
    /// the way out.
    #[error("{path:?} could not be taken back after an error; `agentguard recover` completes the commit")]
    Mixed {
        /// Where it went wrong.
        path: Text,
        /// The kernel's words.
        source: io::Error,
    },
}

/// The first paths of a list, for a message.
fn listed(paths: &[Text]) -> String {
    const SHOWN: usize = 3;
    let named: Vec<String> = paths.iter().take(SHOWN).map(|path| format!("{path:?}")).collect();
    match paths.len().saturating_sub(SHOWN) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// What went wrong with one operation; the path is added where it is known.
#[derive(Debug)]
pub(super) enum Trouble {
    /// What stands there is not what was seen.
    Conflict,
    /// The staged object is not where it should be.
    Gone,
    /// The kernel said no.
    Io(&'static str, io::Error),
}

impl Trouble {
    /// For `map_err`: the step that the kernel refused.
    pub(super) fn at(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io(step, source)
    }

    /// The error of an operation on this path.
    pub(super) fn of(self, path: &[u8]) -> ApplyError {
        let path = Text(path.to_vec());
        match self {
            Self::Conflict => ApplyError::Conflict { paths: vec![path], kept: Vec::new() },
            Self::Gone => ApplyError::Gone { path },
            Self::Io(step, source) => ApplyError::Io { step, path, source },
        }
    }
}

/// Whether an error of reaching a directory says that the tree is not the one that was seen: the directory is gone, is
/// no directory any more, became a link, or is another one (`ESTALE`, see [`super::directories`]).
pub(super) fn is_unreachable(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE))
}

/// For `map_err` on reaching a live directory.
pub(super) fn unreachable(error: io::Error) -> Trouble {
    if is_unreachable(&error) { Trouble::Conflict } else { Trouble::Io("cannot reach", error) }
}
