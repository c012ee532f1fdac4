//! The claim on a letter that is being redriven: a file whose lock dies with whoever holds it, so that nobody else redrives
//! the letter meanwhile, and nothing has to be cleaned up after a kill.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::model::RunId;
use crate::sys::{append_file, lock};

/// Held while a letter is redriven.
#[derive(Debug)]
#[must_use = "the claim ends when this is dropped"]
pub struct Claim {
    path: PathBuf,
    _file: File,
}

impl Claim {
    /// Waits until nobody else redrives the letter.
    pub(super) fn take(dir: &Path, letter: RunId) -> io::Result<Self> {
        let path = path_of(dir, letter);
        loop {
            let file = append_file::open(&path)?;
            match file.lock() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                locked => locked?,
            }
            // Its holder has removed it while we waited: what we hold is a name nobody else will find.
            let is_there =
                std::fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino()));
            if is_there {
                return Ok(Self { path, _file: file });
            }
        }
    }

    /// Whether somebody redrives the letter at this moment.
    pub(super) fn is_held(dir: &Path, letter: RunId) -> bool {
        lock::is_held(&path_of(dir, letter)).unwrap_or(false)
    }
}

fn path_of(dir: &Path, letter: RunId) -> PathBuf {
    dir.join(letter.to_string())
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Still locked: whoever waits for it notices. One that stays (a killed holder's) is taken over by the next.
        let _ = std::fs::remove_file(&self.path);
    }
}
