//! Checking the directories of a plan: each is there, is the one that was seen, and may be written to.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{Access, AtFlags, accessat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::sys::fixed::{Fixed, lstat_fixed};
use crate::sys::held::Held;
use crate::sys::walk::{self, Stat};

use super::attributes::adjustable;
use super::error::{Trouble, unreachable};
use super::finish::Directory;
use super::hands::Hands;
use super::passage::Passage;

/// The sticky bit: in such a directory only owners rename.
const STICKY: u32 = 0o1000;

/// Checks one directory, those above it first.
pub(super) fn check(directory: &Directory<'_>, hands: &mut Hands<'_>, passage: &mut Passage) -> Result<(), Trouble> {
    let who = hands.facts.who;
    let handle = hands.live.at(directory.path).map_err(unreachable)?;
    let (stat, fixed) = lstat_fixed(handle, b"").map_err(Trouble::at("cannot look at"))?;
    if fixed == Fixed::Yes {
        return Err(Trouble::Io("cannot change what is immutable or append-only:", Errno::PERM.into()));
    }
    if let Some((before, _)) = directory.adjustment {
        adjustable(&Held::directory(handle).map_err(Trouble::at("cannot look at"))?, before, who)?;
    }
    if directory.parent.is_some() {
        writable(handle, &stat)?;
    }
    passage.open(directory.path, handle).map_err(Trouble::at("cannot lift the mode of"))
}

fn writable(handle: BorrowedFd<'_>, stat: &Stat) -> Result<(), Trouble> {
    match accessat(handle, c".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) => Ok(()),
        // Its mode will be lifted.
        Err(Errno::ACCESS) if is_own(stat) => Ok(()),
        Err(errno) => Err(Trouble::Io("cannot write in", errno.into())),
    }
}

/// Whether a directory lets only owners rename in it, and is somebody else's.
pub(super) fn is_sticky_of_others(dir: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = walk::stat_of(dir)?;
    Ok(stat.permissions() & STICKY != 0 && !is_own(&stat))
}

/// Whether a stat is of one's own.
fn is_own(stat: &Stat) -> bool {
    stat.uid == geteuid().as_raw()
}
