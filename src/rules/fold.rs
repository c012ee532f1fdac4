//! The run record as a pure fold of the run's events: the same function writes it at the end of a run and on behalf
//! of one whose supervisor was killed.

use crate::model::error_kind::{ErrorClass, Failure, Status};
use crate::model::event::{AttemptEnd, AttemptStart, Event, Header, Sealed, Settled};
use crate::model::record::{AttemptRecord, Changes, Isolation, RECORD_SCHEMA, RunRecord, Usage, VerifyRecord};
use crate::model::{Digest, Timestamp};

use super::classify::class_of;
use super::lifecycle::{IllegalTransition, phase_after};

/// Why events do not make a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// The events are in no legal order.
    #[error("the journal is not the life of a run")]
    Illegal(#[source] IllegalTransition),
    /// The first or the last event is missing.
    #[error("the journal has no {0} event")]
    Missing(&'static str),
}

/// What the fold has seen so far.
#[derive(Default)]
struct Seen<'a> {
    header: Option<&'a Header>,
    input_hash: Option<Digest>,
    attempt: Option<&'a AttemptStart>,
    ended: Option<&'a AttemptEnd>,
    sealed: Option<&'a Sealed>,
    attempts: Vec<AttemptRecord>,
    usages: Vec<Option<Usage>>,
    cost_sources: Vec<String>,
    verify: Vec<VerifyRecord>,
    failure: Option<Failure>,
    staged_files: u64,
    changes: Option<Changes>,
    published: bool,
    settled: Option<&'a Settled>,
    end_time: Option<Timestamp>,
    isolation: Option<Isolation>,
    leaked_processes: Option<u64>,
}

/// The record of a settled run; `prev` stays null until the log appends it.
pub fn fold(events: &[Event]) -> Result<RunRecord, FoldError> {
    phase_after(events).map_err(FoldError::Illegal)?;
    let mut seen = Seen::default();
    for event in events {
        seen.take(event);
        // What is decided about the run after its end is in its journal, not in its record.
        if matches!(event, Event::Settled(_)) {
            break;
        }
    }
    seen.close_attempt();
    seen.into_record()
}

impl<'a> Seen<'a> {
    fn take(&mut self, event: &'a Event) {
        match event {
            Event::Started(header) => self.header = Some(header),
            Event::Snapshotted(taken) => self.input_hash = Some(taken.input_hash),
            Event::AttemptStarted(start) => {
                self.close_attempt();
                self.attempt = Some(start);
                self.verify.clear();
                (self.failure, self.sealed, self.staged_files) = (None, None, 0);
            }
            Event::AttemptEnded(end) => {
                self.failure.clone_from(&end.failure);
                // Standard input belongs to the inputs and is known only now.
                self.input_hash = end.stdin.and_then(|stdin| stdin.input_hash).or(self.input_hash);
                self.leaked_processes = match (self.leaked_processes, end.leaked_processes) {
                    (None, now) => now,
                    (before, None) => before,
                    (Some(before), Some(now)) => Some(before.saturating_add(now)),
                };
                self.isolation = end.isolation.clone().or(self.isolation.take());
                self.ended = Some(end);
            }
            Event::Sealed(sealed) => {
                self.staged_files = sealed.files;
                self.sealed = Some(sealed);
            }
            Event::VerifyEnded(verify) => self.verify.push(verify.clone()),
            // A failed attempt is its own reason: the gate is not asked.
            Event::Judged(judged) => self.failure.clone_from(&judged.rejection),
            Event::CommitIntended(plan) => self.changes = Some(plan.changes),
            Event::CommitDone(_) => self.published = true,
            Event::CommitAborted(aborted) => {
                self.failure = Some(aborted.failure.clone());
                self.changes = None;
            }
            Event::Interrupted(found) => self.staged_files = found.staged_files,
            // Their sum is in the attempt's end.
            Event::Called(_) | Event::Reopened(_) | Event::Closed(_) => {}
            Event::Settled(settled) => {
                if settled.failure.is_some() {
                    self.failure.clone_from(&settled.failure);
                }
                self.end_time = Some(settled.time);
                self.settled = Some(settled);
            }
        }
    }

    /// The attempt that was open becomes a record; one whose supervisor died has no end of its own.
    fn close_attempt(&mut self) {
        let Some(start) = self.attempt.take() else { return };
        let (ended, sealed) = (self.ended.take(), self.sealed);
        let end = ended.map_or(self.end_time.unwrap_or(start.time), |end| end.time);
        let error = ended.and_then(|end| end.failure.clone()).or_else(|| self.failure.clone());
        let staged_files = sealed.map_or(self.staged_files, |sealed| sealed.files);
        self.attempts.push(AttemptRecord {
            start: start.time,
            end,
            exit_code: ended.and_then(|end| end.exit_code),
            signal: ended.and_then(|end| end.signal),
            error_class: error.as_ref().map(|error| class_of(error.kind, staged_files)),
            error,
            tokens: ended.and_then(|end| end.usage.as_ref()).and_then(Usage::tokens),
            cost: ended.and_then(|end| end.cost_usd),
            staged_files,
            staged_bytes: sealed.map_or(0, |sealed| sealed.bytes),
        });
        self.usages.push(ended.and_then(|end| end.usage.clone()));
        self.cost_sources.extend(ended.and_then(|end| end.cost_source.clone()));
    }

