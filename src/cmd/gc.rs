//! `agentguard gc`: remove what is kept no longer.

use std::io::Write;

use anyhow::Context as _;

use crate::model::{ByteSize, Timestamp};
use crate::rules::retention::{Protection, Reason, RetentionPolicy};
use crate::run::recover::{Outcome, recover};
use crate::run::resolve::Surroundings;
use crate::store::log::RunLog;
use crate::store::retention::{Removal, carry_out, survey};
use crate::store::state_dir::StateDir;

use super::recover::Health;
use super::render::escape;
use super::run::describe;

/// What was asked.
#[derive(Clone, Debug)]
pub struct GcRequest {
    /// Where.
    pub at: Surroundings,
    /// What is kept.
    pub policy: RetentionPolicy,
    /// The log's newest file becomes a segment once it has so many bytes.
    pub segment_bytes: u64,
    /// Whether anything is done.
    pub doing: Doing,
}

/// Whether anything is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It is.
    Remove,
    /// It is only told.
    Tell,
}

/// Removes, and says what.
pub fn gc(request: &GcRequest, now: Timestamp, out: &mut dyn Write) -> anyhow::Result<Health> {
    let state = StateDir::open(&request.at.state)?;
    let mut health = Health::Well;
    if request.doing == Doing::Remove {
        for one in recover(&state) {
            writeln!(out, "run {}: {}", one.run, escape(describe(&one.what).as_bytes()))?;
            if matches!(one.what, Outcome::Stuck(_)) {
                health = Health::Unwell;
            }
        }
    }
    let mut found = survey(&state)?;
    let (removal, verbs) = match request.doing {
        Doing::Remove => (carry_out(&state, &mut found, &request.policy)?, ("removed", "freed")),
        Doing::Tell => {
            let mut told = found.plan(&state, &request.policy, now)?;
            told.warnings = std::mem::take(&mut found.warnings);
            (told, ("would remove", "would free"))
        }
    };
    tell(&removal, verbs, out)?;
    rotate(&state, request, out)?;
    if removal.warnings.is_empty() { Ok(health) } else { Ok(Health::Unwell) }
}

fn tell(removal: &Removal, (remove, free): (&str, &str), out: &mut dyn Write) -> anyhow::Result<()> {
    for (run_id, reason, bytes) in &removal.runs {
        writeln!(out, "{remove} run {run_id}: {}, {}", because(*reason), ByteSize(*bytes))?;
    }
    for (run_id, protection) in &removal.protected {
        writeln!(out, "kept run {run_id}: {}", although(*protection))?;
    }
    for warning in &removal.warnings {
        writeln!(out, "{}; no file of the snapshot store is removed", escape(warning.as_bytes()))?;
    }
    let (store, remains) = (removal.store.0, removal.remains.0);
    writeln!(
        out,
        "{free} {}: {} runs, {store} files of the snapshot store, {remains} remains",
        ByteSize(removal.bytes()),
        removal.runs.len()
    )?;
    Ok(())
}

fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::Age => "too old",
        Reason::Number => "there are enough newer ones",
        Reason::Size => "too much is kept",
    }
}

fn although(protection: Protection) -> &'static str {
    match protection {
        Protection::Live => "it is alive, or being decided on",
        Protection::Held => "it waits for apply or discard",
        Protection::Unacknowledged => "it failed, and nobody has acknowledged that (--keep-failed-days)",
        Protection::Unclear => "its journal is damaged or has no end (agentguard fsck)",
    }
}

/// The log loses nothing: its newest file gets a number, and the next line begins a new one.
fn rotate(state: &StateDir, request: &GcRequest, out: &mut dyn Write) -> anyhow::Result<()> {
    let log = RunLog::at(state.path());
    if request.doing == Doing::Tell {
        let bytes = log.open_bytes();
        if bytes > 0 && bytes >= request.segment_bytes {
            writeln!(out, "would close the log's newest file ({})", ByteSize(bytes))?;
        }
        return Ok(());
    }
    if let Some(rotated) = log.rotate(request.segment_bytes).context("cannot close the log's newest file")? {
        writeln!(out, "closed the log's newest file: {}", escape(rotated.segment.as_os_str().as_encoded_bytes()))?;
        if let Some(torn) = rotated.repaired {
            writeln!(out, "the log's torn end was moved to {}", escape(torn.as_os_str().as_encoded_bytes()))?;
        }
    }
    Ok(())
}
