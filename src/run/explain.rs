//! What a run would find, were it to begin now: nothing is written or made, and nothing is started but processes that try
//! a view and end.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access as Rights, access};

use crate::model::error_kind::{ErrorKind, Failure};
use crate::model::spec::{IsolationLevel, OutputTarget, RunSpec};
use crate::rules::exit_code::{BLOCKED, GUARD_FAILED, NOT_EXECUTABLE, NOT_FOUND};
use crate::store::run_dir::Alive;
use crate::store::snapshot::{CaptureError, Counted, SnapshotStore};
use crate::store::state_dir::{StateDir, StateDirError};
use crate::sys::inside::{Access, Bind, Entered, InsideError, Starter, Step};
use crate::sys::{clock, mount, mount_table, process};
use crate::view::facilities::LayerPlace;
use crate::view::staging;

use super::breaker::Foresight;
use super::ended::chain;
use super::scene::{Obstacle, Way, all_but, opening, ways};
use super::snapshot::{capture_policy, explain, obstacle, workspace_root};

/// What a run would find.
#[derive(Debug)]
pub struct Outlook {
    /// The state directory; none if a run would make it.
    pub state: Option<StateDir>,
    /// Runs whose supervisor is gone: they would be recovered first.
    pub abandoned: usize,
    /// What the breakers would say. Where they cannot be read, a run begins all the same.
    pub breakers: Result<Foresight, String>,
    /// What would be frozen.
    pub snapshot: Result<Counted, Failure>,
    /// What stands against an overlay.
    pub obstacle: Option<Obstacle>,
    /// The ways to give the agent its view, in the order in which they are tried.
    pub ways: Vec<(Way, Trial)>,
    /// If an overlay's changes would lie on a filesystem of which it is not known whether it holds them: its kind.
    pub doubtful_layer: Option<String>,
    /// What would be executed.
    pub program: Program,
    /// Where staging would lie beside the targets, because the state directory is on another filesystem.
    pub staged_beside: Option<PathBuf>,
}

/// What came of trying one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// The agent would have this one.
    Works(Entered),
    /// The next one would be tried.
    Refused(String),
    /// There is a better one.
    NotNeeded,
}

/// What would be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// This file, as far as it can be told outside of the view.
    Found(PathBuf),
    /// Not there, or not executable: why, and the code that the run would end with.
    Missing(Failure, i32),
}

/// Why a run would not get to its agent, and the code it would end with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub failure: Failure,
    /// agentguard's exit code.
    pub code: i32,
}

