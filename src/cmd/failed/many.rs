//! Many letters, oldest first: each redriven by a process of its own, several at a time, at a rate. The output of each is
//! shown as a block when it has ended, with what became of its letter.
//!
//! Exactly once: a letter is claimed by the process that redrives it, and what that did is in the log. If this process is
//! killed its workers are told to stop; another one goes on with the letters that still wait.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::Pid;

use super::one::newest_redrive;
use super::{LetterFilters, Outcome, letter_of};
use crate::cmd::render::{cost, duration_between, escape, unless_closed};
use crate::model::RunId;
use crate::model::letter::{Fate, Letter};
use crate::rules::letters::is_poison;
use crate::store::letters::Letters;
use crate::store::state_dir::StateDir;
use crate::sys::clock;
use crate::sys::worker::{self, Printed, Worker};

/// How often it is looked whether a signal has come or the next letter is due.
const GLANCE: Duration = Duration::from_millis(20);

/// What was asked.
#[derive(Clone, Debug)]
pub struct ManyRequest {
    /// Which letters, where none is named.
    pub filters: LetterFilters,
    /// Letters that are named; set-aside ones too.
    pub runs: Vec<String>,
    /// At most so many.
    pub max: Option<usize>,
    /// So many at a time.
    pub jobs: usize,
    /// How often one may begin.
    pub rate: Option<Rate>,
    /// So many failed redrives set a letter aside.
    pub max_receives: u32,
    /// Options that every redrive is given.
    pub options: Vec<OsString>,
    /// Another command instead of the recorded ones; empty for the recorded ones.
    pub command: Vec<OsString>,
}

/// How often a redrive may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// From one beginning to the next, at least.
    pub pause: Duration,
}

/// What became of the letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Tally {
    /// Redriven, and succeeded.
    pub succeeded: usize,
    /// Failed again.
    pub failed: usize,
    /// Not started because something that they need is broken.
    pub stopped: usize,
    /// Told to stop.
    pub cancelled: usize,
    /// Done with by somebody else meanwhile.
    pub done_before: usize,
    /// Could not be run at all.
    pub unrunnable: usize,
    /// Not begun, because a signal came.
    pub left: usize,
    /// Left alone because they were set aside.
    pub set_aside: usize,
    /// The signal that came.
    pub signal: Option<i32>,
}

impl Tally {
    fn count(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Succeeded => &mut self.succeeded,
            Outcome::Failed => &mut self.failed,
            Outcome::Stopped => &mut self.stopped,
            Outcome::Cancelled => &mut self.cancelled,
            Outcome::DoneBefore => &mut self.done_before,
            Outcome::Unrunnable => &mut self.unrunnable,
        } += 1;
    }
}

/// The letters that are meant, oldest first, and how many were left alone because they were set aside.
fn chosen(state: &StateDir, request: &ManyRequest) -> anyhow::Result<(Vec<Letter>, usize)> {
    let letters = Letters::at(state);
    let mut found: Vec<Letter>;
    let mut set_aside = 0;
    if request.runs.is_empty() {
        found = letters.waiting()?;
        let may_pass = request.filters.may_pass();
        found.retain(|letter| may_pass(letter));
        if !request.filters.agents.is_empty() {
            found.retain(|letter| is_of(&letters, letter, &request.filters));
        }
        let all = found.len();
        found.retain(|letter| !is_poison(letter, request.max_receives));
        set_aside = all - found.len();
    } else {
        found = request.runs.iter().map(|run| letter_of(state, run)).collect::<anyhow::Result<_>>()?;
        found.sort_by_key(|letter| letter.offset);
        found.dedup_by_key(|letter| letter.offset);
    }
    found.truncate(request.max.unwrap_or(usize::MAX));
    Ok((found, set_aside))
}

fn is_of(letters: &Letters, letter: &Letter, filters: &LetterFilters) -> bool {
    let line = letters.line(letter.offset).ok().flatten();
    line.and_then(|line| line.head().ok()).is_some_and(|head| filters.agents.contains(&head.agent))
}

impl ManyRequest {
    /// Says which letters would be redriven, in which order; returns how many there are.
    pub fn preview(&self, state: &StateDir, out: &mut dyn Write) -> anyhow::Result<usize> {
        let (found, set_aside) = chosen(state, self)?;
        let letters = Letters::at(state);
        let now = clock::now();
        for letter in &found {
            let record = letters.line(letter.offset)?.and_then(|line| line.record().ok());
            let Some(record) = record else { continue };
            let message = record.error.map(|error| error.message).unwrap_or_default();
            let (run, agent) = (letter.run_id.short(), escape(&record.agent.0));
            let (age, message) = (duration_between(letter.end, now), escape(message.as_bytes()));
            writeln!(out, "would redrive {run}  {agent}  {age} old, {} so far: {message}", cost(letter.spent.known()))?;
        }
        writeln!(out, "{} would be redriven{}", count(found.len()), aside(set_aside))?;
        Ok(found.len())
    }
}

fn count(letters: usize) -> String {
    if letters == 1 { "1 letter".to_owned() } else { format!("{letters} letters") }
}

fn aside(set_aside: usize) -> String {
    match set_aside {
        0 => String::new(),
        some => format!("; {some} set aside (name them, or raise --max-receives)"),
    }
}

/// A worker that has ended.
struct Ended {
    letter: Letter,
    result: io::Result<(Option<i32>, Printed)>,
}

