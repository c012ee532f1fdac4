//! What a directory needs to be moved, and what a move does to it: its mode is lifted for the moment, and its time is
//! put back.
//!
//! A directory that leaves its parent must be writable itself (its `..` changes). And xfs gives a directory that is
//! exchanged a new mtime for that (`xfs_cross_rename`; ext4, btrfs and tmpfs do not, nor does xfs in a plain rename).

use std::io;

use crate::sys::held::Held;
use crate::sys::rename::Spot;
use crate::sys::walk::{ObjectKind, Stat};

use super::error::Trouble;
use super::hands::{Facts, Past, Privilege};
use super::seen::{Seen, look};

/// The owner's write permission.
const WRITE: u32 = 0o200;

/// A directory that is about to be moved, and what it gets back, wherever it is by then.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Carried(Option<Directory>);

#[derive(Debug)]
struct Directory {
    held: Held,
    was: Stat,
}

impl Carried {
    /// A mode that cannot be put back is from now on known as one that a killed process had lifted.
    pub(super) fn put_down(self, facts: &Facts<'_>) -> io::Result<()> {
        let Some(Directory { held, was }) = self.0 else { return Ok(()) };
        put_back(&held, &was).inspect_err(|_| facts.doubt())
    }
}

fn put_back(held: &Held, was: &Stat) -> io::Result<()> {
    let now = held.stat()?;
    if now.permissions() != was.permissions() {
        held.set_mode(was.permissions())?;
    }
    if now.mtime == was.mtime { Ok(()) } else { set_mtime(held, was.mtime) }
}

/// Best effort: only its owner can set a time.
pub(super) fn set_mtime(held: &Held, mtime: (i64, u32)) -> io::Result<()> {
    match held.set_mtime(mtime) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        set => set,
    }
}

impl Facts<'_> {
    /// Gets the live object ready to be moved. A conflict if its mode must be lifted and somebody has changed it.
    pub(super) fn carry_live(&self, spot: Spot<'_>, seen: &Seen) -> Result<Carried, Trouble> {
        // It was looked at a moment ago, or a crash ago.
        if seen.kind != ObjectKind::Directory && self.past() == Past::Fresh {
            return Ok(Carried::default());
        }
        let held = match Held::open(spot.0, spot.1) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Trouble::Conflict),
            held => held.map_err(LIFT)?,
        };
        let mut was = held.stat().map_err(LIFT)?;
        if seen.is_object(&was) && self.needs_lifting(seen) {
            let lifted = self.past() == Past::Interrupted && was.permissions() == seen.mode | WRITE;
            if was.permissions() != seen.mode && !lifted {
                return Err(Trouble::Conflict);
            }
            held.set_mode(seen.mode | WRITE).map_err(LIFT)?;
            was.mode = was.mode & !0o7777 | seen.mode;
        }
        // Somebody else's is met by the rename as it is.
        Ok(Carried((was.kind() == ObjectKind::Directory).then_some(Directory { held, was })))
    }

    /// Gets ready whatever is in the run's own directory.
    pub(super) fn carry_own(&self, spot: Spot<'_>) -> Result<Carried, Trouble> {
        let directory = |stat: &Stat| stat.kind() == ObjectKind::Directory;
        let Some(was) = look(spot).map_err(LIFT)?.filter(directory) else { return Ok(Carried::default()) };
        let held = Held::open(spot.0, spot.1).map_err(LIFT)?;
        if self.who == Privilege::Ordinary && was.permissions() & WRITE == 0 {
            held.set_mode(was.permissions() | WRITE).map_err(LIFT)?;
        }
        Ok(Carried(Some(Directory { held, was })))
    }

    /// Puts back what a killed process had lifted, or could not put back any more.
    pub(super) fn settle(&self, spot: Spot<'_>, seen: &Seen) -> io::Result<()> {
        if self.past() == Past::Fresh || seen.kind != ObjectKind::Directory {
            return Ok(());
        }
        let held = match Held::open(spot.0, spot.1) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            held => held?,
        };
        let stat = held.stat()?;
        if !seen.is_object(&stat) {
            return Ok(());
        }
        if self.needs_lifting(seen) && stat.permissions() == seen.mode | WRITE {
            held.set_mode(seen.mode)?;
        }
        // Somebody who has changed something in it has its time changed too.
        let moved = stat.mtime != seen.mtime && seen.below.is_some();
        if moved && self.is_deeply(spot, seen)? { set_mtime(&held, seen.mtime) } else { Ok(()) }
    }

    fn needs_lifting(&self, seen: &Seen) -> bool {
        self.who == Privilege::Ordinary && seen.kind == ObjectKind::Directory && seen.mode & WRITE == 0
    }
}

const LIFT: fn(io::Error) -> Trouble = |source| Trouble::Io("cannot lift the mode of", source);
