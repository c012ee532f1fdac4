//! `AppendLock`: `flock(2)` on a file that exists only to be locked. The kernel releases it when its holder dies,
//! so there is no stale lock and no pid to guess. The file is kept: to unlink it would let two holders each lock
//! an inode of their own.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Held from its creation until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct AppendLock {
    file: File,
}

impl AppendLock {
    /// Waits until nobody else holds the lock; creates the file (mode 0600) where it is missing.
    pub fn exclusive(path: &Path) -> io::Result<Self> {
        let file = open(OpenOptions::new().write(true).create(true).truncate(false), path)?;
        uninterrupted(|| file.lock())?;
        Ok(Self { file })
    }

    /// The same without waiting; `None` while somebody holds it.
    pub fn try_exclusive(path: &Path) -> io::Result<Option<Self>> {
        let file = open(OpenOptions::new().write(true).create(true).truncate(false), path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Waits until nobody holds the lock exclusively; creates the file where it is missing.
    pub fn shared_made(path: &Path) -> io::Result<Self> {
        let file = open(OpenOptions::new().read(true).write(true).create(true).truncate(false), path)?;
        uninterrupted(|| file.lock_shared())?;
        Ok(Self { file })
    }

    /// Waits until nobody holds the lock exclusively; `None` where the file is missing, so that nobody can.
    pub fn shared(path: &Path) -> io::Result<Option<Self>> {
        let file = match open(OpenOptions::new().read(true), path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        uninterrupted(|| file.lock_shared())?;
        Ok(Some(Self { file }))
    }
}

impl Drop for AppendLock {
    /// Unlocked, not only closed: a process that was forked meanwhile has the descriptor too.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(path)
}

/// A signal handler may interrupt the wait; the lock is still wanted.
fn uninterrupted(mut lock: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