/// Redrives them. What agents print on standard output goes to `out`, everything else to `err`.
pub fn many(
    state: &StateDir,
    request: &ManyRequest,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<Tally> {
    let (mut waiting, set_aside) = chosen(state, request)?;
    waiting.reverse();
    let total = waiting.len();
    let mut crew = Crew::new(state, request);
    let glance = request.rate.map_or(GLANCE, |rate| rate.pause.min(GLANCE));
    let mut tally = Tally { set_aside, ..Tally::default() };
    while !(waiting.is_empty() && crew.running.is_empty()) {
        if tally.signal.is_none()
            && let Some(signal) = worker::noticed()
        {
            tally.signal = Some(signal);
            tally.left = waiting.len();
            waiting.clear();
            crew.running.iter().for_each(|(_, pid)| worker::tell_to_stop(*pid));
        }
        if crew.may_begin()
            && let Some(letter) = crew.next(&mut waiting)
        {
            if let Err(error) = crew.begin(letter) {
                crew.stop(err)?;
                return Err(error);
            }
            continue;
        }
        match crew.ended.recv_timeout(glance) {
            Ok(ended) => tally.count(crew.take(ended, out, err)?),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
    unless_closed(writeln!(err, "agentguard: {}", sum(&tally, total)))?;
    Ok(tally)
}

fn sum(tally: &Tally, total: usize) -> String {
    let mut parts = vec![format!("{} redriven", tally.succeeded)];
    for (number, what) in [
        (tally.failed, "failed again"),
        (tally.stopped, "stopped by an open breaker"),
        (tally.cancelled, "cancelled"),
        (tally.done_before, "done with meanwhile"),
        (tally.unrunnable, "could not be run"),
        (tally.left, "not begun"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    }
    format!("{}: {}{}", count(total), parts.join(", "), aside(tally.set_aside))
}

/// The workers of one redrive.
struct Crew<'a> {
    letters: Letters,
    state: &'a StateDir,
    request: &'a ManyRequest,
    running: Vec<(RunId, Pid)>,
    begun: Option<Instant>,
    sender: Sender<Ended>,
    ended: Receiver<Ended>,
}

impl<'a> Crew<'a> {
    fn new(state: &'a StateDir, request: &'a ManyRequest) -> Self {
        let (sender, ended) = mpsc::channel();
        Self { letters: Letters::at(state), state, request, running: Vec::new(), begun: None, sender, ended }
    }

    fn may_begin(&self) -> bool {
        let is_due = match (self.request.rate, self.begun) {
            (Some(rate), Some(begun)) => begun.elapsed() >= rate.pause,
            _ => true,
        };
        self.running.len() < self.request.jobs && is_due
    }

    /// The oldest letter that nobody else is at; where somebody is at all of them, the oldest, which is waited for.
    fn next(&self, waiting: &mut Vec<Letter>) -> Option<Letter> {
        let free = waiting.iter().rposition(|letter| !self.letters.is_claimed(letter.run_id));
        let at = free.or(waiting.len().checked_sub(1))?;
        Some(waiting.remove(at))
    }

    fn begin(&mut self, letter: Letter) -> anyhow::Result<()> {
        let state: &Path = self.state.path();
        let mut arguments: Vec<OsString> = vec!["--state-dir".into(), state.into(), "failed".into(), "redrive".into()];
        arguments.extend(self.request.options.iter().cloned());
        arguments.push(letter.run_id.to_string().into());
        if !self.request.command.is_empty() {
            arguments.push("--".into());
            arguments.extend(self.request.command.iter().cloned());
        }
        let worker = worker::start(&arguments, state).context("cannot start a redrive")?;
        let pid = worker.pid().context("cannot start a redrive")?;
        self.running.push((letter.run_id, pid));
        self.begun = Some(Instant::now());
        self.wait_for(worker, letter)
    }

    /// A thread for each: what ends first is shown first.
    fn wait_for(&self, worker: Worker, letter: Letter) -> anyhow::Result<()> {
        let sender = self.sender.clone();
        let wait = move || {
            // Nobody listens any more only when everything is over.
            let _ = sender.send(Ended { letter, result: worker.wait() });
        };
        std::thread::Builder::new().spawn(wait).map(drop).context("cannot start a redrive")
    }

    /// Shows what a worker printed, and finds out what it did.
    fn take(&mut self, ended: Ended, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Outcome> {
        let Ended { letter, result } = ended;
        self.running.retain(|(run_id, _)| *run_id != letter.run_id);
        let (_, mut printed) = result.context("cannot wait for a redrive")?;
        unless_closed(io::copy(&mut printed.stdout, out).and_then(|_| out.flush()))?;
        unless_closed(io::copy(&mut printed.stderr, err).map(drop))?;
        self.outcome(&letter)
    }

    /// The log tells, not the worker: what it may have died of is in there too.
    fn outcome(&self, before: &Letter) -> anyhow::Result<Outcome> {
        let after = self.letters.find(before.run_id)?.context("the letter is gone")?;
        if after.newest_redrive == before.newest_redrive {
            return Ok(if after.fate == Fate::Waiting { Outcome::Unrunnable } else { Outcome::DoneBefore });
        }
        let newest = newest_redrive(&self.letters, &after)?;
        Ok(newest.map_or(Outcome::Unrunnable, |record| Outcome::of(record.status)))
    }

    /// Nothing more can be begun: what runs is waited for, so that it does not run on without us.
    fn stop(&mut self, err: &mut dyn Write) -> anyhow::Result<()> {
        self.running.iter().for_each(|(_, pid)| worker::tell_to_stop(*pid));
        while !self.running.is_empty() {
            let Ok(ended) = self.ended.recv() else { break };
            let outcome = self.take(ended, &mut io::sink(), err);
            let _ = outcome;
        }
        Ok(())
    }
}
