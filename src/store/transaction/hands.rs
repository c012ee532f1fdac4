//! What an apply works with: the open directories, and what it knows about whom it acts for.

use std::cell::Cell;
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
    past: Cell<Past>,
    /// Metadata that the plan itself changes, by inode: a displaced object may be another name of it.
    adjusted: HashMap<u64, Ends<'a>>,
}

/// The metadata at both ends of a change.
type Ends<'a> = (&'a Attributes, &'a Attributes);

/// Whether each field of a stat is from the one or the other end.
fn is_between(stat: &Stat, (before, after): &Ends<'_>) -> bool {
    let either = |test: &dyn Fn(&Attributes) -> bool| test(before) || test(after);
    either(&|end| end.mode == stat.permissions())
        && either(&|end| end.uid == stat.uid)
        && either(&|end| end.gid == stat.gid)
        && either(&|end| end.mtime.is_none_or(|mtime| mtime == stat.mtime))
}

/// The stat of an object that has these attributes.
fn with(stat: &Stat, end: &Attributes) -> Stat {
    let mode = stat.mode & !0o7777 | end.mode;
    Stat { mode, uid: end.uid, gid: end.gid, mtime: end.mtime.unwrap_or(stat.mtime), ..*stat }
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
            facts: Facts { who, past: Cell::new(past), adjusted: adjusted.collect() },
        })
    }
}

impl Facts<'_> {
    pub(super) fn past(&self) -> Past {
        self.past.get()
    }

    /// Whether what stands at a name is still what was seen; its ctime does not count.
    pub(super) fn is_still(&self, spot: Spot<'_>, seen: &Seen) -> io::Result<bool> {
        match look(spot)? {
            Some(stat) if self.fits(seen, &stat) => self.is_deeply(spot, seen),
            _ => Ok(false),
        }
    }

    /// A tree may hold other names of files whose metadata the plan changes: it was hashed with what they had at the
    /// one or the other end of that change.
    fn is_deeply(&self, spot: Spot<'_>, seen: &Seen) -> io::Result<bool> {
        if seen.is_deeply(spot, &|stat| *stat)? {
            return Ok(true);
        }
        if self.adjusted.is_empty() || seen.below.is_none() {
            return Ok(false);
        }
        let counted_as = |stat: &Stat, choose: &dyn Fn(&Ends<'_>) -> Stat| match self.adjusted.get(&stat.ino) {
            Some(ends) if is_between(stat, ends) => choose(ends),
            _ => *stat,
        };
        let as_before = |stat: &Stat| counted_as(stat, &|ends| with(stat, ends.0));
        let as_after = |stat: &Stat| counted_as(stat, &|ends| with(stat, ends.1));
        Ok(seen.is_deeply(spot, &as_before)? || seen.is_deeply(spot, &as_after)?)
    }

    /// Whether a stat is of what was seen, or of another name of something whose metadata the plan changes.
    pub(super) fn fits(&self, seen: &Seen, stat: &Stat) -> bool {
        seen.fits(stat)
            || self.adjusted.get(&seen.ino).is_some_and(|ends| {
                is_between(stat, ends) && [ends.0, ends.1].iter().any(|end| seen.fits(&with(stat, end)))
            })
    }

    /// A live directory that leaves its parent must be writable itself (its `..` changes): lifts its mode if it is not.
    /// A conflict if somebody has changed the mode.
    pub(super) fn lift(&self, spot: Spot<'_>, seen: &Seen) -> Result<Lifted, Trouble> {
        if !self.needs_lifting(seen) {
            return Ok(Lifted::default());
        }
        let held = match Held::open(spot.0, spot.1) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Trouble::Conflict),
            held => held.map_err(LIFT)?,
        };
        let stat = held.stat().map_err(LIFT)?;
        let mode = stat.permissions();
        if !seen.is_object(&stat) {
            // Somebody else's: the rename meets it as it is.
            return Ok(Lifted::default());
        }
        if mode != seen.mode && !(self.past() == Past::Interrupted && mode == seen.mode | WRITE) {
            return Err(Trouble::Conflict);
        }
        held.set_mode(seen.mode | WRITE).map_err(LIFT)?;
        Ok(Lifted(Some((held, seen.mode))))
    }

    /// The same for what is in the run's own directory, whatever it is.
    pub(super) fn lift_own(&self, spot: Spot<'_>) -> Result<Lifted, Trouble> {
        if self.who == Privilege::Root {
            return Ok(Lifted::default());
        }
        let closed = |stat: &Stat| stat.kind() == ObjectKind::Directory && stat.permissions() & WRITE == 0;
        let Some(stat) = look(spot).map_err(LIFT)?.filter(closed) else { return Ok(Lifted::default()) };
        let held = Held::open(spot.0, spot.1).map_err(LIFT)?;
        held.set_mode(stat.permissions() | WRITE).map_err(LIFT)?;
        Ok(Lifted(Some((held, stat.permissions()))))
    }

    /// Puts a mode back that a killed process had lifted.
    pub(super) fn settle(&self, spot: Spot<'_>, seen: &Seen) -> io::Result<()> {
        if self.past() == Past::Fresh || !self.needs_lifting(seen) {
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

/// A directory whose mode was lifted for a rename, and the mode it gets back, wherever it is by then.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Lifted(Option<(Held, u32)>);

impl Lifted {
    /// A mode that cannot be put back is from now on known as one that a killed process had lifted.
    pub(super) fn put_back(self, facts: &Facts<'_>) -> io::Result<()> {
        let put_back = self.0.map_or(Ok(()), |(held, mode)| held.set_mode(mode));
        put_back.inspect_err(|_| facts.past.set(Past::Interrupted))
    }
}

const LIFT: fn(io::Error) -> Trouble = |source| Trouble::Io("cannot lift the mode of", source);

/// The owner's write permission.
const WRITE: u32 = 0o200;
