//! The first stage: the run gets its id, its directory, its mark among the living and its first event.
//!
//! Everything that can be refused has been refused before (`resolve`); from here on the run will be in the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::error_kind::ErrorKind;
use crate::model::event::{Event, Header, Identity};
use crate::model::record::{Isolation, Mode};
use crate::model::spec::OutputTarget;
use crate::model::{Digest, RunId, RunSpec};
use crate::rules::redact::redact_command;
use crate::store::git_state;
use crate::store::journal::{Journal, JournalError};
use crate::store::run_dir::{RunDir, RunDirError};
use crate::store::snapshot::{RootChange, fingerprint};
use crate::store::state_dir::StateDir;
use crate::sys::{clock, crash, host, identity};

use super::breaker;
use super::day_budget;
use super::ended::{Life, Stage};
use super::progress::Progress;

/// A run that is about to begin.
#[derive(Clone, Copy, Debug)]
pub struct NewRun {
    /// Its id.
    pub run_id: RunId,
    /// The moment from which on a change in the workspace is not agentguard's own, as files are stamped.
    pub began: (i64, u32),
}

impl NewRun {
    /// A run with an id of its own.
    ///
    /// Whoever has not `touched` the project in this process has the run count from the process's beginning, which makes the
    /// wait for the clock's tick shorter. What was touched (a state directory, a recovered commit, a directory to pass
    /// through) has stamps of its own, which would pass for somebody else's change.
    pub fn mint(touched: Touched) -> Self {
        let began = match touched {
            Touched::Nothing => clock::stamp_of_start(),
            Touched::Something => clock::stamp_now(),
        };
        Self { run_id: clock::new_run_id(), began }
    }
}

/// Whether this process may have changed anything in the project before the run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    /// It has only read.
    Nothing,
    /// It may have.
    Something,
}

/// A run that exists, and what its targets were when it began.
#[derive(Debug)]
#[must_use]
pub struct Begun {
    /// The run.
    pub life: Life,
    /// Its targets, in the order of the specification.
    pub targets: Vec<Target>,
    /// The moment before anything of the run was done, as files are stamped: the earlier it is, the shorter the wait until
    /// the agent may start ([`clock::wait_past`]).
    pub began: (i64, u32),
}

/// A target and what stood there when the run began.
#[derive(Clone, Debug)]
pub struct Target {
    /// What was asked.
    pub output: OutputTarget,
    /// What stood there; any difference at commit is a conflict.
    pub before: Before,
}

/// What stood at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// Which object; `None` where there was none.
    pub identity: Option<Identity>,
    /// Over every path below it: kind, mode, owner, size, times, inode.
    pub fingerprint: Option<Digest>,
}

/// Why a run could not begin. Nothing was spawned; what was made is swept by the next command.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Its directory or mark could not be made.
    #[error("cannot begin a run")]
    Directory(#[source] RunDirError),
    /// Its journal could not be made.
    #[error("cannot begin a run")]
    Journal(#[source] JournalError),
    /// A crash point of a test struck.
    #[error("cannot begin a run")]
    Struck(#[source] std::io::Error),
}

/// Begins a run.
///
/// It ends here if something that it needs is known to be broken.
pub fn begin(
    state: &StateDir,
    spec: RunSpec,
    NewRun { run_id, began }: NewRun,
    progress: &Arc<dyn Progress>,
) -> Result<Stage<Begun>, BeginError> {
    let header = header(&spec, run_id);
    let (dir, alive) = RunDir::create(state, run_id).map_err(BeginError::Directory)?;
    crash::point("run.marked").map_err(BeginError::Struck)?;
    dir.write_spec(&spec).map_err(BeginError::Directory)?;
    let mut journal = Journal::create(&dir.journal()).map_err(BeginError::Journal)?;
    journal.append(Event::Started(Box::new(header))).map_err(BeginError::Journal)?;
    crash::point("run.started").map_err(BeginError::Struck)?;
    let life = Life { state: state.clone(), dir, alive, journal, spec };
    Ok(day_budget::admit(life)
        .and_then(|life| breaker::admit(life, progress))
        .and_then(|life| observe_targets(life, began)))
}

fn header(spec: &RunSpec, run_id: RunId) -> Header {
    Header {
        run_id,
        time: clock::now(),
        agent: spec.agent.clone(),
        command: redact_command(&spec.command),
        cwd: spec.cwd.clone(),
        mode: if spec.workspace.is_some() { Mode::Workspace } else { Mode::Publish },
        targets: match &spec.workspace {
            Some(workspace) => vec![workspace.name.clone()],
            None => spec.outputs.iter().map(|output| output.name.clone()).collect(),
        },
        needs: spec.needs.clone(),
        labels: spec.labels.clone(),
        parent_run_id: spec.parent_run_id,
        replay_of: spec.replay_of,
        redrive_of: spec.redrive_of,
        host: host::host_name(),
        user: host::user_name(),
        agentguard: env!("CARGO_PKG_VERSION").to_owned(),
        git: git_state::read(spec.cwd.as_path()),
        // What was really in force is told by the attempt.
        isolation: Isolation {
            view: "none".to_owned(),
            level: "none".to_owned(),
            landlock_abi: None,
            network: "host".to_owned(),
            processes: None,
        },
    }
}

fn observe_targets(life: Life, began: (i64, u32)) -> Stage<Begun> {
    let mut targets = Vec::with_capacity(life.spec.outputs.len());
    for output in &life.spec.outputs {
        match observe(output.path.as_path()) {
            Ok(before) => targets.push(Target { output: output.clone(), before }),
            Err(error) => return Err(life.fail(ErrorKind::PublishIo, &error)),
        }
    }
    Ok(Begun { life, targets, began })
}

/// A target could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("cannot look at the target {path:?}")]
pub struct ObserveError {
    path: PathBuf,
    source: std::io::Error,
}

/// What stands at a target now.
pub fn observe(path: &Path) -> Result<Before, ObserveError> {
    let look = || -> std::io::Result<Before> {
        Ok(Before { identity: identity::identity(path)?, fingerprint: fingerprint(path, RootChange::RenameAllowed)? })
    };
    look().map_err(|source| ObserveError { path: path.to_path_buf(), source })
}
