//! The torn tail: what a power cut, a full disk or a killed writer left behind the last record.
//!
//! The lines at the end of the log that are not records (no newline, zero bytes, half a line) are copied to
//! `runs.jsonl.torn-<time>` and made durable there before the log is shortened. A last line that is a record stays,
//! whatever its `prev` says: a broken chain is for `check` to report.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::Line;
use super::backward::{Backward, whole_lines_end};
use crate::model::RunId;

/// What makes a line a record of any version of the log: JSON with a run's id.
#[derive(Deserialize)]
struct AnyRecord {
    #[serde(rename = "run_id")]
    _run_id: RunId,
}

/// The end of the log.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// The last record; `None` in a log without one.
    pub(super) last: Option<Line>,
    /// Length of the log up to and including that record.
    pub(super) sound_len: u64,
}

/// Finds the last record of a log that is `len` bytes long. The caller holds the lock.
pub(super) fn inspect(file: &File, len: u64) -> io::Result<Tail> {
    let mut lines = Backward::new(file.try_clone()?, whole_lines_end(file, len)?);
    while let Some(line) = lines.next_line()? {
        if serde_json::from_slice::<AnyRecord>(&line.bytes).is_ok() {
            return Ok(Tail { sound_len: line.end(), last: Some(line) });
        }
    }
    Ok(Tail::default())
}

/// Copies what follows `sound_len` to a file of its own, makes that durable, then shortens the log; returns where
/// it is kept. The caller holds the lock. A crash before the end leaves the log as it was and perhaps a copy.
pub(super) fn set_aside(log: &File, log_path: &Path, sound_len: u64) -> io::Result<PathBuf> {
    let (path, mut kept) = create_beside(log_path, Utc::now())?;
    let mut torn = log.try_clone()?;
    torn.seek(SeekFrom::Start(sound_len))?;
    io::copy(&mut torn, &mut kept)?;
    kept.flush()?;
    kept.sync_all()?;
    if let Some(dir) = log_path.parent() {
        File::open(dir)?.sync_all()?;
    }
    log.set_len(sound_len)?;
    Ok(path)
}

fn create_beside(log_path: &Path, now: DateTime<Utc>) -> io::Result<(PathBuf, File)> {
    let stamp = now.format("%Y%m%dT%H%M%S%.6fZ");
    for attempt in 0_u32.. {
        let mut name = log_path.as_os_str().to_owned();
        name.push(if attempt == 0 { format!(".torn-{stamp}") } else { format!(".torn-{stamp}-{attempt}") });
        let path = PathBuf::from(name);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => return created.map(|file| (path, file)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
