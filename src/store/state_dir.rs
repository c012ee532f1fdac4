//! The state directory: where it is, whose it is, which format it has.
//!
//! ```text
//! .agentguard/
//!   format        "agentguard-state 1"
//!   .gitignore    "*"
//!   runs.jsonl    the run log; older lines in runs-<n>.jsonl
//!   acks.jsonl    failures that somebody has acknowledged
//!   runs/<id>/    one directory per run
//!   live/<id>     lock files: held by the supervisor of a run that is not settled
//!   breakers/     what is remembered of agents that failed, and what agents need
//!   kept.lock     held by `gc` while it removes, and shared by whoever is about to rely on what is kept
//!   import/       a bundle that is being imported (import.lock is held)
//!   trash/        displaced trees, removed once their readers have had time
//!   snapshots/ cache/
//! ```

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::sys::durable;

/// The name of the state directory in the project root.
pub const STATE_NAME: &str = ".agentguard";

/// The name of the configuration file that also marks a project root.
pub const CONFIG_NAME: &str = "agentguard.toml";

const FORMAT: &str = "agentguard-state 1\n";
const FORMAT_WORD: &str = "agentguard-state ";

/// An opened state directory, of this user and of this format.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// There is none, and the command only reads.
    #[error("no run was ever recorded here: there is no state directory {0:?}")]
    Absent(PathBuf),
    /// It belongs to somebody else.
    #[error("the state directory {path:?} belongs to uid {owner}, not to you (uid {own})")]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The caller.
        own: u32,
    },
    /// Others may write to it.
    #[error("the state directory {0:?} can be written by others")]
    Exposed(PathBuf),
    /// It is something else than a directory.
    #[error("the state directory {0:?} is not a directory")]
    NotDirectory(PathBuf),
    /// It was written by a newer agentguard.
    #[error(
        "the state directory {path:?} has the newer format {found:?}; this agentguard reads up to \"agentguard-state 1\""
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// What its format file says.
        found: String,
    },
    /// Its format file is no format file.
    #[error("the format file of the state directory {path:?} is damaged: {found:?}")]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What its format file says.
        found: String,
    },
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
}

/// The nearest directory upward that holds `agentguard.toml`, else the git top level, else the directory itself.
pub fn project_root(cwd: &Path) -> PathBuf {
    let holding = |name: &str| cwd.ancestors().find(|dir| dir.join(name).symlink_metadata().is_ok());
    holding(CONFIG_NAME).or_else(|| holding(".git")).unwrap_or(cwd).to_path_buf()
}

impl StateDir {
    /// Opens the directory for writing; makes it (0700, with its own `.gitignore`) where there is none.
    ///
    /// A crash while it is being made leaves a directory without `format`, which the next call completes.
    pub fn open_or_create(path: &Path) -> Result<Self, StateDirError> {
        let state = Self { path: path.to_path_buf() };
        match state.check() {
            Ok(()) => return Ok(state),
            Err(StateDirError::Absent(_)) => {}
            Err(error) => return Err(error),
        }
        state.create()?;
        state.check()?;
        Ok(state)
    }

    /// Opens the directory for reading.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let state = Self { path: path.to_path_buf() };
        state.check()?;
        Ok(state)
    }

    /// Whether the directory was made before `moment`, as files are stamped: whoever made it then changed the directory that
    /// it lies in.
    pub fn is_older_than(&self, moment: (i64, u32)) -> bool {
        let made = |format: std::fs::Metadata| (format.mtime(), u32::try_from(format.mtime_nsec()).unwrap_or(u32::MAX));
        std::fs::metadata(self.path.join("format")).is_ok_and(|format| made(format) < moment)
    }

    /// Says what is wrong with a directory that exists; one that does not is fine.
    pub fn refuse_unusable(path: &Path) -> Result<(), StateDirError> {
        match (Self { path: path.to_path_buf() }).check() {
            Err(StateDirError::Absent(_)) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn check(&self) -> Result<(), StateDirError> {
        let at = |step, path: &Path, source| StateDirError::Io { step, path: path.to_path_buf(), source };
        let metadata = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StateDirError::Absent(self.path.clone()));
            }
            Err(error) => return Err(at("cannot look at the state directory", &self.path, error)),
        };
        if !metadata.is_dir() {
            return Err(StateDirError::NotDirectory(self.path.clone()));
        }
        let own = rustix::process::geteuid().as_raw();
        if metadata.uid() != own {
            return Err(StateDirError::Foreign { path: self.path.clone(), owner: metadata.uid(), own });
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(StateDirError::Exposed(self.path.clone()));
        }
        let file = self.path.join("format");
        match std::fs::read(&file) {
            Ok(found) if found == FORMAT.as_bytes() => Ok(()),
            Ok(found) => Err(self.wrong_format(&String::from_utf8_lossy(&found))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StateDirError::Absent(self.path.clone())),
            Err(error) => Err(at("cannot read", &file, error)),
        }
    }

    fn wrong_format(&self, found: &str) -> StateDirError {
        let (path, shown) = (self.path.clone(), found.trim_end().chars().take(80).collect());
        let version = found.trim_end().strip_prefix(FORMAT_WORD).and_then(|text| text.parse::<u32>().ok());
        match version {
            Some(version) if version > 1 => StateDirError::Newer { path, found: shown },
            _ => StateDirError::Damaged { path, found: shown },
        }
    }

    fn create(&self) -> Result<(), StateDirError> {
        let at = |step, path: &Path| {
            let path = path.to_path_buf();
            move |source| StateDirError::Io { step, path, source }
        };
        make_private_directory(&self.path).map_err(at("cannot make the state directory", &self.path))?;
        for name in ["runs", "live", "trash"] {
            let dir = self.path.join(name);
            make_private_directory(&dir).map_err(at("cannot make", &dir))?;
        }
        let ignore = self.path.join(".gitignore");
        write_new(&ignore, b"*\n").map_err(at("cannot write", &ignore))?;
        // Last: a directory with a format file is complete.
        let format = self.path.join("format");
        write_new(&format, FORMAT.as_bytes()).map_err(at("cannot write", &format))?;
        durable::sync_directory(&self.path).map_err(at("cannot sync", &self.path))?;
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        durable::sync_directory(parent).map_err(at("cannot sync", parent))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `runs/`.
    pub fn runs(&self) -> PathBuf {
        self.path.join("runs")
    }

    /// `live/`.
    pub fn live(&self) -> PathBuf {
        self.path.join("live")
    }

    /// `breakers/`.
    pub fn breakers(&self) -> PathBuf {
        self.path.join("breakers")
    }

    /// `letters/`.
    pub fn letters(&self) -> PathBuf {
        self.path.join("letters")
    }

    /// `acks.jsonl`.
    pub fn acks(&self) -> PathBuf {
        self.path.join("acks.jsonl")
    }

    /// `trash/`.
    pub fn trash(&self) -> PathBuf {
        self.path.join("trash")
    }
}

/// Makes a directory with mode 0700; one that exists is fine.
pub fn make_private_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Writes a private file in one step: whoever reads it sees all of it or nothing. One that exists stays.
///
/// Several commands may make the same state directory at once: the content is a constant, so they may all write the
/// same temporary file, which is never truncated. A crash leaves that file; the next command gives it its name.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    match std::fs::rename(&temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => Ok(()),
        renamed => renamed,
    }
}
