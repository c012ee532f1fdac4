//! `flock(2)`: locks that die with their holder. Nobody here guesses by pid whether a process is alive.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};

/// How often a lock file is made anew when somebody sweeps it away in the moment before it is locked.
const TRIES: u32 = 100;

/// Creates a lock file under a temporary name, locks it, and only then gives it its name: nobody ever sees it
/// unlocked while its owner lives. Whoever sweeps the temporary name away before it is locked only costs a retry.
pub fn create_locked(path: &Path, temporary: &Path) -> io::Result<File> {
    let mut tries = 0;
    loop {
        match try_create_locked(path, temporary) {
            Err(error) if is_swept(&error) && tries < TRIES => tries += 1,
            created => return created,
        }
    }
}

fn is_swept(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists)
}

fn try_create_locked(path: &Path, temporary: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive))?;
    std::fs::rename(temporary, path)?;
    Ok(file)
}

/// Takes the lock of an existing file if its owner is gone. `None`: it is held, or the file was removed meanwhile.
pub fn take_abandoned(path: &Path) -> io::Result<Option<File>> {
    let file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
        // Somebody else recovered it between our open and our lock.
        Ok(()) => Ok((file.metadata()?.nlink() > 0).then_some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether somebody holds the lock of a file; a file that is not there is held by nobody. The question is asked with a
/// shared lock, for a moment: whoever wants the exclusive one in that moment takes its owner for alive.
pub fn is_held(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockShared)) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Locks an open file or directory exclusively, waiting at most `patience`. `false`: still held by somebody else.
pub fn lock_within(file: &File, patience: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match retry_on_intr(|| flock(file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if begun.elapsed() < patience => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}
