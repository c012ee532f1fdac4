//! `agentguard diff RUN`: what a run changed, as a patch or as a list; `agentguard diff RUN RUN`: how two runs differ.

mod lines;
mod listing;
mod pair;
mod patch;
mod paths;
mod quote;
mod rows;
mod runs;
mod sources;
mod stat;
mod style;
mod subject;
mod trees;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context as _;

use super::render::unless_closed;
use super::run_choice::choose;
use crate::model::RunRecord;
use crate::model::change::ChangedPath;
use crate::store::log::RunLog;
use crate::store::snapshot::SnapshotStore;
use crate::store::state_dir::StateDir;

pub use listing::Names;
pub use runs::{CompareForm, compare};
pub use sources::PreimageOf;
pub use style::{Reader, Style};

use pair::Pair;
use paths::Filter;
use rows::{Row, rows};
use sources::Sources;
use subject::Subject;

/// Which run, and how its changes are shown.
#[derive(Clone, Debug)]
pub struct DiffRequest {
    /// The run, as it was typed.
    pub run: String,
    /// In which form.
    pub form: DiffForm,
    /// Only what is below, or matches, one of these; everything where there are none.
    pub paths: Vec<OsString>,
    /// Where those were typed.
    pub cwd: PathBuf,
    /// How it looks.
    pub style: Style,
}

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiffForm {
    /// A patch.
    Patch {
        /// Same lines around what differs.
        context: usize,
    },
    /// A graph of how much changed in each file.
    Stat {
        /// Columns of the terminal, where there is one.
        width: Option<usize>,
    },
    /// Lines added and removed in each file.
    NumStat(Names),
    /// A letter and the name of each file.
    NameStatus(Names),
    /// The name of each file.
    NameOnly(Names),
    /// One JSON array of all changed paths, directories included.
    Json,
}

/// What was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct DiffAnswer {
    /// Whether there was anything to show.
    pub has_changes: bool,
    /// What a person should know about it.
    pub notes: Vec<String>,
}

/// Shows what a run changed.
pub fn diff(
    state: &StateDir,
    request: &DiffRequest,
    preimage: &PreimageOf<'_>,
    out: &mut dyn Write,
) -> anyhow::Result<DiffAnswer> {
    let subject = Subject::of(state, &record(state, &request.run)?)?;
    let filter = Filter::new(&request.paths, &request.cwd, subject.root.as_deref())?;
    let rows = rows(&subject.changes, &filter);
    let store = SnapshotStore::at(state.path());
    let sources = Sources::of(&subject, &store, &rows, preimage);
    let mut out = BufWriter::new(out);
    let shown = match request.form {
        DiffForm::Json => {
            let changed = subject.changes.paths.iter().filter(|changed| filter.lets_through(&changed.path.0));
            write_json(changed, &sources, &mut out)
        }
        form => write_rows(&rows, &sources, form, request.style, &mut out),
    };
    let has_changes = !rows.is_empty();
    unless_closed(shown.and_then(|()| out.flush())).context("write the changes")?;
    Ok(DiffAnswer { has_changes, notes: subject.notes.clone() })
}

/// The record of the run that `text` names.
fn record(state: &StateDir, text: &str) -> anyhow::Result<RunRecord> {
    let log = RunLog::at(state.path());
    choose(&log, text)?.record().with_context(|| format!("cannot read {:?}", log.path()))
}

fn write_rows(
    rows: &[Row<'_>],
    sources: &Sources<'_>,
    form: DiffForm,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut stat = stat::Stat::default();
    for row in rows {
        match form {
            DiffForm::Patch { context } => patch::Patch { out, style, context }.row(row, &Pair::of(row, sources))?,
            DiffForm::Stat { .. } => stat.row(row, &Pair::of(row, sources)),
            DiffForm::NumStat(names) => listing::numbers(row, &Pair::of(row, sources), names, out)?,
            DiffForm::NameStatus(names) => listing::status(row, names, out)?,
            DiffForm::NameOnly(names) => listing::name(row, names, out)?,
            DiffForm::Json => {}
        }
    }
    match form {
        DiffForm::Stat { width } => stat.finish(style, width, out),
        _ => Ok(()),
    }
}

fn write_json<'a>(
    changed: impl Iterator<Item = &'a ChangedPath>,
    sources: &Sources<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut array = listing::Array::begin();
    for changed in changed {
        let row = Row { path: &changed.path.0, before: changed.before, after: changed.after };
        array.add(changed, Pair::of(&row, sources).difference().counts(), out)?;
    }
    array.finish(out)
}
