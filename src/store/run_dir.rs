//! A run's directory and its mark among the living.
//!
//! ```text
//! runs/<id>/
//!   run.json      what was asked, exactly
//!   journal       the run's events
//!   record.json   the same line as in the log, once ended
//!   outputs       manifest of what was staged
//!   base/         what staging started from, with `--out-from current`
//!   stdin         captured standard input
//!   stdout stderr verify-N.log   captured output (and *.tail: what came after the head)
//!   changes       what was changed below the workspace
//!   plan          operations of a workspace commit (and undo-plan: of the undo)
//!   upper/        what the agent changed, as an overlay's upper layer; after a commit, what was displaced
//!   removed/      what a commit took away
//!   staging/ scratch/ inputs/ agent/ work/ clone/ difference/   while alive
//! live/<id>       lock file, held by the supervisor
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::model::spec::{RunFile, RunSpec};
use crate::model::{RunId, RunRecord};
use crate::sys::{lock, remove};

use super::state_dir::{StateDir, make_private_directory};

/// The version of `run.json`.
pub const RUN_FILE_SCHEMA: u32 = 1;

/// A copy of what the targets held when a run with `--out-from current` began; kept for replay.
pub const BASE_NAME: &str = "base";

/// Directories that exist only while a run lives.
const TRANSIENT: [&str; 6] = ["staging", "scratch", "inputs", "agent", "work", "difference"];

/// Directories that outlive their run only where something can still be decided about it: what is held, or what a commit
/// displaced.
pub const KEPT: [&str; 3] = ["upper", "removed", "clone"];

/// What an attempt and its verify commands said: files whose names begin like this.
const OUTPUTS: [&str; 3] = ["stdout", "stderr", "verify-"];

/// Directories that one attempt has; the next begins without them.
const OF_AN_ATTEMPT: [&str; 6] = ["staging", "scratch", "agent", "work", "upper", "clone"];

/// The directory of one run.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
    run_id: RunId,
}

/// The mark of a live run: its lock is held as long as this value (and the process) lives.
#[derive(Debug)]
pub struct Alive {
    path: PathBuf,
    _lock: File,
}

/// Why a run directory cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// The kernel said no.
    #[error("{step} {path:?}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// A file of the run does not parse.
    #[error("{path:?} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        source: serde_json::Error,
    },
    /// A file of the run was written by a newer agentguard.
    #[error("{path:?} has the newer format {found}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

fn io_error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunDirError {
    let path = path.to_path_buf();
    move |source| RunDirError::Io { step, path, source }
}

impl RunDir {
    /// The directory a run has, or would have.
    pub fn of(state: &StateDir, run_id: RunId) -> Self {
        Self { path: state.runs().join(run_id.to_string()), run_id }
    }

    /// Makes the directory and the run's mark among the living, in an order that leaves nothing a crash could hide:
    /// the mark comes first, so recovery finds whatever follows.
    pub fn create(state: &StateDir, run_id: RunId) -> Result<(Self, Alive), RunDirError> {
        let live = state.live().join(run_id.to_string());
        let temporary = state.live().join(format!("tmp-{run_id}"));
        let held = lock::create_locked(&live, &temporary).map_err(io_error("cannot make", &live))?;
        let alive = Alive { path: live, _lock: held };
        let dir = Self::of(state, run_id);
        make_private_directory(&dir.path).map_err(io_error("cannot make", &dir.path))?;
        Ok((dir, alive))
    }

