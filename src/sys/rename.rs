//! Atomic renames: exchange, and rename that never replaces.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, RenameFlags, renameat, renameat_with, statat};
use rustix::io::{Errno, retry_on_intr};

/// A name in an open directory.
pub type Spot<'a> = (BorrowedFd<'a>, &'a [u8]);

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
    exchange_at((CWD, left.as_os_str().as_bytes()), (CWD, right.as_os_str().as_bytes()))
}

/// [`exchange`] of names in open directories.
pub fn exchange_at(left: Spot<'_>, right: Spot<'_>) -> io::Result<Exchanged> {
    match retry_on_intr(|| renameat_with(left.0, left.1, right.0, right.1, RenameFlags::EXCHANGE)) {
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
    without_replacing_at((CWD, from.as_os_str().as_bytes()), (CWD, to.as_os_str().as_bytes()))
}

/// [`without_replacing`] of names in open directories.
pub fn without_replacing_at(from: Spot<'_>, to: Spot<'_>) -> io::Result<()> {
    match retry_on_intr(|| renameat_with(from.0, from.1, to.0, to.1, RenameFlags::NOREPLACE)) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            match statat(to.0, to.1, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(retry_on_intr(|| renameat(from.0, from.1, to.0, to.1))?)
        }
        other => Ok(other?),
    }
}
