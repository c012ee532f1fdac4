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
            _ if own.is_none() && self.facts.past == Past::Interrupted => Ok(()),
            _ => Err(Trouble::Gone),
        }
    }

    /// The run's own object becomes the live one.
    fn hand_over(&self, seen: &Seen) -> Result<(), Trouble> {
        self.facts.lift(self.own, seen).map_err(LIFT)?;
        let moved = without_replacing_at(self.own, self.live);
        let moved = moved.and_then(|()| crash::point("apply.moved"));
        let settled = self.facts.settle(self.own, seen).and_then(|()| self.facts.settle(self.live, seen));
        match moved {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Trouble::Conflict),
            moved => moved.and(settled).map_err(Trouble::at("cannot publish")),
        }
    }

    /// The live object becomes the run's own, if it is the one that was seen.
    fn take_over(&self, seen: &Seen) -> Result<(), Trouble> {
        self.facts.lift(self.live, seen).map_err(LIFT)?;
        let moved = without_replacing_at(self.live, self.own);
        let moved = moved.and_then(|()| crash::point("apply.moved"));
        let settled = self.facts.settle(self.live, seen).and_then(|()| self.facts.settle(self.own, seen));
        match moved {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Trouble::Conflict),
            moved => moved.and(settled).map_err(Trouble::at("cannot put aside")),
        }
    }

    fn exchange(&self, live: &Seen, own: &Seen) -> Result<(), Trouble> {
        let facts = self.facts;
        facts.lift(self.live, live).and_then(|()| facts.lift(self.own, own)).map_err(LIFT)?;
        let moved = match exchange_at(self.live, self.own) {
            Ok(Exchanged::Swapped) => crash::point("apply.moved"),
            Ok(Exchanged::Unsupported) => Err(Errno::OPNOTSUPP.into()),
            Err(error) => Err(error),
        };
        // Each of the two may be at either name now.
        let settle = |spot| facts.settle(spot, live).and_then(|()| facts.settle(spot, own));
        let settled = settle(self.live).and_then(|()| settle(self.own));
        match moved {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Trouble::Conflict),
            moved => moved.and(settled).map_err(Trouble::at("cannot exchange")),
        }
    }

    /// Exchanges the staged object with the live one. Somebody may have saved between our check and our rename: what
    /// was displaced is looked at, and goes back if it is not what was seen. Measured: check-then-rename loses such an
    /// edit every time, this never.
    pub(super) fn replace(&self, before: &Seen, after: &Seen) -> Result<(), Trouble> {
        match look(self.own).map_err(LOOK)? {
            None => return Err(Trouble::Gone),
            Some(stat) if after.is_object(&stat) => self.exchange(before, after)?,
            Some(_) => {
                let settled = self.facts.settle(self.live, after);
                settled.and_then(|()| self.facts.settle(self.own, before)).map_err(SETTLE)?;
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
            Some(_) if self.facts.past == Past::Fresh && look(self.live).map_err(LOOK)?.is_some() => {
                return Err(Trouble::at("cannot put aside over another")(io::ErrorKind::AlreadyExists.into()));
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
        match look(self.own).map_err(LOOK)? {
            Some(stat) if after.is_object(&stat) => {
                let settled = facts.settle(self.own, after).and_then(|()| facts.settle(self.live, before));
                return settled.map(|()| TakenBack::Done).map_err(SETTLE);
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

const LOOK: fn(io::Error) -> Trouble = |source| Trouble::Io("cannot look at", source);
const LIFT: fn(io::Error) -> Trouble = |source| Trouble::Io("cannot lift the mode of", source);
const SETTLE: fn(io::Error) -> Trouble = |source| Trouble::Io("cannot put back the mode of", source);
