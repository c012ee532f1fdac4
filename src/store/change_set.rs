//! What a run changed below its workspace, kept in its directory (`changes`): the change set as JSON, a newline, and the
//! SHA-256 of that in hex.

use std::io;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::model::Digest;
use crate::model::change::ChangeSet;
use crate::sys::durable;

use super::run_dir::{RunDir, write_private};

/// The file's name in the run's directory.
pub const NAME: &str = "changes";

/// Why the changes of a run cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ChangeSetError {
    /// The kernel said no.
    #[error("cannot read {path:?}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// Its bytes are not those that were written.
    #[error("{path:?} is damaged: its hash does not match")]
    Hash {
        /// The file.
        path: PathBuf,
    },
    /// Its bytes are those that were written, by something else.
    #[error("{path:?} is damaged")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        source: serde_json::Error,
    },
}

/// SHA-256 of the listing of the changes; null where nothing changed.
pub fn output_hash(changes: &ChangeSet) -> Option<Digest> {
    (!changes.paths.is_empty()).then(|| Digest(Sha256::digest(changes.listing()).into()))
}

/// Writes the changes, durably: `diff`, `apply` and a replay rely on them. A crash leaves a file that does not match its
/// hash, of a run that was not sealed yet; recovery removes it.
pub fn write(dir: &RunDir, changes: &ChangeSet) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(changes)?;
    bytes.push(b'\n');
    let hash = Digest(Sha256::digest(&bytes).into());
    bytes.extend_from_slice(hash.to_string().as_bytes());
    let path = dir.join(NAME);
    let written = write_private(&path, &bytes).and_then(|()| durable::sync_file(&path));
    // Half a list is none.
    written.inspect_err(|_| forget(dir))
}

/// Removes the list of a run that was not sealed.
pub fn forget(dir: &RunDir) {
    // One that stays is reported by `fsck`.
    let _ = std::fs::remove_file(dir.join(NAME));
}

/// Reads the changes; `None` if the run has no list of them.
pub fn read(dir: &RunDir) -> Result<Option<ChangeSet>, ChangeSetError> {
    let path = dir.join(NAME);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ChangeSetError::Io { path, source }),
    };
    let Some((list, hash)) = bytes.len().checked_sub(64).map(|at| bytes.split_at(at)) else {
        return Err(ChangeSetError::Hash { path });
    };
    if Digest(Sha256::digest(list).into()).to_string().as_bytes() != hash {
        return Err(ChangeSetError::Hash { path });
    }
    serde_json::from_slice(list).map(Some).map_err(|source| ChangeSetError::Parse { path, source })
}
