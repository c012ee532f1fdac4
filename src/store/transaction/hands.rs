//! What an apply works with: the open directories, and what it knows about whom it acts for.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;

use crate::sys::rename::Spot;
use crate::sys::walk::{self, Stat};

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

    /// Something could not be put back: what is found from now on may be this process's own doing.
    pub(super) fn doubt(&self) {
        self.past.set(Past::Interrupted);
    }

    /// Whether what stands at a name is still what was seen; its ctime does not count.
    pub(super) fn is_still(&self, spot: Spot<'_>, seen: &Seen) -> io::Result<bool> {
        match look(spot)? {
            // Of a directory that was moved the time says little, and what is below it everything.
            Some(stat) if seen.below.is_some() => {
                let timed = Seen { mtime: stat.mtime, ..seen.clone() };
                Ok(timed.fits(&stat) && self.is_deeply(spot, seen)?)
            }
            Some(stat) if self.fits(seen, &stat) => self.is_deeply(spot, seen),
            _ => Ok(false),
        }
    }

    /// A tree may hold other names of files whose metadata the plan changes: it was hashed with what they had at the
    /// one or the other end of that change.
    pub(super) fn is_deeply(&self, spot: Spot<'_>, seen: &Seen) -> io::Result<bool> {
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
}
