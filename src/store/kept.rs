//! The lock around what is kept: whoever is about to rely on contents or on a run's directory holds it, shared, until
//! something that `gc` looks at says so; `gc` holds it alone while it removes.

use std::io;
use std::time::{Duration, Instant};

use crate::sys::append_lock::AppendLock;

use super::state_dir::StateDir;

const NAME: &str = "kept.lock";

/// How often somebody who waits looks again.
const PAUSE: Duration = Duration::from_millis(20);

/// Nothing that is kept is removed while this lives.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct Relying {
    _lock: AppendLock,
}

/// Nobody relies on anything that nothing says while this lives.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct Removing {
    _lock: AppendLock,
}

/// Waits until nothing is being removed, which takes moments.
pub fn rely(state: &StateDir) -> io::Result<Relying> {
    AppendLock::shared_made(&state.path().join(NAME)).map(|lock| Relying { _lock: lock })
}

/// Waits until nobody relies on what nothing says: at most so long. `None`: somebody still does.
pub fn remove(state: &StateDir, patience: Duration) -> io::Result<Option<Removing>> {
    let (path, begun) = (state.path().join(NAME), Instant::now());
    loop {
        match AppendLock::try_exclusive(&path)? {
            Some(lock) => return Ok(Some(Removing { _lock: lock })),
            None if begun.elapsed() >= patience => return Ok(None),
            None => std::thread::sleep(PAUSE),
        }
    }
}