    fn error_class(&self, status: Status) -> Option<ErrorClass> {
        match status {
            Status::Succeeded | Status::Held => None,
            _ => self.failure.as_ref().map(|failure| class_of(failure.kind, self.staged_files)),
        }
    }

    fn into_record(self) -> Result<RunRecord, FoldError> {
        let header = self.header.ok_or(FoldError::Missing("started"))?;
        let settled = self.settled.ok_or(FoldError::Missing("settled"))?;
        let last = self.attempts.last();
        let tokens = sum(self.attempts.iter().map(|attempt| attempt.tokens), u64::checked_add);
        let cost = sum(self.attempts.iter().map(|attempt| attempt.cost), |left, right| Some(left + right));
        Ok(RunRecord {
            run_id: header.run_id,
            start_time: header.time,
            end_time: settled.time,
            status: settled.status,
            input_hash: self.input_hash,
            output_hash: self.sealed.and_then(|sealed| sealed.output_hash),
            tokens_used: tokens,
            cost_usd: cost,
            error_class: self.error_class(settled.status),
            schema: RECORD_SCHEMA,
            agent: header.agent.clone(),
            command: header.command.clone(),
            cwd: header.cwd.clone(),
            mode: header.mode,
            targets: header.targets.clone(),
            published: self.published,
            exit_code: last.and_then(|attempt| attempt.exit_code),
            signal: last.and_then(|attempt| attempt.signal),
            guard_exit_code: settled.guard_exit_code,
            usage: total_usage(&self.usages),
            cost_source: cost.map(|_| cost_source(&self.cost_sources)),
            error: match settled.status {
                Status::Succeeded | Status::Held => None,
                _ => self.failure,
            },
            attempts: self.attempts,
            verify: self.verify,
            changes: self.changes,
            discarded: self.sealed.and_then(|sealed| sealed.discarded),
            leaked_processes: self.leaked_processes,
            isolation: self.isolation.unwrap_or_else(|| header.isolation.clone()),
            input_drift: self.sealed.and_then(|sealed| sealed.drift.clone()),
            needs: header.needs.clone(),
            labels: header.labels.clone(),
            parent_run_id: header.parent_run_id,
            replay_of: header.replay_of,
            redrive_of: header.redrive_of,
            host: header.host.clone(),
            user: header.user.clone(),
            agentguard: header.agentguard.clone(),
            git: header.git.clone(),
            prev: None,
        })
    }
}

/// Where the cost of all attempts comes from: a sum is priced if a part of it is.
fn cost_source(sources: &[String]) -> String {
    let priced = sources.iter().filter(|source| *source != "reported").max();
    priced.cloned().unwrap_or_else(|| "reported".to_owned())
}

/// Usage over all attempts, under the same rule as [`sum`].
fn total_usage(usages: &[Option<Usage>]) -> Option<Usage> {
    let mut total: Option<Usage> = None;
    for usage in usages {
        let usage = usage.as_ref()?;
        total = Some(match total {
            None => usage.clone(),
            Some(before) => add_usage(before, usage)?,
        });
    }
    total
}

fn add_usage(mut total: Usage, more: &Usage) -> Option<Usage> {
    total.input_uncached = total.input_uncached.checked_add(more.input_uncached)?;
    total.input_cached = total.input_cached.checked_add(more.input_cached)?;
    total.cache_write = total.cache_write.checked_add(more.cache_write)?;
    total.output = total.output.checked_add(more.output)?;
    total.reasoning = total.reasoning.zip(more.reasoning).and_then(|(left, right)| left.checked_add(right));
    total.calls = total.calls.zip(more.calls).and_then(|(left, right)| left.checked_add(right));
    total.models.extend(more.models.iter().cloned());
    total.models.sort();
    total.models.dedup();
    total.exact &= more.exact;
    Some(total)
}

/// The sum of what is known; null if nothing is, or if one attempt is unknown: unknown is null, never zero.
fn sum<T: Copy>(values: impl Iterator<Item = Option<T>>, add: impl Fn(T, T) -> Option<T>) -> Option<T> {
    let mut total = None;
    for value in values {
        let value = value?;
        total = Some(match total {
            None => value,
            Some(before) => add(before, value)?,
        });
    }
    total
}
