//! Adding a line to the log.
//!
//! Under `runs.lock`, and nothing else is: a torn tail is set aside, the last line is hashed, the new one is written
//! with one `write`. The flush follows once the lock is free, so that writers that come together share one commit of
//! the filesystem's journal instead of queueing for one each.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::{RunLog, tail};
use crate::model::{Digest, RunRecord};
use crate::sys::append_lock::AppendLock;
use crate::sys::{append_file, crash};

/// Room that [`RunLog::reserve`] keeps for the line of a run that ends on a full disk.
const RESERVED_BYTES: u64 = 64 * 1024;

/// How a serialised record without `prev` ends; the hash takes the place of `null}`.
const UNCHAINED_END: &[u8] = b"null}";

/// The line is durable.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a repaired tail must be reported"]
pub struct Appended {
    /// Where a torn tail was kept that had to be moved aside first.
    pub repaired: Option<PathBuf>,
}

/// The line is not in the log, or (`Flush` only) may be lost in a power cut.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The record is no JSON.
    #[error("serialise the record of run {run_id}")]
    Serialise {
        /// Whose record.
        run_id: String,
        /// Why.
        source: serde_json::Error,
    },
    /// No lock.
    #[error("lock {path}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The log cannot be opened or read.
    #[error("open the run log {path}")]
    Open {
        /// The log.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The torn tail could not be kept, so nothing was written.
    #[error("set aside the torn tail of {path}")]
    SetAside {
        /// The log.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The line did not fit; the log is as long as it was.
    #[error("append to {path}")]
    Write {
        /// The log.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The line was written and may not be durable.
    #[error("flush {path}")]
    Flush {
        /// The log or its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A failed step, named; `AppendError::Write` and its like take it from here.
macro_rules! failed {
    ($step:ident, $path:expr) => {
        |source| AppendError::$step { path: $path.to_path_buf(), source }
    };
}

impl RunLog {
    /// Adds the record as the log's last line, durable on return, and fills in its `prev`.
    ///
    /// A crash leaves the whole line, no line, or a torn tail that the next writer moves aside. After an error other
    /// than `Flush` the line is not in the log.
    pub fn append(&self, record: &mut RunRecord) -> Result<Appended, AppendError> {
        let line = unchained(record)?;
        let (file, repaired) = {
            let _lock = AppendLock::exclusive(&self.lock_path).map_err(failed!(Lock, self.lock_path))?;
            self.append_locked(record, line)?
        };
        crash::point("log.appended").map_err(failed!(Flush, self.path))?;
        file.sync_data().map_err(failed!(Flush, self.path))?;
        Ok(Appended { repaired })
    }

    /// Adds those of the records whose run has no line yet, with one write, durable on return: all of them or none, as far as
    /// a crash goes; a power cut may leave the first of them.
    pub fn append_missing(&self, records: &mut [RunRecord]) -> Result<Appended, AppendError> {
        let read = |error: super::ReadError| AppendError::Open { path: error.path, source: error.source };
        let (file, repaired) = {
            let _lock = AppendLock::exclusive(&self.lock_path).map_err(failed!(Lock, self.lock_path))?;
            let mut missing = Vec::new();
            for record in records {
                if !self.contains(&record.run_id).map_err(read)? {
                    missing.push((unchained(record)?, record));
                }
            }
            self.append_all_locked(missing)?
        };
        file.sync_data().map_err(failed!(Flush, self.path))?;
        Ok(Appended { repaired })
    }

    /// Sets disk space aside past the end of the log, so that the record of a run that fills the disk still fits.
    /// Best effort, as the filesystem can; called before the agent starts.
    pub fn reserve(&self) {
        if let Ok(file) = append_file::open(&self.path) {
            append_file::reserve(&file, RESERVED_BYTES);
        }
    }

    /// What the first line of a new file follows: the last line of the newest closed segment.
    fn last_of_segments(&self) -> io::Result<Option<Digest>> {
        let Some((_, path)) = self.closed()?.pop() else { return Ok(None) };
        let file = File::open(path)?;
        let tail = tail::inspect(&file, file.metadata()?.len())?;
        Ok(tail.last.map(|last| line_hash(&last.bytes)))
    }

    fn append_locked(&self, record: &mut RunRecord, line: Vec<u8>) -> Result<(File, Option<PathBuf>), AppendError> {
        self.append_all_locked(vec![(line, record)])
    }

    fn append_all_locked(&self, lines: Vec<(Vec<u8>, &mut RunRecord)>) -> Result<(File, Option<PathBuf>), AppendError> {
        // Opened under the lock: whoever replaces the log by another file holds it too.
        let file = append_file::open(&self.path).map_err(failed!(Open, self.path))?;
        let len = file.metadata().map_err(failed!(Open, self.path))?.len();
        let tail = tail::inspect(&file, len).map_err(failed!(Open, self.path))?;
        let repaired = if tail.sound_len < len {
            Some(tail::set_aside(&file, &self.path, tail.sound_len).map_err(failed!(SetAside, self.path))?)
        } else {
            None
        };
        if tail.last.is_none() {
            // Before the first line, so that no later writer can rely on a name that a power cut takes away.
            File::open(&self.state_dir).and_then(|dir| dir.sync_all()).map_err(failed!(Flush, self.state_dir))?;
        }
        let mut prev = match tail.last {
            Some(last) => Some(line_hash(&last.bytes)),
            None => self.last_of_segments().map_err(failed!(Open, self.path))?,
        };
        let (mut bytes, mut chained) = (Vec::new(), Vec::with_capacity(lines.len()));
        for (mut line, record) in lines {
            chain(&mut line, prev);
            chained.push((record, prev));
            prev = Some(Digest(Sha256::digest(&line).into()));
            bytes.append(&mut line);
        }
        append_file::append_whole(&file, &bytes, tail.sound_len).map_err(failed!(Write, self.path))?;
        for (record, prev) in chained {
            record.prev = prev;
        }
        Ok((file, repaired))
    }
}

/// The record's line up to the value of `prev`.
fn unchained(record: &mut RunRecord) -> Result<Vec<u8>, AppendError> {
    record.prev = None;
    let mut line = serde_json::to_vec(record)
        .map_err(|source| AppendError::Serialise { run_id: record.run_id.to_string(), source })?;
    debug_assert!(line.ends_with(b",\"prev\":null}"), "prev is the last field");
    line.truncate(line.len() - UNCHAINED_END.len());
    Ok(line)
}

fn chain(line: &mut Vec<u8>, prev: Option<Digest>) {
    match prev {
        None => line.extend_from_slice(UNCHAINED_END),
        Some(prev) => line.extend_from_slice(format!("\"{prev}\"}}").as_bytes()),
    }
    line.push(b'\n');
}

/// SHA-256 of a line, given without its newline, with its newline: what the next line keeps as `prev`.
pub(super) fn line_hash(bytes: &[u8]) -> Digest {
    Digest(Sha256::new().chain_update(bytes).chain_update(b"\n").finalize().into())
}
