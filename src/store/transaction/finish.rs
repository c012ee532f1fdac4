//! The directories of a plan: lifted before anything moves, finished after everything has, each after what is below
//! it.

use std::io;

use crate::sys::crash;
use crate::sys::held::Held;
use crate::sys::walk::{self, Stat};

use super::adjust::adjust;
use super::attributes::Attributes;
use super::carry::set_mtime;
use super::error::{ApplyError, Trouble, is_unreachable, unreachable};
use super::hands::{Facts, Hands, Privilege};
use super::parents::{ACCESS, Parent};
use super::plan::{Plan, path_order};

/// A directory in which names change, whose metadata changes, or both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Directory<'a> {
    pub(super) path: &'a [u8],
    pub(super) parent: Option<&'a Parent>,
    pub(super) adjustment: Option<(&'a Attributes, &'a Attributes)>,
}

/// The directories of a plan, each before those below it.
pub(super) fn directories(plan: &Plan) -> Vec<Directory<'_>> {
    let parents =
        plan.parents.iter().map(|parent| Directory { path: parent.bytes(), parent: Some(parent), adjustment: None });
    let adjusted = plan.operations.iter().filter_map(|operation| {
        let adjustment = operation.action.directory_adjustment();
        adjustment.map(|_| Directory { path: operation.path.as_bytes(), parent: None, adjustment })
    });
    let mut all: Vec<Directory<'_>> = parents.chain(adjusted).collect();
    all.sort_by(|left, right| path_order(left.path, right.path));
    all.dedup_by(|later, earlier| {
        let same = later.path == earlier.path;
        if same {
            earlier.parent = earlier.parent.or(later.parent);
            earlier.adjustment = earlier.adjustment.or(later.adjustment);
        }
        same
    });
    all
}

impl Directory<'_> {
    /// Whether its mode, at any time of the plan, keeps an ordinary user from working in it.
    fn is_ever_closed(&self) -> bool {
        let adjusted = self.adjustment.map(|(before, after)| before.mode & after.mode);
        let mode = self.parent.map_or(ACCESS, |parent| parent.mode) & adjusted.unwrap_or(ACCESS);
        mode & ACCESS != ACCESS
    }

    /// After everything in it: its own metadata, and its time.
    fn finish(&self, held: &Held, facts: &Facts<'_>) -> Result<(), Trouble> {
        if let Some((before, after)) = self.adjustment {
            adjust(held, before, after, facts.who)?;
        }
        let stat = held.stat().map_err(Trouble::at("cannot look at"))?;
        let Some(parent) = self.parent else { return Ok(()) };
        let time = parent.after.filter(|_| self.adjustment.is_none_or(|(_, after)| after.mtime.is_none()));
        self.settle(parent, held, &stat).map_err(Trouble::at("cannot put back the mode of"))?;
        set_time(held, &stat, time).map_err(Trouble::at("cannot set the time of"))
    }

    /// The same, backwards.
    fn restore(&self, held: &Held, facts: &Facts<'_>) -> Result<(), Trouble> {
        if let Some((before, after)) = self.adjustment {
            match adjust(held, after, before, facts.who) {
                // Somebody else's metadata stays.
                Err(Trouble::Conflict) => {}
                other => other?,
            }
        }
        let stat = held.stat().map_err(Trouble::at("cannot look at"))?;
        let Some(parent) = self.parent else { return Ok(()) };
        self.settle(parent, held, &stat).map_err(Trouble::at("cannot put back the mode of"))?;
        set_time(held, &stat, Some(parent.before)).map_err(Trouble::at("cannot set the time of"))
    }

    /// Puts a lifted mode back, unless an adjustment has set it.
    fn settle(&self, parent: &Parent, held: &Held, stat: &Stat) -> io::Result<()> {
        let lifted = stat.permissions() == parent.mode | ACCESS && parent.mode & ACCESS != ACCESS;
        if self.adjustment.is_none() && lifted { held.set_mode(parent.mode) } else { Ok(()) }
    }
}

fn set_time(held: &Held, stat: &Stat, time: Option<(i64, u32)>) -> io::Result<()> {
    match time {
        Some(time) if time != stat.mtime => set_mtime(held, time),
        _ => Ok(()),
    }
}

/// Lifts the modes of directories that an ordinary user could not work in. Those of others stay as they are, and the
/// work in them fails.
pub(super) fn lift(hands: &mut Hands<'_>, directories: &[Directory<'_>]) -> Result<(), ApplyError> {
    if hands.facts.who == Privilege::Root {
        return Ok(());
    }
    for directory in directories.iter().filter(|directory| directory.is_ever_closed()) {
        let lifted = hands.live.at(directory.path).and_then(|handle| {
            let mode = walk::stat_of(handle)?.permissions();
            if mode & ACCESS == ACCESS { Ok(()) } else { Held::directory(handle)?.set_mode(mode | ACCESS) }
        });
        match lifted {
            Err(error) if is_unreachable(&error) || error.kind() == io::ErrorKind::PermissionDenied => {}
            other => other.map_err(|source| Trouble::Io("cannot lift the mode of", source).of(directory.path))?,
        }
    }
    Ok(())
}

/// Gives every directory what it is to have in the end, innermost first.
pub(super) fn finish(hands: &mut Hands<'_>, directories: &[Directory<'_>]) -> Result<(), ApplyError> {
    // Resolved anew: each must still be the one that was worked in.
    hands.live.forget();
    for directory in directories.iter().rev() {
        let done = crash::point("apply.directory").map_err(Trouble::at("cannot finish")).and_then(|()| {
            let held = hands.live.at(directory.path).and_then(Held::directory).map_err(unreachable)?;
            directory.finish(&held, &hands.facts)
        });
        done.map_err(|trouble| trouble.of(directory.path))?;
    }
    Ok(())
}

/// Gives every directory what it had, innermost first. One that cannot be reached any more is not the plan's.
pub(super) fn restore(hands: &mut Hands<'_>, directories: &[Directory<'_>]) -> Result<(), ApplyError> {
    for directory in directories.iter().rev() {
        let held = match hands.live.at(directory.path).and_then(Held::directory) {
            Err(error) if is_unreachable(&error) => continue,
            held => held.map_err(Trouble::at("cannot reach")),
        };
        let restored = held.and_then(|held| directory.restore(&held, &hands.facts));
        restored.map_err(|trouble| trouble.of(directory.path))?;
    }
    Ok(())
}
