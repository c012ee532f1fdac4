//! The one line at the end of a run, on standard error.

use std::fmt::Write as _;
use std::time::Duration;

use crate::cmd::render::{byte_count, duration, escape};
use crate::model::record::Mode;
use crate::model::{RunRecord, Status, Text};
use crate::run::settle::Finished;

/// What a run came to, in one line, and what to do about it in at most one more.
pub fn summary(finished: &Finished) -> String {
    let record = &finished.record;
    let mut parts = vec![outcome(finished)];
    parts.extend(verified(record));
    parts.push(format!("run {}", record.run_id.short()));
    let mut text = format!("agentguard: {}", parts.join(" · "));
    if let Some(hint) = record.error.as_ref().and_then(|error| error.hint.as_ref()) {
        // Writing to a String cannot fail.
        let _ = write!(text, "\nhint: {}", escape(hint.as_bytes()));
    }
    text
}

fn outcome(finished: &Finished) -> String {
    let record = &finished.record;
    match (record.status, &record.error) {
        (Status::Succeeded, _) if record.published && record.mode == Mode::Workspace => changed(record),
        (Status::Succeeded, _) if record.published => published(record, &finished.untouched),
        (Status::Succeeded, _) if record.output_hash.is_some() => "accepted, not published".to_owned(),
        (Status::Succeeded, _) if record.mode == Mode::Workspace => {
            "nothing to publish: the agent changed nothing".to_owned()
        }
        (Status::Succeeded, _) => "nothing to publish: the agent staged nothing".to_owned(),
        (Status::Held, _) => {
            let run = record.run_id.short();
            format!("held for a decision: agentguard diff {run}, then apply {run} or discard {run}")
        }
        (status, Some(error)) => {
            let message = escape(error.message.as_bytes());
            if record.published {
                format!("{status}: {message}")
            } else {
                format!("{status}, nothing published: {message}")
            }
        }
        (status, None) => status.to_string(),
    }
}

fn published(record: &RunRecord, untouched: &[Text]) -> String {
    let changes = record.changes.unwrap_or_default();
    let files = record.attempts.last().map_or(0, |attempt| attempt.staged_files);
    let plural = if files == 1 { "file" } else { "files" };
    let targets: Vec<&Text> = record.targets.iter().filter(|target| !untouched.contains(target)).collect();
    let to = match targets.as_slice() {
        [] => "nowhere".to_owned(),
        [one] => escape(&one.0),
        [first, rest @ ..] => format!("{} and {} more", escape(&first.0), rest.len()),
    };
    let mut text = format!("published {files} {plural} ({}) to {to}", byte_count(changes.bytes));
    if let [first, ..] = untouched {
        let _ = write!(text, ", {} not written by the agent and left as it was", escape(&first.0));
        if untouched.len() > 1 {
            let _ = write!(text, " (and {} more)", untouched.len() - 1);
        }
    }
    text
}

fn changed(record: &RunRecord) -> String {
    let changes = record.changes.unwrap_or_default();
    let counts = [(changes.created, "created"), (changes.modified, "modified"), (changes.deleted, "deleted")];
    let counts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let workspace = record.targets.first().map_or_else(|| ".".to_owned(), |target| escape(&target.0));
    format!("published to {workspace}: {} ({})", counts.join(", "), byte_count(changes.bytes))
}

fn verified(record: &RunRecord) -> Option<String> {
    let passed = !record.verify.is_empty() && record.verify.iter().all(|verify| verify.exit_code == Some(0));
    let took: u64 = record.verify.iter().map(|verify| verify.duration_ms).sum();
    passed.then(|| format!("verified in {}", duration(Duration::from_millis(took))))
}
