//! What an apply works with: the open directories, and what it knows about whom it acts for.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;

use crate::sys::held::Held;
use crate::sys::rename::Spot;
use crate::sys::walk::{self, ObjectKind, Stat};

use super::attributes::Attributes;
use super::directories::{Beneath, Places};
use super::error::{ApplyError, Trouble};
use super::plan::{Action, Plan};
use super::seen::{Seen, look};

/// Whether permission bits stand in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Privilege {
    /// They do not.
    Root,
    /// They do; those of one's own objects can be lifted for a moment.
    Ordinary,
}

/// Whether an earlier process may have done part of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// None of it was done.
    Fresh,
    /// Any part of it may have been, and people may have gone on working since.
    Interrupted,
}

/// What is known beside the plan.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) who: Privilege,
    pub(super) past: Past,
    /// Metadata that the plan itself changes, by inode: a displaced object may be another name of it.
    adjusted: HashMap<u64, (&'a Attributes, &'a Attributes)>,
}

/// Open directories, and what is known.
#[derive(Debug)]
pub(super) struct Hands<'a> {
    pub(super) live: Beneath<'a>,
    pub(super) places: Places,
    pub(super) facts: Facts<'a>,
}

impl<'a> Hands<'a> {
    /// Opens the root. It must be the one that the plan was made for.
    pub(super) fn open(plan: &'a Plan, past: Past) -> Result<Self, ApplyError> {
        let root = plan.open_root()?;
        if let Some(parent) = plan.parents.first().filter(|parent| parent.path.is_none()) {
            let stat = walk::stat_of(root.as_fd()).map_err(Trouble::at("cannot look at"));
            let stat = stat.map_err(|trouble| trouble.of(&plan.root.0))?;
            if stat.ino != parent.ino {
                return Err(Trouble::Conflict.of(&plan.root.0));
            }
        }
        let adjusted = plan.operations.iter().filter_map(|operation| match &operation.action {
            Action::Adjust { before, after } => Some((before.ino, (before, after))),
            _ => None,
        });
        let who = if rustix::process::geteuid().is_root() { Privilege::Root } else { Privilege::Ordinary };
        Ok(Self {
            live: Beneath::new(root, &plan.parents),
            places: Places::default(),
            facts: Facts { who, past, adjusted: adjusted.collect() },
        })
    }
}

impl Facts<'_> {
    /// Whether what stands at a name is still what was seen; its ctime does not count.
    pub(super) fn is_still(&self, spot: Spot<'_>, seen: &Seen) -> io::Result<bool> {
        match look(spot)? {
            Some(stat) => Ok(self.fits(seen, &stat) && seen.is_deeply(spot)?),
            None => Ok(false),
        }
    }

    fn fits(&self, seen: &Seen, stat: &Stat) -> bool {
        seen.fits(stat)
            || self.adjusted.get(&seen.ino).is_some_and(|(before, after)| {
                let like = |one: &Attributes| {
                    let mtime = one.mtime.unwrap_or(seen.mtime);
                    Seen { mode: one.mode, uid: one.uid, gid: one.gid, mtime, ..seen.clone() }.fits(stat)
                };
                like(before) || like(after)
            })
    }

    /// A directory that leaves its parent must be writable itself (its `..` changes): lifts its mode if it is not.
    pub(super) fn lift(&self, spot: Spot<'_>, seen: &Seen) -> io::Result<()> {
        if !self.needs_lifting(seen) {
            return Ok(());
        }
        let held = Held::open(spot.0, spot.1)?;
        if seen.is_object(&held.stat()?) { held.set_mode(seen.mode | WRITE) } else { Ok(()) }
    }

    /// Puts a mode back that was lifted, here or by a process that was killed.
    pub(super) fn settle(&self, spot: Spot<'_>, seen: &Seen) -> io::Result<()> {
        if !self.needs_lifting(seen) {
            return Ok(());
        }
        let held = match Held::open(spot.0, spot.1) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            held => held?,
        };
        let stat = held.stat()?;
        let lifted = seen.is_object(&stat) && stat.permissions() == seen.mode | WRITE;
        if lifted { held.set_mode(seen.mode) } else { Ok(()) }
    }

    fn needs_lifting(&self, seen: &Seen) -> bool {
        self.who == Privilege::Ordinary && seen.kind == ObjectKind::Directory && seen.mode & WRITE == 0
    }
}

/// The owner's write permission.
const WRITE: u32 = 0o200;