/// Nothing can be found out, or no run could begin.
#[derive(Debug, thiserror::Error)]
pub enum OutlookError {
    /// It cannot be used.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// It cannot be written.
    #[error("cannot write to {path:?}, where the state directory is or would be made")]
    Closed {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No process could be made.
    #[error("cannot start processes")]
    Processes(#[source] io::Error),
}

impl Outlook {
    /// Looks at everything that a run of this specification would look at before its agent starts.
    pub fn of(state_path: &Path, spec: &RunSpec) -> Result<Self, OutlookError> {
        // While this process has one thread.
        let starter = Starter::new().map_err(OutlookError::Processes)?;
        let state = match StateDir::open(state_path) {
            Ok(state) => Some(state),
            Err(StateDirError::Absent(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let written = if state_path.is_dir() { state_path } else { state_path.parent().unwrap_or(state_path) };
        access(written, Rights::WRITE_OK | Rights::EXEC_OK)
            .map_err(|errno| OutlookError::Closed { path: written.to_path_buf(), source: errno.into() })?;
        let snapshot = count(state_path, spec);
        let obstacle = obstacle(spec, |_, _| snapshot.as_ref().map_or(0, |counted| counted.foreign));
        let kind = mount_table::mount_of(mount::nearest_existing(state_path)).map(|mounted| mounted.fs_type);
        let kind = kind.unwrap_or_default();
        let ways = try_ways(&starter, spec, obstacle.as_ref(), &kind);
        Ok(Self {
            abandoned: state.as_ref().map_or(0, abandoned),
            breakers: Foresight::of(state.as_ref(), spec).map_err(|error| chain(&error)),
            snapshot,
            obstacle,
            ways,
            doubtful_layer: (LayerPlace::of(&kind) == LayerPlace::Unknown).then_some(kind),
            program: program(spec),
            staged_beside: staged_beside(state_path, spec),
            state,
        })
    }

    /// The way that the agent would have.
    pub fn way(&self) -> Option<(Way, &Entered)> {
        self.ways.iter().find_map(|(way, trial)| match trial {
            Trial::Works(entered) => Some((*way, entered)),
            Trial::Refused(_) | Trial::NotNeeded => None,
        })
    }

    /// The first thing that a run would fail of, in the order in which it would meet them.
    pub fn refusal(&self) -> Option<Refusal> {
        let answers = self.breakers.iter().flat_map(|foresight| &foresight.answers);
        if let Some(failure) = answers.filter_map(|answer| answer.refusal.clone()).next() {
            return Some(Refusal { failure, code: BLOCKED });
        }
        if let Err(failure) = &self.snapshot {
            return Some(Refusal { failure: failure.clone(), code: GUARD_FAILED });
        }
        if self.way().is_none() {
            let why = self.ways.iter().rev().find_map(|(_, trial)| match trial {
                Trial::Refused(why) => Some(why.clone()),
                Trial::Works(_) | Trial::NotNeeded => None,
            });
            let failure = Failure::new(ErrorKind::SpawnFailed, why.unwrap_or_else(|| "no view is left".to_owned()));
            let hint = "`agentguard doctor` tells what is missing and how to get it";
            return Some(Refusal { failure: failure.with_hint(hint.to_owned()), code: GUARD_FAILED });
        }
        match &self.program {
            Program::Found(_) => None,
            Program::Missing(failure, code) => Some(Refusal { failure: failure.clone(), code: *code }),
        }
    }
}

/// What stands at a target now: nothing, a file or a directory.
pub fn stands(target: &OutputTarget) -> Option<&'static str> {
    let metadata = fs::metadata(target.path.as_path()).ok()?;
    Some(if metadata.is_dir() { "a directory" } else { "a file" })
}

fn count(state_path: &Path, spec: &RunSpec) -> Result<Counted, Failure> {
    let policy = capture_policy(spec, state_path)
        .map_err(|error| Failure::new(ErrorKind::SnapshotFailed, format!("a glob to exclude is none: {error}")))?;
    let store = SnapshotStore::at(state_path);
    let counted =
        store.count(spec.project.as_path(), &workspace_root(spec), &policy).map_err(|error| explain(&error))?;
    match counted.too_large {
        Some(largest) => Err(explain(&CaptureError::TooLarge { limit_bytes: policy.limit_bytes, largest })),
        None => Ok(counted),
    }
}

/// Each way is entered, as far as that leaves nothing behind; up to the first that works. `kind`: of the filesystem that
/// the changes of an overlay would lie on.
fn try_ways(starter: &Starter, spec: &RunSpec, obstacle: Option<&Obstacle>, kind: &str) -> Vec<(Way, Trial)> {
    let mut has_one = false;
    let mut tried = Vec::new();
    for way in ways(spec, obstacle) {
        let trial = match way {
            _ if has_one => Trial::NotNeeded,
            Way::Overlay if LayerPlace::of(kind) == LayerPlace::Unfit => {
                Trial::Refused(format!("the state directory's filesystem ({kind}) cannot hold its changes"))
            }
            way => try_way(starter, spec, way),
        };
        has_one |= matches!(trial, Trial::Works(_));
        tried.push((way, trial));
    }
    tried
}

fn try_way(starter: &Starter, spec: &RunSpec, way: Way) -> Trial {
    let steps = steps(spec, way);
    let entered = match starter.try_steps(&steps) {
        // As for an agent: it goes without process ids of its own where it cannot have them.
        Err(_) if steps.contains(&Step::PidNamespace) => {
            let without: Vec<Step> = steps.into_iter().filter(|step| *step != Step::PidNamespace).collect();
            starter.try_steps(&without)
        }
        entered => entered,
    };
    match entered {
        Ok(entered) => Trial::Works(entered),
        Err(InsideError::Step(step)) => Trial::Refused(step.to_string()),
        Err(error) => Trial::Refused(chain(&error)),
    }
}

/// The steps of a way, with nothing in them that has to be made first: the copy is the live tree itself, the layer is in
/// memory, and what a run shows besides is left out.
fn steps(spec: &RunSpec, way: Way) -> Vec<Step> {
    let covered = spec.workspace.as_ref().map_or(&spec.project, |workspace| &workspace.path);
    let mut steps = opening(way, spec.view.isolation, spec.view.network);
    match way {
        Way::Overlay => steps.push(Step::OverlayInMemory { target: covered.clone() }),
        Way::Clone => {
            steps.push(Step::Bind(Bind { from: covered.clone(), to: covered.clone(), access: Access::ReadWrite }));
        }
        Way::EnteredClone | Way::LooseClone | Way::Plain => {}
    }
    steps.push(Step::Enter { directory: spec.cwd.clone() });
    let writable = match (spec.view.isolation, way) {
        (IsolationLevel::Strict, _) => {
            Some([covered].into_iter().chain(&spec.view.allow_write).cloned().collect::<Vec<_>>())
        }
        (IsolationLevel::Auto, Way::EnteredClone) => {
            Some(all_but(covered.as_path()).iter().map(|path| path.as_path().into()).collect())
        }
        _ => None,
    };
    steps.extend(writable.map(|writable| Step::Confine { writable }));
    steps
}

fn program(spec: &RunSpec) -> Program {
    let Some(program) = spec.command.first() else {
        return Program::Missing(Failure::new(ErrorKind::SpawnFailed, "no command".to_owned()), GUARD_FAILED);
    };
    let missing = |message: String, code| Program::Missing(Failure::new(ErrorKind::SpawnFailed, message), code);
    let name = program.to_string_lossy();
    let Some(found) = process::find_program(OsStr::new(&program.as_os_str())) else {
        return missing(format!("command not found: {name:?}"), NOT_FOUND);
    };
    let path = spec.cwd.as_path().join(&found);
    match access(&path, Rights::EXEC_OK) {
        _ if path.is_dir() => missing(format!("cannot execute {name:?}: it is a directory"), NOT_EXECUTABLE),
        Err(errno) => missing(format!("cannot execute {name:?}: {}", io::Error::from(errno)), NOT_EXECUTABLE),
        Ok(()) => Program::Found(path),
    }
}

fn abandoned(state: &StateDir) -> usize {
    let marks = fs::read_dir(state.live()).into_iter().flatten().flatten();
    let runs = marks.filter_map(|mark| mark.file_name().to_str()?.parse().ok());
    runs.filter(|run| !Alive::is_held(state, *run)).count()
}

fn staged_beside(state_path: &Path, spec: &RunSpec) -> Option<PathBuf> {
    let run_id = clock::new_run_id();
    let own = state_path.join("staging");
    let place = staging::place(&own, run_id, spec.outputs.iter());
    let beside = (place != own).then(|| place.parent()?.parent().map(Path::to_path_buf));
    beside.flatten()
}
