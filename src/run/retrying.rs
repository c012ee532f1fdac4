//! From a failed attempt to the next: whether there is one, when, and what it is told of the one before.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::model::error_kind::{ErrorKind, Failure};
use crate::model::event::Event;
use crate::model::record::VerifyRecord;
use crate::model::spec::Feedback;
use crate::rules::classify::class_of;
use crate::rules::retry;
use crate::store::capture;
use crate::sys::chance;

use super::ended::{Ended, Life};
use super::processes::Processes;
use super::progress::{Progress, Stage as Shown, Warning};
use super::settle::told_by_events;
use super::signals::Signals;
use super::snapshot::cancelled;
use super::stdin::Kept;
use super::supervise::Streams;

/// Most of an output that an attempt is told of the one before.
const TOLD_BYTES: usize = 64 * 1024;

/// Which attempt, and what it is told.
#[derive(Clone, Debug)]
pub struct Turn {
    /// From 1.
    pub number: u32,
    /// Why the one before failed; `None` for the first.
    pub feedback: Option<String>,
}

impl Turn {
    /// The first attempt.
    pub fn first() -> Self {
        Self { number: 1, feedback: None }
    }
}

/// What follows a failed attempt: the run, ready for another one, after a wait; or its end.
pub async fn after(
    ended: Box<Ended>,
    turn: &Turn,
    streams: &mut Streams,
    processes: &Processes,
    signals: &mut Signals,
    progress: &Arc<dyn Progress>,
) -> Result<(Life, Turn), Box<Ended>> {
    let life = &ended.life;
    let Some(failure) = ended.failure.clone().or_else(|| told_by_events(life.journal.events())) else {
        return Err(ended);
    };
    let class = class_of(failure.kind, staged_files(life.journal.events()));
    let Ok(longest) = retry::next(&life.spec.retry, turn.number, &failure, class) else { return Err(ended) };
    // What the API asks for is the least; the chance comes on top, so that those it sent away do not come back together.
    let asked = retry_after(life.journal.events());
    let wait = asked.unwrap_or_default().saturating_add(retry::wait(longest, chance::fraction()));
    let at = Instant::now() + wait;
    if processes.deadline().is_some_and(|deadline| deadline <= at) {
        progress.note("no further attempt: it would begin after --deadline");
        return Err(ended);
    }
    match streams.stdin.rewind(life.dir.path(), kept_stdin(life.journal.events())) {
        Ok(true) => {}
        Ok(false) => {
            progress.warn(Warning("no further attempt: its standard input was too large to be kept".to_owned()));
            return Err(ended);
        }
        Err(error) => {
            progress.warn(Warning(format!("no further attempt: its standard input cannot be read again: {error}")));
            return Err(ended);
        }
    }
    progress.stage(Shown::Waiting { failed: turn.number, of: life.spec.retry.retries + 1, why: failure.clone(), wait });
    tokio::select! {
        biased;
        signal = signals.next() => return Err(cancelled(ended.life, signal)),
        () = sleep_until(at) => {}
    }
    let feedback = match life.spec.retry.feedback {
        Feedback::No => None,
        Feedback::File => Some(reason(life, turn.number, &failure)),
    };
    match life.dir.set_attempt_aside(turn.number) {
        Ok(()) => Ok((ended.life, Turn { number: turn.number + 1, feedback })),
        Err(error) => Err(ended.life.fail(ErrorKind::PublishIo, &error)),
    }
}

/// The events of the last attempt, the newest first.
fn of_last_attempt(events: &[Event]) -> impl Iterator<Item = &Event> {
    events.iter().rev().take_while(|event| !matches!(event, Event::AttemptStarted(_)))
}

/// What the last attempt had staged.
fn staged_files(events: &[Event]) -> u64 {
    of_last_attempt(events).map(|event| if let Event::Sealed(sealed) = event { sealed.files } else { 0 }).sum()
}

/// How long the API asked the last attempt to wait.
fn retry_after(events: &[Event]) -> Option<Duration> {
    of_last_attempt(events).find_map(|event| match event {
        Event::AttemptEnded(end) => end.retry_after_ms.map(Duration::from_millis),
        _ => None,
    })
}

fn kept_stdin(events: &[Event]) -> Option<Kept> {
    of_last_attempt(events).find_map(|event| match event {
        Event::AttemptEnded(end) => end.stdin.map(|stdin| Kept { digest: stdin.digest, size: stdin.size }),
        _ => None,
    })
}

/// The reason for a failure, in words for whoever tries again.
fn reason(life: &Life, number: u32, failure: &Failure) -> String {
    let mut text = format!("attempt {number} failed: {} ({})\n", failure.message, failure.kind);
    let verified: Vec<&VerifyRecord> = of_last_attempt(life.journal.events())
        .filter_map(|event| if let Event::VerifyEnded(verify) = event { Some(verify) } else { None })
        .collect();
    for (at, verify) in verified.iter().rev().enumerate().filter(|(_, verify)| verify.exit_code != Some(0)) {
        let command = verify.command.to_string_lossy();
        let code = verify.exit_code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
        let _ = writeln!(text, "\n== verify: {command} ({code}) ==");
        text.push_str(&end_of(&life.dir.join(&format!("verify-{}.log", at + 1))));
    }
    let errors = end_of(&life.dir.join("stderr"));
    if !errors.is_empty() {
        let _ = writeln!(text, "\n== standard error of attempt {number} ==");
        text.push_str(&errors);
    }
    text
}

/// The end of a captured stream, with whatever bytes it has; empty if there is none.
fn end_of(path: &Path) -> String {
    let mut bytes = std::fs::read(path).unwrap_or_default();
    bytes.extend(std::fs::read(capture::tail_path(path)).unwrap_or_default());
    let from = bytes.len().saturating_sub(TOLD_BYTES);
    let mut text = String::from_utf8_lossy(&bytes[from..]).into_owned();
    if from > 0 {
        text.insert_str(0, "(\u{2026})\n");
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