    /// Which run.
    pub fn run_id(&self) -> RunId {
        self.run_id
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or directory of the run.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The journal's path.
    pub fn journal(&self) -> PathBuf {
        self.join("journal")
    }

    /// Whether there is such a directory.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Makes one of the transient directories, empty, private.
    pub fn make(&self, name: &str) -> Result<PathBuf, RunDirError> {
        let path = self.join(name);
        make_private_directory(&path).map_err(io_error("cannot make", &path))?;
        Ok(path)
    }

    /// Writes `run.json`.
    pub fn write_spec(&self, spec: &RunSpec) -> Result<(), RunDirError> {
        let file = RunFile { schema: RUN_FILE_SCHEMA, run_id: self.run_id, spec: spec.clone() };
        self.write_json("run.json", &file)
    }

    /// Reads `run.json`.
    pub fn read_spec(&self) -> Result<RunSpec, RunDirError> {
        #[derive(serde::Deserialize)]
        struct Version {
            schema: u32,
        }
        let path = self.join("run.json");
        let bytes = std::fs::read(&path).map_err(io_error("cannot read", &path))?;
        let damaged = |source| RunDirError::Damaged { path: path.clone(), source };
        let version: Version = serde_json::from_slice(&bytes).map_err(damaged)?;
        if version.schema > RUN_FILE_SCHEMA {
            return Err(RunDirError::Newer { path, found: version.schema });
        }
        let file: RunFile = serde_json::from_slice(&bytes).map_err(damaged)?;
        Ok(file.spec)
    }

    /// Writes `record.json`, for people who look into the directory; the log is the truth.
    pub fn write_record(&self, record: &RunRecord) -> Result<(), RunDirError> {
        self.write_json("record.json", record)
    }

    fn write_json(&self, name: &str, value: &impl serde::Serialize) -> Result<(), RunDirError> {
        let path = self.join(name);
        let mut bytes =
            serde_json::to_vec(value).map_err(|source| RunDirError::Damaged { path: path.clone(), source })?;
        bytes.push(b'\n');
        write_private(&path, &bytes).map_err(io_error("cannot write", &path))
    }

    /// Makes room for another attempt: what attempt `number` said moves to `attempts/<number>`, what it staged is dropped.
    pub fn set_attempt_aside(&self, number: u32) -> Result<(), RunDirError> {
        let aside = self.join("attempts");
        make_private_directory(&aside).map_err(io_error("cannot make", &aside))?;
        let aside = aside.join(number.to_string());
        make_private_directory(&aside).map_err(io_error("cannot make", &aside))?;
        let entries = std::fs::read_dir(&self.path).map_err(io_error("cannot read", &self.path))?;
        for entry in entries {
            let entry = entry.map_err(io_error("cannot read", &self.path))?;
            let name = entry.file_name();
            let said = name.to_string_lossy();
            if OUTPUTS.iter().any(|output| said.starts_with(output)) {
                std::fs::rename(entry.path(), aside.join(&name)).map_err(io_error("cannot move", &entry.path()))?;
            }
        }
        for name in OF_AN_ATTEMPT {
            let path = self.join(name);
            remove::remove_tree(&path).map_err(io_error("cannot remove", &path))?;
        }
        Ok(())
    }

    /// Removes what exists only while a run lives.
    pub fn sweep(&self) -> Result<(), RunDirError> {
        for name in TRANSIENT {
            let path = self.join(name);
            remove::remove_tree(&path).map_err(io_error("cannot remove", &path))?;
        }
        Ok(())
    }
}

impl Alive {
    /// The mark of a run whose supervisor is gone, taken over; `None` if it is alive, or was recovered meanwhile.
    pub fn take_over(path: &Path) -> Result<Option<Self>, RunDirError> {
        let held = lock::take_abandoned(path).map_err(io_error("cannot lock", path))?;
        Ok(held.map(|held| Self { path: path.to_path_buf(), _lock: held }))
    }

    /// Whether the supervisor of a run is alive. A mark that cannot be looked at is taken for one that is held.
    pub fn is_held(state: &StateDir, run_id: RunId) -> bool {
        lock::is_held(&state.live().join(run_id.to_string())).unwrap_or(true)
    }

    /// Marks an ended run as live again; `None` if it is marked already: somebody else has taken it up.
    pub fn mark(state: &StateDir, run_id: RunId) -> Result<Option<Self>, RunDirError> {
        let live = state.live().join(run_id.to_string());
        if live.exists() {
            return Ok(None);
        }
        let temporary = state.live().join(format!("tmp-{run_id}"));
        match lock::create_locked(&live, &temporary) {
            Ok(held) => Ok(Some(Self { path: live, _lock: held })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(io_error("cannot make", &live)(error)),
        }
    }

    /// The run is over and in the log: nobody needs to look at it again.
    pub fn finish(self) -> Result<(), RunDirError> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("cannot remove", &self.path)(error)),
            _ => Ok(()),
        }
    }
}

/// Writes a private file of the run.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}
