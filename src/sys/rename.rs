//! Atomic renames: exchange, and rename that never replaces.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::{Errno, retry_on_intr};

/// How an exchange came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchanged {
    /// The two names were swapped in one step.
    Swapped,
    /// The filesystem cannot exchange; nothing happened.
    Unsupported,
}

/// Swaps what two names mean, in one step: every reader sees the one or the other (`renameat2(2)`,
/// `RENAME_EXCHANGE`).
pub fn exchange(left: &Path, right: &Path) -> io::Result<Exchanged> {
    match retry_on_intr(|| renameat_with(CWD, left, CWD, right, RenameFlags::EXCHANGE)) {
        Ok(()) => Ok(Exchanged::Swapped),
        // EINVAL is also what moving a directory into itself says; the callers never ask for that.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(Exchanged::Unsupported),
        Err(error) => Err(error.into()),
    }
}

/// Renames unless something is there (`RENAME_NOREPLACE`): `AlreadyExists` then. A filesystem without the flag gets a
/// check and a plain rename; between the two somebody else's file could be replaced, but only a file or an empty
/// directory, and the commit's own check has just passed.
pub fn without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    match retry_on_intr(|| renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            if super::identity::lstat(to)?.is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(from, to)
        }
        other => Ok(other?),
    }
}
