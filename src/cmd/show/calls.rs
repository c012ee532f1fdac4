//! `show RUN --calls`: the model calls that the meter saw, from the run's journal.

use std::io::Write;

use anyhow::Context as _;

use crate::cmd::render::{Cell, Paint, Table, Tint, escape, local_time, tokens};
use crate::model::Event;
use crate::model::call::Call;
use crate::store::journal;
use crate::store::run_dir::RunDir;

/// Columns for people, or a JSON line for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallForm {
    /// Columns.
    Table {
        /// Terminal columns.
        width: Option<usize>,
        /// Colour or not.
        paint: Paint,
    },
    /// JSON lines.
    Json,
}

/// Shows the calls of a run.
pub fn calls(dir: &RunDir, form: CallForm, out: &mut dyn Write) -> anyhow::Result<()> {
    let events = journal::read(&dir.journal()).context("read the run's journal")?;
    let calls = events.into_iter().filter_map(|event| if let Event::Called(call) = event { Some(*call) } else { None });
    match form {
        CallForm::Json => {
            for call in calls {
                writeln!(out, "{}", serde_json::to_string(&call)?)?;
            }
            Ok(())
        }
        CallForm::Table { width, paint } => table(calls, width, paint, out),
    }
}

fn table(
    calls: impl Iterator<Item = Call>,
    width: Option<usize>,
    paint: Paint,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut titles = vec![Cell::left("TIME"), Cell::right("STATUS"), Cell::right("FIRST BYTE"), Cell::right("TOOK")];
    titles.extend(["INPUT", "CACHED", "OUTPUT"].map(Cell::right));
    titles.extend([Cell::left("MODEL"), Cell::left("BY")]);
    let mut table = Table::new(out, paint, width, titles);
    let unknown = || "-".to_owned();
    let millis = |millis: Option<u64>| Cell::right(millis.map_or_else(unknown, |millis| format!("{millis} ms")));
    for call in calls {
        let figure = |of: fn(&crate::model::Tokens) -> u64| {
            Cell::right(call.tokens.as_ref().map_or_else(unknown, |used| tokens(Some(of(used)))))
        };
        let (status, tint) = match (call.status, call.complete) {
            (Some(status), true) if status < 400 => (status.to_string(), Tint::Green),
            (Some(status), false) if status < 400 => (format!("{status} cut"), Tint::Yellow),
            (Some(status), _) => (status.to_string(), Tint::Red),
            (None, _) => ("none".to_owned(), Tint::Red),
        };
        table.row(vec![
            Cell::left(local_time(call.time)),
            Cell::right(status).tinted(tint),
            millis(call.first_byte_ms),
            millis(Some(call.duration_ms)),
            figure(|used| used.input_uncached.saturating_add(used.cache_write)),
            figure(|used| used.input_cached),
            figure(|used| used.output),
            Cell::left(call.model.as_ref().map_or_else(unknown, |model| escape(model.as_bytes()))),
            Cell::left(escape(call.route.as_bytes())),
        ])?;
    }
    Ok(table.finish()?)
}
