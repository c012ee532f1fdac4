//! `agentguard show RUN`: all about one run.

mod calls;
mod inside;
mod summary;

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;

pub use calls::{CallForm, calls};

use super::render::{Paint, indent_json, unless_closed};
use super::run_choice::choose;
use crate::store::log::RunLog;

/// Which run, and what of it.
#[derive(Clone, Debug)]
pub struct ShowRequest {
    /// The run, as it was typed.
    pub run: String,
    /// What to show.
    pub what: ShowWhat,
}

/// What to show of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShowWhat {
    /// A page for people.
    Summary(Paint),
    /// The record, indented.
    Json,
}

/// Shows one run of the log in `state_dir` on `out`.
pub fn show(state_dir: &Path, request: &ShowRequest, out: &mut dyn Write) -> anyhow::Result<()> {
    let log = RunLog::at(state_dir);
    let line = choose(&log, &request.run)?;
    let text = match request.what {
        ShowWhat::Summary(paint) => {
            let record = line.record().with_context(|| format!("read {}", log.path().display()))?;
            let inside = inside::tree(&log, &line, &record)?;
            let place = log.locate(line.offset);
            summary::Page { record: &record, inside: &inside, paint, state_dir, place: &place }.text()
        }
        // From the stored bytes, so that a field of a newer version is not lost.
        ShowWhat::Json => indent_json(&line.bytes)
            .with_context(|| format!("the line at byte {} of {} is damaged", line.offset, log.path().display()))?,
    };
    unless_closed(out.write_all(text.as_bytes()).and_then(|()| out.flush())).context("write the run")
}
