//! Files outside the captured trees that decide what is in them.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::CWD;

use crate::sys::walk::{Stat, stat_at};

/// What a capture saw of one such file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Watched {
    pub(in crate::store) path: PathBuf,
    pub(in crate::store) state: WatchedState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum WatchedState {
    /// Not there, or not readable: it decided nothing.
    Absent,
    /// Read as it was then.
    Is(Stat),
}

impl Watched {
    /// Whether the file is what it was.
    pub(in crate::store) fn is_unchanged(&self) -> bool {
        match (self.state, stat_at(CWD, self.path.as_os_str().as_bytes())) {
            (WatchedState::Absent, Err(_)) => true,
            (WatchedState::Is(known), Ok(now)) => now.same_as(&known),
            _ => false,
        }
    }
}
