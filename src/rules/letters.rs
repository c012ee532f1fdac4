//! Which runs are dead letters, and what a redrive does to one. A plain replay is a look at the past: it neither makes a
//! letter nor answers one.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::model::error_kind::{ErrorClass, Status};
use crate::model::letter::{Fate, Letter, Spent};
use crate::model::{RunId, Text, Timestamp};

use super::run_ref::is_failure;

/// The part of a run's record that dead letters look at.
#[derive(Clone, Debug, Deserialize)]
pub struct Posted {
    /// The run.
    pub run_id: RunId,
    /// When it began.
    pub start_time: Timestamp,
    /// When it ended.
    pub end_time: Timestamp,
    /// How.
    pub status: Status,
    /// What it cost.
    pub cost_usd: Option<f64>,
    /// The recovery pattern of its failure.
    pub error_class: Option<ErrorClass>,
    /// Whose it was.
    pub agent: Text,
    /// Its attempts: only how many there were.
    pub attempts: Vec<IgnoredAny>,
    /// The run it replays.
    pub replay_of: Option<RunId>,
    /// The failed run it redrives.
    pub redrive_of: Option<RunId>,
}

/// What a line of the log is to dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A new letter.
    Letter,
    /// The redrive of one.
    Redrive(RunId),
    /// Nothing.
    None,
}

impl Posted {
    /// What this run is to dead letters.
    pub fn role(&self) -> Role {
        match self.redrive_of {
            Some(letter) => Role::Redrive(letter),
            None if self.replay_of.is_none() && is_failure(self.status) => Role::Letter,
            None => Role::None,
        }
    }

    fn attempts(&self) -> u32 {
        u32::try_from(self.attempts.len()).unwrap_or(u32::MAX)
    }

    fn spent(&self) -> Spent {
        match self.cost_usd {
            _ if self.attempts.is_empty() => Spent::Nothing,
            Some(dollars) => Spent::Known(dollars),
            None => Spent::Unknown,
        }
    }

    /// The letter that this failed run is, before any redrive.
    pub fn letter(&self, offset: u64, agent_mark: u64) -> Letter {
        Letter {
            run_id: self.run_id,
            offset,
            start: self.start_time,
            end: self.end_time,
            class: self.error_class,
            attempts: self.attempts(),
            receives: 0,
            spent: self.spent(),
            fate: Fate::Waiting,
            newest_redrive: None,
            agent_mark,
        }
    }
}

/// Counts a redrive, whose line is at `offset`, once: lines are read in order, and may be read again after a crash.
pub fn receive(letter: &mut Letter, redrive: &Posted, offset: u64) {
    if letter.newest_redrive.is_some_and(|newest| newest >= offset) {
        return;
    }
    letter.newest_redrive = Some(offset);
    letter.attempts = letter.attempts.saturating_add(redrive.attempts());
    letter.spent = add(letter.spent, redrive.spent());
    match redrive.status {
        Status::Succeeded | Status::Held => letter.fate = Fate::Redriven,
        // Refused before anything was started, for a budget or for inputs that could not be read: it never had its chance.
        _ if redrive.attempts.is_empty() => {}
        // The supervisor's death counts: the letter may be what kills it.
        Status::Failed | Status::Rejected | Status::Interrupted => {
            letter.receives = letter.receives.saturating_add(1);
        }
        // It never had its chance.
        Status::Blocked | Status::Cancelled => {}
    }
}

/// Whether the letter has failed so often that it is left alone until somebody names it.
pub fn is_poison(letter: &Letter, max_receives: u32) -> bool {
    letter.receives >= max_receives
}

fn add(left: Spent, right: Spent) -> Spent {
    match (left, right) {
        (Spent::Nothing, other) | (other, Spent::Nothing) => other,
        (Spent::Known(left), Spent::Known(right)) => Spent::Known(left + right),
        _ => Spent::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posted(status: &str, attempts: usize, cost: Option<f64>) -> Posted {
        let json = serde_json::json!({
            "run_id": "019ab3c4-5d6e-7f80-9123-456789abcdef", "start_time": "2026-11-23T12:00:00.000000Z",
            "end_time": "2026-11-23T12:00:01.000000Z", "status": status, "cost_usd": cost, "error_class": null,
            "agent": "a", "attempts": vec![0; attempts], "replay_of": null, "redrive_of": null,
        });
        serde_json::from_value(json).expect("a record")
    }

    #[test]
    fn failures_are_letters_and_replays_are_not() {
        for (status, role) in [("failed", Role::Letter), ("blocked", Role::Letter), ("cancelled", Role::None)] {
            assert_eq!(posted(status, 1, None).role(), role, "{status}");
        }
        let mut replay = posted("failed", 1, None);
        replay.replay_of = Some(replay.run_id);
        assert_eq!(replay.role(), Role::None);
    }

    #[test]
    fn a_redrive_is_counted_once_and_one_that_was_stopped_is_no_receive() {
        let mut letter = posted("failed", 2, Some(0.5)).letter(10, 0);
        for offset in [20, 20, 15] {
            receive(&mut letter, &posted("rejected", 1, Some(0.25)), offset);
        }
        receive(&mut letter, &posted("blocked", 0, None), 30);
        receive(&mut letter, &posted("failed", 0, None), 35);
        receive(&mut letter, &posted("cancelled", 1, Some(0.25)), 40);
        assert_eq!((letter.receives, letter.attempts, letter.spent), (1, 4, Spent::Known(1.0)));
        receive(&mut letter, &posted("interrupted", 1, None), 50);
        assert_eq!((letter.receives, letter.spent, letter.fate), (2, Spent::Unknown, Fate::Waiting));
        receive(&mut letter, &posted("succeeded", 1, None), 60);
        assert_eq!((letter.receives, letter.fate), (2, Fate::Redriven));
    }
}
