//! Rotation: the newest file becomes a closed segment, and the next line begins a new file. Only `gc` does it.
//!
//! Nothing is copied and no line changes: the first line of the new file names, as any line does, the one before it. A
//! crash leaves either name of the file.

use std::path::PathBuf;

use super::{AppendError, RunLog, tail};
use crate::sys::append_lock::AppendLock;
use crate::sys::{append_file, crash, durable};

/// A segment was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The segment.
    pub segment: PathBuf,
    /// Where a torn tail was kept that had to be moved aside first.
    pub repaired: Option<PathBuf>,
}

impl RunLog {
    /// Bytes of the file that lines are added to; 0 where there is none.
    pub fn open_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |found| found.len())
    }

    /// Closes the newest file if it has `limit` bytes or more, and any line at all. Durable on return.
    pub fn rotate(&self, limit: u64) -> Result<Option<Rotated>, AppendError> {
        let open = |source| AppendError::Open { path: self.path.clone(), source };
        let flush = |source| AppendError::Flush { path: self.path.clone(), source };
        let lock = AppendLock::exclusive(&self.lock_path);
        let _lock = lock.map_err(|source| AppendError::Lock { path: self.lock_path.clone(), source })?;
        let file = append_file::open(&self.path).map_err(open)?;
        let len = file.metadata().map_err(open)?.len();
        let tail = tail::inspect(&file, len).map_err(open)?;
        if tail.last.is_none() || tail.sound_len < limit {
            return Ok(None);
        }
        // A closed segment holds whole lines only: the next writer would have moved the rest aside.
        let aside = |source| AppendError::SetAside { path: self.path.clone(), source };
        let torn = tail.sound_len < len;
        let repaired = torn.then(|| tail::set_aside(&file, &self.path, tail.sound_len).map_err(aside)).transpose()?;
        // Blocks were set aside past the end for the next line, which will be elsewhere.
        file.set_len(tail.sound_len).map_err(flush)?;
        file.sync_all().map_err(flush)?;
        crash::point("log.rotating").map_err(flush)?;
        let last = self.closed().map_err(open)?.last().map_or(0, |(number, _)| *number);
        let segment = self.segment_path(last + 1);
        std::fs::rename(&self.path, &segment).map_err(|source| AppendError::Write { path: segment.clone(), source })?;
        durable::sync_directory(&self.state_dir).map_err(flush)?;
        crash::point("log.rotated").map_err(flush)?;
        Ok(Some(Rotated { segment, repaired }))
    }
}
