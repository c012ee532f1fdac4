//! Checking a plan before its intention is written: everything is still as it was seen, and nothing that can be known
//! beforehand stands in the way.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd as _;

use rustix::fs::{Access, AtFlags, accessat, fstatvfs};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::model::Text;
use crate::sys::fixed::{Fixed, lstat_fixed};
use crate::sys::held::Held;
use crate::sys::mount::{Place, place_of};
use crate::sys::rename::Spot;
use crate::sys::walk::ObjectKind;

use super::attributes::adjustable;
use super::directories::split;
use super::entry::{self, is_sticky_of_others};
use super::error::{ApplyError, Trouble, unreachable};
use super::finish::directories;
use super::hands::{Hands, Past, Privilege};
use super::passage::Passage;
use super::plan::{Action, Operation, Plan};
use super::seen::{Seen, look};

/// Bytes that renames into directories may need beyond the names: a few new directory blocks.
const ROOM: u64 = 64 << 10;

/// Whether the plan can be applied now. A conflict names every path that is not what it was; nothing is touched.
///
/// Found here too: a place on another mount (`EXDEV`), immutable objects and directories (`EPERM`), directories that
/// may not be written to, a read-only or full filesystem.
pub fn check(plan: &Plan) -> Result<(), ApplyError> {
    plan.judge()?;
    let mut hands = Hands::open(plan, Past::Fresh)?;
    let mut findings = Findings::default();
    let mut passage = Passage::default();
    for directory in directories(plan) {
        findings.take(directory.path, entry::check(&directory, &mut hands, &mut passage));
    }
    let mut mounts = Mounts::of(&hands).map_err(|trouble| trouble.of(&plan.root.0))?;
    for operation in &plan.operations {
        findings.take(operation.path.as_bytes(), operation_check(operation, &mut hands, &mut mounts));
    }
    findings.take(&plan.root.0, room(plan, &hands));
    let closed = passage.close(&mut hands.live);
    findings.judged()?;
    closed.map_err(|source| Trouble::Io("cannot put back a mode below", source).of(&plan.root.0))
}

#[derive(Debug, Default)]
struct Findings {
    conflicts: Vec<Text>,
    refusal: Option<ApplyError>,
}

impl Findings {
    fn take(&mut self, path: &[u8], found: Result<(), Trouble>) {
        match found {
            Ok(()) => {}
            Err(Trouble::Conflict) => self.conflicts.push(Text(path.to_vec())),
            Err(trouble) => {
                self.refusal.get_or_insert_with(|| trouble.of(path));
            }
        }
    }

    /// Conflicts first: they say what somebody did.
    fn judged(mut self) -> Result<(), ApplyError> {
        self.conflicts.sort();
        self.conflicts.dedup();
        match self.refusal {
            _ if !self.conflicts.is_empty() => Err(ApplyError::Conflict { paths: self.conflicts, kept: Vec::new() }),
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }
}

fn operation_check(operation: &Operation, hands: &mut Hands<'_>, mounts: &mut Mounts) -> Result<(), Trouble> {
    if operation.action.directory_adjustment().is_some() {
        return Ok(());
    }
    let live = hands.live.spot(operation.path.as_bytes()).map_err(unreachable)?;
    let who = hands.facts.who;
    match &operation.action {
        Action::Place { .. } => match look(live).map_err(Trouble::at("cannot look at"))? {
            None => {}
            Some(_) => return Err(Trouble::Conflict),
        },
        Action::Replace { before, .. } | Action::Remove { before, .. } => unchanged(live, before, who)?,
        Action::Adjust { before, .. } => {
            let held = Held::open(live.0, live.1).map_err(unreachable)?;
            return adjustable(&held, before, who);
        }
    }
    let Some(place) = operation.action.place() else { return Ok(()) };
    let own = hands.places.spot(&place.0).map_err(Trouble::at("cannot reach what is staged for"))?;
    mounts.check(split(&place.0).0, own)?;
    let found = look(own).map_err(Trouble::at("cannot look at what is staged for"))?;
    match &operation.action {
        Action::Place { after, .. } | Action::Replace { after, .. } => match found {
            Some(stat) if hands.facts.fits(after, &stat) => Ok(()),
            _ => Err(Trouble::Gone),
        },
        _ if found.is_some() => Err(Trouble::Io("something is where it would be put aside:", Errno::EXIST.into())),
        _ => Ok(()),
    }
}

/// Whether a live object is exactly what was seen, ctime included, and may be renamed.
fn unchanged(live: Spot<'_>, before: &Seen, who: Privilege) -> Result<(), Trouble> {
    let (stat, fixed) = match lstat_fixed(live.0, live.1) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Trouble::Conflict),
        found => found.map_err(Trouble::at("cannot look at"))?,
    };
    let same = before.fits(&stat) && before.ctime.is_none_or(|ctime| ctime == stat.ctime);
    if !same || !before.is_deeply(live, &|stat| *stat).map_err(Trouble::at("cannot look at"))? {
        return Err(Trouble::Conflict);
    }
    if fixed == Fixed::Yes {
        return Err(Trouble::Io("cannot rename what is immutable or append-only:", Errno::PERM.into()));
    }
    if who == Privilege::Root || stat.uid == geteuid().as_raw() {
        return Ok(());
    }
    // Somebody else's object in one's own directory may be renamed, with two exceptions.
    let sticky = is_sticky_of_others(live.0).map_err(Trouble::at("cannot look at the directory of"))?;
    let closed =
        stat.kind() == ObjectKind::Directory && accessat(live.0, live.1, Access::WRITE_OK, AtFlags::EACCESS).is_err();
    if sticky || closed {
        return Err(Trouble::Io("cannot rename somebody else's", Errno::PERM.into()));
    }
    Ok(())
}

/// Which directories of the run's own are on the root's mount.
struct Mounts {
    root: Place,
    known: BTreeSet<Vec<u8>>,
}

impl Mounts {
    fn of(hands: &Hands<'_>) -> Result<Self, Trouble> {
        let root = place_of(hands.live.root()).map_err(Trouble::at("cannot look at"))?;
        Ok(Self { root, known: BTreeSet::new() })
    }

    fn check(&mut self, dir: &[u8], own: Spot<'_>) -> Result<(), Trouble> {
        if self.known.contains(dir) {
            return Ok(());
        }
        if place_of(own.0).map_err(Trouble::at("cannot look at"))? != self.root {
            return Err(Trouble::Io("another filesystem holds what is staged for", Errno::XDEV.into()));
        }
        self.known.insert(dir.to_vec());
        Ok(())
    }
}

/// Renames need no room but for names.
fn room(plan: &Plan, hands: &Hands<'_>) -> Result<(), Trouble> {
    let stat = fstatvfs(hands.live.root().as_fd()).map_err(|errno| Trouble::Io("cannot look at", errno.into()))?;
    let blocks = if hands.facts.who == Privilege::Root { stat.f_bfree } else { stat.f_bavail };
    let names: usize = plan.operations.iter().map(|operation| operation.path.as_bytes().len() + 16).sum();
    // A filesystem without a size of its own reports none at all.
    let full = stat.f_blocks > 0 && blocks.saturating_mul(stat.f_frsize) < ROOM + names as u64;
    if full { Err(Trouble::Io("no room for names below", Errno::NOSPC.into())) } else { Ok(()) }
}
