//! `agentguard failed`: the dead letters, failed runs that were neither redriven nor acknowledged.

mod list;
mod many;
mod one;

use anyhow::{Context as _, bail};

pub use list::{ListFormat, ListRequest, list};
pub use many::{ManyRequest, Rate, Tally, many};
pub use one::{OneRequest, Outcome, Redriven, one};

use super::run_choice::choose;
use crate::model::letter::{Fate, Letter};
use crate::model::{ErrorClass, RunId, Text, Timestamp};
use crate::rules::letters::{Posted, Role};
use crate::store::letters::{Ack, Letters, agent_mark};
use crate::store::log::RunLog;
use crate::store::state_dir::StateDir;
use crate::sys::{clock, host};

/// Which letters; an empty list lets all through.
#[derive(Clone, Debug, Default)]
pub struct LetterFilters {
    /// Of one of these agents.
    pub agents: Vec<Text>,
    /// Failed in one of these ways.
    pub classes: Vec<ErrorClass>,
    /// Began then or later.
    pub since: Option<Timestamp>,
}

impl LetterFilters {
    /// Whether the letter may pass, as far as its row tells; of two agents with the same mark its line tells.
    fn may_pass(&self) -> impl Fn(&Letter) -> bool + '_ {
        let marks: Vec<u64> = self.agents.iter().map(agent_mark).collect();
        move |letter| {
            (marks.is_empty() || marks.contains(&letter.agent_mark))
                && (self.classes.is_empty() || letter.class.is_some_and(|class| self.classes.contains(&class)))
                && self.since.is_none_or(|since| letter.start >= since)
        }
    }
}

/// The failed run that is meant, by its own id or by that of one of its redrives, and its letter.
fn letter_of(state: &StateDir, text: &str) -> anyhow::Result<Letter> {
    let log = RunLog::at(state.path());
    let posted: Posted = choose(&log, text)?.posted().with_context(|| format!("cannot read {:?}", log.path()))?;
    let meant = match posted.role() {
        Role::Letter => posted.run_id,
        Role::Redrive(letter) => letter,
        Role::None if posted.replay_of.is_some() => {
            bail!("run {} is a replay: name the run that it replays", posted.run_id)
        }
        Role::None => bail!("run {} is no dead letter: it {}", posted.run_id, ended(&posted)),
    };
    Letters::at(state).find(meant)?.with_context(|| format!("run {meant} is not among the dead letters"))
}

fn ended(posted: &Posted) -> String {
    match posted.status {
        crate::model::Status::Held => "waits for `agentguard apply` or `discard`".to_owned(),
        status => format!("is {status}"),
    }
}

/// Acknowledges letters: all of them, or none where one is not to be. Returns those that were acknowledged before.
pub fn acknowledge(state: &StateDir, runs: &[String], reason: &str) -> anyhow::Result<Acknowledged> {
    if reason.trim().is_empty() {
        bail!("--reason is empty: say why these runs need no redrive");
    }
    let mut done = Acknowledged::default();
    for run in runs {
        let letter = letter_of(state, run)?;
        match letter.fate {
            Fate::Redriven => bail!("run {} was redriven and succeeded: nothing is left to acknowledge", letter.run_id),
            Fate::Acknowledged => done.before.push(letter.run_id),
            Fate::Waiting if done.now.contains(&letter.run_id) => {}
            Fate::Waiting => done.now.push(letter.run_id),
        }
    }
    let (time, user) = (clock::now(), host::user_name());
    let ack = |run_id: &RunId| Ack { run_id: *run_id, time, user: user.clone(), reason: reason.to_owned() };
    let acks: Vec<Ack> = done.now.iter().map(ack).collect();
    if !acks.is_empty() {
        Letters::at(state).acknowledge(&acks)?;
    }
    Ok(done)
}

/// What an acknowledgement came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Runs that no longer wait.
    pub now: Vec<RunId>,
    /// Runs that did not before.
    pub before: Vec<RunId>,
}
