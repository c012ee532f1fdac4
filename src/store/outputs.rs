//! The manifest of what a run staged, kept in its directory: the manifest's bytes, then their SHA-256.

use std::io;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::sys::durable;

use super::run_dir::{RunDir, write_private};
use super::snapshot::{Manifest, ParseManifestError};

/// Bytes of the hash at the end.
const TRAILER: usize = 32;

/// Why the manifest of a run's outputs cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OutputsError {
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
    /// Its bytes are those that were written and no manifest.
    #[error("{path:?} is damaged")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        source: ParseManifestError,
    },
}

/// Writes the manifest, durably: a replay relies on it. A crash leaves a file that does not match its hash, of a run
/// that was not sealed yet; recovery removes it.
pub fn write(dir: &RunDir, manifest: &Manifest) -> io::Result<()> {
    let mut bytes = manifest.to_bytes();
    let hash = Sha256::digest(&bytes);
    bytes.extend_from_slice(&hash);
    let path = dir.join("outputs");
    let written = write_private(&path, &bytes).and_then(|()| durable::sync_file(&path));
    // Half a manifest is none.
    written.inspect_err(|_| forget(dir))
}

/// Removes the manifest of a run that was not sealed.
pub fn forget(dir: &RunDir) {
    // One that stays is reported by `fsck`.
    let _ = std::fs::remove_file(dir.join("outputs"));
}

/// Reads the manifest; `None` if the run has none.
pub fn read(dir: &RunDir) -> Result<Option<Manifest>, OutputsError> {
    let path = dir.join("outputs");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OutputsError::Io { path, source }),
    };
    let Some((manifest, hash)) = bytes.len().checked_sub(TRAILER).map(|at| bytes.split_at(at)) else {
        return Err(OutputsError::Hash { path });
    };
    if Sha256::digest(manifest)[..] != *hash {
        return Err(OutputsError::Hash { path });
    }
    Manifest::from_bytes(manifest).map(Some).map_err(|source| OutputsError::Parse { path, source })
}
