//! The price table that somebody imported: `prices.tsv` in the state directory. Its text means nothing here.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use super::state_dir::StateDir;

/// Where it lies.
pub fn path(state: &StateDir) -> PathBuf {
    state.path().join("prices.tsv")
}

/// Writes it. A crash leaves the one before, whole.
pub fn write(state: &StateDir, text: &str) -> io::Result<()> {
    let begun = state.path().join(".prices.tsv.new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&begun)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    std::fs::rename(&begun, path(state))
}

/// Removes it. Whether there was one.
pub fn remove(state: &StateDir) -> io::Result<bool> {
    match std::fs::remove_file(path(state)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}
