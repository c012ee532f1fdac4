//! The three moves, each done and undone by where inodes are found.

use std::io;

use rustix::io::Errno;

use crate::sys::crash;
use crate::sys::rename::{Exchanged, Spot, exchange_at, without_replacing_at};

use super::error::Trouble;
use super::hands::{Facts, Past};
use super::seen::{Seen, look};

/// A live name and the name in the run's own directory that it changes with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move<'a> {
    pub(super) live: Spot<'a>,
    pub(super) own: Spot<'a>,
    pub(super) facts: &'a Facts<'a>,
}

/// How taking back came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TakenBack {
    /// What stood there stands there; or somebody has put something else there since, and nothing of ours is.
    Done,
    /// Somebody has changed the new version: it stays.
    Kept,
}

impl Move<'_> {
    /// Moves the staged object to a name where nothing is.
    pub(super) fn place(&self, after: &Seen) -> Result<(), Trouble> {
        let own = look(self.own).map_err(LOOK)?;
        if own.is_some_and(|stat| after.is_object(&stat)) {
            return self.hand_over(after);
        }
        match look(self.live).map_err(LOOK)? {
            Some(stat) if after.is_object(&stat) => self.facts.settle(self.live, after).map_err(SETTLE),
            // It was placed, and somebody has replaced or removed it since. Nobody else moves what is staged.
            _ if own.is_none() && self.facts.past() == Past::Interrupted => Ok(()),
            _ => Err(Trouble::Gone),
        }
    }

    /// The run's own object becomes the live one.
    fn hand_over(&self, seen: &Seen) -> Result<(), Trouble> {
        let carried = self.facts.carry_own(self.own)?;
        let moved = without_replacing_at(self.own, self.live).and_then(|()| crash::point("apply.moved"));
        let settled = carried.put_down(self.facts).and_then(|()| self.settle(&[seen]));
        match moved {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Trouble::Conflict),
            moved => moved.and(settled).map_err(Trouble::at("cannot publish")),
        }
    }

    /// The live object becomes the run's own, if it is the one that was seen.
    fn take_over(&self, seen: &Seen) -> Result<(), Trouble> {
        let carried = self.facts.carry_live(self.live, seen)?;
        let moved = without_replacing_at(self.live, self.own).and_then(|()| crash::point("apply.moved"));
        let settled = carried.put_down(self.facts).and_then(|()| self.settle(&[seen]));
        match moved {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Trouble::Conflict),
            moved => moved.and(settled).map_err(Trouble::at("cannot put aside")),
        }
    }

    fn exchange(&self, live: &Seen, own: &Seen) -> Result<(), Trouble> {
        let carried = self.facts.carry_live(self.live, live)?;
        let moved = match self.facts.carry_own(self.own) {
            Ok(also) => self.swap(live, own).and(also.put_down(self.facts).map_err(SETTLE)),
            Err(trouble) => Err(trouble),
        };
        moved.and(carried.put_down(self.facts).and_then(|()| self.settle(&[live, own])).map_err(SETTLE))
    }

    /// What a killed process could not put back: each object may be at either name.
    fn settle(&self, objects: &[&Seen]) -> io::Result<()> {
        let mut both = objects.iter().flat_map(|seen| [(self.live, *seen), (self.own, *seen)]);
        both.try_for_each(|(spot, seen)| self.facts.settle(spot, seen))
    }

    fn swap(&self, live: &Seen, own: &Seen) -> Result<(), Trouble> {
        let moved = match exchange_at(self.live, self.own) {
            Ok(Exchanged::Swapped) => crash::point("apply.moved"),
            Ok(Exchanged::Unsupported) => return self.swap_in_steps(&between(live, own)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Trouble::Conflict),
            Err(error) => Err(error),
        };
        moved.map_err(EXCHANGE)
    }

    /// For a filesystem that cannot exchange: the live object waits in the run's own directory while the other takes
    /// its place. Readers may see nothing for a moment.
    fn swap_in_steps(&self, between: &[u8]) -> Result<(), Trouble> {
        let waiting = (self.own.0, between);
        match without_replacing_at(self.live, waiting) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Trouble::Conflict),
            moved => moved.and_then(|()| crash::point("apply.moved")).map_err(EXCHANGE)?,
        }
        match without_replacing_at(self.own, self.live) {
            // Somebody has put another there in that moment: theirs stands.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(Trouble::Conflict),
            moved => moved.and_then(|()| crash::point("apply.moved")).map_err(EXCHANGE)?,
        }
        without_replacing_at(waiting, self.own).and_then(|()| crash::point("apply.moved")).map_err(EXCHANGE)
    }

    /// Ends steps that were begun, by the shorter way: what waits goes where its place is free.
    fn untangle(&self, before: &Seen, after: &Seen) -> Result<(), Trouble> {
        let between = between(before, after);
        let waiting = (self.own.0, &*between);
        if look(waiting).map_err(LOOK)?.is_none() {
            return Ok(());
        }
        let free = if look(self.own).map_err(LOOK)?.is_none() { self.own } else { self.live };
        let carried = self.facts.carry_own(waiting)?;
        let moved = without_replacing_at(waiting, free);
        let settled = carried.put_down(self.facts);
        match moved {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Trouble::Conflict),
            moved => moved.and(settled).map_err(EXCHANGE),
        }
    }

    /// Exchanges the staged object with the live one. Somebody may have saved between our check and our rename: what
    /// was displaced is looked at, and goes back if it is not what was seen. Measured: check-then-rename loses such an
    /// edit every time, this never.
    pub(super) fn replace(&self, before: &Seen, after: &Seen) -> Result<(), Trouble> {
        if self.facts.past() == Past::Interrupted {
            self.untangle(before, after)?;
        }
        match look(self.own).map_err(LOOK)? {
            None => return Err(Trouble::Gone),
            Some(stat) if after.is_object(&stat) => self.exchange(before, after)?,
            Some(_) => {
                self.settle(&[before, after]).map_err(SETTLE)?;
            }
        }
        if self.facts.is_still(self.own, before).map_err(LOOK)? {
            return Ok(());
        }
        self.unreplace(before, after)?;
        Err(Trouble::Conflict)
    }

    /// Moves the live object aside, and back if it is not what was seen.
    pub(super) fn remove(&self, before: &Seen) -> Result<(), Trouble> {
        match look(self.own).map_err(LOOK)? {
            None => self.take_over(before)?,
            // Something else of ours; a plan never says so.
            Some(_) if self.facts.past() == Past::Fresh && look(self.live).map_err(LOOK)?.is_some() => {
                return Err(Trouble::Io("cannot put aside over another", Errno::EXIST.into()));
            }
            Some(_) => self.facts.settle(self.own, before).map_err(SETTLE)?,
        }
        if self.facts.is_still(self.own, before).map_err(LOOK)? {
            return Ok(());
        }
        self.unremove(before)?;
        Err(Trouble::Conflict)
    }

    /// Undoes [`Self::place`], if it was done and nobody has touched the result.
    pub(super) fn unplace(&self, after: &Seen) -> Result<TakenBack, Trouble> {
        if look(self.own).map_err(LOOK)?.is_some() {
            self.facts.settle(self.own, after).map_err(SETTLE)?;
            return Ok(TakenBack::Done);
        }
        self.facts.settle(self.live, after).map_err(SETTLE)?;
        match look(self.live).map_err(LOOK)? {
            None => return Ok(TakenBack::Done),
            Some(_) if !self.facts.is_still(self.live, after).map_err(LOOK)? => return Ok(TakenBack::Kept),
            Some(_) => {}
        }
        match self.take_over(after) {
            // Removed between the look and the move.
            Err(Trouble::Conflict) => return Ok(TakenBack::Done),
            moved => moved?,
        }
        if self.facts.is_still(self.own, after).map_err(LOOK)? {
            return Ok(TakenBack::Done);
        }
        // Somebody changed it between the look and the move: their version goes back to where they put it. If they
        // have put another there by now, that one stays, and this one with what is staged.
        match self.hand_over(after) {
            Ok(()) | Err(Trouble::Conflict) => Ok(TakenBack::Kept),
            Err(trouble) => Err(trouble),
        }
    }

    /// Undoes [`Self::replace`], if it was done and nobody has touched the result.
    pub(super) fn unreplace(&self, before: &Seen, after: &Seen) -> Result<TakenBack, Trouble> {
        let facts = self.facts;
        match self.untangle(before, after) {
            Err(Trouble::Conflict) => return Ok(TakenBack::Kept),
            other => other?,
        }
        match look(self.own).map_err(LOOK)? {
            Some(stat) if after.is_object(&stat) => {
                return self.settle(&[before, after]).map(|()| TakenBack::Done).map_err(SETTLE);
            }
            // Somebody took away what was displaced, or what was staged.
            None if look(self.live).map_err(LOOK)?.is_some_and(|stat| after.is_object(&stat)) => {
                return Ok(TakenBack::Kept);
            }
            None => return Ok(TakenBack::Done),
            Some(_) => {}
        }
        facts.settle(self.live, after).map_err(SETTLE)?;
        if !facts.is_still(self.live, after).map_err(LOOK)? {
            return Ok(TakenBack::Kept);
        }
        match self.exchange(after, before) {
            Err(Trouble::Conflict) => return Ok(TakenBack::Kept),
            moved => moved?,
        }
        if facts.is_still(self.own, after).map_err(LOOK)? {
            return Ok(TakenBack::Done);
        }
        // Somebody changed the new version between the look and the exchange: it is the one that stays.
        match self.exchange(before, after) {
            Ok(()) | Err(Trouble::Conflict) => Ok(TakenBack::Kept),
            Err(trouble) => Err(trouble),
        }
    }

    /// Undoes [`Self::remove`], if it was done and nobody has put something else there.
    pub(super) fn unremove(&self, before: &Seen) -> Result<TakenBack, Trouble> {
        if look(self.own).map_err(LOOK)?.is_none() {
            self.facts.settle(self.live, before).map_err(SETTLE)?;
            return Ok(TakenBack::Done);
        }
        match self.hand_over(before) {
            Ok(()) => Ok(TakenBack::Done),
            Err(Trouble::Conflict) => Ok(TakenBack::Kept),
            Err(trouble) => Err(trouble),
        }
    }
}

/// The name under which an object waits while two are exchanged in steps; the same in both directions.
fn between(one: &Seen, other: &Seen) -> Vec<u8> {
    format!(".exchange-{}-{}", one.ino.min(other.ino), one.ino.max(other.ino)).into_bytes()
}

const EXCHANGE: fn(io::Error) -> Trouble = |source| Trouble::Io("cannot exchange", source);
const LOOK: fn(io::Error) -> Trouble = |source| Trouble::Io("cannot look at", source);
const SETTLE: fn(io::Error) -> Trouble = |source| Trouble::Io("cannot put back the mode or time of", source);
