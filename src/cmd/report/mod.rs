//! `agentguard report`: the runs as one page of HTML that needs nothing else: no network, no other file, no script.
//!
//! The log is read once, newest first, and folded as it is read: figures and charts are of every run that was asked
//! for, whatever their number; rows, details and names are bounded, so that the page is. Nothing that a run could
//! choose reaches the page but through [`html`], and the page's own policy (`Content-Security-Policy`) lets nothing
//! run but the one script whose hash it names.

mod agents;
mod breakers;
mod chart;
mod detail;
mod gather;
mod histogram;
mod html;
mod island;
mod lists;
mod page;
mod row;
mod words;

use std::io::Write;

use anyhow::Context as _;

use crate::model::{Text, Timestamp};
use crate::store::state_dir::StateDir;
use crate::sys::clock;

use super::render::escape;

/// Which runs.
#[derive(Clone, Debug, Default)]
pub struct ReportRequest {
    /// Of one of these agents; none: of all.
    pub agents: Vec<Text>,
    /// Started then or later.
    pub since: Option<Timestamp>,
    /// Started before then.
    pub until: Option<Timestamp>,
}

/// What is on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ReportAnswer {
    /// Runs that were counted.
    pub runs: u64,
    /// Lines of the log that are no records.
    pub damaged: u64,
}

/// Writes the page to `out`; damaged lines of the log are named on `warn` and passed over.
pub fn report(
    state: &StateDir,
    request: &ReportRequest,
    out: &mut dyn Write,
    warn: &mut dyn Write,
) -> anyhow::Result<ReportAnswer> {
    let now = clock::now();
    let gathered = gather::gather(state, request, warn)?;
    let breakers = match breakers::section(state, request, &gathered, now) {
        Ok(section) => section,
        // The breakers are a part of the page, not a condition of it.
        Err(error) => {
            writeln!(warn, "agentguard: warning: {}", escape(format!("the breakers: {error:#}").as_bytes()))?;
            String::new()
        }
    };
    let answer = ReportAnswer { runs: gathered.totals.runs, damaged: gathered.damaged };
    let page = page::page(state, request, gathered, &breakers, now);
    out.write_all(page.as_bytes()).context("write the report")?;
    Ok(answer)
}
